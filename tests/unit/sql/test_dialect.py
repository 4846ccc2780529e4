"""How a store is opened, begun and locked, and what its faults are called."""

import stat
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.dialects import postgresql

from reconciler.adapters.sql import dialect, ledger, queue, tables
from reconciler.adapters.sql.dialect import Database, UtcTime, locked
from reconciler.adapters.sql.ledger import open_ledger
from reconciler.model.errors import Invariant, Refused, Unavailable

NOW = datetime(2026, 1, 2, tzinfo=UTC)
POSTGRES = postgresql.dialect()


def test_only_the_owner_may_read_the_ledger_and_its_side_files(tmp_path: Path) -> None:
    book, _ = open_ledger(tmp_path / "new" / "ledger.db")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()}
    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}
    book.close()


def test_every_connection_syncs_each_commit_and_checks_foreign_keys(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    with database.read() as one, database.read() as two:
        for connection in (one, two):
            pragmas = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")
            ]
            assert pragmas == ["wal", 2, 1]
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 5000
    database.close()


def test_a_url_names_the_same_file_as_a_path(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    one, two = open_ledger(path)[0], open_ledger(f"sqlite:///{path}")[0]
    assert one.read(NOW).lineage == two.read(NOW).lineage
    one.close()
    two.close()


def test_a_writer_begins_as_the_writer_and_a_second_one_is_told_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialect, "_PRAGMAS", ("busy_timeout=1", "journal_mode=WAL"))
    one, two = Database(tmp_path / "x.db"), Database(tmp_path / "x.db")
    with one.write():  # nothing written yet: the lock is taken by BEGIN itself
        with pytest.raises(Unavailable, match="database is locked") as refusal, two.write():
            pytest.fail("two writers at once")
        assert refusal.value.code == "ledger-busy"
        with two.read() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    with two.write():
        pass
    one.close()
    two.close()


def test_a_read_is_one_snapshot(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
    with database.read() as reader:
        assert reader.exec_driver_sql("SELECT count(*) FROM t").scalar() == 0
        with database.write() as writer:
            writer.exec_driver_sql("INSERT INTO t VALUES (1)")
        assert reader.exec_driver_sql("SELECT count(*) FROM t").scalar() == 0
    with database.read() as reader:
        assert reader.exec_driver_sql("SELECT count(*) FROM t").scalar() == 1
    database.close()


def test_a_transaction_inside_a_transaction_is_our_own_mistake(tmp_path: Path) -> None:
    book, keys = open_ledger(tmp_path / "x.db")
    with pytest.raises(Invariant, match="inside another one"), book.begin() as tx:
        tx.put("a", 1)
        keys.put("k", NOW)
    with book.begin() as tx:
        assert tx.get("a") is None
    book.close()


@pytest.mark.parametrize(
    ("url", "what"), [("mysql://h/d", "mysql"), ("sqlite:///:memory:", "memory"), ("/proc/none/x.db", "cannot open")]
)
def test_what_can_be_no_ledger_is_refused(url: str, what: str) -> None:
    try:
        with pytest.raises(Refused, match=what) as refusal:
            open_ledger(url)
    except ModuleNotFoundError:
        pytest.fail("the driver was loaded before the store was refused")
    assert refusal.value.hint


def test_a_file_that_is_no_database_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"not a database, but somebody's letter" * 100)
    with pytest.raises(Refused, match="not a database"):
        open_ledger(path)
    assert path.read_bytes().startswith(b"not a database, but")


def test_times_are_stored_in_utc_in_an_order_text_can_sort(tmp_path: Path) -> None:
    sqlite = Database(tmp_path / "x.db")
    with sqlite.read() as connection:
        stored = [
            UtcTime().process_bind_param(moment, connection.dialect)
            for moment in (
                NOW,
                NOW + timedelta(microseconds=1),
                (NOW + timedelta(hours=1)).astimezone(timezone(timedelta(hours=-9))),
            )
        ]
        assert (
            stored
            == sorted(stored)
            == ["2026-01-02T00:00:00.000000Z", "2026-01-02T00:00:00.000001Z", "2026-01-02T01:00:00.000000Z"]
        )
        assert UtcTime().process_result_value(stored[1], connection.dialect) == NOW + timedelta(microseconds=1)
        with pytest.raises(Invariant, match="names no time zone"):
            UtcTime().process_bind_param(datetime(2026, 1, 2), connection.dialect)  # noqa: DTZ001
    assert UtcTime().process_bind_param(NOW, POSTGRES) == NOW
    sqlite.close()


def test_on_postgres_a_claim_skips_rows_that_others_hold_and_a_reservation_waits_for_them() -> None:
    claim = str(locked(select(tables.QUEUE.c.key), skip=True).compile(dialect=POSTGRES))
    assert claim.endswith("FOR UPDATE SKIP LOCKED")
    assert str(locked(select(tables.COINS.c.run)).compile(dialect=POSTGRES)).endswith("FOR UPDATE")
    merge = str(dialect._upsert("postgresql", tables.CURSORS, ("name", "value"), ()).compile(dialect=POSTGRES))
    assert "ON CONFLICT (name) DO UPDATE SET value = excluded.value" in merge


def test_a_ledger_and_its_queue_share_one_store(tmp_path: Path) -> None:
    book, keys = open_ledger(tmp_path / "x.db")
    assert isinstance(book, ledger.SqlLedger)
    assert isinstance(keys, queue.SqlQueue)
    lease = keys.take("k", "w", NOW)
    assert lease is not None and lease.until == NOW + queue.LEASE
    with book.begin() as tx:
        tx.check_fence("k", lease.fence)
    book.close()
