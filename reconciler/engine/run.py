"""One change, from lease to record: the only place where a run begins, resumes and ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from reconciler import __version__
from reconciler.controller import Controller, Steps, ask
from reconciler.engine import farewell, faults
from reconciler.engine.budget import require, require_own
from reconciler.engine.drive import drive, unvetted
from reconciler.engine.finish import finish, halt, release
from reconciler.engine.journal import Budget, Journal, has_signed
from reconciler.engine.moving import move
from reconciler.engine.progress import Progress, Watcher
from reconciler.engine.readonly import require_writable
from reconciler.engine.route import pays, route_of
from reconciler.engine.stale import require_newest, vet
from reconciler.engine.turn import fits, supersede
from reconciler.kinds import identity_keys
from reconciler.kinds.network import Net
from reconciler.model.canonical import Json
from reconciler.model.change import Change, Verb
from reconciler.model.codec import decode, encode
from reconciler.model.effect import Broadcast, CoinOutput, Draft, PaymentOutput, RestOutput, Sign
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Conflict, Invariant, Locked, Refused, Unavailable
from reconciler.model.intent import Done, Outcome, Retry, Run, RunState, Stalled
from reconciler.model.plan import Funding
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.planner.guard import Limits
from reconciler.planner.resolve import settle
from reconciler.ports import Lease, LedgerTransaction, Ports
from reconciler.telemetry import bound

# Seconds between renewals of a lease; the queue grants several times as much.
RENEW_EVERY = 10.0
# A ledger does not turn old under a running process unless a second one spends from the same purse.
CHECK_EVERY = timedelta(minutes=10)


@dataclass(slots=True)
class Runner:
    """What it takes to carry out a change: the doors, the kinds, who we are, and who watches.

    `root` is where content files lie, if that is known without reading the source again for each of them.
    """

    ports: Ports
    kinds: Mapping[str, Controller]
    owner: str
    watch: Watcher
    root: Path | None = None
    held: set[str] = field(default_factory=set)
    checked: dict[str, datetime] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)

    async def change(
        self, change: Change, lineage: str, revision: str, passed: frozenset[str] = frozenset(), plan: str = ""
    ) -> Outcome:
        """Begin or resume the run of a planned change. Conflict when the resource moved since the plan was made; GuardRefused
        when a budget has no room for it any more and its guard is not among those that were let `passed`. `plan` is the id of the
        plan, for the journal.
        """
        # Taken before what was only known after apply is filled in: whoever holds the plan must find the run again.
        key, run_id = f"ref/{change.ref}", change.run_id(lineage)
        async with self.lease(key) as lease:
            if change.before is not None and change.before.ref != change.ref:
                await self._carry_over(change, {"revision": revision, "plan": plan})
            with self.ports.ledger.begin() as tx:
                require_writable(tx)
                run, record = tx.run(run_id), tx.record(change.ref)
            fits(change, run, record)
            if change.verb is Verb.MOVE and record is not None:
                self.watch(Progress("run.done", key, change.verb.value))
                return Done(record.outputs)
            if run is not None and run.state is RunState.DONE:
                self.watch(Progress("run.skipped", key, change.verb.value))
                return Done(record.outputs if record else {})
            if run is None:
                # Whatever may turn out stale is looked at before anything is written down that would have to be finished.
                await self._stage(change)
                await self._check(change)
                with self.ports.ledger.begin() as tx:
                    tx.check_fence(lease.key, lease.fence)
                    supersede(tx, key, self.ports.clock.now())
                    subject = {"change": encode(self._resolved(tx, change)), "revision": revision, "plan": plan}
                    require_own(tx, change, passed)
                    run = self._open(tx, Run(run_id, key, subject, __version__), change.ref.kind, change.cost.satoshis, passed)
            return await self._carry_out(run, lease)

    async def _carry_over(self, change: Change, said: Mapping[str, Json]) -> None:
        """Give the record its new name before anything else is done to it: one commit, which no later crash undoes.

        Nothing where that was done before; Conflict, and nothing is moved, when it is not the record the plan was made for.
        """
        assert change.before is not None
        old, known = change.before.ref, self.ports.ledger.read(self.ports.clock.now()).records
        if old not in known:
            return
        async with self.lease(f"ref/{old}") as lease:
            with self.ports.ledger.begin() as tx:
                require_writable(tx)
                tx.check_fence(lease.key, lease.fence)
                supersede(tx, lease.key, self.ports.clock.now())
                move(tx, known, old, change.ref, self.kinds, self.ports.clock.now(), said)
                fits(change, None, tx.record(change.ref))

    async def resume(self, run: Run) -> Outcome:
        """Drive an open run to its end, from the journal alone."""
        async with self.lease(run.key) as lease:
            with self.ports.ledger.begin() as tx:
                require_writable(tx)
                current = tx.run(run.id)
                fresh = current is not None and not has_signed(tx, run.id)
            if current is None or current.state is not RunState.OPEN:
                return Done({})
            if fresh and "change" in current.subject:
                await self._check(decode(Change, current.subject["change"]))
            return await self._carry_out(current, lease)

    def _open(self, tx: LedgerTransaction, run: Run, kind: str, satoshis: int, passed: frozenset[str]) -> Run:
        """Write the run down and set its money aside, in one commit: what two processes begin at once counts for both."""
        now = self.ports.clock.now()
        require(tx, self.limits, kind, satoshis, now, passed)
        return tx.open_run(replace(run, began=now, reserved=max(0, satoshis)))

    async def funding(
        self,
        funding: Funding,
        run_id: str,
        via: tuple[Endpoint, ...],
        headers: Endpoint | None = None,
        passed: frozenset[str] = frozenset(),
        hold: Sequence[Outpoint] = (),
        to: bytes = b"",
    ) -> Outcome:
        """Split coins, once by this run, so that every paying change has one of its own. `headers` tells whether they are
        there still. With `hold` exactly these coins are spent, and what they leave goes to the script `to`, if there is one.
        """
        key = splitting(funding.chain)
        async with self.lease(key) as lease:
            with self.ports.ledger.begin() as tx:
                require_writable(tx)
                run = tx.run(run_id)
                if run is not None and run.state is RunState.DONE:
                    return Done({})
                if run is not None and run.state is RunState.STALLED:
                    error = f"cannot split coins by this plan: it was tried and given up ({run.error})"
                    return Stalled(Conflict("run-ended", error, hint="plan again"))
                subject: dict[str, Json] = {"funding": encode(funding), "via": encode(list(via)), "headers": encode(headers)}
                if hold:
                    subject |= {"hold": [str(outpoint) for outpoint in hold], "to": to.hex()}
                if run is None:
                    run = self._open(tx, Run(run_id, key, subject, __version__), "", funding.cost.satoshis, passed)
                    _hold(tx, run, funding.chain, hold)
            return await self._carry_out(run, lease)

    async def pay(self, run: Run, satoshis: int, claim: Callable[[LedgerTransaction], None]) -> Outcome:
        """Begin or resume a run that pays others (engine/paying.py). `claim` says in the commit that begins it what it pays."""
        async with self.lease(run.key) as lease:
            with self.ports.ledger.begin() as tx:
                require_writable(tx)
                known = tx.run(run.id)
                if known is None:
                    claim(tx)
                    known = self._open(tx, run, "", satoshis, frozenset())
            return await self._carry_out(known, lease) if known.state is RunState.OPEN else Done({})

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
        with bound(run=run.id, revision=str(run.subject.get("revision") or "")):
            return await self._driven(run, lease)

    async def _driven(self, run: Run, lease: Lease) -> Outcome:
        journal = Journal(self.ports.ledger, run, lease)
        if "funding" in run.subject:
            return await self._split(run, journal, lease)
        change: Change = decode(Change, run.subject["change"])
        self.watch(Progress("run.started", run.key, change.verb.value))
        controller = self.kinds[change.ref.kind]
        self._teach(change)
        steps: Steps[Mapping[str, Json] | None]
        if change.verb is Verb.FORGET:
            steps = _nothing()
        else:
            steps = controller.delete(change) if change.verb is Verb.DELETE else controller.apply(change)
        budget, route = Budget(max(0, change.cost.satoshis)), route_of(self.ports.ledger, change)
        outcome: Outcome
        try:
            if not journal.signed:
                await self._stage(change)
            vetting = partial(vet, self.ports, headers=pays(change).headers) if change.needs else unvetted
            outcome = await drive(journal, steps, self.ports, budget, self.watch, lease.attempts, route, vetting)
        except Conflict as error:
            if journal.signed or not error.code.startswith("blob-"):
                raise
            # The bytes it was to publish exist nowhere any more. Nothing was paid; the next plan sees what there is.
            outcome = Stalled(error)
        except Invariant as error:
            self._halted(run, change, error)
            if journal.signed or error.code != faults.CODE:
                raise
            outcome = Stalled(error)
        finish(self.ports, run, change, outcome, lease, run.subject["revision"])
        self._tell(run, change.verb.value, outcome)
        if change.ref.kind == "Network":
            # A host that came back is told what it missed before anything newer is submitted to it.
            await farewell.bid(self.ports)
        return outcome

    async def _split(self, run: Run, journal: Journal, lease: Lease) -> Outcome:
        funding: Funding = decode(Funding, run.subject["funding"])
        via = tuple(decode(Endpoint, item) for item in run.subject["via"])
        self.watch(Progress("run.started", run.key, "split"))
        pays = tuple(decode(PaymentOutput, one) for one in run.subject.get("pays") or ())
        steps = _split_coins(funding, via, bytes.fromhex(run.subject.get("to") or ""), pays)
        budget, told = Budget(funding.cost.satoshis), run.subject.get("headers")
        vetting = partial(vet, self.ports, headers=decode(Endpoint, told)) if told else unvetted
        outcome = await drive(journal, steps, self.ports, budget, self.watch, lease.attempts, vet=vetting)
        if isinstance(outcome, Retry) and outcome.error.code == "insufficient-funds":
            # The purse is another than was planned with: a later plan splits what it holds then.
            outcome = Stalled(outcome.error)
        with self.ports.ledger.begin() as tx:
            tx.check_fence(lease.key, lease.fence)
            if isinstance(outcome, Done):
                now = self.ports.clock.now()
                tx.book(run.id, None, now, funding.cost.fees, 0, 0)
                tx.close_run(run.id, RunState.DONE)
                txids = [intent.result["txid"] for intent in tx.intents(run.id) if intent.effect == Sign.__name__]
                if pays:
                    event, said = run.subject["note"]
                    tx.note(None, now, event, {"run": run.id, "txids": txids, "fee": funding.cost.fees, **said})
                elif "hold" in run.subject:
                    said = {"run": run.id, "txids": txids, "coins": run.subject["hold"], "fee": funding.cost.fees}
                    to = run.subject["to"]
                    tx.note(None, now, *(("coins.swept", {**said, "to": to}) if to else ("coins.merged", said)))
            elif isinstance(outcome, Stalled):
                release(tx, run.id)
                tx.close_run(run.id, RunState.STALLED, outcome.error.message)
                # So that the next plan is another one, with a run of its own.
                tx.advance()
        self._tell(run, "split", outcome)
        return outcome

    def _halted(self, run: Run, change: Change, error: Invariant) -> None:
        """A run that cannot go on by itself: told in the log, on the resource, and among what waits for a person."""
        if error.code == faults.CODE:
            faults.tell(str(change.ref), error, error.__cause__)
        halt(self.ports, run, error)

    def _tell(self, run: Run, verb: str, outcome: Outcome) -> None:
        name = {"Done": "run.done", "Stalled": "run.stalled"}.get(type(outcome).__name__, "run.retry")
        error = getattr(outcome, "error", None)
        self.watch(Progress(name, run.key, verb, detail={"error": error.message, "hint": error.hint} if error else {}))

    def _teach(self, change: Change) -> None:
        """Tell the wallet where the keys are that this change signs with: a resumed run begins without manifests."""
        sources: dict[str, Mapping[str, Json]] = {}
        with self.ports.ledger.begin() as tx:
            for body in (change.before.body if change.before else {}, change.body):
                if change.ref.kind == "Identity" and body:
                    outputs = change.before.outputs if change.before else {}
                    sources |= identity_keys.ring(change.ref.name, body["spec"], outputs).sources
                for name in body.get("using") or ():
                    ref = ResourceRef.parse(name)
                    record = tx.record(ref) if ref.kind == "Identity" else None
                    if record is not None:
                        sources |= identity_keys.ring(ref.name, record.body["spec"], record.outputs).sources
        self.ports.wallet.know(sources)

    async def _stage(self, change: Change) -> None:
        """Keep our own copies of its content files, so that the run can finish even if they are edited meanwhile."""
        for file in change.body.get("files") or () if change.verb not in (Verb.DELETE, Verb.FORGET) else ():
            if not self.ports.blobs.has(file["sha256"]):
                path, sha256 = file["path"], file["sha256"]
                place = self.root / path if self.root is not None else self.ports.source.locate(path, sha256)
                # Gigabytes take their time, in which leases must be renewed.
                await asyncio.to_thread(self.ports.blobs.adopt, place, sha256)

    async def _check(self, change: Change) -> None:
        """Before it signs or pays anything: the keys are those on record, and the ledger is the newest there is."""
        self._teach(change)
        if change.verb not in (Verb.REPAIR, Verb.FORGET):
            self._same_keys(change)
        if change.cost.transactions:
            await self.require_newest(pays(change))

    async def require_newest(self, net: Net) -> None:
        """As `stale.require_newest`, once in a while for each chain; Attention at once while the ledger is known to be behind."""
        with self.ports.ledger.begin() as tx:
            require_writable(tx)
        now, then = self.ports.clock.now(), self.checked.get(net.chain)
        if then is None or now - then > CHECK_EVERY:
            await require_newest(self.ports, net.chain, net.headers)
            self.checked[net.chain] = now

    def _same_keys(self, change: Change) -> None:
        """Unavailable when an identity's key in place is not the one on record: tokens it made would be nobody's."""
        for ref in [change.ref, *map(ResourceRef.parse, change.body.get("using") or ())]:
            if ref.kind != "Identity":
                continue
            with self.ports.ledger.begin() as tx:
                record = tx.record(ref)
            known = record.outputs.get("publicKey") if record else None
            name = identity_keys.current(ref.name, record.outputs if record else {})
            if known is not None and self.ports.wallet.exists(name) and (key := self._public(name)) not in (None, known):
                message = f"cannot sign for {ref}: the key in place is {key}, the one on record {known}"
                raise Unavailable("key-changed", message, hint="put the key on record back in its place")

    def _public(self, name: str) -> str | None:
        """The public key; None while it cannot be read, which the step that needs it will say."""
        try:
            return self.ports.wallet.public_key(name)
        except Refused:
            return None

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


def _nothing() -> Steps[Mapping[str, Json] | None]:
    yield from ()
    return None


def splitting(chain: str) -> str:
    """The key under which coins of a chain are split, merged and moved, one transaction at a time."""
    return f"funding/{chain}"


def _hold(tx: LedgerTransaction, run: Run, chain: str, outpoints: Sequence[Outpoint]) -> None:
    """Reserve exactly these coins for a run that begins; Conflict when one of them is no longer to be had."""
    coins = {coin.outpoint: coin for coin in tx.coins(chain=chain)}
    for outpoint in outpoints:
        coin = coins[outpoint]
        ended = coin.state == "reserved" and (other := tx.run(coin.run)) is not None and other.state is RunState.STALLED
        if coin.state != "free" and not ended:
            raise Conflict("coin-moved", f"cannot spend {outpoint}: it is {coin.state} meanwhile", hint="run the command again")
        tx.put_coin(replace(coin, state="reserved", run=run.id))


def _split_coins(
    funding: Funding, via: tuple[Endpoint, ...], to: bytes, pays: tuple[PaymentOutput, ...]
) -> Steps[Mapping[str, Json] | None]:
    rest = (RestOutput(to),) if to else ()
    outputs = (*pays, *(CoinOutput(satoshis) for satoshis in funding.outputs), *rest)
    signed = yield from ask(Sign(Draft(funding.chain, outputs, (), funding.rate, funding.inputs)))
    yield from ask(Broadcast(signed["txid"], via))
    return {}
