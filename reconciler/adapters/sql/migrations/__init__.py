"""The schema as numbered steps that only go forward.

A step is a module `NNNN_name.py` with one function `up(connection)`; it says what it does in its own words
and never imports the current tables, because it must still do the same when those have moved on. All steps
that are missing run in one transaction, so a ledger is at one version or at the other.
"""

from __future__ import annotations

import importlib

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, func, insert, inspect, select

from reconciler.adapters.sql.steps import ordered
from reconciler.model.errors import Refused

_VERSIONS = Table(
    "schema_versions",
    MetaData(),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("name", String, nullable=False),
)


def steps() -> tuple[str, ...]:
    """The module names of all steps, in order; Invariant when a number is missing or taken twice."""
    return ordered(__path__)


def version(connection: Connection) -> int:
    """How many steps the database has seen; 0 for an empty one."""
    if not inspect(connection).has_table(_VERSIONS.name):
        return 0
    return int(connection.scalar(select(func.coalesce(func.max(_VERSIONS.c.version), 0))) or 0)


def require_known(found: int) -> bool:
    """Whether every step has run; Refused when the database has seen more steps than this program knows."""
    known = len(steps())
    if found > known:
        raise Refused(
            "ledger-too-new",
            f"cannot open the ledger: its schema is version {found} and this program knows {known}",
            hint="install the version of reconciler that wrote it, or a later one",
        )
    return found == known


def migrate(connection: Connection, upto: int | None = None) -> int:
    """Run the missing steps (as far as `upto`) inside the caller's transaction; the version reached."""
    found = version(connection)
    require_known(found)
    _VERSIONS.create(connection, checkfirst=True)
    for number, name in list(enumerate(steps(), 1))[found:upto]:
        importlib.import_module(f"{__name__}.{name}").up(connection)
        connection.execute(insert(_VERSIONS).values(version=number, name=name))
        found = number
    return found
