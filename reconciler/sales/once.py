"""What is sold by the request: a payment is good for one answer, and for that answer again where it was lost."""

from __future__ import annotations

from reconciler.model.sale import ONE_REQUEST, Entitlement
from reconciler.trade import Trading
from reconciler.wire.payment import OUTPUT


def bought_with(ledger: Trading, txid: str) -> Entitlement | None:
    """The right to one answer that a payment bought, used or not; None where it bought something else, or was given back."""
    with ledger.sales() as rows:
        paid = rows.payment_at(f"{txid}.{OUTPUT}")
        found = rows.entitlement(paid.id) if paid is not None else None
    return found if found is not None and found.period == ONE_REQUEST and found.revoked is None else None
