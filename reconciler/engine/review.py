"""What the daemon tells the authors of a revision: a status for the commit, and a proposal while a plan waits for them.

Told on transition only: what was told last is kept in the ledger, so a restart repeats nothing. Telling never stands in the
way: a host that does not take it is logged and told at the next pass; the network is kept as declared meanwhile.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from reconciler.engine.execute import Fate, Report
from reconciler.engine.handlers import Handlers
from reconciler.model.canonical import canonical, digest
from reconciler.model.errors import ReconcilerError
from reconciler.model.plan import Plan
from reconciler.model.review import CommitStatus, Proposal, State
from reconciler.model.standing import Standing
from reconciler.planner import phrases
from reconciler.planner.guard import APPROVALS
from reconciler.planner.markdown import as_markdown
from reconciler.planner.planfile import write_plan
from reconciler.ports import Ports, Reviewers

log = logging.getLogger("reconciler.engine")

# Hosts show so much of a summary.
MAX_SUMMARY = 140
# Seconds for all that is told of one pass; what is not told by then is told at the next.
DEADLINE = 20.0
_TOLD = "review/told"


def status_of(standing: Standing, fault: str, mode: str, plan: Plan | None, report: Report | None) -> CommitStatus | None:
    """How the newest revision fares; None where the source has no commits, or nothing was planned yet."""
    if not standing.head:
        return None
    if standing.held_back:
        return CommitStatus(standing.head, State.FAILURE, _line(f"not in force: {standing.message}"))
    if fault:
        return CommitStatus(standing.head, State.FAILURE, _line(f"not in force: {fault}"))
    if plan is None:
        return None
    return CommitStatus(standing.current, *_fares(mode, plan, report), plan.id)


def _fares(mode: str, plan: Plan, report: Report | None) -> tuple[State, str]:
    acting, cost = phrases.count(len(plan.acting), "change"), phrases.sats(plan.cost.satoshis)
    if report is not None:
        done = report.count(Fate.DONE)
        failed = [result for result in report.results.values() if result.fate is Fate.FAILED]
        if failed:
            return State.FAILURE, _line(f"{done} of {acting} done; {failed[0].ref}: {failed[0].why}")
        if done < len(plan.acting):
            return State.PENDING, _line(f"{done} of {acting} done, the rest is on its way")
        return State.SUCCESS, _line(f"{acting} carried out")
    if refused := [guard.message for guard in plan.refusals if guard.name != APPROVALS]:
        return State.FAILURE, _line("refused: " + "; ".join(refused))
    if plan.acting:
        waits = "waits for approval" if mode == "propose" else f"not carried out, the mode is {mode}"
        # That people have yet to sign is no failure of the commit.
        waits = next((f"waits: {guard.message}" for guard in plan.refusals), waits)
        return State.PENDING, _line(f"{plan.id}: {acting} for {cost}, {waits}")
    return State.SUCCESS, _line(f"{phrases.count(len(plan.changes), 'resource')} as declared")


def _line(text: str) -> str:
    return phrases.cut(phrases.harmless(text), MAX_SUMMARY)


@dataclass(slots=True)
class Review:
    """Tells reviewers what a pass came to. `sign` gives (signer hex33, signature) over the bytes of a plan file."""

    ports: Ports
    reviewers: Sequence[Reviewers]
    sign: Callable[[bytes], tuple[str, bytes]]

    async def __call__(self, handlers: Handlers, report: Report | None) -> None:
        """Tell every reviewer what is new to it."""
        plan, standing = handlers.last_plan, self.ports.source.standing()
        status = status_of(standing, handlers.source_fault, handlers.mode, plan, report)
        waits = handlers.mode == "propose" and plan is not None and bool(plan.acting) and report is None
        try:
            async with asyncio.timeout(DEADLINE):
                for one in self.reviewers:
                    await self._inform(one, status, plan if waits else None)
        except TimeoutError:
            log.warning("review.failed", extra={"error": "cannot tell every reviewer in time", "hint": "it is tried again"})

    async def _inform(self, reviewer: Reviewers, status: CommitStatus | None, plan: Plan | None) -> None:
        if status is not None:
            await self._once(f"{reviewer.name}/status", digest(_words(status)), partial(reviewer.status, status))
        if plan is not None:

            async def propose() -> None:
                await reviewer.propose(self.proposal(plan))

            await self._once(f"{reviewer.name}/plan", plan.id, propose)

    async def _once(self, name: str, value: str, tell: Callable[[], Awaitable[None]]) -> None:
        with self.ports.ledger.begin() as tx:
            if (tx.get(f"{_TOLD}/{name}") or "") == value:
                return
        try:
            await tell()
        except ReconcilerError as error:
            log.warning("review.failed", extra={"sink": name, "error": error.message, "hint": error.hint})
            return
        with self.ports.ledger.begin() as tx:
            tx.put(f"{_TOLD}/{name}", value)

    def proposal(self, plan: Plan) -> Proposal:
        """The plan as a reviewer gets it."""
        file = write_plan(plan)
        signer, value = self.sign(file)
        signature = {"scheme": "BRC-77", "signer": signer, "value": base64.b64encode(value).decode()}
        return Proposal(plan.id, plan.revision, file, canonical(signature), as_markdown(plan))


def _words(status: CommitStatus) -> list[str]:
    # Which plan it was is not news by itself: plans are made at every pass.
    return [status.revision, status.state.value, status.summary]
