"""Shares of a payment: exact, in whole satoshis, nothing lost and nothing made."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.model.errors import Invariant, Refused
from reconciler.model.sale import Method
from reconciler.sales.routing import confirmations, large, ways
from reconciler.sales.split import Share, divide, outputs
from reconciler.wire.keys import ANYONE, public_key
from reconciler.wire.payment import script_to, secret_from
from reconciler.wire.script import p2pkh

PARTY = {"identityKey": "02f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9"}
POLICY: dict[str, Any] = {
    "splits": {"overlay": "0.1", "producer": "0.85", "agents": "0.05"},
    "parties": {"overlay": PARTY, "agents": {"script": "51"}},
}
AMOUNT = st.integers(0, 10**12)


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    """Up to ten parties whose shares are exactly everything."""
    cuts = sorted(draw(st.sets(st.integers(1, 999_999), max_size=9)))
    parts = [after - before for before, after in zip([0, *cuts], [*cuts, 1_000_000], strict=True)]
    names = draw(st.permutations(["producer", *(f"p{n}" for n in range(9))]))[: len(parts)]
    splits = {name: f"0.{part:06d}" if part < 1_000_000 else "1" for name, part in zip(names, parts, strict=True)}
    return {"splits": splits, "parties": {name: {"script": "51"} for name in names if name != "producer"}}


@pytest.mark.row("S-42", "P-PAY-07")
def test_the_remainder_is_the_producers() -> None:
    assert divide(POLICY, 99).shares == (Share("producer", 86), Share("agents", 4, {"script": "51"}), Share("overlay", 9, PARTY))
    assert divide(POLICY, 99).carried == {"agents": "0.95", "overlay": "0.9"}
    assert divide(None, 99).shares == divide({}, 99).shares == (Share("producer", 99),)
    assert divide(POLICY, 100).shares[1:] == (Share("agents", 5, {"script": "51"}), Share("overlay", 10, PARTY))
    assert divide(POLICY, 100).carried == {}


@pytest.mark.row("S-42")
def test_a_share_of_less_than_a_satoshi_has_no_output_and_is_carried() -> None:
    carried: Any = {}
    had = []
    for _ in range(21):
        division = divide(POLICY, 1, carried)
        carried = division.carried
        had.append([share.party for share in division.shares if share.satoshis])
    assert {number: parties for number, parties in enumerate(had, 1) if parties != ["producer"]} == {
        10: ["overlay"], 20: ["agents"], 21: ["overlay"]
    }  # fmt: skip


@pytest.mark.row("P-PAY-07", "P-PAY-22")
@given(policy=policies(), satoshis=AMOUNT)
@settings(max_examples=200, deadline=None)
def test_what_is_given_out_is_what_was_paid(policy: dict[str, Any], satoshis: int) -> None:
    shares = divide(policy, satoshis).shares
    assert sum(one.satoshis for one in shares) == satoshis and shares[0].party == "producer"
    for one in shares[1:]:
        assert one.satoshis > 0 and 0 <= Fraction(policy["splits"][one.party]) * satoshis - one.satoshis < 1
    made = outputs(shares, lambda key: b"")
    assert [out.satoshis for out in made] == [one.satoshis for one in shares[1:]]


@pytest.mark.row("P-PAY-17")
@given(policy=policies(), payments=st.lists(st.integers(0, 300), max_size=60))
@settings(max_examples=100, deadline=None)
def test_over_many_payments_nobody_loses_a_fraction(policy: dict[str, Any], payments: list[int]) -> None:
    carried: Any = {}
    had: dict[str, int] = {}
    for satoshis in payments:
        division = divide(policy, satoshis, carried)
        carried = division.carried
        assert sum(one.satoshis for one in division.shares) == satoshis and all(one.satoshis >= 0 for one in division.shares)
        for one in division.shares:
            had[one.party] = had.get(one.party, 0) + one.satoshis
    for party, share in policy["splits"].items():
        if party != "producer":
            assert Fraction(share) * sum(payments) == had.get(party, 0) + Fraction(carried.get(party, 0))


def test_a_key_is_paid_where_only_it_can_spend() -> None:
    secret, theirs = b"\x07" * 32, b"\x09" * 32
    shares = (Share("producer", 1), Share("a", 2, {"identityKey": public_key(theirs).hex()}), Share("b", 3, {"script": "5152"}))
    one, other = outputs(shares, lambda key: script_to(secret, key, "prefix", "suffix"))
    assert one.script == p2pkh(public_key(secret_from(theirs, public_key(secret), "prefix", "suffix"))) != p2pkh(ANYONE)
    assert (one.satoshis, other.satoshis, other.script) == (2, 3, bytes.fromhex("5152"))
    with pytest.raises(Refused, match="cannot pay a: paymail says where, and that cannot be paid"):
        outputs((Share("a", 1, {"paymail": "a@example.org"}),), lambda key: b"")
    with pytest.raises(Invariant, match="cannot divide -1 satoshis"):
        divide(None, -1)


BOTH: dict[str, Any] = {
    "http": {"enabled": True, "min": 10, "max": 60_000},
    "native": {"enabled": True},
    "routing": {"small": "http", "large": "native", "threshold": 50_000},
    "confirmations": {"below": 0, "above": 6},
}


@pytest.mark.row("P-PAY-11", "P-PAY-12", "P-PAY-13")
@pytest.mark.parametrize(("satoshis", "way"), [(49_999, Method.BRC105), (50_000, Method.NATIVE), (50_001, Method.NATIVE)])
def test_the_threshold_is_the_first_amount_that_is_large(satoshis: int, way: Method) -> None:
    assert ways(BOTH, satoshis) == (way,)
    assert (large(BOTH, satoshis), confirmations(BOTH, satoshis)) == ((True, 6) if way is Method.NATIVE else (False, 0))


@pytest.mark.row("P-PAY-01", "P-PAY-02", "P-PAY-03", "P-PAY-04")
def test_an_amount_goes_the_way_that_is_open_for_it() -> None:
    closed = {**BOTH, "native": {"enabled": False}, "routing": None}
    assert [ways(closed, amount) for amount in (9, 10, 60_000, 60_001)] == [(), (Method.BRC105,), (Method.BRC105,), ()]
    free = {**BOTH, "routing": None}
    assert [ways(free, amount) for amount in (9, 10, 60_001)] == [
        (Method.NATIVE,), (Method.BRC105, Method.NATIVE), (Method.NATIVE,)
    ]  # fmt: skip
    upside = {**BOTH, "routing": {"small": "native", "large": "http", "threshold": 50_000}}
    assert [ways(upside, amount) for amount in (10, 50_000, 60_001)] == [(Method.NATIVE,), (Method.BRC105,), (Method.NATIVE,)]
    assert ways(None, 1) == (Method.BRC105,) and confirmations(None, 10**9) == 0 and not large(None, 10**9)
