"""The Ledger on SQL, and how a store is opened.

A ledger in a file is mostly read without the database library (plain.py); a test holds that both read the same.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import and_, bindparam, func, insert, or_, select

from reconciler.adapters.clock import SystemClock, SystemEntropy
from reconciler.adapters.sql import migrations, money, rows
from reconciler.adapters.sql.dialect import Database
from reconciler.adapters.sql.news import News
from reconciler.adapters.sql.outbox import SqlOutbox
from reconciler.adapters.sql.queue import LEASE, SqlQueue
from reconciler.adapters.sql.snapshot import Records, Runs, collector_at_rest, counted, purses
from reconciler.adapters.sql.tables import COINS, COUNTERS, LINEAGE, RECORDS, RUNS
from reconciler.adapters.sql.transaction import SqlTransaction
from reconciler.engine.notices import Herald
from reconciler.model.intent import RunState
from reconciler.model.record import RecordedState
from reconciler.ports import Clock, Entropy, LedgerTransaction, LedgerView
from reconciler.trade import TradeRows

# Statements are built once: building one costs more than running it.
_COUNTERS = select(COUNTERS)
_NEWER = select(RECORDS.c.document).where(RECORDS.c.version > bindparam("seen"))
_HOW_MANY = select(func.count()).select_from(RECORDS)
_REFS = select(RECORDS.c.ref)
_RUN_COUNTS = select(RUNS.c.key, RUNS.c.state, func.count()).group_by(RUNS.c.key, RUNS.c.state)
# Coins that a stalled run left reserved pass to the next run of its key, so a plan may count on them.
_STALLED = select(RUNS.c.id).where(RUNS.c.state == RunState.STALLED.value)
_USABLE = or_(COINS.c.state == "free", and_(COINS.c.state == "reserved", COINS.c.run.in_(_STALLED)))
_FREE = select(COINS.c.chain, COINS.c.satoshis).where(_USABLE).order_by(COINS.c.chain, COINS.c.satoshis.desc())


class SqlLedger:
    """ports.Ledger on one database. What it returns is shared between readers and must not be changed.

    `news` turns changes of conditions into notices, in the same commit; `outbox` is where those wait.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.news = News(clock, Herald(()))
        self.outbox = SqlOutbox(database)
        self._lock = threading.Lock()
        self._records, self._runs = Records(), Runs()
        with database.read() as sql:
            self._lineage = str(sql.scalars(select(LINEAGE.c.lineage)).one())

    def read(self, today: datetime) -> RecordedState:
        """A consistent snapshot; the lock only keeps two threads from decoding the same rows."""
        with self._lock, self._database.read() as sql:
            counters = {row.name: row.value for row in sql.execute(_COUNTERS)}
            with collector_at_rest():
                if counters["records"] != self._records.version:
                    newer = sql.scalars(_NEWER, {"seen": self._records.version}).yield_per(rows.BATCH)
                    self._records = self._records.renewed(
                        counters["records"], newer, lambda: sql.scalar(_HOW_MANY) or 0, lambda: sql.scalars(_REFS)
                    )
                if counters["runs"] != self._runs.version:
                    self._runs = counted(
                        counters["runs"], ((key, state, count) for key, state, count in sql.execute(_RUN_COUNTS))
                    )
            return RecordedState(
                lineage=self._lineage,
                serial=counters["serial"],
                records=self._records.by_ref,
                attempts=self._runs.attempts,
                frozen=self._runs.frozen,
                purses=purses((chain, satoshis) for chain, satoshis in sql.execute(_FREE)),
                spent_today=money.spent_since(sql, today),
                spent_kinds=money.spent_by_kind(sql, today),
                reserved=money.outstanding(sql),
            )

    @contextmanager
    def view(self) -> Iterator[LedgerView]:
        """One snapshot, in which nothing is written."""
        with self._database.read() as sql:
            yield SqlTransaction(sql, self._clock)

    @contextmanager
    def sales(self) -> Iterator[TradeRows]:
        """One snapshot of what was sold."""
        with self._database.read() as sql:
            yield SqlTransaction(sql, self._clock)

    @contextmanager
    def begin(self) -> Iterator[LedgerTransaction]:
        """One durable commit; Invariant when the thread is inside one already, Unavailable when another process hogs the file."""
        with self._database.write() as sql:
            yield SqlTransaction(sql, self._clock, self.news)

    def close(self) -> None:
        """Close the store for the ledger and for the queue that shares it."""
        self._database.close()


def open_ledger(
    url_or_path: str | Path, clock: Clock | None = None, *, entropy: Entropy | None = None, lease: timedelta = LEASE
) -> tuple[SqlLedger, SqlQueue]:
    """Open the store at a path (SQLite) or URL, creating it or bringing its schema up to date.

    Refused when a newer program wrote it, or when it is no database; `lease` is how long a claim lasts unless renewed.
    """
    database = Database(url_or_path)
    try:
        _prepare(database, clock or SystemClock(), entropy or SystemEntropy())
        return SqlLedger(database, clock or SystemClock()), SqlQueue(database, lease)
    except BaseException:
        database.close()
        raise


def _prepare(database: Database, clock: Clock, entropy: Entropy) -> None:
    with database.read() as sql:
        if migrations.require_known(migrations.version(sql)):
            return
    with database.write() as sql:
        migrations.migrate(sql)
        if sql.scalar(select(LINEAGE.c.lineage)) is None:
            fresh = uuid.UUID(bytes=entropy.bytes(16), version=4)
            sql.execute(insert(LINEAGE), {"id": 1, "lineage": str(fresh), "created_at": clock.now()})
