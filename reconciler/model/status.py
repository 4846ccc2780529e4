"""What we know about a resource, as typed conditions (the Kubernetes shape)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum

from reconciler.model.canonical import Json


class Truth(Enum):
    """The three values of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """A typed fact with a reason. `since` moves only when `status` does; messages hold no times or durations."""

    type: str
    status: Truth
    reason: str
    message: str
    observed_generation: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Status:
    """Conditions by type, and the satoshis this resource has cost since it was first seen."""

    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
    fees: int = 0
    payments: int = 0
    facts: Mapping[str, Json] = field(default_factory=dict)

    def condition(self, type_: str) -> Condition | None:
        """The condition of that type, if it has ever been stated."""
        return next((c for c in self.conditions if c.type == type_), None)


def summarise(old: Status, facts: Iterable[Condition], generation: int) -> Status:
    """Merge newly stated conditions into a status, keeping `since` where the truth did not move.

    Reconciling and Stalled are abnormal-true: stating them False removes them. The observed generation
    never decreases.
    """
    kept = {c.type: c for c in old.conditions}
    for fact in facts:
        before = kept.get(fact.type)
        if fact.type in ("Reconciling", "Stalled") and fact.status is not Truth.TRUE:
            kept.pop(fact.type, None)
            continue
        since = before.since if before is not None and before.status is fact.status else fact.since
        kept[fact.type] = replace(fact, since=since)
    ordered = tuple(sorted(kept.values(), key=lambda c: (c.type != "Ready", c.type)))
    return replace(old, conditions=ordered, observed_generation=max(old.observed_generation, generation))
