"""One difference between what is asked and what is, with its reason and its price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from reconciler.model.canonical import Json, digest
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import Resource


class Verb(Enum):
    """What is to be done. REPAIR restores the world to the record without a new spend; MOVE gives a record another name."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    REPAIR = "repair"
    MOVE = "move"
    DELETE = "delete"
    FORGET = "forget"
    NONE = "none"
    DEFER = "defer"

    # Whether executing the change does anything at all. A plain attribute, because a large plan asks for it many thousand times.
    acts: bool

    def __init__(self, word: str) -> None:
        self.acts = word not in ("none", "defer")


class Reason(Enum):
    """Why, in one word that scripts may rely on."""

    NEW = "New"
    SPEC_CHANGED = "SpecChanged"
    REQUIREMENT_CHANGED = "RequirementChanged"
    DRIFTED = "Drifted"
    EXPIRING = "Expiring"
    LOST = "Lost"
    MOVED = "Moved"
    REMOVED = "Removed"
    ALREADY_GONE = "AlreadyGone"
    IN_SYNC = "InSync"
    UNKNOWN = "Unknown"
    UNMANAGED = "ExistsUnrecorded"
    SUSPENDED = "Suspended"
    FROZEN = "RunOpen"


class Cause(Enum):
    """Who moved: the manifests, the world, or only the clock (what is paid for a while has to be prolonged)."""

    SPEC = "spec"
    DRIFT = "drift"
    TIME = "time"


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

    def below(self, other: FeeRate) -> bool:
        """Whether it is the cheaper one."""
        return self.satoshis * other.bytes < other.satoshis * self.bytes


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


# What most changes have none of, shared among them: ten thousand that do nothing are to be a small plan.
_FREE = Cost()
_EMPTY: Mapping[str, Json] = MappingProxyType({})


class Briefed:
    """Where `Plan.id` keeps how it names a change. No field of the change: it is no part of what a change says."""

    __slots__ = ("brief",)
    brief: bytes


@dataclass(frozen=True, slots=True)
class Change(Briefed):
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
    body: Mapping[str, Json] = field(default_factory=lambda: _EMPTY)
    seen: Mapping[str, Json] = field(default_factory=lambda: _EMPTY)
    rate: FeeRate | None = None
    cost: Cost = _FREE
    needs: tuple[int, ...] = ()
    blocked: str | None = None
    detail: str = ""

    def run_id(self, lineage: str) -> str:
        """The idempotency key of executing this change: the same change finds the same run, never a second one."""
        key = [lineage, str(self.ref), self.verb.value, self.generation, self.attempt, digest(self.body), *self._mends()]
        return "run_" + digest(key)[:24]

    def _mends(self) -> list[Json]:
        """What the world has done to it: another damage is another change, though the body asked for is the same."""
        drift = [[delta.path, delta.after] for delta in self.deltas if delta.cause is Cause.DRIFT]
        spent = sorted(self.seen.get("spent") or ())
        return [drift, spent] if drift or spent else []
