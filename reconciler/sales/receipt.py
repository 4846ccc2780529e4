"""What a receipt says: pure. Its form, and how it is checked, are in wire/receipt.py."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from reconciler.model.canonical import Json
from reconciler.model.codec import timestamp
from reconciler.model.sale import Edition, Method
from reconciler.sales.price import Line
from reconciler.wire.payment import Income
from reconciler.wire.receipt import TYPE, receipt_id

API = "overlay.bsv/v1alpha1"


def document(
    producer: str,
    buyer: str,
    edition: Edition,
    satoshis: int,
    lines: Sequence[Line],
    issued: datetime,
    *,
    quote: str | None = None,
    method: Method = Method.BRC105,
    income: Income | None = None,
    others: Sequence[int] = (),
) -> dict[str, Json]:
    """The statement that a producer signs, with its id; `income` is None where nothing was due, or money came elsewhere.

    `others` are outputs of the same transaction that paid parties beside the producer, and count.
    """
    payment = None
    if income is not None:
        payment = {"txid": income.txid, "vout": income.vout}
        payment |= {"derivationPrefix": income.prefix, "derivationSuffix": income.suffix}
        payment |= {"others": list(others)} if others else {}
    said: dict[str, Json] = {
        "type": TYPE,
        "apiVersion": API,
        "producer": producer,
        "buyer": buyer,
        "contentId": edition.content,
        "sequence": edition.sequence,
        "digest": edition.digest,
        "merkleRoot": edition.merkle_root,
        "license": edition.license or "",
        "satoshis": satoshis,
        "price": [line.json() for line in lines],
        "quoteId": quote,
        "method": method.value,
        "payment": payment,
        "issued": timestamp(issued),
    }
    return {**said, "id": receipt_id(said)}
