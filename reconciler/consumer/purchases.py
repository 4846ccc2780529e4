"""Purchases as the buyer's ledger keeps them: one named row each, opened before anything is sent.

`consumer/purchase/<id>` is the row; `consumer/buying/<producer>/<content>` names the one that is under way, so that whoever buys
the same content meanwhile, in this process or another, goes on with that one instead of beginning a second. What a purchase
cost stands in the books (`purchase/...`), where the purse put it in the commit that paid; what was free has a line of zeros.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from reconciler.consumer.budget import PURCHASE
from reconciler.model.booking import Booking
from reconciler.model.canonical import Json
from reconciler.model.codec import timestamp
from reconciler.model.errors import Refused
from reconciler.ports import LedgerTransaction, LedgerView

OPEN, HAD, REFUSED = "open", "had", "refused"
_ROW, _UNDER_WAY, _CONTENT, _QUOTE = "consumer/purchase/", "consumer/buying/", "consumer/content/", "consumer/quote/"
# From the beginning of time, as far as any ledger goes.
EVER = datetime(2009, 1, 3, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Purchase:
    """One purchase. `body` is what is asked for, word for word; `most` what it may cost; `state` open, had or refused.

    `receipt` is the sealed document, `files` what was bought, `paid` the satoshis of the receipt.
    """

    id: str
    producer: str
    url: str
    content: str
    sequence: int
    digest: str
    body: Mapping[str, Json]
    most: int
    opened: str
    state: str = OPEN
    paid: int = 0
    receipt_id: str = ""
    receipt: str = ""
    token: str = ""
    files: tuple[Mapping[str, Json], ...] = ()
    fault: str = ""

    def json(self) -> dict[str, Json]:
        """As it is stored."""
        row = {name: getattr(self, name) for name in self.__slots__}
        return {**row, "body": dict(self.body), "files": [dict(file) for file in self.files]}


def _read(row: Mapping[str, Json]) -> Purchase:
    return Purchase(**{**row, "files": tuple(row["files"])})


def purchase_id(producer: str, content: str, quote: str) -> str:
    """The id of the purchase of a quote: whoever pays a quote twice names the same purchase."""
    return hashlib.sha256("\0".join((producer, content, quote)).encode()).hexdigest()[:16]


def purchase(tx: LedgerView, known: str) -> Purchase | None:
    """The purchase of that id."""
    row = tx.get(_ROW + known)
    return None if row is None else _read(row)


def under_way(tx: LedgerView, producer: str, content: str) -> Purchase | None:
    """The purchase of this content whose outcome nobody knows yet."""
    known = tx.get(f"{_UNDER_WAY}{producer}/{content}")
    return purchase(tx, known) if known else None


def bought(tx: LedgerView, producer: str, content: str) -> Purchase | None:
    """The last purchase of this content (`name`, or `name@sequence` of one version) that was had."""
    known = tx.get(f"{_CONTENT}{producer}/{content}")
    return purchase(tx, known) if known else None


def open_purchase(tx: LedgerTransaction, one: Purchase) -> Purchase:
    """Enter it, as what is under way of its content, before anything is sent."""
    tx.put(_ROW + one.id, one.json())
    tx.put(f"{_UNDER_WAY}{one.producer}/{one.content}", one.id)
    return one


def settle(tx: LedgerTransaction, one: Purchase, now: datetime) -> Purchase:
    """Enter how it ended: had, or refused."""
    tx.put(_ROW + one.id, one.json())
    tx.put(f"{_UNDER_WAY}{one.producer}/{one.content}", None)
    if one.state == HAD:
        for content in (one.content, f"{one.content}@{one.sequence}"):
            tx.put(f"{_CONTENT}{one.producer}/{content}", one.id)
        if not one.paid:
            tx.book(f"{PURCHASE}{one.producer}/{one.id}/free", None, now, 0, 0, 0)
    told = {"purchase": one.id, "content": one.content, "producer": one.producer, "satoshis": one.paid}
    tx.note(None, now, f"purchase.{one.state}", {**told, "receipt": one.receipt_id, "fault": one.fault})
    return one


def keep(tx: LedgerTransaction, one: Purchase) -> None:
    """Write down what changed of a purchase that was had, such as the token that opens its files."""
    tx.put(_ROW + one.id, one.json())


# --- what was spent -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One purchase in the books: when, of whom, satoshis paid and fees, and the purchase itself where it has a row."""

    id: str
    producer: str
    moment: datetime
    satoshis: int
    fee: int
    purchase: Purchase | None

    def json(self) -> dict[str, Json]:
        """For reports."""
        one = self.purchase
        return {
            "purchase": self.id,
            "at": timestamp(self.moment),
            "producer": self.producer,
            "content": f"{one.content}@{one.sequence}" if one else None,
            "state": one.state if one else None,
            "satoshis": self.satoshis,
            "fee": self.fee,
            "receipt": one.receipt_id if one and one.receipt_id else None,
        }


def _lines(tx: LedgerTransaction, since: datetime) -> Sequence[Booking]:
    return [one for one in tx.bookings(since) if one.run.startswith(PURCHASE)]


def lines(tx: LedgerTransaction, since: datetime) -> list[Line]:
    """Every purchase that was paid or had since then, oldest first; what one paid in several payments is one line."""
    found: dict[str, Line] = {}
    for one in _lines(tx, since):
        _, producer, known, *_rest = one.run.split("/")
        was = found.get(known)
        if was is None:
            found[known] = Line(known, producer, one.moment, one.payments, one.fees, purchase(tx, known))
        else:
            found[known] = replace(was, satoshis=was.satoshis + one.payments, fee=was.fee + one.fees)
    return list(found.values())


# --- quotes ---------------------------------------------------------------------------------------


def put_quote(tx: LedgerTransaction, known: str, url: str, producer: str, envelope: bytes) -> None:
    """Remember a quote, so that it can be paid by its id."""
    tx.put(_QUOTE + known, {"url": url, "producer": producer, "envelope": envelope.decode()})


def quote(tx: LedgerView, known: str) -> tuple[str, str, bytes]:
    """(url, producer, envelope) of a quote that was asked for here; Refused when there is none."""
    row = tx.get(_QUOTE + known)
    if row is None:
        raise Refused("no-quote", f"cannot find quote {known}", hint="ask for one: reconciler consumer quote CONTENT")
    return row["url"], row["producer"], row["envelope"].encode()
