"""A resource with another name: its record is on the move, and what stands on it waits for that."""

from dataclasses import replace
from typing import Any

from reconciler.model.change import Reason, Verb
from reconciler.model.observation import Unknown
from reconciler.model.plan import Plan
from reconciler.model.record import RecordedState
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import DesiredState
from reconciler.planner.guard import Limits
from reconciler.planner.markdown import as_markdown
from reconciler.planner.plan import plan
from reconciler.planner.render import as_text, totals
from tests.unit.planner.conftest import RATE, split_fee

ETH, ETHER = ResourceRef("Dataset", "eth"), ResourceRef("Dataset", "ether")


def renamed(market: Any, **limits: Any) -> Plan:
    """Dataset/eth was renamed to Dataset/ether, and its record shown under that name."""
    market.declare("Dataset/ether", market.desired[ETH].spec, "Identity/main", "Network/net", renamed_from=ETH)
    del market.desired[ETH]
    return planned(market, **limits)


def planned(market: Any, barred: Any = None, **limits: Any) -> Plan:
    records = {ref: record for ref, record in market.records.items() if ref != ETH}
    if barred is None:
        records[ETHER] = replace(market.records[ETH], ref=ETHER)
    else:
        records = market.records
    recorded: RecordedState = replace(
        market.recorded(), records=records, moved={} if barred else {ETHER: ETH}, barred=barred or {}
    )
    market.records, before = records, market.records
    try:
        seen = market.seen()
        return plan(
            DesiredState("main@9f2c1ab", "prod", market.desired),
            recorded,
            seen,
            kinds=market.kinds,
            rates={"net": RATE},
            limits=Limits(**limits),
            split_fee=split_fee,
        )
    finally:
        market.records = before


def test_a_new_name_moves_the_record_and_retires_nothing(market: Any, pick: Any) -> None:
    made = renamed(market)
    change = pick(made, "Dataset/ether")
    assert [str(one.ref) for one in made.acting] == ["Dataset/ether"]
    assert (change.verb, change.reason, change.cost.satoshis, change.before.ref) == (Verb.MOVE, Reason.MOVED, 0, ETH)
    assert [(delta.path, delta.before, delta.after) for delta in change.deltas] == [("name", "eth", "ether")]
    assert totals(made)["move"] == 1 and totals(made)["retire"] == 0
    assert "1 to move" in as_text(made) and "moved from eth" in as_markdown(made)


def test_a_name_and_a_field_are_one_update_of_the_record_that_moves(market: Any, pick: Any) -> None:
    market.change("Dataset/eth", spec={**market.desired[ETH].spec, "title": "Ether"})
    change = pick(renamed(market), "Dataset/ether")
    assert (change.verb, change.reason, change.generation, change.before.ref) == (Verb.UPDATE, Reason.SPEC_CHANGED, 2, ETH)
    assert [delta.path for delta in change.deltas] == ["name", "spec.title"]


def test_in_doubt_nothing_moves_and_what_speaks_of_it_waits(market: Any, pick: Any) -> None:
    market.change("Advertisement/btc", requires=frozenset({ETHER, ResourceRef("Network", "net")}))
    market.change("Advertisement/btc", spec={"datasetRef": "ether", "networkRef": "net", "domain": "old.example", "more": 1})
    market.see("Dataset/ether", Unknown("silence"))
    made = renamed(market)
    assert pick(made, "Dataset/ether").verb is Verb.DEFER
    waiting = pick(made, "Advertisement/btc")
    assert (waiting.verb, waiting.reason) == (Verb.DEFER, Reason.MOVED) and "Dataset/ether" in waiting.detail
    assert not made.acting
    # Left out of the plan it is in doubt as well.
    market.observed.clear()
    made = planned(market, exclude=frozenset({ETHER}))
    assert pick(made, "Advertisement/btc").verb is Verb.DEFER and not made.acting


def test_what_leaves_goes_after_the_move_it_speaks_of(market: Any, pick: Any) -> None:
    market.record("Advertisement/btc", requires=(ETHER, ResourceRef("Network", "net")))
    market.undeclare("Advertisement/btc")
    made = renamed(market, delete_percent=None)
    assert [(str(one.ref), one.verb) for one in made.acting] == [
        ("Dataset/ether", Verb.MOVE),
        ("Advertisement/btc", Verb.DELETE),
    ]
    assert made.after[ResourceRef("Advertisement", "btc")] == {ETHER}


def test_what_may_not_move_blocks_the_new_name_and_keeps_the_old(market: Any, pick: Any) -> None:
    market.declare("Dataset/ether", market.desired[ETH].spec, "Identity/main", "Network/net", renamed_from=ETH)
    del market.desired[ETH]
    made = planned(market, barred={ETH: "it may not", ETHER: "it may not"})
    assert not made.acting
    assert [pick(made, name).blocked for name in ("Dataset/eth", "Dataset/ether")] == ["it may not"] * 2
