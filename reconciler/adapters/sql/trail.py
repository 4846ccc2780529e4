"""History as a chain: every entry carries the digest of itself and of the one before it (wire/auditlog.py).

Entries are appended in the commit of what they tell, under the counter `audit`, whose row the writer holds until
then: two writers cannot give out one number, and the chain has no gap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, or_, select, update

from reconciler.adapters.sql import rows
from reconciler.adapters.sql.tables import BOOKINGS, COUNTERS, HISTORY, LINEAGE
from reconciler.model.audit import Head
from reconciler.model.canonical import Json
from reconciler.model.codec import encode, timestamp
from reconciler.wire import auditlog

# What every change of the books is called. It is told in the chain, and kept out of what people read as history.
BOOKED = "money.booked"

_NEXT = update(COUNTERS).where(COUNTERS.c.name == "audit").values(value=COUNTERS.c.value + 1).returning(COUNTERS.c.value)
_COUNT = select(COUNTERS.c.value).where(COUNTERS.c.name == "audit")
_DIGEST = select(HISTORY.c.digest).where(HISTORY.c.number == bindparam("place"))
_LINEAGE = select(LINEAGE.c.lineage)
_APPEND = insert(HISTORY)
_KNOWN = select(BOOKINGS.c.fees, BOOKINGS.c.payments, BOOKINGS.c.locked).where(BOOKINGS.c.run == bindparam("of_run"))


def append(sql: Connection, ref: str | None, moment: datetime, event: str, detail: Mapping[str, Json]) -> None:
    """Add one entry to the end of the chain."""
    number = int(sql.scalars(_NEXT).one())
    said = encode(detail)
    whole = auditlog.entry_digest(number, timestamp(moment), ref, event, said, _digest_at(sql, number - 1))
    row = {"ref": ref, "moment": moment, "event": event, "detail": rows.text(said), "number": number, "digest": whole}
    sql.execute(_APPEND, row)


def booked(sql: Connection, row: Mapping[str, Any]) -> None:
    """Tell a change of the books; entering the same figures again is no news. Called before the booking is written."""
    known = sql.execute(_KNOWN, {"of_run": row["run"]}).one_or_none()
    figures = {name: row[name] for name in ("fees", "payments", "locked")}
    if known is None and not any(figures.values()):
        return
    if known is None or tuple(known) != tuple(figures.values()):
        append(sql, row["ref"], row["moment"], BOOKED, {"run": row["run"], **figures})


def head(sql: Connection) -> Head:
    """How far the chain goes."""
    count = int(sql.scalars(_COUNT).one())
    return Head(str(sql.scalars(_LINEAGE).one()), count, _digest_at(sql, count))


def entries(sql: Connection, after: int, limit: int) -> Sequence[Mapping[str, Json]]:
    """Up to `limit` entries after a number, in order, as the file has them."""
    return list(_entries(sql, after, limit))


def oldest_unanchored(sql: Connection, after: int, but: str) -> datetime | None:
    """When the first entry after a number was made that is not about the resource `but`; None when there is none."""
    foreign = or_(HISTORY.c.ref.is_(None), HISTORY.c.ref != but)
    moment: datetime | None = sql.scalar(select(func.min(HISTORY.c.moment)).where(HISTORY.c.number > after, foreign))
    return moment


def _entries(sql: Connection, after: int, limit: int) -> Iterator[Mapping[str, Json]]:
    previous = _digest_at(sql, after)
    found = select(HISTORY).where(HISTORY.c.number > after).order_by(HISTORY.c.number).limit(limit)
    for row in sql.execute(found):
        yield {
            "number": row.number,
            "at": timestamp(row.moment),
            "ref": row.ref,
            "event": row.event,
            "detail": rows.value(row.detail),
            "previous": previous,
            "digest": row.digest,
        }
        previous = row.digest


def _digest_at(sql: Connection, number: int) -> str:
    """The digest that entry `number + 1` names. A chain that was cut in the database goes on, and shows where it was cut."""
    if number == 0:
        return auditlog.genesis(str(sql.scalars(_LINEAGE).one()))
    return str(sql.scalar(_DIGEST, {"place": number}))
