"""What dependents build on, before and after it is known."""

from typing import Any

import pytest

from reconciler.model.change import Reason, Verb
from reconciler.model.errors import Conflict
from reconciler.model.observation import Absent, Present, Unknown
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import Lifecycle, Suspension
from reconciler.planner.resolve import chain, network, settle


def test_exports_still_to_be_made_are_symbols_and_known_ones_are_values(world: Any, pick: Any) -> None:
    world.declare("Network/net", {"chain": "devnet"})
    world.declare("Identity/main", {"networkRef": "net"}, "Network/net")
    world.declare("Dataset/a", {"identityRef": "main", "networkRef": "net"}, "Identity/main", "Network/net")
    change = pick(world.plan(), "Dataset/a")
    assert change.body["using"] == {"Identity/main": {"$after": "Identity/main"}, "Network/net": {"chain": "devnet"}}


def test_files_are_part_of_what_is_asked(market: Any, pick: Any) -> None:
    from reconciler.model.codec import encode
    from reconciler.model.resource import FileFact

    fact = FileFact("btc.csv", 3, "ab" * 32, "text/csv", {"rows": 2})
    market.change("Dataset/btc", files=(fact,))
    change = pick(market.plan(), "Dataset/btc")
    assert change.verb is Verb.UPDATE and change.body["files"] == [encode(fact)]


def test_a_requirement_replaced_or_updated_makes_its_dependents_follow(market: Any, pick: Any) -> None:
    market.change("Dataset/btc", spec={"identityRef": "main", "networkRef": "net", "title": "new"})
    made = market.plan()
    change = pick(made, "Advertisement/btc")
    assert (change.verb, change.reason) == (Verb.UPDATE, Reason.REQUIREMENT_CHANGED)
    assert change.deltas[0].after == {"$after": "Dataset/btc"}
    market.apply(made)
    assert market.plan().empty


def test_exports_that_outlast_an_update_leave_dependents_alone(market: Any, pick: Any) -> None:
    market.change("Identity/main", spec={"networkRef": "net", "title": "Ada Lovelace"})
    made = market.plan()
    assert [str(change.ref) for change in made.acting] == ["Identity/main"]
    market.change("Identity/main", spec={"networkRef": "net", "title": "Ada", "key": "other"})
    made = market.plan()
    assert pick(made, "Identity/main").verb is Verb.REPLACE
    assert pick(made, "Dataset/eth").reason is Reason.REQUIREMENT_CHANGED


def test_a_repaired_requirement_moves_nobody(market: Any, pick: Any) -> None:
    market.see("Dataset/btc", Present({"hosts": []}))
    assert [str(change.ref) for change in market.plan().acting] == ["Dataset/btc"]


def test_depends_on_orders_the_work_and_is_no_part_of_the_request(market: Any, pick: Any) -> None:
    eth = ResourceRef("Dataset", "eth")
    before = market.desired[ResourceRef("Dataset", "btc")]
    market.change("Dataset/btc", requires=before.requires | {eth}, lifecycle=Lifecycle(depends_on=(eth,)))
    assert market.plan().empty
    market.change("Dataset/btc", spec={**before.spec, "title": "new"})
    market.change("Dataset/eth", spec={**before.spec, "title": "newer"})
    made = market.plan()
    assert "Dataset/eth" not in pick(made, "Dataset/btc").body["using"]
    assert eth in made.after[before.ref]


@pytest.mark.parametrize("seen", [Unknown("silence"), None])
def test_nothing_is_spent_on_top_of_doubt(market: Any, pick: Any, seen: Any) -> None:
    """An unchanged requirement in doubt is used as recorded; one that should have moved holds its dependents back."""
    market.see("Identity/main", Unknown("silence"))
    market.change("Dataset/eth", spec={"identityRef": "main", "networkRef": "net", "title": "Ether"})
    assert pick(market.plan(), "Dataset/eth").verb is Verb.UPDATE
    market.change("Identity/main", spec={"networkRef": "net", "title": "Ada Lovelace"})
    change = pick(market.plan(), "Dataset/eth")
    assert (change.verb, change.reason, change.detail) == (Verb.DEFER, Reason.UNKNOWN, "waits for Identity/main")
    assert pick(market.plan(), "Dataset/btc").verb is Verb.NONE


def test_what_a_resource_needs_and_cannot_have_blocks_it_by_name(world: Any, pick: Any) -> None:
    world.declare("Network/net", {"chain": "devnet"})
    world.declare("Identity/main", {"networkRef": "net"}, "Network/net")
    world.declare("Dataset/a", {"identityRef": "main", "networkRef": "net"}, "Identity/main", "Network/net")
    world.declare("Advertisement/a", {"datasetRef": "a", "networkRef": "net"}, "Dataset/a", "Network/net")
    world.see("Identity/main", Present())
    made = world.plan()
    assert pick(made, "Dataset/a").blocked == "requires Identity/main, which is blocked"
    assert pick(made, "Advertisement/a").blocked == "requires Dataset/a, which is blocked"
    world.change("Identity/main", lifecycle=Lifecycle(suspend=Suspension("later")))
    assert pick(world.plan(), "Dataset/a").blocked == "requires Identity/main, which was suspended before it existed"
    world.undeclare("Identity/main")
    world.observed.clear()
    assert pick(world.plan(), "Dataset/a").blocked == "requires Identity/main, which is not declared and does not exist"


def test_a_requirement_with_an_open_run_is_waited_for(market: Any, pick: Any) -> None:
    market.frozen = frozenset({ResourceRef("Dataset", "btc")})
    market.change("Advertisement/btc", spec={"datasetRef": "btc", "networkRef": "net", "domain": "new.example"})
    change = pick(market.plan(), "Advertisement/btc")
    assert (change.verb, change.reason) == (Verb.DEFER, Reason.FROZEN)


def test_a_lost_requirement_that_cannot_come_back_holds_its_dependents(market: Any, pick: Any) -> None:
    market.see("Dataset/btc", Absent("spent"))
    market.change("Dataset/btc", lifecycle=Lifecycle(max_spend=1))
    market.change("Advertisement/btc", spec={"datasetRef": "btc", "networkRef": "net", "domain": "new.example"})
    made = market.plan()
    assert pick(made, "Advertisement/btc").blocked == "requires Dataset/btc, which is blocked"


def test_settling_puts_recorded_exports_in_place_of_symbols_and_nothing_else() -> None:
    body = {"spec": {"a": 1}, "files": [], "using": {"Identity/main": {"$after": "Identity/main"}, "Network/net": {"chain": "x"}}}
    exports = {"Identity/main": {"publicKey": "02"}, "Network/net": {"chain": "x"}, "Dataset/other": {}}
    settled = settle(body, exports)
    assert settled == {
        "spec": {"a": 1},
        "files": [],
        "using": {"Identity/main": {"publicKey": "02"}, "Network/net": {"chain": "x"}},
    }
    assert body["using"]["Identity/main"] == {"$after": "Identity/main"}
    with pytest.raises(Conflict, match="Network/net has changed since the plan"):
        settle(body, {**exports, "Network/net": {"chain": "y"}})
    with pytest.raises(Conflict, match="Identity/main exports nothing yet"):
        settle(body, {"Network/net": {"chain": "x"}})


def test_the_network_is_the_one_named_or_the_only_one() -> None:
    using = {"Network/a": {"chain": "main"}, "Network/b": {"chain": "test"}}
    assert network({"spec": {"networkRef": "b"}, "using": using}) == "b"
    assert chain({"spec": {"networkRef": "b"}, "using": using}) == "test"
    assert network({"spec": {}, "using": using}) is None
    assert chain({"spec": {}, "using": {"Network/a": {"chain": "main"}}}) == "main"
    assert chain({"spec": {}, "using": {"Network/a": {"$after": "Network/a"}}}) is None
    assert chain({}) is None
