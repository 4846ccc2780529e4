"""One change, from lease to record: the only place where a run begins, resumes and ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace

from reconciler import __version__
from reconciler.controller import Controller, Steps, ask
from reconciler.engine.drive import drive
from reconciler.engine.finish import finish, release
from reconciler.engine.journal import Budget, Journal
from reconciler.engine.progress import Progress, Watcher
from reconciler.model.canonical import Json
from reconciler.model.change import Change, Verb
from reconciler.model.codec import decode, encode
from reconciler.model.effect import Broadcast, CoinOutput, Draft, Endpoint, Sign
from reconciler.model.errors import Conflict, Locked
from reconciler.model.intent import Done, Outcome, Run, RunState, Stalled
from reconciler.model.plan import Funding
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.planner.resolve import settle
from reconciler.ports import Lease, LedgerTransaction, Ports

# Seconds between renewals of a lease; the queue grants several times as much.
RENEW_EVERY = 10.0


@dataclass(frozen=True, slots=True)
class Runner:
    """What it takes to carry out a change: the doors, the kinds, who we are, and who watches."""

    ports: Ports
    kinds: Mapping[str, Controller]
    owner: str
    watch: Watcher
    held: set[str] = field(default_factory=set)

    async def change(self, change: Change, lineage: str, revision: str) -> Outcome:
        """Begin or resume the run of a planned change. Conflict when the resource moved since the plan was made."""
        # Taken before what was only known after apply is filled in: whoever holds the plan must find the run again.
        key, run_id = f"ref/{change.ref}", change.run_id(lineage)
        async with self.lease(key) as lease:
            with self.ports.ledger.begin() as tx:
                run = tx.run(run_id)
                if run is not None and run.state is RunState.DONE:
                    self.watch(Progress("run.skipped", key, change.verb.value))
                    record = tx.record(change.ref)
                    return Done(record.outputs if record else {})
                if run is None:
                    _unmoved(tx.record(change.ref), change)
                    change = self._resolved(tx, change)
                    subject = {"change": encode(change), "revision": revision}
                    run = Run(run_id, key, subject, __version__, began=self.ports.clock.now())
                    tx.check_fence(lease.key, lease.fence)
                    run = tx.open_run(run)
            return await self._carry_out(run, lease)

    async def resume(self, run: Run) -> Outcome:
        """Drive an open run to its end, from the journal alone."""
        async with self.lease(run.key) as lease:
            with self.ports.ledger.begin() as tx:
                current = tx.run(run.id)
            if current is None or current.state is not RunState.OPEN:
                return Done({})
            return await self._carry_out(current, lease)

    async def funding(self, funding: Funding, plan_id: str, via: tuple[Endpoint, ...]) -> Outcome:
        """Split coins once, so that every paying change has one of its own."""
        key = f"funding/{funding.chain}"
        async with self.lease(key) as lease:
            run_id = f"run_{plan_id}_{funding.chain}"
            with self.ports.ledger.begin() as tx:
                run = tx.run(run_id)
                if run is not None and run.state is not RunState.OPEN:
                    return Done({})
                subject = {"funding": encode(funding), "via": encode(list(via))}
                run = tx.open_run(run or Run(run_id, key, subject, __version__, began=self.ports.clock.now()))
            return await self._carry_out(run, lease)

    @contextlib.asynccontextmanager
    async def lease(self, key: str) -> AsyncIterator[Lease]:
        """Hold the right to work a key, renewed while the block runs; Locked when another owner holds it."""
        # One owner may retake its own lease; within a process that must not let two tasks in.
        lease = None if key in self.held else self.ports.queue.take(key, self.owner, self.ports.clock.now())
        if lease is None:
            raise Locked("locked", f"cannot work on {key}: another process holds it", hint="wait, or stop the other process")

        async def renew() -> None:
            while True:
                await self.ports.clock.sleep(RENEW_EVERY)
                self.ports.queue.renew(lease, self.ports.clock.now())

        self.held.add(key)
        renewal = asyncio.ensure_future(renew())
        try:
            yield lease
        finally:
            renewal.cancel()
            self.held.discard(key)
            with contextlib.suppress(asyncio.CancelledError, Conflict):
                await renewal
            with contextlib.suppress(Conflict):
                self.ports.queue.done(lease)

    async def _carry_out(self, run: Run, lease: Lease) -> Outcome:
        journal = Journal(self.ports.ledger, run, lease)
        if "funding" in run.subject:
            return await self._split(run, journal, lease)
        change: Change = decode(Change, run.subject["change"])
        self.watch(Progress("run.started", run.key, change.verb.value))
        controller = self.kinds[change.ref.kind]
        self._teach(change)
        for file in change.body.get("files") or () if change.verb is not Verb.DELETE else ():
            self._stage(file)
        steps: Steps[Mapping[str, Json] | None]
        if change.verb is Verb.FORGET:
            steps = _nothing()
        else:
            steps = controller.delete(change) if change.verb is Verb.DELETE else controller.apply(change)
        outcome = await drive(journal, steps, self.ports, Budget(max(0, change.cost.satoshis)), self.watch, lease.attempts)
        finish(self.ports, run, change, outcome, lease, run.subject["revision"])
        self._tell(run, change.verb.value, outcome)
        return outcome

    async def _split(self, run: Run, journal: Journal, lease: Lease) -> Outcome:
        funding: Funding = decode(Funding, run.subject["funding"])
        via = tuple(decode(Endpoint, item) for item in run.subject["via"])
        self.watch(Progress("run.started", run.key, "split"))
        steps = _split_coins(funding, via)
        outcome = await drive(journal, steps, self.ports, Budget(funding.cost.satoshis), self.watch, lease.attempts)
        with self.ports.ledger.begin() as tx:
            tx.check_fence(lease.key, lease.fence)
            if isinstance(outcome, Done):
                tx.book(run.id, None, self.ports.clock.now(), funding.cost.fees, 0, 0)
                tx.close_run(run.id, RunState.DONE)
            elif isinstance(outcome, Stalled):
                release(tx, run.id)
                tx.close_run(run.id, RunState.STALLED, outcome.error.message)
        self._tell(run, "split", outcome)
        return outcome

    def _tell(self, run: Run, verb: str, outcome: Outcome) -> None:
        name = {"Done": "run.done", "Stalled": "run.stalled"}.get(type(outcome).__name__, "run.retry")
        error = getattr(outcome, "error", None)
        self.watch(Progress(name, run.key, verb, detail={"error": error.message, "hint": error.hint} if error else {}))

    def _teach(self, change: Change) -> None:
        """Tell the wallet where the keys are that this change signs with: a resumed run begins without manifests."""
        specs: dict[str, Mapping[str, Json]] = {}
        with self.ports.ledger.begin() as tx:
            for body in (change.before.body if change.before else {}, change.body):
                if change.ref.kind == "Identity" and body:
                    specs[change.ref.name] = body["spec"]
                for name in body.get("using") or ():
                    ref = ResourceRef.parse(name)
                    record = tx.record(ref) if ref.kind == "Identity" else None
                    if record is not None:
                        specs[ref.name] = record.body["spec"]
        self.ports.wallet.know({name: spec["key"] for name, spec in specs.items()})

    def _stage(self, file: Mapping[str, Json]) -> None:
        """Keep our own copy of a content file, so that the run can finish even if the file is edited meanwhile."""
        if not self.ports.blobs.has(file["sha256"]):
            self.ports.blobs.adopt(self.ports.source.current().root / file["path"], file["sha256"])

    def _resolved(self, tx: LedgerTransaction, change: Change) -> Change:
        """The change with every export that was only known after apply put in its place."""
        if change.verb in (Verb.DELETE, Verb.FORGET):
            return change
        exports = {}
        for name in change.body["using"]:
            ref = ResourceRef.parse(name)
            record = tx.record(ref)
            if record is not None:
                exports[name] = self.kinds[ref.kind].exports(record.body, record.outputs)
        return replace(change, body=settle(change.body, exports))


def _unmoved(record: Record | None, change: Change) -> None:
    generation = record.generation if record else 0
    planned = change.before.generation if change.before else 0
    if generation != planned:
        raise Conflict("stale", f"cannot apply this plan to {change.ref}: it has changed since", hint="plan again")


def _nothing() -> Steps[Mapping[str, Json] | None]:
    yield from ()
    return None


def _split_coins(funding: Funding, via: tuple[Endpoint, ...]) -> Steps[Mapping[str, Json] | None]:
    outputs = tuple(CoinOutput(satoshis) for satoshis in funding.outputs)
    signed = yield from ask(Sign(Draft(funding.chain, outputs, (), funding.rate, funding.inputs)))
    yield from ask(Broadcast(signed["txid"], via))
    return {}
