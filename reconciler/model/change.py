"""One difference between what is asked and what is, with its reason and its price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from reconciler.model.canonical import Json, digest
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import Resource


class Verb(Enum):
    """What is to be done. REPAIR restores the world to the record without a new spend."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    REPAIR = "repair"
    DELETE = "delete"
    FORGET = "forget"
    NONE = "none"
    DEFER = "defer"

    @property
    def acts(self) -> bool:
        """Whether executing the change does anything at all."""
        return self not in (Verb.NONE, Verb.DEFER)


class Reason(Enum):
    """Why, in one word that scripts may rely on."""

    NEW = "New"
    SPEC_CHANGED = "SpecChanged"
    REQUIREMENT_CHANGED = "RequirementChanged"
    DRIFTED = "Drifted"
    LOST = "Lost"
    REMOVED = "Removed"
    ALREADY_GONE = "AlreadyGone"
    IN_SYNC = "InSync"
    UNKNOWN = "Unknown"
    UNMANAGED = "ExistsUnrecorded"
    SUSPENDED = "Suspended"
    FROZEN = "RunOpen"


class Cause(Enum):
    """Who moved: the manifests or the world."""

    SPEC = "spec"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class FieldDelta:
    """One changed field; `path` is dotted below the body. `replaces`: the field is immutable, the thing is made anew."""

    path: str
    before: Json
    after: Json
    cause: Cause = Cause.SPEC
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class FeeRate:
    """Miner fee: `satoshis` for every `bytes` of transaction, rounded up per transaction."""

    satoshis: int
    bytes: int = 1000

    def fee(self, size: int) -> int:
        """Satoshis owed for `size` bytes."""
        return -(-size * self.satoshis // self.bytes)


@dataclass(frozen=True, slots=True)
class Cost:
    """Satoshis a change moves: an upper bound in a plan, the exact sum in a report.

    `locked` is value put into tokens minus value taken back out of them, so it may be negative.
    """

    transactions: int = 0
    fees: int = 0
    payments: int = 0
    locked: int = 0
    uploaded: int = 0

    @property
    def satoshis(self) -> int:
        """What leaves the purse in all."""
        return self.fees + self.payments + self.locked

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.transactions + other.transactions,
            self.fees + other.fees,
            self.payments + other.payments,
            self.locked + other.locked,
            self.uploaded + other.uploaded,
        )


@dataclass(frozen=True, slots=True)
class Change:
    """What one resource needs. Complete in itself: a run resumes from it without the plan or the manifests.

    `body` is the resolved request that becomes the record's; `using` inside it holds what the required
    resources export. `rate` is the fee rate the price was computed with, and the only one the run may use.
    `attempt` counts earlier runs of this resource. `seen` are the attributes the decision rests on.
    """

    ref: ResourceRef
    verb: Verb
    reason: Reason
    generation: int
    attempt: int = 0
    deltas: tuple[FieldDelta, ...] = ()
    before: Record | None = None
    after: Resource | None = None
    body: Mapping[str, Json] = field(default_factory=dict)
    seen: Mapping[str, Json] = field(default_factory=dict)
    rate: FeeRate | None = None
    cost: Cost = field(default_factory=Cost)
    needs: tuple[int, ...] = ()
    blocked: str | None = None
    detail: str = ""

    def run_id(self, lineage: str) -> str:
        """The idempotency key of executing this change: the same change finds the same run, never a second one."""
        key = [lineage, str(self.ref), self.verb.value, self.generation, self.attempt, digest(self.body)]
        return "run_" + digest(key)[:24]
