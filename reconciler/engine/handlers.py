"""Key prefix -> handler. Each reads everything again, so a missed hint makes no difference.

`plan` looks at the whole workspace; `look/<Kind>/<name>` at one resource and what it requires; `run/<id>`
resumes one run whose time has come; `confirm` follows transactions into blocks and out of them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from reconciler.engine import balance, hiding, probes, source
from reconciler.engine.approve import Approvals, Consent
from reconciler.engine.budget import effective, renews
from reconciler.engine.confirm import confirm, depths, note_depths
from reconciler.engine.execute import Executor, Fate, Report
from reconciler.engine.finish import remember
from reconciler.engine.rebuild import adopt_marked
from reconciler.engine.recover import recover
from reconciler.engine.run import Runner
from reconciler.engine.standing import state
from reconciler.engine.survey import Survey, Surveyor, believed, midnight, steady
from reconciler.engine.worker import Handler
from reconciler.kinds.network import Net, read_net
from reconciler.model.canonical import digest
from reconciler.model.change import Cause, Verb
from reconciler.model.errors import Attention, Invariant, ReconcilerError, Refused, Unavailable
from reconciler.model.intent import Retry, RunState, Waiting
from reconciler.model.plan import Plan
from reconciler.model.record import RecordedState
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import DesiredState, Prune
from reconciler.model.status import Condition, Truth
from reconciler.planner.approval import Panel, Tally
from reconciler.planner.guard import Limits
from reconciler.planner.seat import binding
from reconciler.ports import Lease
from reconciler.telemetry import learn

log = logging.getLogger("reconciler.engine")

# When a change could not even begin: soon enough for a disk that was full, no busy loop while it is.
SOON = timedelta(minutes=1)


async def untold(handlers: Handlers, report: Report | None) -> None:
    """Nobody reviews."""


@dataclass(slots=True)
class Handlers:
    """What the daemon does with a key. `mode`: observe plans and reports, auto acts within the guards."""

    runner: Runner
    surveyor: Surveyor
    limits: Limits
    mode: str = "observe"
    parallelism: int = 4
    on_plan: Callable[[Plan, Report | None], None] = lambda plan, report: None
    executor: Executor | None = None
    last_good: DesiredState | None = None
    source_fault: str = ""
    read_only: str = ""
    last_plan: Plan | None = None
    beside: Mapping[str, Handler] = field(default_factory=dict)
    tell: Callable[[Handlers, Report | None], Awaitable[None]] = untold
    approvals: Approvals | None = None
    _reported: str = field(default="", init=False)
    _agreed: tuple[str, bool] = field(default=("", False), init=False)
    _stalled: dict[ResourceRef, str] = field(default_factory=dict, init=False)
    _unconfirmed: set[ResourceRef] = field(default_factory=set, init=False)

    def table(self) -> Mapping[str, Handler]:
        """The prefixes, most specific first."""
        return {"look/": self.look, "run/": self.resume, "confirm": self.follow, "plan": self.plan, **self.beside}

    def stop(self) -> None:
        """Begin no more changes; what is in flight finishes."""
        if self.executor is not None:
            self.executor.stop()

    async def plan(self, lease: Lease) -> datetime | None:
        """Converge the whole workspace."""
        await self._begin()
        survey = await self._survey(lease.attempts)
        if not self.read_only and await adopt_marked(self.runner, survey):
            survey = await self._survey(lease.attempts)
        report = await self._converge(survey, self.limits)
        await self.tell(self, report)
        return None

    async def look(self, lease: Lease) -> datetime | None:
        """Converge one resource and what it requires."""
        await self._begin()
        ref = ResourceRef.parse(lease.key.removeprefix("look/"))
        self._stalled.pop(ref, None)
        await self._converge(await self._survey(lease.attempts), replace(self.limits, only=frozenset({ref})))
        return None

    async def resume(self, lease: Lease) -> datetime | None:
        """One run whose retry came due; its dependents follow by a plan."""
        run_id = lease.key.removeprefix("run/")
        with self.runner.ports.ledger.begin() as tx:
            run = tx.run(run_id)
        if run is None or run.state is not RunState.OPEN:
            return None
        outcome = await self.runner.resume(run)
        if isinstance(outcome, Retry):
            # The worker counts how often this key has failed, so it knows for how long.
            raise outcome.error
        if isinstance(outcome, Waiting):
            return outcome.until
        self.runner.ports.queue.put("plan", self.runner.ports.clock.now())
        return None

    async def follow(self, lease: Lease) -> datetime | None:
        """Follow transactions into blocks, and revoke what a reorg revoked."""
        ports = self.runner.ports
        recorded = ports.ledger.read(midnight(ports.clock.now()))
        nets = chain_nets(recorded)
        for moved in await confirm(ports, nets):
            grave = moved.after in ("contested", "rejected")
            how = {"txid": moved.txid, "outcome": f"{moved.before} -> {moved.after}"}
            log.log(logging.ERROR if grave else logging.INFO, "transaction.moved", extra=how)
        note_depths(ports, recorded, depths(ports, recorded, await tips(self.runner, nets)))
        balance.note(ports, recorded)
        return None

    async def _begin(self) -> None:
        """See whether this ledger may spend at all; only then is what is open settled."""
        self.read_only = ""
        try:
            await require_newest(self.runner)
        except Attention as error:
            # The log has it since the mode was entered.
            self.read_only = error.message
        else:
            await self._settle_open_runs()

    async def _settle_open_runs(self) -> None:
        for run_id, outcome in (await recover(self.runner)).items():
            if isinstance(outcome, Retry):
                self.runner.ports.queue.put(f"run/{run_id}", outcome.at)

    async def _survey(self, tries: int) -> Survey:
        """The three states. The last good manifests stay desired while those of now cannot be read whole, or declare nothing."""
        ports = self.runner.ports
        recorded = ports.ledger.read(midnight(ports.clock.now()))
        fallback = self.last_good or believed(recorded, self.surveyor.environment)
        try:
            survey = await self.surveyor.survey(desired=fallback)
        except Unavailable as error:
            if tries and error.code == source.MOVING:
                # Once is somebody who writes just now; twice in a row somebody should know.
                source.note(ports, error.message, self.last_good.revision if self.last_good else "")
            raise
        if survey.loaded.desired is not None:
            self.last_good, self.source_fault = survey.loaded.desired, ""
        else:
            first = survey.loaded.errors[0]
            fault = f"{first.at}: {first.message}"
            if fault != self.source_fault:
                log.error("source.rejected", extra={"at": str(first.at), "error": first.message, "hint": first.hint})
            self.source_fault = fault
        self._note_source(survey)
        return survey

    def _note_source(self, survey: Survey) -> None:
        source.note(self.runner.ports, self.source_fault, survey.desired.revision if survey.desired else "")

    async def _converge(self, survey: Survey, limits: Limits) -> Report | None:
        with self.runner.ports.ledger.begin() as tx:
            limits = effective(limits, tx, self.runner.ports.clock.now())
        if survey.loaded.desired is None:
            # The last good manifests may be older than what another daemon acted upon: nothing goes on their word.
            limits = replace(limits, prune=False)
        seen = survey.observed
        if self.mode == "propose" or limits.panel is not None or binding(survey.recorded.records.values()):
            # What waits to be signed must be found to be the same plan again.
            survey = replace(survey, observed=steady(seen))
        plan = self.surveyor.plan(survey, limits)
        held = self._held(plan)
        if held:
            plan = self.surveyor.plan(survey, replace(limits, exclude=limits.exclude | held))
        self.last_plan = plan
        learn(plan=plan.id, revision=plan.revision)
        self._note_drift(plan, survey)
        probes.note(self.runner.ports, survey.recorded, seen)
        if survey.loaded.desired is not None:
            # Also when nothing is to be done: a pause must still hold when the manifests cannot be read.
            remember(self.runner.ports, survey.loaded.desired, survey.recorded, plan)
        report: Report | None = None
        consent = self._consent(plan)
        if consent.refused or (plan.acting and (self.read_only or not self._may(consent))):
            self._report(plan)
        elif plan.acting:
            self.executor = Executor(self.runner, plan, self.parallelism, passed=consent.tally.passes)
            report = await self.executor.run()
            self.executor = None
            self._after(plan, report)
        self.on_plan(plan, report)
        return report

    def _consent(self, plan: Plan) -> Consent:
        """What the signed approvals of this very plan come to; letters for other plans stay where they are."""
        gate = self.approvals or Approvals(self.runner.ports.ledger, self.limits.panel or Panel())
        found = gate.consent(plan) if plan.acting or plan.refusals else Consent(Tally(0))
        if found.tally.counted and (plan.id, found.given) != self._agreed:
            self._agreed = (plan.id, found.given)
            names = ", ".join(gate.names(found))
            log.info("plan.approved" if found.given else "plan.signed", extra={"plan": plan.id, "outcome": names})
            if found.given:
                gate.note(plan, found, self.runner.ports.clock.now())
        return found

    def _may(self, consent: Consent) -> bool:
        """Whether the mode lets the daemon act: auto does, propose once somebody has signed this plan."""
        return self.mode == "auto" or (self.mode == "propose" and bool(consent.tally.counted) and consent.given)

    def _held(self, plan: Plan) -> frozenset[ResourceRef]:
        """What the daemon leaves alone: what the world refused for good, until it is edited or asked for by hand;
        and deletions that their lifecycle wants a person to confirm.
        """
        stalled = {c.ref for c in plan.acting if self._stalled.get(c.ref) == digest(c.body)}
        unconfirmed = {
            c.ref
            for c in plan.acting
            if c.verb is Verb.DELETE and c.before is not None and c.before.status.facts.get("prune") != Prune.AUTO.value
        }
        if self.mode == "propose":
            # A plan that waits for a person anyway asks about them, too.
            unconfirmed = set()
        for ref in sorted(unconfirmed - self._unconfirmed):
            hint = "confirm with `reconciler apply`, or set lifecycle.prune: auto before removing it"
            log.warning("deletion.unconfirmed", extra={"ref": str(ref), "hint": hint})
        self._unconfirmed = unconfirmed
        return frozenset(stalled | unconfirmed)

    def _after(self, plan: Plan, report: Report) -> None:
        ports = self.runner.ports
        for change in plan.acting:
            result = report.results.get(change.ref)
            final = result is not None and isinstance(result.error, Refused | Invariant) and not renews(result.error.code)
            if result is not None and result.fate is Fate.FAILED and final:
                self._stalled[change.ref] = digest(change.body)
            if result is not None and result.fate is Fate.PENDING:
                if isinstance(result.retry_at, datetime):
                    ports.queue.put(f"run/{change.run_id(plan.lineage)}", result.retry_at)
                else:
                    ports.queue.put("plan", ports.clock.now() + SOON)
        ports.queue.put("confirm", ports.clock.now())
        done = report.count(Fate.DONE)
        cost = plan.cost.satoshis
        extra = {"plan": plan.id, "outcome": f"{done}/{len(plan.acting)}", "satoshis": cost, "revision": plan.revision}
        log.info("plan.applied", extra=extra)

    def _report(self, plan: Plan) -> None:
        if plan.id == self._reported:
            return
        self._reported = plan.id
        why = "; ".join(guard.message for guard in plan.refusals) or self.read_only or f"mode is {self.mode}"
        log.warning("plan.held", extra={"plan": plan.id, "error": why, "satoshis": plan.cost.satoshis})

    def _note_drift(self, plan: Plan, survey: Survey) -> None:
        """State what this look showed of every recorded resource, where that is news."""
        now, news = self.runner.ports.clock.now(), {}
        for change in plan.changes:
            record = survey.recorded.records.get(change.ref)
            if record is None or change.verb in (Verb.DEFER, Verb.DELETE, Verb.FORGET):
                continue
            drifted = ", ".join(delta.path for delta in change.deltas if delta.cause is Cause.DRIFT)
            truth, reason = (Truth.TRUE, "Drifted") if drifted else (Truth.FALSE, "InSync")
            if not drifted and (where := hiding.seen(survey.observed.get(change.ref))):
                truth, reason, drifted = Truth.TRUE, "Hidden", hiding.told(where, change.ref)
            facts = [Condition("Drifted", truth, reason, drifted, record.generation, now)]
            ready, old = record.status.condition("Ready"), record.status.condition("Drifted")
            sound = change.verb is Verb.NONE and truth is Truth.FALSE
            healed = sound and ready is not None and ready.reason in ("NotAdmitted", "Hidden")
            if healed:
                facts.append(Condition("Ready", Truth.TRUE, "Admitted", "every host lists it now", record.generation, now))
            if healed or old is None or (old.status, old.message) != (truth, drifted):
                news[change.ref] = facts
        if news:
            with self.runner.ports.ledger.begin() as tx:
                for ref, facts in news.items():
                    state(tx, ref, facts)


def chain_nets(recorded: RecordedState) -> dict[str, Net]:
    """The first recorded network of each chain."""
    nets: dict[str, Net] = {}
    for ref, record in sorted(recorded.records.items()):
        if ref.kind == "Network":
            net = read_net(ref.name, record.body["spec"])
            nets.setdefault(net.chain, net)
    return nets


async def require_newest(runner: Runner) -> None:
    """Attention when the ledger is not the newest of some recorded chain; where nobody can tell, each change asks again."""
    recorded = runner.ports.ledger.read(midnight(runner.ports.clock.now()))
    for net in chain_nets(recorded).values():
        with contextlib.suppress(Unavailable):
            await runner.require_newest(net)


async def tips(runner: Runner, nets: Mapping[str, Net]) -> dict[str, int]:
    """Height of each chain that answers."""
    found = {}
    for chain, net in nets.items():
        try:
            found[chain] = await runner.ports.chain.tip(net.headers)
        except ReconcilerError:
            continue
    return found
