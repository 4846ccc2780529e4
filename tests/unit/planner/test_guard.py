"""What stops a plan, and in which order."""

from typing import Any

import pytest

from reconciler.model.ref import ResourceRef
from reconciler.model.resource import Lifecycle

ORDER = ["empty-source", "protected", "deletes", "changes", "spend-run", "spend-day", "max-spend", "funds"]


def verdict(made: Any, name: str) -> Any:
    return next((guard for guard in made.guards if guard.name == name), None)


def crowd(world: Any, count: int) -> None:
    world.declare("Network/net", {"chain": "devnet"})
    for index in range(count):
        world.declare(f"Dataset/d{index}", {"networkRef": "net"}, "Network/net")
    world.coins = (1_000_000,) * count
    world.apply(world.plan())


def test_guards_stand_in_the_order_of_refusal(market: Any) -> None:
    market.undeclare("Advertisement/btc")
    market.record("Advertisement/btc", protected=True)
    market.change("Dataset/eth", spec={"networkRef": "net", "storage": 900}, lifecycle=Lifecycle(max_spend=10))
    market.change("Dataset/btc", spec={"networkRef": "net", "storage": 900})
    market.coins = ()
    made = market.plan(change_percent=50, spend_run=1, spend_day=1)
    assert [guard.name for guard in made.guards] == ORDER
    assert [guard.name for guard in made.refusals] == ["protected", "spend-run", "spend-day", "max-spend", "funds"]


def test_an_empty_source_prunes_nothing(market: Any) -> None:
    market.desired.clear()
    made = market.plan()
    assert made.acting == ()
    assert {change.blocked for change in made.changes} == {"the source declares nothing at all"}
    assert verdict(made, "empty-source").message == "nothing is declared, 5 resources recorded"
    assert len(market.plan(approved=frozenset({"empty-source"})).acting) == 5
    assert len(market.plan(destroy=True).acting) == 5


def test_pruning_may_be_off(market: Any, pick: Any) -> None:
    market.undeclare("Dataset/eth")
    made = market.plan(prune=False)
    assert pick(made, "Dataset/eth").blocked == "no longer declared, but pruning is off"
    assert made.refusals == ()
    assert len(market.plan(prune=False, destroy=True).acting) == 5


def test_protection_refuses_and_approval_does_not_lift_it(market: Any, pick: Any) -> None:
    market.undeclare("Dataset/eth")
    market.record("Dataset/eth", protected=True)
    made = market.plan()
    assert verdict(made, "protected").message == "to be removed, but protected: Dataset/eth"
    assert not verdict(made, "protected").ok
    made = market.plan(approved=frozenset({"protected"}))
    assert made.refusals == () and pick(made, "Dataset/eth").blocked


@pytest.mark.row("P-AD-23")
def test_more_than_a_third_of_the_deletes_needs_approval(world: Any) -> None:
    crowd(world, 20)
    for index in range(6):
        world.undeclare(f"Dataset/d{index}")
    assert verdict(world.plan(), "deletes").message == "6/21 (28.5 % ≤ 30 %)"
    world.undeclare("Dataset/d6")
    made = world.plan()
    assert (verdict(made, "deletes").ok, verdict(made, "deletes").message) == (False, "7/21 (33.3 % > 30 %)")
    made = world.plan(approved=frozenset({"deletes"}))
    assert made.refusals == () and verdict(made, "deletes").message == "approved (7/21 (33.3 % > 30 %))"
    assert world.plan(delete_percent=None).refusals == ()


def test_a_share_counts_from_ten_objects_a_count_always(market: Any) -> None:
    market.undeclare("Advertisement/btc")
    market.undeclare("Dataset/btc")
    assert market.plan().refusals == ()
    made = market.plan(delete_count=1)
    assert verdict(made, "deletes").message == "2/5, more than 1 at once"
    assert [guard.name for guard in made.refusals] == ["deletes"]


def test_one_kind_may_not_be_emptied_unseen(world: Any) -> None:
    crowd(world, 40)
    for index in range(10):
        world.declare(f"Advertisement/a{index}", {"networkRef": "net"}, "Network/net")
    world.coins = (1_000_000,) * 50
    world.apply(world.plan())
    for index in range(4):
        world.undeclare(f"Advertisement/a{index}")
    assert verdict(world.plan(), "deletes").message == "4/10 of Advertisement (40.0 % > 30 %)"


def test_the_share_of_changes_may_be_bounded(world: Any) -> None:
    crowd(world, 19)
    for index in range(11):
        world.change(f"Dataset/d{index}", spec={"networkRef": "net", "title": "x"})
    assert world.plan().refusals == ()
    assert verdict(world.plan(change_percent=50), "changes").message == "11/20 (55.0 % > 50 %)"
    assert verdict(world.plan(change_percent=60), "changes").ok


def test_spending_is_bounded_by_run_and_by_day(market: Any) -> None:
    market.change("Dataset/eth", spec={"identityRef": "main", "networkRef": "net", "storage": 60})
    cost = market.plan().cost.satoshis
    assert cost == 40 + 60
    assert market.plan(spend_run=100).refusals == ()
    assert [guard.name for guard in market.plan(spend_run=99).refusals] == ["spend-run"]
    market.spent_today = 900
    assert (
        verdict(market.plan(spend_day=1000), "spend-day").message
        == "900 sat today + 100 sat, 1\u2009000 sat per day, left 0 sat after"
    )
    assert [guard.name for guard in market.plan(spend_day=999).refusals] == ["spend-day"]


def test_the_price_of_the_split_counts_as_spending(market: Any) -> None:
    for name in ("eth", "btc"):
        market.change(f"Dataset/{name}", spec={"identityRef": "main", "networkRef": "net", "title": "new"})
    alone = market.plan().cost.satoshis
    market.coins = (1_000_000,)
    made = market.plan(spend_run=alone)
    assert made.funding and made.cost.satoshis > alone
    assert [guard.name for guard in made.refusals] == ["spend-run"]


def test_a_resource_may_not_cost_more_than_its_own_limit(market: Any, pick: Any) -> None:
    spec = {"identityRef": "main", "networkRef": "net", "storage": 1000}
    market.change("Dataset/btc", spec=spec, lifecycle=Lifecycle(max_spend=1039))
    made = market.plan()
    assert pick(made, "Dataset/btc").blocked == "costs 1\u2009040 sat, more than its maxSpend of 1\u2009039 sat"
    assert pick(made, "Advertisement/btc").verb.value == "none"
    assert verdict(made, "max-spend").message == "dearer than their own maxSpend: Dataset/btc"
    assert made.acting == ()
    made = market.plan(approved=frozenset({"max-spend"}))
    assert made.refusals == () and len(made.acting) == 2


def test_what_a_generation_has_cost_counts_against_the_resource_s_own_limit(market: Any, pick: Any) -> None:
    spec = {"identityRef": "main", "networkRef": "net", "storage": 1000}
    market.change("Dataset/btc", spec=spec, lifecycle=Lifecycle(max_spend=1050))
    ref = ResourceRef("Dataset", "btc")
    made = market.plan()
    (change,) = [one for one in made.acting if one.ref == ref]
    for generation, spent, held in ((change.generation, 10, False), (change.generation, 11, True), (7, 11, False)):
        market.own = {ref: {generation: spent}}
        made = market.plan()
        assert ("max-spend" in [guard.name for guard in made.refusals]) is held
    market.own = {ref: {change.generation: 11}}
    told = "costs 1\u2009040 sat after 11 sat spent on generation 2, more than its maxSpend of 1\u2009050 sat"
    assert pick(market.plan(), "Dataset/btc").blocked == told
    assert market.plan(approved=frozenset({"max-spend"})).refusals == ()


def test_missing_coins_are_named_and_cannot_be_approved(market: Any) -> None:
    market.change("Dataset/eth", spec={"identityRef": "main", "networkRef": "net", "title": "new"})
    market.coins = (30,)
    made = market.plan(approved=frozenset({"funds"}))
    assert made.funding == ()
    assert verdict(made, "funds").message == "1 transaction on devnet: needed 71 sat, available 30 sat, missing 41 sat"
    assert [guard.name for guard in made.refusals] == ["funds"]
    market.coins = (41,)
    assert market.plan().refusals == ()


def test_real_money_takes_a_word(market: Any) -> None:
    market.change("Dataset/eth", spec={"identityRef": "main", "networkRef": "net", "storage": 60})
    assert verdict(market.plan(), "mainnet") is None
    market.change("Network/net", spec={"chain": "main"})
    made = market.plan()
    assert "mainnet" in [guard.name for guard in made.refusals]
    assert "real money" in verdict(made, "mainnet").message
    assert verdict(market.plan(mainnet=True), "mainnet").ok
    assert verdict(market.plan(approved=frozenset({"mainnet"})), "mainnet").message.startswith("approved")
    # What costs nothing there needs no word.
    quiet = {ref: want for ref, want in market.desired.items() if ref.kind == "Network"}
    market.desired.clear()
    market.desired.update(quiet)
    assert verdict(market.plan(prune=False), "mainnet") is None
