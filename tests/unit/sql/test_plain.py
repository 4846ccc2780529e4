"""A ledger in a file is read without the database library, and reads the same."""

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.adapters.clock import SystemEntropy
from reconciler.adapters.sql.ledger import SqlLedger, open_ledger
from reconciler.adapters.sql.plain import PlainLedger, open_store
from reconciler.devnet.clock import VirtualClock
from reconciler.engine.notices import Herald
from reconciler.model.errors import Refused
from reconciler.model.intent import Run, RunState
from reconciler.model.ref import ResourceRef
from reconciler.ports import Ledger, Queue
from tests.contract.test_ledger import coin, record

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0)


def opened(path: Path) -> tuple[PlainLedger | SqlLedger, Queue]:
    return open_store(path, VirtualClock(NOW), SystemEntropy())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with nothing in it."""
    open_ledger(tmp_path / "ledger.db")[0].close()
    return tmp_path / "ledger.db"


def busy(ledger: Ledger, queue: Queue) -> None:
    """Something of everything that a snapshot tells of."""
    with ledger.begin() as tx:
        tx.advance()
        for name in ("a", "b-2", "gone"):
            tx.put_record(record(ResourceRef("Dataset", name)))
        tx.put_record(record(ResourceRef("Identity", "desk")))
        tx.drop_record(ResourceRef("Dataset", "gone"))
        for number, state in enumerate((RunState.OPEN, RunState.DONE, RunState.STALLED, RunState.OPEN)):
            tx.open_run(Run(f"r{number}", f"ref/Dataset/{'ab'[number % 2]}", {}, "1", reserved=100 * number))
            if state is not RunState.OPEN:
                tx.close_run(f"r{number}", state, None)
        tx.open_run(Run("split", "split/devnet", {}, "1", reserved=7))
        tx.put_coin(coin(1, 500))
        tx.put_coin(coin(2, 900))
        tx.put_coin(coin(3, 70, "reserved", "r2"))
        tx.put_coin(coin(4, 80, "reserved", "r0"))
        tx.put_coin(coin(5, 90, chain="test"))
        tx.book("r3", ResourceRef("Dataset", "b-2"), NOW, 20, 5, 1)
        tx.book("r1", ResourceRef("Identity", "desk"), MIDNIGHT - timedelta(seconds=1), 3, 0, 0)
        tx.book("split", None, MIDNIGHT, 2, 0, 0)
        tx.put("budgets", {"day": {"satoshis": 1}})
    assert queue.take("plan", "worker", NOW) is not None
    queue.put("confirm", NOW)


def test_both_ways_read_the_same_snapshot(path: Path) -> None:
    ledger, queue = opened(path)
    assert isinstance(ledger, PlainLedger)
    empty = ledger.read(MIDNIGHT)
    assert empty == ledger.whole.read(MIDNIGHT)
    busy(ledger, queue)
    for today in (MIDNIGHT, NOW, NOW + timedelta(days=1), MIDNIGHT - timedelta(days=1)):
        found = ledger.read(today)
        assert found == ledger.whole.read(today) != empty
        assert list(found.records) == list(ledger.whole.read(today).records)
    found = ledger.read(MIDNIGHT)
    assert (found.spent_today, found.spent_kinds) == (28, {"Dataset": 26})
    assert found.frozen == {ResourceRef("Dataset", "a"), ResourceRef("Dataset", "b")}
    assert found.purses["devnet"].coins == (900, 500, 70) and found.reserved == {ResourceRef("Dataset", "b"): 274}
    assert list(queue.holders(NOW)) == list(ledger.queue.holders(NOW)) and [one.key for one in queue.holders(NOW)] == ["plan"]
    assert queue.holders(NOW + timedelta(days=1)) == []
    for name in ("budgets", "never set"):
        with ledger.view() as view, ledger.whole.view() as other:
            assert view.get(name) == other.get(name)
    ledger.close()


def test_what_another_process_writes_is_read_and_what_stays_is_kept(path: Path) -> None:
    ledger, queue = opened(path)
    busy(ledger, queue)
    before = ledger.read(NOW)
    other, _ = open_ledger(path)
    with other.begin() as tx:
        tx.put_record(record(ResourceRef("Dataset", "a"), generation=2))
        tx.drop_record(ResourceRef("Identity", "desk"))
    other.close()
    after = ledger.read(NOW)
    assert {str(ref): one.generation for ref, one in after.records.items()} == {"Dataset/a": 2, "Dataset/b-2": 1}
    kept = ResourceRef("Dataset", "b-2")
    assert after.records[kept] is before.records[kept]
    ledger.close()


def test_a_change_is_told_to_whoever_the_plain_ledger_was_told_of(path: Path) -> None:
    ledger, _ = opened(path)
    told: list[object] = []

    class Listening(Herald):
        def tell(self, found: object) -> list[object]:  # type: ignore[override]
            told.append(found)
            return []

    ledger.news.herald = Listening(())
    ledger.news.herald.sinks = ("somebody",)  # type: ignore[assignment]
    with ledger.begin() as tx:
        tx.put_record(record())
    assert told and dict(ledger.outbox.pending()) == {}
    ledger.close()


def test_what_is_not_plain_goes_the_long_way(tmp_path: Path, path: Path) -> None:
    fresh, _ = opened(tmp_path / "fresh.db")
    assert isinstance(fresh, SqlLedger)
    fresh.close()
    (tmp_path / "text.db").write_text("no database at all, but longer than a header of one would be" * 20)
    with pytest.raises(Refused, match="cannot use the ledger"):
        opened(tmp_path / "text.db")
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO schema_versions VALUES (99, '0099_future')")
    other.close()
    with pytest.raises(Refused, match="its schema is version 99"):
        opened(path)


def test_a_file_that_goes_bad_is_reported_in_our_words(path: Path) -> None:
    ledger, _ = opened(path)
    with sqlite3.connect(path) as other:
        other.execute("ALTER TABLE counters RENAME TO elsewhere")
    other.close()
    with pytest.raises(Exception, match="cannot use the ledger") as fault:
        ledger.read(NOW)
    assert fault.type.__module__ == "reconciler.model.errors"
    ledger.close()


PLAN = """
import sys
from reconciler.__main__ import main
sys.argv = ["reconciler", "plan", "--no-refresh"]
try:
    main()
finally:
    print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


def test_a_plan_that_finds_nothing_to_do_imports_neither_database_nor_keys_nor_colours(tmp_path: Path) -> None:
    (tmp_path / ".state").mkdir()
    open_ledger(tmp_path / ".state" / "ledger.db")[0].close()
    ran = subprocess.run([sys.executable, "-c", PLAN], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "Nothing to do" in ran.stdout
    heavy = {
        "sqlalchemy",
        "sqlmodel",
        "pydantic",
        "cryptography",
        "rich",
        "pygments",
        "prometheus_client",
        "uvicorn",
        "starlette",
    }
    assert heavy & set(ran.stderr.split()) == set()
