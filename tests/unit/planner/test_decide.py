"""The twelve rows of the decision table, and what refines them."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from reconciler.model.change import Cause, Reason, Verb
from reconciler.model.observation import Absent, Present, Unknown
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import DeletionPolicy, Lifecycle, Prune, Suspension
from reconciler.model.status import Status
from reconciler.planner.decide import TABLE, Row, Seen

ALONE = Present({"hosts": ["one"]})


def test_the_table_names_every_case_and_no_doubt_leads_to_an_act() -> None:
    assert set(TABLE) == set(product((True, False), (True, False), Seen))
    assert {row for (_, _, seen), row in TABLE.items() if seen is Seen.UNKNOWN} == {Row.DEFER, Row.IGNORE}


def test_declared_and_absent_is_created_at_generation_one(market: Any, pick: Any) -> None:
    market.declare("Dataset/new", {"identityRef": "main", "networkRef": "net"}, "Identity/main", "Network/net")
    change = pick(market.plan(), "Dataset/new")
    assert (change.verb, change.reason, change.generation, change.blocked) == (Verb.CREATE, Reason.NEW, 1, None)
    assert change.body["using"]["Identity/main"] == {"publicKey": "02" * 33}
    assert change.after is market.desired[change.ref] and change.before is None


@pytest.mark.parametrize("adopt", [False, True])
def test_what_exists_unrecorded_is_blocked_and_left_alone(market: Any, pick: Any, adopt: bool) -> None:
    market.declare("Dataset/new", {"networkRef": "net"}, "Network/net", lifecycle=Lifecycle(adopt=adopt))
    market.see("Dataset/new", Present())
    made = market.plan()
    change = pick(made, "Dataset/new")
    assert change.reason is Reason.UNMANAGED
    assert change.blocked.startswith("exists on the network but not in this ledger")
    assert change not in made.acting and not made.empty


def test_in_sync_is_nothing_and_carries_nothing(market: Any, pick: Any) -> None:
    made = market.plan()
    assert made.empty and made.acting == ()
    change = pick(made, "Dataset/btc")
    assert (change.verb, change.reason, change.body, change.before) == (Verb.NONE, Reason.IN_SYNC, {}, None)


def test_a_changed_spec_is_an_update_of_the_next_generation(market: Any, pick: Any) -> None:
    market.change("Dataset/eth", spec={"identityRef": "main", "networkRef": "net", "title": "Ether"})
    market.attempts = {ResourceRef("Dataset", "eth"): 4}
    change = pick(market.plan(), "Dataset/eth")
    assert (change.verb, change.reason, change.generation, change.attempt) == (Verb.UPDATE, Reason.SPEC_CHANGED, 2, 4)
    assert [(d.path, d.before, d.after, d.cause) for d in change.deltas] == [("spec.title", "eth", "Ether", Cause.SPEC)]


def test_an_immutable_field_replaces(market: Any, pick: Any) -> None:
    market.change("Advertisement/btc", spec={"datasetRef": "btc", "networkRef": "net", "domain": "new.example"})
    change = pick(market.plan(), "Advertisement/btc")
    assert (change.verb, change.reason, change.generation) == (Verb.REPLACE, Reason.SPEC_CHANGED, 2)
    assert [d.path for d in change.deltas if d.replaces] == ["spec.domain"]


def test_drift_is_repaired_without_a_new_generation(market: Any, pick: Any) -> None:
    market.see("Dataset/btc", ALONE)
    made = market.plan()
    change = pick(made, "Dataset/btc")
    assert (change.verb, change.reason, change.generation) == (Verb.REPAIR, Reason.DRIFTED, 1)
    assert [(d.path, d.cause) for d in change.deltas] == [("hosts.two", Cause.DRIFT)]
    assert change.seen == {"hosts": ["one"]}
    # The same transaction again: nothing that builds on it moves, and nothing is spent.
    assert made.acting == (change,) and made.cost.satoshis == 0


def test_drift_that_the_same_transaction_cannot_undo_replaces(market: Any, pick: Any) -> None:
    market.see("Dataset/eth", Present({"hosts": ["one"], "burnt": True}))
    change = pick(market.plan(), "Dataset/eth")
    assert (change.verb, change.reason, change.generation) == (Verb.REPLACE, Reason.DRIFTED, 1)


def test_drift_is_only_reported_where_the_manifest_says_so(market: Any, pick: Any) -> None:
    market.see("Dataset/btc", ALONE)
    market.change("Dataset/btc", lifecycle=Lifecycle(correct_drift=False))
    change = pick(market.plan(), "Dataset/btc")
    assert (change.verb, change.reason, len(change.deltas)) == (Verb.NONE, Reason.DRIFTED, 1)
    market.change("Dataset/btc", lifecycle=Lifecycle(ignore=("/hosts/two",)))
    change = pick(market.plan(), "Dataset/btc")
    assert (change.verb, change.reason, change.deltas) == (Verb.NONE, Reason.IN_SYNC, ())


def test_a_changed_spec_that_also_drifted_tells_both(market: Any, pick: Any) -> None:
    market.see("Dataset/eth", ALONE)
    market.change("Dataset/eth", spec={"identityRef": "main", "networkRef": "net", "title": "Ether"})
    change = pick(market.plan(), "Dataset/eth")
    assert change.verb is Verb.UPDATE
    assert {(d.path, d.cause) for d in change.deltas} == {("spec.title", Cause.SPEC), ("hosts.two", Cause.DRIFT)}


def test_what_is_lost_is_created_again_in_its_generation(market: Any, pick: Any) -> None:
    market.see("Dataset/eth", Absent("spent in 77d0"))
    change = pick(market.plan(), "Dataset/eth")
    assert (change.verb, change.reason, change.generation, change.detail) == (Verb.CREATE, Reason.LOST, 1, "spent in 77d0")
    assert change.before == market.records[change.ref]
    market.change("Dataset/eth", spec={"networkRef": "net", "identityRef": "main", "title": "Ether"})
    change = pick(market.plan(), "Dataset/eth")
    assert (change.verb, change.reason, change.generation) == (Verb.CREATE, Reason.LOST, 2)


def test_what_is_left_of_a_lost_thing_reaches_the_change(market: Any, pick: Any) -> None:
    market.see("Dataset/eth", Absent("evicted", {"blobs": 3}))
    assert pick(market.plan(), "Dataset/eth").seen == {"blobs": 3}


def test_doubt_defers_and_says_why(market: Any, pick: Any) -> None:
    market.change("Dataset/eth", spec={"title": "moved"})
    market.see("Dataset/eth", Unknown("4 of 5 hosts silent"))
    change = pick(market.plan(), "Dataset/eth")
    assert (change.verb, change.reason, change.detail) == (Verb.DEFER, Reason.UNKNOWN, "4 of 5 hosts silent")


def test_a_missing_observation_is_doubt(market: Any, pick: Any) -> None:
    market.declare("Dataset/new", {"networkRef": "net"}, "Network/net")
    seen = market.seen()
    del seen[ResourceRef("Dataset", "new")]
    market.seen = lambda: seen
    assert pick(market.plan(), "Dataset/new").verb is Verb.DEFER


def test_what_is_no_longer_declared_is_deleted_with_its_own_rate(market: Any, pick: Any) -> None:
    market.undeclare("Dataset/eth")
    change = pick(market.plan(), "Dataset/eth")
    assert (change.verb, change.reason, change.generation, change.blocked) == (Verb.DELETE, Reason.REMOVED, 1, None)
    assert change.before == market.records[change.ref] and change.after is None
    assert change.rate == market.rates["net"] and change.cost.locked == -1


def test_what_is_already_gone_is_forgotten_for_nothing(market: Any, pick: Any) -> None:
    market.undeclare("Dataset/eth")
    market.see("Dataset/eth", Absent("spent"))
    change = pick(market.plan(), "Dataset/eth")
    assert (change.verb, change.reason, change.cost.transactions) == (Verb.FORGET, Reason.ALREADY_GONE, 0)


def test_an_orphan_is_forgotten_and_stays_on_the_network(market: Any, pick: Any) -> None:
    market.undeclare("Dataset/eth")
    market.record("Dataset/eth", status=Status(facts={"deletionPolicy": "Orphan"}))
    change = pick(market.plan(), "Dataset/eth")
    assert (change.verb, change.reason) == (Verb.FORGET, Reason.REMOVED)


@pytest.mark.parametrize("seen", [None, Absent("spent")])
def test_what_is_protected_stays(market: Any, pick: Any, seen: Any) -> None:
    market.undeclare("Dataset/eth")
    market.record("Dataset/eth", protected=True)
    if seen:
        market.see("Dataset/eth", seen)
    assert pick(market.plan(), "Dataset/eth").blocked.startswith("protected")


@pytest.mark.parametrize(
    ("lifecycle", "said"),
    [
        (Lifecycle(deletion_policy=DeletionPolicy.PROTECT), "protected"),
        (Lifecycle(prune=Prune.NEVER), "its lifecycle says prune: never"),
    ],
)
def test_destroy_heeds_the_lifecycle_of_what_is_declared(market: Any, pick: Any, lifecycle: Lifecycle, said: str) -> None:
    market.change("Dataset/eth", lifecycle=lifecycle)
    made = market.plan(destroy=True)
    assert pick(made, "Dataset/eth").blocked.startswith(said)
    assert pick(made, "Dataset/btc").verb is Verb.DELETE


def test_a_suspended_resource_rests_and_says_why(market: Any, pick: Any) -> None:
    pause = Suspension("vendor outage", "2030-01-04T00:00:00Z")
    market.change("Dataset/eth", spec={"title": "moved"}, lifecycle=Lifecycle(suspend=pause))
    market.see("Dataset/eth", Absent("spent"))
    change = pick(market.plan(), "Dataset/eth")
    assert (change.verb, change.reason) == (Verb.NONE, Reason.SUSPENDED)
    assert change.detail == "vendor outage until 2030-01-04T00:00:00Z"


def test_an_open_run_freezes_its_resource_whatever_is_declared(market: Any, pick: Any) -> None:
    ref = market.undeclare("Dataset/eth")
    market.frozen = frozenset({ref, ResourceRef("Dataset", "btc")})
    market.change("Dataset/btc", spec={"title": "moved"})
    made = market.plan()
    for name in ("Dataset/eth", "Dataset/btc"):
        change = pick(made, name)
        assert (change.verb, change.reason) == (Verb.DEFER, Reason.FROZEN)


def test_a_deletion_begun_and_called_back_is_put_right(market: Any, pick: Any) -> None:
    market.record("Dataset/eth", retiring=True)
    made = market.plan()
    assert pick(made, "Dataset/eth").verb is Verb.REPAIR
    market.apply(made)
    assert market.plan().empty


def test_a_null_in_an_old_record_costs_nothing(market: Any) -> None:
    record = market.records[ResourceRef("Dataset", "eth")]
    market.record("Dataset/eth", body={**record.body, "spec": {**record.body["spec"], "later": None}})
    assert market.plan().empty


def test_what_nobody_declared_or_recorded_is_not_ours(market: Any) -> None:
    market.see("Dataset/stranger", Present())
    made = market.plan()
    assert made.empty and len(made.changes) == 5


def test_a_run_id_says_what_is_done_once(market: Any, pick: Any) -> None:
    market.see("Dataset/eth", Absent("spent"))
    change = pick(market.plan(), "Dataset/eth")
    assert change.run_id("lin") == pick(market.plan(), "Dataset/eth").run_id("lin")
    assert change.run_id("lin") != replace(change, attempt=1).run_id("lin")
