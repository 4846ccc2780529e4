"""History becomes a chain, what happened so far included; and the outbox of notices."""

import json
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    column,
    insert,
    select,
    table,
)
from sqlalchemy import update as change

from reconciler.adapters.sql.dialect import UtcTime
from reconciler.model.canonical import digest
from reconciler.model.codec import timestamp

_SCHEMA = MetaData()

Table(
    "outbox",
    _SCHEMA,
    Column("id", String, primary_key=True),
    Column("sink", String, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("body", Text, nullable=False),
    Column("due", UtcTime, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text),
    Index("ix_outbox_due", "due"),
)
_HISTORY = table(
    "history",
    column("seq"),
    column("ref"),
    column("moment", UtcTime),
    column("event"),
    column("detail"),
    column("number"),
    column("digest"),
)
_BOOKINGS = table(
    "bookings", column("run"), column("ref"), column("moment", UtcTime), *map(column, ("fees", "payments", "locked"))
)


def up(connection: Connection) -> None:
    """Number and chain the entries in their order; sums that were booked before follow as entries of their own."""
    _SCHEMA.create_all(connection, checkfirst=False)
    big = BigInteger().compile(connection.dialect)
    connection.exec_driver_sql(f"ALTER TABLE history ADD COLUMN number {big}")
    connection.exec_driver_sql("ALTER TABLE history ADD COLUMN digest VARCHAR")
    connection.exec_driver_sql("CREATE UNIQUE INDEX uq_history_number ON history (number)")
    lineage = connection.scalar(select(column("lineage")).select_from(table("lineage")))
    number, previous = 0, digest({"format": "reconciler-audit/1", "lineage": lineage})
    for row in connection.execute(select(_HISTORY).order_by(_HISTORY.c.seq)).all():
        number += 1
        previous = digest(_entry(number, row.moment, row.ref, row.event, json.loads(row.detail), previous))
        connection.execute(change(_HISTORY).where(_HISTORY.c.seq == row.seq).values(number=number, digest=previous))
    for row in connection.execute(select(_BOOKINGS).order_by(_BOOKINGS.c.moment, _BOOKINGS.c.run)).all():
        number += 1
        detail = {"run": row.run, "fees": row.fees, "payments": row.payments, "locked": row.locked}
        previous = digest(_entry(number, row.moment, row.ref, "money.booked", detail, previous))
        stored = {"ref": row.ref, "moment": row.moment, "event": "money.booked", "detail": _compact(detail)}
        connection.execute(insert(_HISTORY).values(**stored, number=number, digest=previous))
    counters = table("counters", column("name"), column("value"))
    connection.execute(insert(counters).values(name="audit", value=number))


def _entry(number: int, moment: Any, ref: str | None, event: str, detail: Any, previous: str) -> dict[str, Any]:
    said = {"number": number, "at": timestamp(moment), "ref": ref, "event": event}
    return {**said, "detail": detail, "previous": previous}


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
