"""The Ledger on SQL, and how a store is opened.

Reading the whole ledger is what every plan begins with, so decoded records are kept between reads. Every
write of a record draws a new version from one counter inside its transaction; a reader that sees the counter
unmoved has nothing to fetch, and otherwise fetches only the rows whose version is newer. The counter is in
the database, so this holds whichever process wrote.
"""

from __future__ import annotations

import gc
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

from sqlalchemy import Connection, and_, func, insert, or_, select

from reconciler.adapters.clock import SystemClock, SystemEntropy
from reconciler.adapters.sql import migrations, money, rows
from reconciler.adapters.sql.dialect import Database
from reconciler.adapters.sql.outbox import News, SqlOutbox
from reconciler.adapters.sql.queue import LEASE, SqlQueue
from reconciler.adapters.sql.tables import COINS, COUNTERS, LINEAGE, RECORDS, RUNS
from reconciler.adapters.sql.transaction import SqlTransaction
from reconciler.engine.notices import Herald
from reconciler.model.intent import RunState
from reconciler.model.record import Purse, Record, RecordedState
from reconciler.model.ref import ResourceRef
from reconciler.ports import Clock, Entropy, LedgerTransaction

_REF = "ref/"


@dataclass(frozen=True, slots=True)
class _Records:
    """The decoded records as of one value of the counter `records`, in the order of their refs."""

    version: int = -1
    by_ref: Mapping[ResourceRef, Record] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Runs:
    """Closed runs per resource and resources with an open one, as of one value of the counter `runs`."""

    version: int = -1
    attempts: Mapping[ResourceRef, int] = field(default_factory=dict)
    frozen: frozenset[ResourceRef] = frozenset()


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
        self._records = _Records()
        self._runs = _Runs()
        with database.read() as sql:
            self._lineage = str(sql.scalars(select(LINEAGE.c.lineage)).one())

    def read(self, today: datetime) -> RecordedState:
        """A consistent snapshot; the lock only keeps two threads from decoding the same rows."""
        with self._lock, self._database.read() as sql:
            counters = {row.name: row.value for row in sql.execute(select(COUNTERS))}
            if (counters["records"], counters["runs"]) != (self._records.version, self._runs.version):
                with _collector_at_rest():
                    self._records = _fresh_records(sql, self._records, counters["records"])
                    self._runs = _fresh_runs(sql, self._runs, counters["runs"])
            return RecordedState(
                lineage=self._lineage,
                serial=counters["serial"],
                records=self._records.by_ref,
                attempts=self._runs.attempts,
                frozen=self._runs.frozen,
                purses=_purses(sql),
                spent_today=money.spent_since(sql, today),
                spent_kinds=money.spent_by_kind(sql, today),
                reserved=money.outstanding(sql),
            )

    @contextmanager
    def begin(self) -> Iterator[LedgerTransaction]:
        """One durable commit; Invariant when the thread is inside one already, Unavailable when another process hogs the file."""
        with self._database.write() as sql:
            yield SqlTransaction(sql, self._clock, self.news)

    def close(self) -> None:
        """Close the store for the ledger and for the queue that shares it."""
        self._database.close()


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """No garbage collection inside: none of this is garbage, and walking the growing heap takes longer than reading it."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _fresh_records(sql: Connection, old: _Records, version: int) -> _Records:
    if version == old.version:
        return old
    newer = sql.scalars(select(RECORDS.c.document).where(RECORDS.c.version > old.version)).yield_per(rows.BATCH)
    found = {**old.by_ref, **{record.ref: record for record in rows.records(newer)}}
    # Every stored row is now among the decoded ones, so equal counts are equal sets.
    if sql.scalar(select(func.count()).select_from(RECORDS)) != len(found):
        left = set(sql.scalars(select(RECORDS.c.ref)))
        found = {ref: record for ref, record in found.items() if str(ref) in left}
    return _Records(version, dict(sorted(found.items(), key=lambda item: (item[0].kind, item[0].name))))


def _fresh_runs(sql: Connection, old: _Runs, version: int) -> _Runs:
    if version == old.version:
        return old
    attempts: dict[ResourceRef, int] = {}
    frozen: set[ResourceRef] = set()
    counted = select(RUNS.c.key, RUNS.c.state, func.count()).group_by(RUNS.c.key, RUNS.c.state)
    for key, state, count in sql.execute(counted):
        if not key.startswith(_REF):
            continue
        ref = ResourceRef.parse(key.removeprefix(_REF))
        if state == RunState.OPEN.value:
            frozen.add(ref)
        else:
            attempts[ref] = attempts.get(ref, 0) + count
    return _Runs(version, attempts, frozenset(frozen))


def _purses(sql: Connection) -> Mapping[str, Purse]:
    # Coins that a stalled run left reserved pass to the next run of its key, so a plan may count on them.
    ended = select(RUNS.c.id).where(RUNS.c.state == RunState.STALLED.value)
    usable = or_(COINS.c.state == "free", and_(COINS.c.state == "reserved", COINS.c.run.in_(ended)))
    free = select(COINS.c.chain, COINS.c.satoshis).where(usable).order_by(COINS.c.chain, COINS.c.satoshis.desc())
    return {
        chain: Purse(tuple(row.satoshis for row in found)) for chain, found in groupby(sql.execute(free), lambda row: row.chain)
    }


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
