"""What parties are owed of many small payments, paid out in one transaction.

Theory of operation. A due is open until a run claims it, in the commit that begins the run, and it is paid when that run is done:
nothing else says so, and a crash between any two commits neither loses a due nor pays it twice. Dues of a run that was given up
are open again. Only payments that are in a block are shared; what was refunded or rejected is owed to nobody. The dues of one
identity on one chain under one policy are a pot: it is emptied at most once in `settle.every`, and not below `settle.min`.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from reconciler.engine import paying
from reconciler.engine.run import Runner
from reconciler.kinds import identity_keys
from reconciler.kinds.network import Net, read_net
from reconciler.kinds.paymentpolicy import KIND
from reconciler.model.canonical import Json, digest
from reconciler.model.codec import timestamp
from reconciler.model.effect import PaymentOutput, Sign
from reconciler.model.errors import Conflict, Locked, Refused, Unavailable, Uncertain
from reconciler.model.intent import Retry, RunState, Stalled
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.model.sale import Due, Payment, PaymentState
from reconciler.ports import LedgerTransaction, Ports
from reconciler.sales.split import Share, script_of
from reconciler.wire.keys import sha256
from reconciler.wire.speaker import Speaker

EVENT = "dues.settled"
# Dues looked at in one go, about a tenth of a second; and those that one transaction settles.
PAGE, MOST_DUES = 500, 2000
# Gives the key of a name its voice.
Speak = Callable[[str], Speaker]
# As a PaymentPolicy that says nothing has it.
_USUAL: Mapping[str, Any] = {"auto": True, "every": 600_000, "min": 500}


@dataclass(frozen=True, slots=True)
class Pot:
    """Dues that are paid together; `terms` are the policy's `settle`."""

    identity: str
    network: str
    policy: str
    terms: Mapping[str, Any]
    dues: tuple[Due, ...]

    @property
    def satoshis(self) -> int:
        """What is owed in all."""
        return sum(due.satoshis for due in self.dues)

    @property
    def row(self) -> str:
        """Where it stands when it was emptied last."""
        return f"settled/{self.identity}/{self.network}/{self.policy}"

    @property
    def full(self) -> bool:
        """Whether there is more in it than one transaction settles."""
        return len(self.dues) > MOST_DUES

    def shares(self) -> tuple[Share, ...]:
        """One for each place that is paid by the next transaction, however many payments it had a part in."""
        places: dict[str, Share] = {}
        for due in self.dues[:MOST_DUES]:
            known = places.get(key := digest(dict(due.terms)))
            places[key] = Share(due.party, due.satoshis + (known.satoshis if known else 0), due.terms)
        return tuple(share for _, share in sorted(places.items()))[: paying.MOST]


@dataclass(frozen=True, slots=True)
class Settled:
    """A pot that was emptied by a transaction, or why it was not."""

    pot: Pot
    satoshis: int = 0
    txid: str = ""
    why: str = ""
    failed: bool = False


def unpaid(tx: LedgerTransaction, now: datetime, after: Due | None = None) -> tuple[list[tuple[Due, Payment]], Due | None]:
    """The open dues of a page that begins `after` one, of payments that are in a block, and where the next page begins.

    Those of runs that have ended are entered as paid, or are open again.
    """
    page = tx.dues(after=after, most=PAGE)
    found = [(replace(due, run=None), payment) for due in page if (payment := _open(tx, due, now)) is not None]
    return found, page[-1] if len(page) == PAGE else None


def _open(tx: LedgerTransaction, due: Due, now: datetime) -> Payment | None:
    """The payment of a due that may be paid now; what a run that is done has paid is entered so."""
    run = tx.run(due.run) if due.run is not None else None
    if run is not None and run.state is RunState.DONE:
        tx.put_due(replace(due, settled=now))
    if run is not None and run.state is not RunState.STALLED:
        return None
    payment = tx.payment(due.payment)
    return payment if payment is not None and _in_a_block(tx, payment) else None


def _in_a_block(tx: LedgerTransaction, payment: Payment) -> bool:
    """Whether its money is there to be shared, by the transaction itself: what a reorganisation took out of its block waits."""
    if payment.state not in (PaymentState.PENDING, PaymentState.CONFIRMED):
        return False
    stored = tx.transaction(payment.txid) if payment.txid else None
    return stored is not None and stored.state == "mined"


def pots(owed: Sequence[tuple[Due, Payment]], records: Mapping[ResourceRef, Record]) -> tuple[Pot, ...]:
    """The dues by who pays them, where, and under which policy. Pure."""
    by: dict[tuple[str, str, str], list[Due]] = {}
    for due, payment in owed:
        record = records.get(ResourceRef("Dataset", payment.content or ""))
        spec = record.body["spec"] if record is not None else {}
        # Of a dataset that is gone nobody says any more where it was sold.
        network = spec.get("networkRef") or next((ref.name for ref in sorted(records) if ref.kind == "Network"), "")
        identity = payment.producer.partition("/")[2]
        by.setdefault((identity, str(network), str(spec.get("paymentPolicyRef") or "")), []).append(due)
    return tuple(Pot(*key, _terms(key[2], records), tuple(dues)) for key, dues in sorted(by.items()))


def _terms(policy: str, records: Mapping[ResourceRef, Record]) -> Mapping[str, Any]:
    record = records.get(ResourceRef(KIND, policy))
    return (record.body["spec"].get("settle") if record is not None else None) or _USUAL


def waits(pot: Pot, last: datetime | None, now: datetime) -> str:
    """Why a pot is not emptied by itself now; empty when it is. Pure."""
    every = timedelta(milliseconds=int(pot.terms["every"]))
    if not pot.terms["auto"]:
        return "settle.auto is false"
    if pot.full:
        return ""
    if pot.satoshis < pot.terms["min"]:
        return f"less than {pot.terms['min']} sat are owed"
    if last is not None and now - last < every:
        return f"not before {timestamp(last + every)}"
    return ""


@dataclass(slots=True)
class Settler:
    """Empties pots."""

    runner: Runner
    speak: Speak

    async def settle(self, *, forced: bool = True) -> list[Settled]:
        """Empty the pots, one transaction each; `forced` ones whether they are due or not. What became of each.

        Unavailable while one that an earlier process began to empty cannot be.
        """
        await paying.finished(self.runner)
        done: list[Settled] = []
        while True:
            turn = [
                Settled(pot, why=why) if (why := self._waits(pot, forced)) else await self._empty(pot)
                for pot in await self.owed()
            ]
            done += turn if not done else [one for one in turn if one.txid or one.failed]
            if not any(one.txid and one.pot.full for one in turn):
                return done

    async def owed(self) -> tuple[Pot, ...]:
        """What is owed now, page by page, so that nobody waits for all of it."""
        ports, found = self.runner.ports, []
        after: Due | None = None
        while True:
            with ports.ledger.begin() as tx:
                page, after = unpaid(tx, ports.clock.now(), after)
            found += page
            if after is None:
                return pots(found, ports.ledger.read(ports.clock.now()).records)
            await asyncio.sleep(0)

    def _waits(self, pot: Pot, forced: bool) -> str:
        if forced:
            return ""
        with self.runner.ports.ledger.begin() as tx:
            row = tx.get(pot.row)
        return waits(pot, datetime.fromisoformat(row["at"]) if row else None, self.runner.ports.clock.now())

    async def _empty(self, pot: Pot) -> Settled:
        try:
            return await self._paid(pot)
        except (Refused, Unavailable, Uncertain, Conflict, Locked) as error:
            return Settled(pot, why=error.message, failed=True)

    async def _paid(self, pot: Pot) -> Settled:
        ports = self.runner.ports
        net, spec, speaker = place(ports, self.speak, pot.identity, pot.network)
        shares = pot.shares()
        places = {digest(dict(share.terms)) for share in shares}
        dues = [due for due in pot.dues[:MOST_DUES] if digest(dict(due.terms)) in places]
        with ports.ledger.begin() as tx:
            named = [tx.lineage(), tx.serial(), pot.row, sorted((due.payment, due.party) for due in dues)]
        run_id = "settle-" + digest(named)[:24]
        prefix, suffix = derivation(run_id)
        scripts = [script_of(share, lambda payee: speaker.script_to(payee, prefix, suffix)) for share in shares]
        outputs = [PaymentOutput(share.satoshis, script) for share, script in zip(shares, scripts, strict=True)]
        parties = [{"party": share.party, "vout": vout, "satoshis": share.satoshis} for vout, share in enumerate(shares)]
        keys = {"sender": speaker.identity.hex(), "derivationPrefix": prefix, "derivationSuffix": suffix}
        note = (EVENT, {"identity": pot.identity, "payments": len({due.payment for due in dues}), "parties": parties, **keys})

        def claim(tx: LedgerTransaction) -> None:
            now = ports.clock.now()
            for due in dues:
                known = next((one for one in tx.dues(payment=due.payment) if one.party == due.party), None)
                if known is None or _open(tx, known, now) is None:
                    told = "cannot settle: some of it was settled or refunded meanwhile"
                    raise Conflict("dues-moved", told, hint="run it again")
                tx.put_due(replace(due, run=run_id))
            tx.put(pot.row, {"at": timestamp(now)})

        outcome = await paying.pay(self.runner, net, spec, run_id, outputs, note, claim)
        if isinstance(outcome, Retry | Stalled):
            raise outcome.error
        with ports.ledger.begin() as tx:
            for due in dues:
                tx.put_due(replace(due, run=run_id, settled=ports.clock.now()))
            return Settled(pot, sum(share.satoshis for share in shares), txid_of(tx, run_id))


def place(ports: Ports, speak: Speak, identity: str, network: str) -> tuple[Net, Json, Speaker]:
    """The network that somebody is paid on, as it is and as it was declared, and the voice of the identity that pays."""
    records = ports.ledger.read(ports.clock.now()).records
    there, who = records.get(ResourceRef("Network", network)), records.get(ResourceRef("Identity", identity))
    if there is None or who is None:
        gone = f"Network/{network}" if there is None else f"Identity/{identity}"
        raise Refused("not-recorded", f"cannot pay anybody: {gone} is not on record", hint="declare and apply it again")
    ports.wallet.know(identity_keys.ring(identity, who.body["spec"], who.outputs).sources)
    spec = there.body["spec"]
    return read_net(network, spec), spec, speak(identity_keys.current(identity, who.outputs))


def txid_of(tx: LedgerTransaction, run_id: str) -> str:
    """The transaction that a run signed."""
    return next(str(one.result["txid"]) for one in tx.intents(run_id) if one.effect == Sign.__name__)


def derivation(run_id: str) -> tuple[str, str]:
    """The two halves of the key ID (BRC-29) of every output of a run."""
    seed = sha256(b"payout " + run_id.encode())
    return base64.b64encode(seed[:16]).decode(), base64.b64encode(seed[16:]).decode()
