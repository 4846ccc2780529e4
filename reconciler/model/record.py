"""What we wrote down: the inventory the planner compares with the manifests and the world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.model.canonical import Json
from reconciler.model.ref import Position, ResourceRef
from reconciler.model.status import Status


@dataclass(frozen=True, slots=True)
class Record:
    """One resource as last applied.

    `body` is the resolved request ({"spec", "files", "using"}); `outputs` is what the controller returned
    (outpoints, public keys, hosts). `generation` counts changes of the body. A retiring record is its own
    finalizer: it goes only when its deletion has finished.
    """

    ref: ResourceRef
    uid: str
    generation: int
    body: Mapping[str, Json]
    outputs: Mapping[str, Json]
    requires: tuple[ResourceRef, ...] = ()
    status: Status = field(default_factory=Status)
    protected: bool = False
    retiring: bool = False
    revision: str = ""
    at: Position | None = None


@dataclass(frozen=True, slots=True)
class Purse:
    """The free coins of one chain, in satoshis, largest first."""

    coins: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        """Satoshis that can be spent now."""
        return sum(self.coins)


@dataclass(frozen=True, slots=True)
class RecordedState:
    """The ledger at one serial. `attempts` counts finished runs per resource, so that a run id is never reused.

    `frozen` names resources with an open run: they are driven to their end before they are planned again.
    `purses` are keyed by the name of the chain (main, test, devnet). `spent_today` and, by kind, `spent_kinds` are booked
    satoshis; `reserved` is what open runs have set aside beyond that. `own` is what resources with a maxSpend have cost, by
    generation, as far as the plan asks for it. `moved` are resources whose record is still kept under the
    name they had before, here already shown under the new one; of what is `barred` from that, the reason.
    """

    lineage: str
    serial: int
    records: Mapping[ResourceRef, Record]
    attempts: Mapping[ResourceRef, int] = field(default_factory=dict)
    frozen: frozenset[ResourceRef] = frozenset()
    purses: Mapping[str, Purse] = field(default_factory=dict)
    spent_today: int = 0
    spent_kinds: Mapping[str, int] = field(default_factory=dict)
    reserved: Mapping[ResourceRef, int] = field(default_factory=dict)
    own: Mapping[ResourceRef, Mapping[int, int]] = field(default_factory=dict)
    moved: Mapping[ResourceRef, ResourceRef] = field(default_factory=dict)
    barred: Mapping[ResourceRef, str] = field(default_factory=dict)
