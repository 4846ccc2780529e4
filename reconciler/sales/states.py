"""How a payment moves: a transition table. What is not in it cannot happen, and a block can be undone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from reconciler.model.errors import Invariant
from reconciler.model.sale import Payment, PaymentState

_PENDING, _CONFIRMED, _REJECTED = PaymentState.PENDING, PaymentState.CONFIRMED, PaymentState.REJECTED
_REFUNDING, _REFUNDED = PaymentState.REFUNDING, PaymentState.REFUNDED

# state -> those that may follow it.
FOLLOWS: Mapping[PaymentState, frozenset[PaymentState]] = {
    _PENDING: frozenset({_CONFIRMED, _REJECTED, _REFUNDING}),
    _CONFIRMED: frozenset({_PENDING, _REJECTED, _REFUNDING}),  # a reorganisation takes blocks back, and what was in them
    _REJECTED: frozenset({_PENDING, _CONFIRMED}),  # a miner had it after all
    _REFUNDING: frozenset({_REFUNDED, _CONFIRMED, _PENDING}),  # a refund that was refused leaves the payment as it was
    _REFUNDED: frozenset(),
}
# What the ledger knows of a transaction -> what that makes of a payment that is neither refunded nor being so.
_BY_TRANSACTION = {"seen": _PENDING, "sent": _PENDING, "mined": _CONFIRMED, "rejected": _REJECTED}


def moved(payment: Payment, state: PaymentState, now: datetime) -> Payment:
    """The payment in its next state; Invariant when the table has no such step."""
    if state not in FOLLOWS[payment.state]:
        raise Invariant("payment-state", f"cannot make payment {payment.id} {state}: it is {payment.state}")
    return replace(payment, state=state, confirmed=(payment.confirmed or now) if state is _CONFIRMED else payment.confirmed)


def followed(payment: Payment, transaction: str, now: datetime) -> Payment | None:
    """The payment as its transaction's state has it; None when that changes nothing."""
    state = _BY_TRANSACTION.get(transaction)
    if state is None or state is payment.state or payment.state in (_REFUNDING, _REFUNDED):
        return None
    return moved(payment, state, now)
