"""The schema goes forward one step at a time, and ends where the code expects it."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, MetaData, inspect

from reconciler.adapters.sql import catalog, migrations, tables
from reconciler.adapters.sql.dialect import Database
from reconciler.adapters.sql.ledger import open_ledger
from reconciler.model.errors import Invariant, Refused

STEPS = migrations.steps()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "ledger.db")
    yield database
    database.close()


def shape(connection: Connection) -> dict[str, Any]:
    """Everything about the schema that a statement can notice."""
    look = inspect(connection)
    found: dict[str, Any] = {}
    for name in sorted(set(look.get_table_names()) - {"schema_versions"}):
        columns = {c["name"]: (str(c["type"]), c["nullable"], c["primary_key"], c["default"]) for c in look.get_columns(name)}
        unique = {tuple(u["column_names"]) for u in look.get_unique_constraints(name)}
        foreign = {(tuple(f["constrained_columns"]), f["referred_table"], str(f["options"])) for f in look.get_foreign_keys(name)}
        checks = {c["sqltext"] for c in look.get_check_constraints(name)}
        query = "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL"
        indexes = {sql for (sql,) in connection.exec_driver_sql(query, (name,))}
        found[name] = (columns, unique, foreign, checks, indexes)
    return found


def test_the_steps_build_exactly_the_tables_of_the_code(database: Database, tmp_path: Path) -> None:
    with database.write() as connection:
        assert migrations.migrate(connection) == len(STEPS)
        built = shape(connection)
    declared = Database(tmp_path / "declared.db")
    with declared.write() as connection:
        for metadata in (tables.LedgerTable.metadata, catalog.CatalogTable.metadata):
            assert isinstance(metadata, MetaData)
            metadata.create_all(connection)
        assert shape(connection) == built
    declared.close()


SEEDS = {
    0: [],
    1: ["INSERT INTO cursors VALUES ('head', '7')", "UPDATE counters SET value = 5 WHERE name = 'serial'"],
    2: ["INSERT INTO queue VALUES ('k', '2026-01-01T00:00:00.000000Z', 0, NULL, NULL, NULL, 0, NULL, 0)"],
}
NEW = {1: {"records", "runs", "intents", "coins", "transactions"}, 2: {"queue"}, 3: {"published_content", "content_distribution"}}


@pytest.mark.row("P-DB-99")
@pytest.mark.parametrize("number", range(1, len(STEPS) + 1), ids=STEPS)
def test_each_step_adds_its_tables_and_keeps_what_was_there(number: int, database: Database) -> None:
    with database.write() as connection:
        assert migrations.migrate(connection, number - 1) == number - 1
        for before in range(number):
            for statement in SEEDS.get(before, ()):
                connection.exec_driver_sql(statement)
    with database.write() as connection:
        had = set(inspect(connection).get_table_names())
        rows = {name: connection.exec_driver_sql(f"SELECT * FROM {name}").all() for name in had - {"schema_versions", "counters"}}
        assert migrations.migrate(connection, number) == number
        now = set(inspect(connection).get_table_names())
        assert NEW.get(number, set()) <= now - had
        assert {name: connection.exec_driver_sql(f"SELECT * FROM {name}").all() for name in rows} == rows
        assert migrations.version(connection) == number


def test_a_ledger_at_an_older_version_is_brought_up_when_it_is_opened(database: Database, tmp_path: Path) -> None:
    with database.write() as connection:
        migrations.migrate(connection, 1)
        connection.exec_driver_sql("INSERT INTO lineage VALUES (1, 'kept', '2026-01-01T00:00:00.000000Z')")
        connection.exec_driver_sql("INSERT INTO cursors VALUES ('head', '7')")
    ledger, _ = open_ledger(tmp_path / "ledger.db")
    with ledger.begin() as tx:
        assert (tx.lineage(), tx.get("head")) == ("kept", 7)
    ledger.close()
    with database.read() as connection:
        assert migrations.version(connection) == len(STEPS)


def test_a_ledger_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    open_ledger(path)[0].close()
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO schema_versions VALUES (99, '0099_future')")
    other.close()
    before = path.read_bytes()
    with pytest.raises(Refused, match="its schema is version 99 and this program knows") as refusal:
        open_ledger(path)
    assert refusal.value.code == "ledger-too-new"
    assert path.read_bytes() == before


def test_a_step_that_fails_leaves_the_version_before_it(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE queue (in_the_way INTEGER)")
    with pytest.raises(Invariant, match="already exists"), database.write() as connection:
        migrations.migrate(connection)
    with database.read() as connection:
        assert migrations.version(connection) == 0
        assert inspect(connection).get_table_names() == ["queue"]


def test_the_numbers_have_no_gap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("0001_a.py", "0003_c.py"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr(migrations, "__path__", [str(tmp_path)])
    with pytest.raises(Invariant, match="without a gap"):
        migrations.steps()


def test_opening_again_migrates_nothing(tmp_path: Path) -> None:
    open_ledger(tmp_path / "ledger.db")[0].close()
    before = (tmp_path / "ledger.db").read_bytes()
    open_ledger(tmp_path / "ledger.db")[0].close()
    assert (tmp_path / "ledger.db").read_bytes() == before
