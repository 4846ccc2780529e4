"""A payment given back: a journaled run, and a payment that is `refunding` from the commit that begins it until it has ended.

Theory of operation. The commit that begins the run takes the right away and moves the payment on; whether the money went back
is whether the run was done, which the next look enters: refunded, or as it was before, with the right restored. The whole amount
goes to a key derived for the buyer (BRC-29); the fee, and what other parties had of the payment already, is the seller's to bear.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from reconciler.engine import paying
from reconciler.engine.run import Runner
from reconciler.model.canonical import Json, digest
from reconciler.model.codec import timestamp
from reconciler.model.effect import PaymentOutput
from reconciler.model.errors import Refused
from reconciler.model.intent import Retry, RunState, Stalled
from reconciler.model.ref import ResourceRef
from reconciler.model.sale import Payment, PaymentState
from reconciler.ports import LedgerTransaction
from reconciler.sales.paywall import as_mined
from reconciler.sales.settle import Speak, derivation, place, txid_of
from reconciler.sales.states import moved

EVENT = "payment.refunded"


@dataclass(slots=True)
class Refunder:
    """Gives payments back."""

    runner: Runner
    speak: Speak

    async def refund(self, payment_id: str, reason: str) -> Payment:
        """Give a payment back, once, and return it as it is then. Refused where there is nothing to be given back."""
        ports = self.runner.ports
        await paying.finished(self.runner)
        with ports.ledger.begin() as tx:
            reap(tx, ports.clock.now())
        with ports.ledger.begin() as tx:
            payment = _refundable(tx, payment_id)
            run_id = "refund-" + digest([tx.lineage(), tx.serial(), payment_id])[:24]
        record = ports.ledger.read(ports.clock.now()).records.get(ResourceRef("Dataset", payment.content or ""))
        network = str(record.body["spec"]["networkRef"]) if record is not None else self._only()
        net, spec, speaker = place(ports, self.speak, payment.producer.partition("/")[2], network)
        prefix, suffix = derivation(run_id)
        output = PaymentOutput(payment.satoshis, speaker.script_to(bytes.fromhex(payment.consumer), prefix, suffix))
        keys = {"sender": speaker.identity.hex(), "derivationPrefix": prefix, "derivationSuffix": suffix, "vout": 0}
        detail = {"payment": payment_id, "consumer": payment.consumer, "satoshis": payment.satoshis, "reason": reason, **keys}

        def claim(tx: LedgerTransaction) -> None:
            now = ports.clock.now()
            tx.put_payment(moved(_refundable(tx, payment_id), PaymentState.REFUNDING, now))
            right = tx.entitlement(payment_id)
            if right is not None:
                tx.put_entitlement(replace(right, revoked=now))
            tx.put(_row(payment_id), {"run": run_id, "revoked": right is not None and right.revoked is None})

        outcome = await paying.pay(self.runner, net, spec, run_id, [output], (EVENT, detail), claim)
        with ports.ledger.begin() as tx:
            reap(tx, ports.clock.now())
            found = tx.payment(payment_id)
        if isinstance(outcome, Retry | Stalled):
            raise outcome.error
        assert found is not None, "payments are kept"
        return found

    def _only(self) -> str:
        """The one network there is: of a dataset that is gone nobody says where it was sold."""
        records = self.runner.ports.ledger.read(self.runner.ports.clock.now()).records
        return next((ref.name for ref in sorted(records) if ref.kind == "Network"), "")


def _refundable(tx: LedgerTransaction, payment_id: str) -> Payment:
    payment = tx.payment(payment_id)
    if payment is None:
        hint = "reconciler payments list names them"
        raise Refused("no-receipt", f"cannot refund {payment_id[:40]!r}: there is no such payment", hint=hint)
    if payment.state is not PaymentState.CONFIRMED or not payment.satoshis or not payment.txid:
        why = f"it is {payment.state}" if payment.state is not PaymentState.CONFIRMED else "no satoshis came with it"
        raise Refused("not-refundable", f"cannot refund payment {payment_id}: {why}", hint="a payment in a block can be refunded")
    return payment


def reap(tx: LedgerTransaction, now: datetime) -> None:
    """Enter what became of refunds whose runs have ended."""
    for payment in tx.payments(state=PaymentState.REFUNDING):
        row = tx.get(_row(payment.id)) or {}
        run = tx.run(row.get("run", ""))
        if run is not None and run.state is RunState.DONE:
            tx.put_payment(replace(moved(payment, PaymentState.REFUNDED, now), refund=txid_of(tx, run.id)))
        elif run is None or run.state is RunState.STALLED:
            _restore(tx, payment, bool(row.get("revoked")), now)


def _restore(tx: LedgerTransaction, payment: Payment, revoked: bool, now: datetime) -> None:
    """The payment as it was before a refund that was given up."""
    right = tx.entitlement(payment.id)
    if revoked and right is not None:
        tx.put_entitlement(replace(right, revoked=None))
    tx.put_payment(as_mined(tx, moved(payment, PaymentState.PENDING, now)))


def _row(payment_id: str) -> str:
    return f"refund/{payment_id}"


# --- asked for ------------------------------------------------------------------------------------


def ask(tx: LedgerTransaction, payment: Payment, reason: str, now: datetime) -> None:
    """Keep that its buyer wants a payment back, for whoever decides; once, and nothing where money is on its way."""
    if payment.state in (PaymentState.REFUNDING, PaymentState.REFUNDED):
        return
    if payment.state is PaymentState.REJECTED or not payment.satoshis or not payment.txid:
        why = f"cannot refund payment {payment.id}: no satoshis of it are here"
        raise Refused("not-refundable", why, hint="only what was paid can be given back")
    if tx.get(_asked(payment.id)) is None:
        tx.put(_asked(payment.id), {"reason": reason, "at": timestamp(now)})
        tx.note(None, now, "refund.asked", {"payment": payment.id, "consumer": payment.consumer, "reason": reason})


def wanted(tx: LedgerTransaction, payment_id: str) -> str | None:
    """Why a buyer wants a payment back; None while he does not."""
    row = tx.get(_asked(payment_id))
    return str(row["reason"]) if row is not None else None


def told(tx: LedgerTransaction, payment: Payment) -> dict[str, Json]:
    """How a refund stands, for its buyer: asked, refunding or refunded, and then what he needs to find his coin (BRC-29)."""
    said: dict[str, Json] = {"receiptId": payment.id, "state": "asked", "satoshis": payment.satoshis, "payment": None}
    if payment.state is PaymentState.REFUNDING:
        return said | {"state": "refunding"}
    if payment.state is PaymentState.REFUNDED:
        row = tx.get(_row(payment.id)) or {}
        prefix, suffix = derivation(str(row.get("run")))
        keys = {"txid": payment.refund, "vout": 0, "derivationPrefix": prefix, "derivationSuffix": suffix}
        return said | {"state": "refunded", "payment": keys}
    return said


def _asked(payment_id: str) -> str:
    return f"refund-asked/{payment_id}"
