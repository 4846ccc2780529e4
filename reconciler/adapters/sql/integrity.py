"""Whether a stored ledger is sound, looked at from outside: nothing is created, migrated or locked."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from reconciler.adapters.sql.dialect import Database
from reconciler.model.errors import Refused

# Faults told of one file; the first is enough to act on.
_MOST = 10


def faults(url_or_path: str) -> list[str] | None:
    """What is wrong with the store, nothing when it is sound; None when a file store does not exist yet.

    Refused when it is no database. A server's storage is the server's own business: there it is enough that it answers.
    """
    if "://" in url_or_path and not url_or_path.startswith("sqlite"):
        database = Database(url_or_path)
        try:
            with database.read() as sql:
                sql.exec_driver_sql("SELECT 1")
        finally:
            database.close()
        return []
    path = Path(url_or_path.removeprefix("sqlite:///"))
    if not path.exists():
        return None
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            rows = connection.execute(f"PRAGMA integrity_check({_MOST})").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise Refused(
            "bad-ledger", f"cannot read the ledger {path}: {error}", hint="restore a backup of the state directory"
        ) from error
    return [row[0] for row in rows if row[0] != "ok"]
