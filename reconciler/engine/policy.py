"""What a record keeps of its manifest's lifecycle, so that it still holds when the manifest is gone or cannot be read."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.canonical import Json
from reconciler.model.record import Record
from reconciler.model.resource import DeletionPolicy, Lifecycle, Prune, Suspension


def keeps(lifecycle: Lifecycle) -> bool:
    """Whether the resource must outlive its manifest."""
    return lifecycle.deletion_policy is DeletionPolicy.PROTECT or lifecycle.prune is Prune.NEVER


def policy_of(lifecycle: Lifecycle) -> dict[str, Json]:
    """What a record keeps, as status facts; None where the lifecycle says nothing."""
    pause = lifecycle.suspend
    held: dict[str, Json] = {
        "suspend": {"reason": pause.reason, "until": pause.until} if pause else None,
        "correct": None if lifecycle.correct_drift else False,
        "ignore": list(lifecycle.ignore) or None,
        "maxSpend": lifecycle.max_spend,
    }
    held = {name: value for name, value in held.items() if value is not None}
    return {"deletionPolicy": lifecycle.deletion_policy.value, "prune": lifecycle.prune.value, "held": held or None}


def kept(facts: Mapping[str, Json], policy: Mapping[str, Json]) -> dict[str, Json]:
    """The facts with the policy in them; what it says nothing of is not there."""
    return {name: value for name, value in {**facts, **policy}.items() if value is not None}


def block_of(record: Record) -> dict[str, Json]:
    """The lifecycle block of a manifest that says what the record kept; what stands at its default is left out."""
    life = recalled(record)
    drift: dict[str, Json] = {} if life.correct_drift else {"correct": "never"}
    drift |= {"ignore": list(life.ignore)} if life.ignore else {}
    pause = {"reason": life.suspend.reason, "until": life.suspend.until} if life.suspend else {}
    block: dict[str, Json] = {
        "deletionPolicy": None if life.deletion_policy is DeletionPolicy.RETIRE else life.deletion_policy.value,
        "prune": None if life.prune is Prune.CONFIRM else life.prune.value,
        "drift": drift or None,
        "suspend": {name: value for name, value in pause.items() if value is not None} or None,
        "maxSpend": life.max_spend,
    }
    return {name: value for name, value in block.items() if value is not None}


def recalled(record: Record) -> Lifecycle:
    """The lifecycle as the record kept it. What only ordered the work is forgotten."""
    facts = record.status.facts
    held: Mapping[str, Json] = facts.get("held") or {}
    pause = held.get("suspend")
    return Lifecycle(
        deletion_policy=DeletionPolicy(facts.get("deletionPolicy", DeletionPolicy.RETIRE.value)),
        prune=Prune(facts.get("prune", Prune.CONFIRM.value)),
        correct_drift=held.get("correct", True),
        ignore=tuple(held.get("ignore") or ()),
        suspend=Suspension(pause["reason"], pause["until"]) if pause else None,
        max_spend=held.get("maxSpend"),
    )
