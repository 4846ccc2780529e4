"""The only place where SQLite and Postgres differ: opening, beginning, locking, upserting, column types, faults.

SQLite is opened in WAL mode with `synchronous=FULL`, so a commit that returned has been fsynced. Its driver
would begin transactions by itself, and late; here the driver is told never to, and each transaction begins
with an explicit BEGIN (a snapshot) or BEGIN IMMEDIATE (the one writer), so that two writers queue up at the
beginning instead of failing in the middle.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    TIMESTAMP,
    BigInteger,
    ColumnElement,
    Connection,
    Delete,
    Dialect,
    Engine,
    Executable,
    Integer,
    Select,
    String,
    Table,
    TypeDecorator,
    Update,
    bindparam,
    create_engine,
    delete,
    event,
    make_url,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.types import TypeEngine

from reconciler.adapters.sql.snapshot import BUSY_SECONDS, utc_text
from reconciler.model.errors import Invariant, ReconcilerError, Refused, Unavailable

_PRAGMAS = (f"busy_timeout={BUSY_SECONDS * 1000}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
_OWNER_ONLY = 0o600
_BEGIN = "reconciler_begin"

# A whole number that may hold all 21e14 satoshis, and that SQLite will still number by itself as a primary key.
Serial = BigInteger().with_variant(Integer, "sqlite")
# A JSON value people query: text on SQLite, JSONB on Postgres.
JsonValue = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC datetime; on SQLite RFC 3339 text of fixed width, which sorts as time does."""

    impl = String(27)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """`timestamptz` where it exists, text elsewhere."""
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if dialect.name == "postgresql" else String(27))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Invariant for a naive datetime: its zone would be a guess."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise Invariant("naive-time", f"cannot store {value.isoformat()}: it names no time zone")
        return value.astimezone(UTC) if dialect.name == "postgresql" else utc_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Back to aware UTC."""
        return datetime.fromisoformat(value) if isinstance(value, str) else value


def address(url_or_path: str | Path) -> str:
    """The database URL for a URL or a file path."""
    text = str(url_or_path)
    if "://" in text:
        return text
    return f"sqlite:///{Path(text).absolute()}"


class Database:
    """One store: short read snapshots, and write transactions that are durable when their block ends."""

    def __init__(self, url_or_path: str | Path) -> None:
        self.url = make_url(address(url_or_path))
        self._writing = threading.local()
        self._engine = _engine(self)
        self._reads = self._engine.execution_options(**{_BEGIN: "BEGIN"})

    @property
    def name(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.url.get_backend_name()

    @property
    def place(self) -> str:
        """Where it is, fit for a message: no password."""
        return self.url.database or "" if self.name == "sqlite" else self.url.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent snapshot; nothing written in it is kept."""
        with _faults(self.place), self._reads.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One commit, fsynced when the block ends without an error, and nothing at all otherwise.

        Invariant when the thread is inside a write already: the inner one would wait for the outer for ever.
        """
        if getattr(self._writing, "open", False):
            raise Invariant("nested-write", "cannot begin a ledger transaction inside another one on the same thread")
        self._writing.open = True
        try:
            with _faults(self.place), self._engine.begin() as connection:
                yield connection
        finally:
            self._writing.open = False

    def close(self) -> None:
        """Close every pooled connection; the last one out folds the write-ahead log back into the file."""
        self._engine.dispose()


def _engine(database: Database) -> Engine:
    url = database.url
    if database.name == "sqlite":
        _create(url.database)
        engine = create_engine(url, connect_args={"isolation_level": None, "timeout": BUSY_SECONDS})
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
        return engine
    if database.name == "postgresql":
        return create_engine(url, pool_pre_ping=True)
    raise Refused(
        "bad-store", f"cannot open a {database.name} database as a ledger", hint="use a file path, or postgresql+psycopg://..."
    )


def _create(path: str | None) -> None:
    """Make the file readable by its owner alone before SQLite sees it; its side files inherit the mode."""
    if not path or path == ":memory:":
        raise Refused("bad-store", "cannot keep a ledger in memory: it would forget what it paid for", hint="give a file path")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Only a file that is not there yet: to close any handle of a file is to give up every lock that this process has on
        # it (POSIX), and another process would then take away the journal under a connection that is open here already.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, _OWNER_ONLY))
    except FileExistsError:
        if not os.access(path, os.R_OK | os.W_OK):
            hint = "name a file this user may write"
            raise Refused("bad-store", f"cannot open {path}: Permission denied", hint=hint) from None
    except OSError as error:
        raise Refused("bad-store", f"cannot open {path}: {error.strerror}", hint="name a file this user may write") from error


def _configure(raw: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    for pragma in _PRAGMAS:
        raw.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN IMMEDIATE"))


@contextmanager
def _faults(place: str) -> Iterator[None]:
    """The driver's errors in our words."""
    try:
        yield
    except IntegrityError as error:
        raise Invariant("ledger-integrity", f"cannot write the ledger: {error.orig}") from error
    except DBAPIError as error:
        raise _translated(error, place) from error


def _translated(error: DBAPIError, place: str) -> ReconcilerError:
    primary = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    text = f"cannot use the ledger {place}: {error.orig}"
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable(
            "ledger-busy", text, hint=f"another process has been writing for {BUSY_SECONDS} s; see which one has it open"
        )
    if primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return Unavailable("ledger-disk", text, hint="nothing was written; make room on its disk and try again")
    if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        return Refused("ledger-unusable", text, hint="restore the file from a backup, or correct its path and permissions")
    if error.connection_invalidated:
        return Unavailable("ledger-lost", text, hint="the database closed the connection; nothing was written")
    return Invariant("ledger-sql", text)


def locked(statement: Select[Any], *, skip: bool = False) -> Select[Any]:
    """Hold the rows until commit; `skip` passes over rows another writer holds. SQLite's one writer needs neither."""
    return statement.with_for_update(skip_locked=skip)


@cache
def chosen(table: Table, by: tuple[str, ...] = (), order: str = "") -> Select[Any]:
    """The rows whose columns `by` equal the parameters `by_<column>`. Built once per shape, as the two below.

    Building a statement costs several times what running it does.
    """
    found = select(table).where(*_equal(table, by))
    return found.order_by(table.c[order]) if order else found


@cache
def changed(table: Table, by: tuple[str, ...]) -> Update:
    """Sets the columns that the other parameters name, in the rows that `chosen` would find."""
    return update(table).where(*_equal(table, by))


@cache
def removed(table: Table, by: tuple[str, ...]) -> Delete:
    """Deletes the rows that `chosen` would find."""
    return delete(table).where(*_equal(table, by))


def _equal(table: Table, names: tuple[str, ...]) -> list[ColumnElement[bool]]:
    return [table.c[name] == bindparam(f"by_{name}") for name in names]


def upsert(connection: Connection, table: Table, row: Mapping[str, Any], *, keep: tuple[str, ...] = ()) -> None:
    """Insert the row, or update the one of the same primary key in all columns but `keep`."""
    connection.execute(_upsert(connection.dialect.name, table, tuple(row), keep), row)


def insert_if_absent(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert the row unless one of the same primary key stands there; whether it was inserted."""
    return connection.execute(_upsert(connection.dialect.name, table, (), ()), row).rowcount == 1


@cache
def _upsert(dialect: str, table: Table, columns: tuple[str, ...], keep: tuple[str, ...]) -> Executable:
    """Built once per shape."""
    statement = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    key = [column.name for column in table.primary_key.columns]
    fresh = {name: statement.excluded[name] for name in columns if name not in key and name not in keep}
    if not fresh:
        return statement.on_conflict_do_nothing(index_elements=key)
    return statement.on_conflict_do_update(index_elements=key, set_=fresh)
