"""Requirements first, advertisements last, and the other way round on the way out."""

from itertools import pairwise
from typing import Any

from reconciler.model.change import Verb
from reconciler.model.observation import Unknown
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import Lifecycle, Suspension
from reconciler.planner.order import topological


def refs(*names: str) -> list[ResourceRef]:
    return [ResourceRef("K", name) for name in names]


def rank(ref: ResourceRef) -> str:
    return ref.name


def test_each_comes_after_what_it_needs_and_ties_go_by_rank() -> None:
    a, b, c, d = refs("a", "b", "c", "d")
    assert topological([d, c, b, a], {a: {d}, b: {a, ResourceRef("K", "elsewhere")}}, rank) == [c, d, a, b]


def test_a_cycle_is_opened_at_its_lowest_rank() -> None:
    a, b, c, d = refs("a", "b", "c", "d")
    assert topological([a, b, c, d], {a: {b}, b: {c}, c: {a}, d: {c}}, rank) == [a, c, b, d]
    assert topological([a], {a: {a}}, rank) == [a]


def test_a_chain_of_thousands_needs_no_recursion() -> None:
    chain = [ResourceRef("K", f"{i:05}") for i in range(5000)]
    before = {later: {earlier} for earlier, later in pairwise(chain)}
    assert topological(reversed(chain), before, rank) == chain


def test_a_plan_builds_up_by_stage_and_takes_down_in_reverse(market: Any) -> None:
    records, market.records = market.records, {}
    up = [str(change.ref) for change in market.plan().acting]
    assert up == ["Network/net", "Identity/main", "Dataset/btc", "Dataset/eth", "Advertisement/btc"]
    market.records = records
    down = market.plan(destroy=True)
    assert [str(change.ref) for change in down.acting] == [
        "Advertisement/btc", "Dataset/btc", "Dataset/eth", "Identity/main", "Network/net",
    ]  # fmt: skip
    identity, dataset = ResourceRef("Identity", "main"), ResourceRef("Dataset", "btc")
    assert down.after[dataset] == {ResourceRef("Advertisement", "btc")}
    assert down.after[identity] == {dataset, ResourceRef("Dataset", "eth")}
    market.apply(down)
    assert market.plan(destroy=True).changes == ()


def test_edges_join_acting_changes_only(market: Any) -> None:
    market.change("Dataset/eth", spec={"identityRef": "main", "networkRef": "net", "title": "x"})
    made = market.plan()
    assert len(made.acting) == 1 and made.after == {}


def test_a_requirement_leaves_only_after_its_user_has_let_go(market: Any, pick: Any) -> None:
    spec = {"datasetRef": "eth", "networkRef": "net", "domain": "old.example"}
    needs = {ResourceRef("Dataset", "eth"), ResourceRef("Network", "net")}
    market.change("Advertisement/btc", spec=spec, requires=frozenset(needs))
    gone = market.undeclare("Dataset/btc")
    made = market.plan()
    assert [(str(c.ref), c.verb) for c in made.acting] == [("Advertisement/btc", Verb.UPDATE), ("Dataset/btc", Verb.DELETE)]
    assert made.after == {gone: {ResourceRef("Advertisement", "btc")}}


def test_a_requirement_stays_while_its_user_does(market: Any, pick: Any) -> None:
    for name in ("Dataset/btc", "Advertisement/btc"):
        market.undeclare(name)
    market.record("Advertisement/btc", protected=True)
    assert pick(market.plan(), "Dataset/btc").blocked == "still used by Advertisement/btc, which is blocked"
    market.record("Advertisement/btc", protected=False)
    market.see("Advertisement/btc", Unknown("silence"))
    change = pick(market.plan(), "Dataset/btc")
    assert (change.verb, change.detail) == (Verb.DEFER, "waits for Advertisement/btc")


def test_a_requirement_stays_under_a_suspended_or_unlinked_user(market: Any, pick: Any) -> None:
    market.undeclare("Dataset/btc")
    assert pick(market.plan(), "Dataset/btc").blocked == "still required by Advertisement/btc"
    market.change("Advertisement/btc", requires=frozenset(), lifecycle=Lifecycle(suspend=Suspension("later")))
    assert pick(market.plan(), "Dataset/btc").blocked == "still used by Advertisement/btc, which is suspended"


def test_records_that_stand_on_each_other_can_still_be_taken_down(market: Any) -> None:
    market.record("Dataset/btc", requires=(ResourceRef("Dataset", "eth"),))
    market.record("Dataset/eth", requires=(ResourceRef("Dataset", "btc"),))
    made = market.plan(destroy=True)
    assert len(made.acting) == 5
    done: set[ResourceRef] = set()
    for change in made.acting:
        assert made.after.get(change.ref, frozenset()) <= done
        done.add(change.ref)
