"""Walk a plan's graph: as wide as it allows, isolating failures; nothing that was done is ever rolled back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from reconciler.engine import faults
from reconciler.engine.route import pays
from reconciler.engine.run import Runner
from reconciler.kinds.network import Net, read_net
from reconciler.model.canonical import Json
from reconciler.model.change import Change
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import GuardRefused, ReconcilerError, Unavailable, Uncertain
from reconciler.model.intent import Done, Retry, Stalled, Waiting
from reconciler.model.plan import Funding, Plan
from reconciler.model.ref import ResourceRef
from reconciler.planner.guard import let_through

# Changes worked on at once unless the caller says otherwise.
PARALLELISM = 4


class Fate(Enum):
    """What became of one change."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    PENDING = "pending"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Result:
    """A change's fate and, when it is not done, why; `retry_at` is set while it is pending."""

    ref: ResourceRef
    fate: Fate
    why: str = ""
    error: ReconcilerError | None = None
    retry_at: object | None = None


@dataclass(slots=True)
class Report:
    """The fates of a plan's changes, in the order they were settled."""

    results: dict[ResourceRef, Result] = field(default_factory=dict)

    def count(self, fate: Fate) -> int:
        """How many changes met this fate."""
        return sum(result.fate is fate for result in self.results.values())

    @property
    def complete(self) -> bool:
        """True when everything was done."""
        return all(result.fate is Fate.DONE for result in self.results.values())


@dataclass(slots=True)
class Executor:
    """Executes one plan. `stop()` lets what is in flight finish its step and begins nothing new.

    `passed` are guards that somebody let pass for this plan.
    """

    runner: Runner
    plan: Plan
    parallelism: int = PARALLELISM
    report: Report = field(default_factory=Report)
    stopped: bool = False
    passed: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.passed |= let_through(self.plan.guards)

    def stop(self) -> None:
        """Begin nothing more."""
        self.stopped = True

    async def run(self) -> Report:
        """Fund, then carry out every acting change after those it must follow."""
        await self._require_newest()
        if not await self._fund():
            return self.report
        gate, plan_id = asyncio.Semaphore(self.parallelism), self.plan.id if self.plan.acting else ""
        settled: dict[ResourceRef, asyncio.Future[Result]] = {
            change.ref: asyncio.get_running_loop().create_future() for change in self.plan.acting
        }

        async def one(change: Change) -> None:
            result = await self._one(change, settled, gate, plan_id)
            self.report.results[change.ref] = result
            settled[change.ref].set_result(result)

        async with asyncio.TaskGroup() as group:
            for change in self.plan.acting:
                group.create_task(one(change))
        return self.report

    async def _one(
        self, change: Change, settled: Mapping[ResourceRef, asyncio.Future[Result]], gate: asyncio.Semaphore, plan_id: str
    ) -> Result:
        for needed in sorted(self.plan.after.get(change.ref, ())):
            if needed in settled and (result := await settled[needed]).fate is not Fate.DONE:
                return Result(change.ref, Fate.SKIPPED, f"because {needed} is {result.fate.value}")
        async with gate:
            if self.stopped:
                return Result(change.ref, Fate.CANCELLED, "not started")
            try:
                outcome = await self.runner.change(change, self.plan.lineage, self.plan.revision, self.passed, plan_id)
            except (Unavailable, Uncertain) as failure:
                return Result(change.ref, Fate.PENDING, failure.message, failure)
            except ReconcilerError as failure:
                return Result(change.ref, Fate.FAILED, failure.message, failure)
            except Exception as bug:
                # Nobody else's work stops for it; what its own journal holds is resumed once it is mended.
                named = faults.fault(bug)
                faults.tell(str(change.ref), named, bug)
                return Result(change.ref, Fate.FAILED, named.message, named)
        match outcome:
            case Done():
                return self._ready(change)
            case Stalled(error):
                return Result(change.ref, Fate.FAILED, error.message, error)
            case Retry(at, error):
                return Result(change.ref, Fate.PENDING, error.message, error, at)
            case Waiting(until, why):
                return Result(change.ref, Fate.PENDING, why, None, until)

    def _ready(self, change: Change) -> Result:
        """Done, unless too few hosts admitted what was paid for: it is recorded, and a repair will send it again."""
        with self.runner.ports.ledger.begin() as tx:
            record = tx.record(change.ref)
        ready = record.status.condition("Ready") if record else None
        if ready is not None and ready.reason in ("NotAdmitted", "Hidden"):
            return Result(change.ref, Fate.FAILED, ready.message)
        return Result(change.ref, Fate.DONE)

    async def _require_newest(self) -> None:
        """Conflict before anything is done when this ledger is not the newest; where nobody can tell, each change asks again."""
        for net in self._nets():
            with contextlib.suppress(Unavailable):
                await self.runner.require_newest(net)

    def _nets(self) -> list[Net]:
        """The networks the plan pays on, one of each chain."""
        nets = {net.chain: net for net in [pays(change) for change in self.plan.acting if change.needs]}
        return [nets[chain] for chain in sorted(nets)]

    async def _fund(self) -> bool:
        nets = self._nets() if self.plan.funding else []
        for run_id, funding in self.plan.splits:
            error = await self._split(funding, run_id, nets)
            if error is not None:
                why = f"the purse could not be split: {error.message}"
                for change in self.plan.acting:
                    self.report.results[change.ref] = Result(change.ref, Fate.PENDING, why, error)
                return False
        return True

    async def _split(self, funding: Funding, run_id: str, nets: Sequence[Net]) -> ReconcilerError | None:
        """Why it could not be made, or None."""
        try:
            for net in nets:
                await self.runner.require_newest(net)
            headers = next((net.headers for net in nets if net.chain == funding.chain), None)
            outcome = await self.runner.funding(funding, run_id, self._broadcasters(funding.chain), headers, self.passed)
        except (Unavailable, Uncertain, GuardRefused) as failure:
            return failure
        match outcome:
            case Stalled(error) | Retry(_, error):
                return error
            case _:
                return None

    def _broadcasters(self, chain: str) -> tuple[Endpoint, ...]:
        """The broadcasters of the first network in the plan that is on this chain."""
        for change in self.plan.changes:
            bodies: list[Mapping[str, Json]] = [change.body, change.before.body if change.before else {}]
            for body in bodies:
                for name, spec in sorted((body.get("using") or {}).items()):
                    if name.startswith("Network/") and spec.get("chain") == chain:
                        return read_net(name, spec).broadcasters
        return ()
