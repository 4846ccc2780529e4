"""A ledger in a file, read with `sqlite3` alone.

A plan that finds nothing to do asks the ledger for one snapshot and two settings. The database library that writes it takes
32 MiB and 0.7 s of processor time to import, and that was a third of all the memory such a plan took. So reading is written
out here, in SQL of its own over the same tables; whatever else is asked goes to the real ledger, which is opened then. A test
holds that both read the same.

What is not plain at sight (another database, a file of an older or newer schema, one that is not there) goes the long way at
once, which then makes it or says what is wrong.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from reconciler.adapters.sql import rows
from reconciler.adapters.sql.news import News
from reconciler.adapters.sql.snapshot import (
    BUSY_SECONDS,
    NAME,
    REF,
    Records,
    Runs,
    by_kind,
    by_resource,
    collector_at_rest,
    counted,
    purses,
    utc_text,
)
from reconciler.adapters.sql.steps import newest
from reconciler.engine.notices import Herald
from reconciler.model.canonical import Json
from reconciler.model.record import RecordedState
from reconciler.ports import Clock, Entropy, Lease, LedgerTransaction, LedgerView, Queue
from reconciler.trade import TradeRows

if TYPE_CHECKING:
    from reconciler.adapters.sql.ledger import SqlLedger
    from reconciler.adapters.sql.queue import SqlQueue
    from reconciler.engine.dispatch import Outbox

_FILE_URL = "sqlite:///"
# Characters that mean something in a URL; a path with one of them is for those who read URLs.
_SPECIAL = frozenset("%?#")

_SCHEMA = "SELECT max(version) FROM schema_versions"
_LINEAGE = "SELECT lineage FROM lineage"
_COUNTERS = "SELECT name, value FROM counters"
_NEWER = "SELECT document FROM records WHERE version > ?"
_HOW_MANY = "SELECT count(*) FROM records"
_REFS = "SELECT ref FROM records"
_RUN_COUNTS = "SELECT key, state, count(*) FROM runs GROUP BY key, state"
# Coins that a stalled run left reserved pass to the next run of its key, so a plan may count on them.
_FREE = """
    SELECT chain, satoshis FROM coins
    WHERE state = 'free' OR (state = 'reserved' AND run IN (SELECT id FROM runs WHERE state = 'stalled'))
    ORDER BY chain, satoshis DESC
"""
_SPENT = "SELECT coalesce(sum(fees + payments + locked), 0) FROM bookings WHERE moment >= ?"
_BY_KIND = """
    SELECT rtrim(ref, ?) AS kind, sum(fees + payments + locked) FROM bookings
    WHERE moment >= ? AND ref IS NOT NULL GROUP BY kind
"""
_OUTSTANDING = """
    SELECT key, owed FROM (
        SELECT runs.key, runs.reserved - coalesce(fees + payments + locked, 0) AS owed
        FROM runs LEFT JOIN bookings ON bookings.run = runs.id WHERE runs.state = 'open'
    ) WHERE owed > 0 AND substr(key, 1, length(?)) = ?
"""
_CURSOR = "SELECT value FROM cursors WHERE name = ?"
_HELD = 'SELECT key, fence, owner, "until", attempts FROM queue WHERE owner IS NOT NULL AND "until" > ? ORDER BY key'


def open_store(url_or_path: str | Path, clock: Clock, entropy: Entropy) -> tuple[PlainLedger | SqlLedger, Queue]:
    """Open the store at a path or URL as quickly as it allows; `open_ledger` says what is made, and refused, on the long way."""
    sql = _opened(str(url_or_path))
    if sql is not None:
        ledger = PlainLedger(sql, url_or_path, clock, entropy)
        return ledger, cast("Queue", _PlainQueue(ledger))
    from reconciler.adapters.sql.ledger import open_ledger

    return open_ledger(url_or_path, clock, entropy=entropy)


def _opened(place: str) -> sqlite3.Connection | None:
    """A connection that only reads, to a file that is a ledger of this program's schema; None for anything else."""
    path = Path(place.removeprefix(_FILE_URL)).absolute()
    if "://" in place.removeprefix(_FILE_URL) or _SPECIAL.intersection(place) or not os.access(path, os.R_OK | os.W_OK):
        return None
    try:
        sql = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
    except sqlite3.Error:
        return None
    try:
        sql.execute("PRAGMA query_only = ON")
        if _one(sql, "PRAGMA journal_mode") == "wal" and _one(sql, _SCHEMA) == newest() and _one(sql, _LINEAGE):
            return sql
    except sqlite3.Error:
        pass  # no database, or none of ours
    sql.close()
    return None


def _one(sql: sqlite3.Connection, statement: str, *parameters: Any) -> Any:
    """The one value of the one row; None when there is no row."""
    row = sql.execute(statement, parameters).fetchone()
    return None if row is None else row[0]


class PlainLedger:
    """ports.Ledger on a file. What it returns is shared between readers and must not be changed.

    Reading is done here, one snapshot at a time; `whole` is the ledger that also writes.
    """

    def __init__(self, sql: sqlite3.Connection, url_or_path: str | Path, clock: Clock, entropy: Entropy) -> None:
        self._sql, self._lineage = sql, str(_one(sql, _LINEAGE))
        self._place, self._clock, self._entropy = url_or_path, clock, entropy
        self.news = News(clock, Herald(()))
        self.outbox = cast("Outbox", _Later(lambda: self.whole.outbox))
        self._reading, self._opening = threading.Lock(), threading.Lock()
        self._records, self._runs = Records(), Runs()
        self._whole: tuple[SqlLedger, SqlQueue] | None = None

    @property
    def whole(self) -> SqlLedger:
        """The ledger through the database library, opened when it is first needed."""
        return self._both()[0]

    @property
    def queue(self) -> SqlQueue:
        """The queue through the database library."""
        return self._both()[1]

    def _both(self) -> tuple[SqlLedger, SqlQueue]:
        with self._opening:
            if self._whole is None:
                from reconciler.adapters.sql.ledger import open_ledger

                self._whole = open_ledger(self._place, self._clock, entropy=self._entropy)
                self._whole[0].news = self.news
            return self._whole

    def read(self, today: datetime) -> RecordedState:
        """A consistent snapshot. Where the file cannot be read, the ledger proper is asked, which says why in our words."""
        try:
            with self._snapshot() as sql:
                return self._state(sql, utc_text(today))
        except sqlite3.Error:
            return self.whole.read(today)

    def _state(self, sql: sqlite3.Connection, since: str) -> RecordedState:
        counters = dict(sql.execute(_COUNTERS))
        with collector_at_rest():
            if counters["records"] != self._records.version:
                newer = (document for (document,) in sql.execute(_NEWER, (self._records.version,)))
                self._records = self._records.renewed(
                    counters["records"], newer, lambda: _one(sql, _HOW_MANY), lambda: (ref for (ref,) in sql.execute(_REFS))
                )
            if counters["runs"] != self._runs.version:
                self._runs = counted(counters["runs"], sql.execute(_RUN_COUNTS))
        return RecordedState(
            lineage=self._lineage,
            serial=counters["serial"],
            records=self._records.by_ref,
            attempts=self._runs.attempts,
            frozen=self._runs.frozen,
            purses=purses(sql.execute(_FREE)),
            spent_today=_one(sql, _SPENT, since),
            spent_kinds=by_kind(sql.execute(_BY_KIND, (NAME, since))),
            reserved=by_resource(sql.execute(_OUTSTANDING, (REF, REF))),
        )

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """One consistent sight of the file; the lock keeps threads from decoding the same rows, and from sharing a snapshot."""
        with self._reading:
            self._sql.execute("BEGIN")
            try:
                yield self._sql
            finally:
                self._sql.execute("ROLLBACK")

    @contextmanager
    def view(self) -> Iterator[LedgerView]:
        """Settings, each as it stands when it is asked for."""
        yield self

    def get(self, name: str) -> Json | None:
        """A named cursor or setting."""
        try:
            with self._snapshot() as sql:
                stored = _one(sql, _CURSOR, name)
        except sqlite3.Error:
            with self.whole.view() as view:
                return view.get(name)
        return None if stored is None else rows.value(stored)

    def holders(self, now: datetime) -> Sequence[Lease]:
        """The leases of the queue that still run, by key."""
        try:
            with self._snapshot() as sql:
                held = sql.execute(_HELD, (utc_text(now),)).fetchall()
        except sqlite3.Error:
            return self.queue.holders(now)
        return [Lease(key, fence, owner, datetime.fromisoformat(until), attempts) for key, fence, owner, until, attempts in held]

    def sales(self) -> AbstractContextManager[TradeRows]:
        """A snapshot of what was sold, through the database library."""
        return self.whole.sales()

    @contextmanager
    def begin(self) -> Iterator[LedgerTransaction]:
        """One durable commit, through the database library."""
        with self.whole.begin() as tx:
            yield tx

    def close(self) -> None:
        """Close the store for the ledger and for the queue that shares it."""
        self._sql.close()
        if self._whole is not None:
            self._whole[0].close()


class _Later:
    """Stands for what is made when it is first asked for anything."""

    def __init__(self, made: Callable[[], Any]) -> None:
        self._made = made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made(), name)


class _PlainQueue(_Later):
    """ports.Queue: who holds what is read without the database library, for every start asks that; the rest is not."""

    def __init__(self, ledger: PlainLedger) -> None:
        super().__init__(lambda: ledger.queue)
        self.holders = ledger.holders
