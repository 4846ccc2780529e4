"""SQL on its way to the driver without detours: statements that are built once are also compiled once, and run as they are.

What is sent and what comes back is SQLAlchemy's own (its compiler, its type processors); left out is what it does anew around
every execution and every transaction, which would be a third of what a story costs. What this does not know goes the whole way.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError, OperationalError

from reconciler.adapters.sql import dialect
from reconciler.adapters.sql.dialect import Database

Processor = Callable[[Any], Any] | None


@dataclass(slots=True)
class Rows:
    """A result that has been read to its end, with as much of the interface of one as the ledger uses."""

    found: Sequence[Any]
    rowcount: int = -1

    def __iter__(self) -> Iterator[Any]:
        return iter(self.found)

    def all(self) -> Sequence[Any]:
        """Every row."""
        return self.found

    def one(self) -> Any:
        """The only row."""
        (row,) = self.found
        return row

    def one_or_none(self) -> Any:
        """The only row, if any."""
        return self.one() if self.found else None

    def first(self) -> Any:
        """The first row, if any."""
        return self.found[0] if self.found else None

    def mappings(self) -> Rows:
        """The rows as dictionaries."""
        return Rows([row._asdict() for row in self.found])

    def yield_per(self, number: int) -> Rows:
        """It is all there already."""
        return self


@dataclass(frozen=True, slots=True)
class Way:
    """A statement compiled for one set of parameter names: `inputs` are (name, value unless given, processor)."""

    text: str
    inputs: Sequence[tuple[str, Any, Processor]]
    outputs: Sequence[Processor]
    plain: bool
    row: Callable[[Any], Any] | None

    def run(self, raw: sqlite3.Connection, given: Mapping[str, Any]) -> Rows:
        """Run it."""
        values = [given.get(name, value) for name, value, _ in self.inputs]
        bound = [v if process is None else process(v) for v, (_, _, process) in zip(values, self.inputs, strict=True)]
        try:
            cursor = raw.execute(self.text, bound)
            found = cursor.fetchall() if self.row is not None else []
        except sqlite3.IntegrityError as error:
            raise IntegrityError(self.text, bound, error) from error
        except sqlite3.OperationalError as error:
            raise OperationalError(self.text, bound, error) from error
        if not found or self.row is None:
            return Rows(found, cursor.rowcount)
        if not self.plain:
            found = [
                [v if process is None else process(v) for v, process in zip(one, self.outputs, strict=True)] for one in found
            ]
        return Rows(list(map(self.row, found)), cursor.rowcount)


# By the statement and the names of its parameters; None for what has to go the whole way.
_WAYS: dict[tuple[Any, ...], Way | None] = {}
# Statements that came along once: only who comes twice was built to be kept.
_SEEN: dict[int, Any] = {}
_MOST = 200


def _way(connection: Connection, statement: Any, given: Mapping[str, Any]) -> Way | None:
    key = (statement, *given)
    if key in _WAYS:
        return _WAYS[key]
    if _SEEN.get(id(statement)) is not statement:
        if len(_SEEN) >= _MOST:
            _SEEN.clear()
        _SEEN[id(statement)] = statement
        return None
    found = _WAYS[key] = _compiled(connection, statement, list(given))
    return found


def _compiled(connection: Connection, statement: Any, names: list[str]) -> Way | None:
    dialect = connection.dialect
    made = statement.compile(dialect=dialect, column_keys=names or None)
    if made.post_compile_params or made.literal_execute_params or made.insert_prefetch or made.update_prefetch:
        return None
    inputs = []
    for name in made.positiontup or ():
        bind = made.binds[name]
        inputs.append((bind.key, bind.effective_value, made._bind_processors.get(name)))
    columns = made._result_columns
    outputs = [column.type._cached_result_processor(dialect, None) for column in columns]
    row = namedtuple("Row", [column.keyname for column in columns], rename=True)._make if columns else None  # type: ignore[misc]
    return Way(str(made), inputs, outputs, not any(outputs), row)


# One connection an engine, kept open between transactions.
_KEPT: dict[Engine, Connection] = {}


def _kept(database: Database) -> Connection | None:
    """The connection that stays open; None while it is inside a transaction, as when a block reads inside another's write."""
    connection = _KEPT.get(database._engine)
    if connection is None:
        connection = _KEPT[database._engine] = database._engine.connect()
        # For SQLAlchemy there is one transaction, which never ends; where it begins and ends is said to the driver.
        connection.begin()
        _raw(connection).execute("ROLLBACK")
    return None if _raw(connection).in_transaction else connection


def _raw(connection: Connection) -> sqlite3.Connection:
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


@contextlib.contextmanager
def _between(connection: Connection, begin: str, end: str) -> Iterator[Connection]:
    raw = _raw(connection)
    raw.execute(begin)
    try:
        yield connection
    except BaseException:
        raw.execute("ROLLBACK")
        raise
    raw.execute(end)


def _close(engine: Engine) -> None:
    if (connection := _KEPT.pop(engine, None)) is not None:
        connection.close()


@contextlib.contextmanager
def kept_open() -> Iterator[None]:
    """Stores on SQLite keep a connection between transactions."""
    read, write, close = Database.read, Database.write, Database.close

    @contextlib.contextmanager
    def read_(self: Database) -> Iterator[Connection]:
        connection = _kept(self)
        if connection is None:
            with read(self) as other:
                yield other
            return
        with dialect._faults(self.place), _between(connection, "BEGIN", "ROLLBACK"):
            yield connection

    @contextlib.contextmanager
    def write_(self: Database) -> Iterator[Connection]:
        connection = _kept(self)
        if connection is None:
            with write(self) as other:
                yield other
            return
        with dialect._faults(self.place), _between(connection, "BEGIN IMMEDIATE", "COMMIT"):
            yield connection

    def close_(self: Database) -> None:
        _close(self._engine)
        close(self)

    Database.read, Database.write, Database.close = read_, write_, close_  # type: ignore[method-assign]
    try:
        yield
    finally:
        Database.read, Database.write, Database.close = read, write, close  # type: ignore[method-assign]
        for engine in list(_KEPT):
            _close(engine)


@contextlib.contextmanager
def shortcut() -> Iterator[None]:
    """Statements on SQLite take it."""
    execute, scalar, scalars = Connection.execute, Connection.scalar, Connection.scalars

    def found(self: Connection, statement: Any, given: Any) -> Rows | None:
        if self.dialect.name != "sqlite" or isinstance(given, list):
            return None
        way = _way(self, statement, given or {})
        return None if way is None else way.run(_raw(self), given or {})

    def execute_(self: Connection, statement: Any, parameters: Any = None, **more: Any) -> Any:
        rows = None if more else found(self, statement, parameters)
        return execute(self, statement, parameters, **more) if rows is None else rows

    def scalar_(self: Connection, statement: Any, parameters: Any = None, **more: Any) -> Any:
        rows = None if more else found(self, statement, parameters)
        if rows is None:
            return scalar(self, statement, parameters, **more)
        return rows.found[0][0] if rows.found else None

    def scalars_(self: Connection, statement: Any, parameters: Any = None, **more: Any) -> Any:
        rows = None if more else found(self, statement, parameters)
        return scalars(self, statement, parameters, **more) if rows is None else Rows([row[0] for row in rows.found])

    Connection.execute, Connection.scalar, Connection.scalars = execute_, scalar_, scalars_  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        Connection.execute, Connection.scalar, Connection.scalars = execute, scalar, scalars  # type: ignore[method-assign]
