"""What a PaymentPolicy and an AccessPolicy say must go together; what does not is told where it stands."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.kinds import controllers
from reconciler.kinds.network import read_net
from reconciler.kinds.paymentpolicy import PaymentPolicyController, reachable
from reconciler.manifest.load import Loaded, Loader
from reconciler.manifest.scaffold import to_yaml
from reconciler.model.errors import Refused
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import Resource

ONE = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5"
TWO = "02f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9"
PAY, ACCESS = ResourceRef("PaymentPolicy", "p"), ResourceRef("AccessPolicy", "p")
AGENT = {"agent": {"identityKey": TWO}}


def load(ref: ResourceRef, spec: dict[str, Any]) -> Loaded:
    document = {"apiVersion": "overlay.bsv/v1alpha1", "kind": ref.kind, "metadata": {"name": ref.name}, "spec": spec}
    return Loader(controllers()).load({"policy.yaml": to_yaml(document).encode()}, lambda pattern: [], "r")


def told(ref: ResourceRef, spec: dict[str, Any]) -> list[str]:
    return [f"{one.code} {one.message}" for one in load(ref, spec).diagnostics]


def sound(ref: ResourceRef, spec: dict[str, Any]) -> Resource:
    loaded = load(ref, spec)
    assert loaded.desired is not None and loaded.diagnostics == (), loaded.diagnostics
    return loaded.desired.resources[ref]


@pytest.mark.row("P-PAY-01", "P-PAY-02", "P-PAY-03", "P-PAY-04", "P-PAY-05", "P-PAY-06", "P-PAY-10", "P-PAY-13")
def test_what_is_left_out_is_filled_in() -> None:
    spec = sound(PAY, {"routing": {"threshold": "50000sat", "large": "http"}, "http": {"min": "10sat", "max": "10000sat"}}).spec
    assert spec == {
        "http": {"enabled": True, "profiles": ["brc105"], "min": 10, "max": 10_000, "window": 3_600_000},
        "native": {"enabled": False, "templateExpiry": 86_400_000},
        "routing": {"small": "http", "large": "http", "threshold": 50_000},
        "settle": {"auto": True, "every": 600_000, "min": 500},
        "confirmations": {"below": 0, "above": 1},
    }


@pytest.mark.row("S-42", "P-PAY-07")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"http": {"enabled": False}}, "neither http nor native is enabled, so nobody can pay"),
        ({"routing": {"threshold": 5}}, "native is not enabled"),
        ({"routing": {"threshold": 5}, "http": {"enabled": False}, "native": {"enabled": True}}, "http is not enabled"),
        ({"http": {"min": 11, "max": 10}}, "max is less than min"),
        ({"splits": {"producer": "0.9", "agent": "0.2"}, "parties": AGENT}, "the shares add up to 1.1, not to 1"),
        ({"splits": {"producer": "0.9", "agent": "0.05"}, "parties": AGENT}, "the shares add up to 0.95, not to 1"),
        ({"splits": {"producer": "1", "agent": "0.0"}, "parties": AGENT}, "a share is more than nothing"),
        ({"splits": {"producer": "0.5", "agent": "0.5"}}, "parties does not say who that is"),
        ({"splits": {"producer": "1"}, "parties": AGENT}, "has no share in splits"),
        ({"splits": {"producer": "1"}, "parties": {"producer": {"identityKey": TWO}}}, "the producer is whoever sells"),
        (
            {"splits": {"producer": "0.5", "agent": "0.5"}, "parties": {"agent": {"identityKey": "02" + "ff" * 32}}},
            "is no point of the curve",
        ),
        ({"splits": {"producer": "0.5", "agent": "0.5"}, "parties": {"agent": {"script": "006a01"}}}, "can never be spent"),
        ({"splits": {"agent": "1"}, "parties": AGENT}, "the producer has no share"),
        ({"splits": {"producer": "1.5"}}, "is not a decimal above 0 and up to 1"),
        (
            {"splits": {"producer": "0.5", "agent": "0.5"}, "parties": {"agent": {}}},
            "exactly one of identityKey, script or paymail",
        ),
    ],
)
def test_money_that_could_not_be_taken_or_shared_is_refused(spec: dict[str, Any], message: str) -> None:
    assert any(message in one for one in told(PAY, spec)), told(PAY, spec)


@pytest.mark.parametrize(
    ("ref", "spec", "code"),
    [
        (PAY, {"session": {"prepay": "5m"}}, "E0116"),
        (PAY, {"external": {"enabled": True}}, "E0116"),
        (PAY, {"routing": {"threshold": 5, "large": "http", "convert": True}}, "E0116"),
        (PAY, {"splits": {"producer": "0.5", "agent": "0.5"}, "parties": {"agent": {"paymail": "a@example.org"}}}, "E0116"),
        (PAY, {"http": {"profiles": ["brc105", "brc121"]}}, "W0502"),
        (ACCESS, {"tiers": [{"name": "t", "quota": {"concurrentStreams": 1}}]}, "E0116"),
    ],
)
def test_what_is_not_acted_on_is_never_passed_over_in_silence(ref: ResourceRef, spec: dict[str, Any], code: str) -> None:
    assert [one.split()[0] for one in told(ref, spec)] == [code]


@given(parts=st.lists(st.integers(1, 10**6), min_size=1, max_size=10))
@settings(max_examples=100, deadline=None)
def test_shares_are_accepted_when_they_are_exactly_everything(parts: list[int]) -> None:
    names = ["producer", *(f"p{n}" for n in range(9))]
    whole = 10 ** len(str(sum(parts)))
    splits = {
        name: f"0.{part:0{len(str(whole)) - 1}d}"
        for name, part in zip(names, [*parts[:-1], whole - sum(parts[:-1])], strict=False)
    }
    if len(parts) == 1:
        splits = {names[0]: "1"}
    spec = {"splits": splits, "parties": {name: {"identityKey": ONE} for name in splits if name != "producer"}}
    assert sum(map(Fraction, splits.values())) == 1
    assert told(PAY, spec) == []
    last = names[0]
    short = (
        {**splits, last: str(splits[last])[:-1] + ("1" if splits[last][-1] == "0" else "0")} if len(parts) > 1 else {last: "0.9"}
    )
    assert any("the shares add up to" in one for one in told(PAY, {**spec, "splits": short}))


@pytest.mark.row("P-PAY-27", "P-CFG-05")
def test_no_more_parties_share_than_may() -> None:
    def shared(count: int) -> dict[str, Any]:
        names = [f"p{n}" for n in range(count - 1)]
        rest = f"0.{100 - len(names)}"
        return {"splits": {"producer": rest} | dict.fromkeys(names, "0.01"), "parties": {n: {"identityKey": ONE} for n in names}}

    assert told(PAY, shared(10)) == []
    assert [one for one in told(PAY, shared(11)) if "11 parties share, more than 10" in one]
    want = sound(PAY, shared(3))
    assert PaymentPolicyController(most=2).check(want) == [("/splits", "3 parties share, more than 2")]


@pytest.mark.row("P-PAY-08")
def test_a_broadcaster_must_be_one_of_the_network() -> None:
    def body(*names: str) -> dict[str, Any]:
        return {
            "spec": {"paymentPolicyRef": "p"},
            "using": {str(PAY): sound(PAY, {"native": {"enabled": True, "broadcasters": list(names)}}).spec},
        }

    hosts = [{"name": "taal", "url": "https://a.example"}, {"name": "gorillapool", "url": "https://b.example"}]
    net = read_net("local", {"chain": "main", "broadcasters": hosts})
    reachable(net, body("gorillapool", "taal"))
    reachable(net, {"spec": {}, "using": {}})
    with pytest.raises(Refused, match="cannot take payments by tall: Network/local has no such broadcaster") as refused:
        reachable(net, body("taal", "tall"))
    assert refused.value.hint == "broadcasters of the network: taal, gorillapool"


@pytest.mark.row("P-DASH-15")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"tiers": [{"name": "a"}, {"name": "a"}]}, 'two tiers are called "a"'),
        ({"tiers": [{"name": "a"}], "defaultTier": "b"}, 'there is no tier "b"'),
        ({"tiers": [{"name": "a", "members": [ONE]}, {"name": "b", "members": [ONE]}]}, 'a member of "a" already'),
        (
            {"tiers": [{"name": "a", "members": [ONE]}], "blocked": [{"identityKey": ONE, "reason": "r"}]},
            'a member of "a" already',
        ),
        (
            {"suspended": [{"identityKey": ONE, "reason": "r"}], "blocked": [{"identityKey": ONE, "reason": "r"}]},
            "this key is blocked already",
        ),
        ({"suspended": [{"identityKey": ONE, "reason": "r"}] * 2}, "this key is suspended already"),
        ({"blocked": [{"identityKey": ONE}]}, 'missing field "reason"'),
        ({"tiers": [{"name": "a", "discount": "101%"}]}, "more than 100%"),
        ({"suspended": [{"identityKey": ONE, "reason": "r", "until": "tomorrow"}]}, "is not a UTC time"),
        ({"notes": {"somebody": "x"}}, "is not a compressed public key"),
    ],
)
def test_nobody_stands_in_two_places(spec: dict[str, Any], message: str) -> None:
    assert any(message in one for one in told(ACCESS, spec)), told(ACCESS, spec)


def test_a_member_may_be_suspended() -> None:
    spec = {"tiers": [{"name": "a", "members": [ONE, TWO]}], "suspended": [{"identityKey": ONE, "reason": "unpaid"}]}
    assert sound(ACCESS, spec).spec["suspended"] == spec["suspended"]
