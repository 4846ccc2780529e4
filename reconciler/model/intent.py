"""An effect written down before it happens, and the run it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from reconciler.model.canonical import Json
from reconciler.model.codec import tagged
from reconciler.model.errors import ReconcilerError


class IntentState(Enum):
    """OPEN may have happened; DONE did; REFUSED was turned down for good."""

    OPEN = "open"
    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Intent:
    """One step of a run. `effect` is its class name, `fingerprint` the digest that replay must meet again."""

    run: str
    seq: int
    effect: str
    fingerprint: str
    state: IntentState
    result: Mapping[str, Json] = field(default_factory=dict)
    fence: int = 0


class RunState(Enum):
    """A run is OPEN until its change is recorded, or given up for good."""

    OPEN = "open"
    DONE = "done"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class Run:
    """A journaled sequence of effects. `subject` is the JSON of the Change (or Funding) it executes.

    `reserved` satoshis count against the budgets while it is open, whether they have moved yet or not.
    """

    id: str
    key: str
    subject: Mapping[str, Json]
    version: str
    state: RunState = RunState.OPEN
    error: str | None = None
    began: datetime | None = None
    reserved: int = 0


@tagged
@dataclass(frozen=True, slots=True)
class Done:
    """The run finished; `outputs` go into the record."""

    outputs: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not an error: come back at `until`."""

    until: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Retry:
    """The world did not answer; come back at `at`."""

    at: datetime
    error: ReconcilerError


@dataclass(frozen=True, slots=True)
class Stalled:
    """Needs a human or a new spec."""

    error: ReconcilerError


Outcome = Done | Waiting | Retry | Stalled
