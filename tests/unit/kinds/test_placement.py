"""Where copies live: deterministic, spread as asked, and as still as the rule allows."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.kinds.placement import Rule, Sight, bounded, demanded, place, read_rule, step
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused

REGIONS = ("EU", "US", "AP")
HOSTS = tuple(Endpoint(f"{region.lower()}{i}", f"http://{region}{i}", region) for region in REGIONS for i in (1, 2, 3))


def names(rule: Rule, hosts: tuple[Endpoint, ...] = HOSTS, sight: Sight | None = None, copies: int = 1) -> set[str]:
    return {host.name for host in place(rule, "Dataset/x", hosts, sight or Sight(), copies)}


def regions(chosen: set[str]) -> list[str]:
    return sorted(name[:2].upper() for name in chosen)


# --- what a rule asks for --------------------------------------------------------------------------


@pytest.mark.row("P-DIST-08")
def test_every_region_has_its_copies() -> None:
    assert regions(names(Rule("r", least=2, most=5, spread=("*",)))) == ["AP", "EU", "US"]
    assert regions(names(Rule("r", least=2, most=9, spread=("EU", "US"), each=2))) == ["EU", "EU", "US", "US"]
    assert regions(names(Rule("r", least=3))) == ["AP", "EU", "US"], "even without a word the copies stand apart"


@pytest.mark.row("P-DIST-08")
def test_a_region_that_cannot_be_met_is_named() -> None:
    with pytest.raises(Refused, match="region SA has 0 storage hosts") as caught:
        names(Rule("r", least=1, spread=("EU", "SA")))
    assert "add a storage host in SA" in str(caught.value.hint)
    with pytest.raises(Refused, match="region EU has 3 storage hosts and 4 are asked for"):
        names(Rule("r", least=1, most=9, spread=("EU",), each=4))
    with pytest.raises(Refused, match=r"3 regions \(AP, EU, US\) with 2 copies each are more than replicas.max, 5"):
        names(Rule("r", least=2, most=5, spread=("*",), each=2))


@pytest.mark.row("P-DIST-02", "P-DIST-03")
def test_named_hosts_are_the_only_ones() -> None:
    assert names(Rule("r", least=2, nodes=("eu1", "us2"))) == {"eu1", "us2"}
    with pytest.raises(Refused, match="no storage host called eu9"):
        names(Rule("r", least=1, nodes=("eu9",)))
    with pytest.raises(Refused, match="wants 10 copies and there are 9"):
        names(Rule("r", least=10))


@pytest.mark.row("P-DIST-12")
def test_of_the_hosts_of_a_region_the_quickest_is_taken() -> None:
    pace = {host.name: step(900) for host in HOSTS} | {"eu3": step(3), "us2": step(30), "ap1": step(100)}
    assert names(Rule("r", least=3), sight=Sight(pace=pace)) == {"eu3", "us2", "ap1"}
    assert names(Rule("r", least=1, spread=("US",)), sight=Sight(pace=pace)) == {"us2"}
    assert "eu1" not in names(Rule("r", least=2, nodes=("eu1", "eu2", "eu3")), sight=Sight(pace={"eu2": 1, "eu3": 1}))


def test_a_little_more_or_less_time_is_the_same_step() -> None:
    assert step(0) == 0
    assert step(40) == step(50) == step(20)
    assert step(3) < step(50) < step(900)


@pytest.mark.row("P-DIST-13")
def test_a_host_out_of_reach_is_given_nothing_and_replaced() -> None:
    rule = Rule("r", least=2, nodes=("eu1", "eu2", "us1"))
    assert names(rule, sight=Sight(held={"eu1", "us1"}, away={"us1"})) == {"eu1", "eu2"}
    assert names(rule, sight=Sight(held={"eu1", "us1"}, away={"us1", "eu2"})) == {"eu1", "us1"}, "kept where no other can take it"
    assert names(Rule("r", least=1, spread=("US",), nodes=("eu1", "us1")), sight=Sight(away={"us1"})) == {"eu1"}


# --- laws ------------------------------------------------------------------------------------------

RULES = st.builds(
    Rule,
    name=st.just("r"),
    least=st.integers(1, 4),
    most=st.integers(6, 9),
    spread=st.sampled_from([(), ("*",), ("EU",), ("US", "AP")]),
    each=st.integers(1, 2),
)
PACES = st.dictionaries(st.sampled_from([host.name for host in HOSTS]), st.integers(0, 6))
LAWS = settings(max_examples=100, deadline=None)


@LAWS
@given(rule=RULES, pace=PACES, copies=st.integers(1, 9), order=st.permutations(HOSTS))
def test_the_same_facts_give_the_same_places_in_any_order(
    rule: Rule, pace: dict[str, int], copies: int, order: list[Endpoint]
) -> None:
    sight = Sight(pace=pace)
    chosen = place(rule, "Dataset/x", HOSTS, sight, copies)
    assert chosen == place(rule, "Dataset/x", tuple(order), sight, copies)
    assert len({host.name for host in chosen}) == len(chosen) == bounded(rule, copies, _required(rule))
    for region in rule.spread if rule.spread != ("*",) else REGIONS:
        assert sum(host.region == region for host in chosen) >= rule.each


@LAWS
@given(rule=RULES, pace=PACES, later=PACES, copies=st.integers(1, 9))
def test_what_stands_stays_whatever_the_clock_says(rule: Rule, pace: dict[str, int], later: dict[str, int], copies: int) -> None:
    held = names(rule, sight=Sight(pace=pace), copies=copies)
    assert names(rule, sight=Sight(held=held, pace=later), copies=copies) == held


@LAWS
@given(rule=RULES, pace=PACES, copies=st.integers(1, 9), region=st.sampled_from(REGIONS))
def test_a_new_host_moves_nothing(rule: Rule, pace: dict[str, int], copies: int, region: str) -> None:
    held = names(rule, sight=Sight(pace=pace), copies=copies)
    more = (*HOSTS, Endpoint("new", "http://new", region))
    assert names(rule, more, Sight(held=held, pace={**pace, "new": 0}), copies) == held


@LAWS
@given(rule=RULES, pace=PACES, copies=st.integers(1, 6), data=st.data())
def test_a_lost_host_moves_one_copy_and_no_other(rule: Rule, pace: dict[str, int], copies: int, data: st.DataObject) -> None:
    held = names(rule, sight=Sight(pace=pace), copies=copies)
    lost = data.draw(st.sampled_from(sorted(held)))
    after = names(rule, sight=Sight(held=held, away={lost}, pace=pace), copies=copies)
    assert held - after == {lost}
    assert len(after) == len(held)


@LAWS
@given(rule=RULES, copies=st.integers(2, 9))
def test_one_copy_more_or_less_moves_one(rule: Rule, copies: int) -> None:
    held = names(rule, copies=copies)
    fewer = names(rule, sight=Sight(held=held), copies=copies - 1)
    assert fewer <= held
    assert len(held) - len(fewer) <= 1


def _required(rule: Rule) -> int:
    return rule.each * (3 if rule.spread == ("*",) else len(rule.spread))


# --- demand ----------------------------------------------------------------------------------------

BUSY = Rule("r", least=2, most=6, served=100)


@pytest.mark.row("P-DIST-09")
@pytest.mark.parametrize(
    ("now", "per_hour", "settled", "wanted"),
    [
        (2, 200, True, 2), (2, 201, True, 3), (2, 450, True, 5), (2, 450, False, 2), (2, None, True, 2),
        (3, 200, True, 3), (3, 151, True, 3), (3, 150, True, 2), (3, 0, False, 3), (5, 0, True, 4),
    ],
)  # fmt: skip
def test_copies_follow_demand(now: int, per_hour: int | None, settled: bool, wanted: int) -> None:
    assert demanded(BUSY, now, per_hour, settled) == wanted


@LAWS
@given(now=st.integers(1, 6), per_hour=st.integers(0, 1000))
def test_a_steady_demand_settles_on_one_number(now: int, per_hour: int) -> None:
    seen = []
    for _ in range(12):
        now = bounded(BUSY, demanded(BUSY, now, per_hour, True))
        seen.append(now)
    assert len(set(seen[-3:])) == 1, seen
    assert BUSY.least <= now <= 6


@LAWS
@given(copies=st.integers(3, 6), share=st.integers(76, 100))
def test_demand_that_wavers_by_a_quarter_does_not_swing(copies: int, share: int) -> None:
    """What asked for one more copy, and then for a quarter less, does not take that copy away again."""
    top = (copies - 1) * 100 + 1
    assert demanded(BUSY, copies - 1, top, True) == copies
    assert demanded(BUSY, copies, top * share // 100, True) == copies


def test_a_rule_is_read_from_its_normalised_spec() -> None:
    spec = {
        "replicas": {"min": 2, "max": 5}, "regions": {"spread": "all", "perRegion": 1}, "nodes": ["eu1"],
        "autoScale": {"downloadsPerHourPerReplica": 200, "cooldown": 1},
    }  # fmt: skip
    assert read_rule("r", spec) == Rule("r", 2, 5, ("eu1",), ("*",), 1, 200)
    assert read_rule("r", {"regions": {"spread": ["EU"]}, "replicas": {"min": 1}}) == Rule("r", 1, None, (), ("EU",), 1, None)
