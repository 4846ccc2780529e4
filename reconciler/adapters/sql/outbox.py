"""The outbox in the ledger's own database: filled in the commit of what it tells, emptied as sinks take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, func, select, update

from reconciler.adapters.sql import rows
from reconciler.adapters.sql.dialect import Database, insert_if_absent
from reconciler.adapters.sql.queue import wake
from reconciler.adapters.sql.tables import OUTBOX
from reconciler.engine.dispatch import KEY
from reconciler.engine.notices import Notice

# Notices for one sink beyond which the oldest go: a sink that is gone for good must not fill the disk.
MOST = 10_000


class SqlOutbox:
    """engine.dispatch.Outbox on one table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, now: datetime, limit: int) -> Sequence[Notice]:
        """Oldest first."""
        found = select(OUTBOX).where(OUTBOX.c.due <= now).order_by(OUTBOX.c.at, OUTBOX.c.id).limit(limit)
        with self._database.read() as sql:
            return [Notice(row.id, row.sink, row.at, rows.value(row.body), row.attempts) for row in sql.execute(found)]

    def delivered(self, notice: Notice) -> None:
        """Strike it off."""
        with self._database.write() as sql:
            sql.execute(delete(OUTBOX).where(OUTBOX.c.id == notice.id, OUTBOX.c.sink == notice.sink))

    drop = delivered

    def postpone(self, notice: Notice, until: datetime, error: str, *, whole_sink: bool) -> None:
        """One more failure of this one; with `whole_sink` the rest waits as long, and has not failed."""
        this = (OUTBOX.c.id == notice.id, OUTBOX.c.sink == notice.sink)
        with self._database.write() as sql:
            sql.execute(update(OUTBOX).where(*this).values(attempts=notice.attempts + 1, due=until, error=error))
            if whole_sink:
                sql.execute(update(OUTBOX).where(OUTBOX.c.sink == notice.sink, OUTBOX.c.due < until).values(due=until))

    def next_due(self) -> datetime | None:
        """When the first of them may be tried; None when the outbox is empty."""
        with self._database.read() as sql:
            moment: datetime | None = sql.scalar(select(func.min(OUTBOX.c.due)))
        return moment

    def pending(self) -> Mapping[str, int]:
        """How many wait, by sink."""
        with self._database.read() as sql:
            return {row[0]: row[1] for row in sql.execute(select(OUTBOX.c.sink, func.count()).group_by(OUTBOX.c.sink))}


def enter(sql: Connection, notices: Sequence[Notice], now: datetime) -> None:
    """Write notices down, and the key that delivers them, in the caller's commit."""
    for one in notices:
        row = {"id": one.id, "sink": one.sink, "at": one.at, "body": rows.text(one.body), "due": now, "attempts": 0}
        insert_if_absent(sql, OUTBOX, {**row, "error": None})
    for sink in {one.sink for one in notices}:
        _trim(sql, sink)
    if notices:
        wake(sql, KEY, now)


def _trim(sql: Connection, sink: str) -> None:
    count = sql.scalar(select(func.count()).select_from(OUTBOX).where(OUTBOX.c.sink == sink)) or 0
    if count > MOST:
        old = select(OUTBOX.c.id).where(OUTBOX.c.sink == sink).order_by(OUTBOX.c.at, OUTBOX.c.id).limit(count - MOST)
        sql.execute(delete(OUTBOX).where(OUTBOX.c.sink == sink, OUTBOX.c.id.in_(old)))
