"""Ledgers that are older than the chain get one, and go on with it."""

from datetime import UTC, datetime
from pathlib import Path

from reconciler.adapters.sql import migrations
from reconciler.adapters.sql.dialect import Database
from reconciler.adapters.sql.ledger import open_ledger
from reconciler.model.ref import ResourceRef
from reconciler.wire import auditlog

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
OLD = [
    "INSERT INTO lineage VALUES (1, 'kept', '2026-01-01T00:00:00.000000Z')",
    "INSERT INTO history VALUES (3, 'Dataset/a', '2026-01-01T00:00:01.000000Z', 'change.applied', '{\"sat\":47,\"ü\":null}')",
    "INSERT INTO history VALUES (7, NULL, '2026-01-01T00:00:02.500000Z', 'coins.written_off', '{}')",
    "INSERT INTO bookings VALUES ('run_1', 'Dataset/a', '2026-01-01T00:00:01.000000Z', 40, 6, 1)",
]


def test_history_and_books_from_before_are_chained_and_the_chain_goes_on(tmp_path: Path) -> None:
    database = Database(tmp_path / "ledger.db")
    with database.write() as sql:
        migrations.migrate(sql, 3)
        for statement in OLD:
            sql.exec_driver_sql(statement)
    database.close()
    ledger, _ = open_ledger(tmp_path / "ledger.db")
    with ledger.begin() as tx:
        tx.note(ResourceRef("Dataset", "b"), NOW, "change.applied", {"satoshis": 1})
        # The figures of a run that is booked again are news only where they differ.
        tx.book("run_1", ResourceRef("Dataset", "a"), NOW, 40, 6, 1)
        tx.book("run_1", ResourceRef("Dataset", "a"), NOW, 41, 6, 1)
        tx.book("run_2", None, NOW, 0, 0, 0)
    with ledger.begin() as tx:
        head, entries = tx.audit_head(), tx.audit_entries()
        assert [one["event"] for one in tx.history()] == ["change.applied", "coins.written_off", "change.applied"]
        assert [one["number"] for one in tx.audit_entries(after=2, limit=2)] == [3, 4]
        assert tx.unanchored_since(3, ResourceRef("Dataset", "b")) == NOW
        assert tx.unanchored_since(5, ResourceRef("Dataset", "b")) is None
    ledger.close()
    assert [(one["number"], one["event"], one["ref"]) for one in entries] == [
        (1, "change.applied", "Dataset/a"),
        (2, "coins.written_off", None),
        (3, "money.booked", "Dataset/a"),
        (4, "change.applied", "Dataset/b"),
        (5, "money.booked", "Dataset/a"),
    ]
    assert entries[4]["detail"] == {"run": "run_1", "fees": 41, "payments": 6, "locked": 1}
    log = auditlog.read(auditlog.write(head, entries))
    assert all(one.ok for one in auditlog.check(log)), log.faults
    assert (head.lineage, head.entries) == ("kept", 5)


def test_a_commit_that_fails_leaves_no_entry_and_no_gap(tmp_path: Path) -> None:
    ledger, _ = open_ledger(tmp_path / "ledger.db")
    try:
        with ledger.begin() as tx:
            tx.note(None, NOW, "lost", {})
            raise RuntimeError
    except RuntimeError:
        pass
    with ledger.begin() as tx:
        tx.note(None, NOW, "kept", {})
        assert [(one["number"], one["event"]) for one in tx.audit_entries()] == [(1, "kept")]
        assert tx.audit_head().entries == 1
    ledger.close()
