"""What the journal costs: commits of one intent through the ledger, beside bare sqlite3 commits of the same row.

Both databases stand in the same directory with the same pragmas, and the two kinds of commit alternate, so
that whatever else the disk is doing hits both alike. Also: reading a ledger of many records, cold and warm.

    python bench/journal.py [commits] [records]
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from reconciler.adapters.sql.ledger import SqlLedger, open_ledger
from reconciler.model.intent import Intent, IntentState, Run
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.model.status import Condition, Status, Truth

NOW = datetime(2026, 1, 2, tzinfo=UTC)
KEY = "ref/Dataset/bench"
ROW = ("run", 0, "Broadcast", "f" * 64, "open", "{}", 1)


def seconds(act: Callable[[], None]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def quantile(values: list[float], share: float) -> float:
    """Milliseconds below which that share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] * 1e3


def bare(path: Path) -> sqlite3.Connection:
    raw = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        raw.execute(f"PRAGMA {pragma}")
    raw.execute("CREATE TABLE intents (run, seq, effect, fingerprint, state, result, fence, PRIMARY KEY (run, seq))")
    return raw


def commits(directory: Path, count: int) -> dict[str, list[float]]:
    """Latencies in seconds of alternating commits."""
    ledger, queue = open_ledger(directory / "ledger.db")
    lease = queue.take(KEY, "bench", NOW)
    assert lease is not None
    with ledger.begin() as tx:
        tx.open_run(Run("run", KEY, {}, "bench"))
    raw, taken = bare(directory / "raw.db"), {"ledger": [], "sqlite3": []}

    def ours(seq: int) -> None:
        with ledger.begin() as tx:
            tx.check_fence(KEY, lease.fence)
            tx.open_intent(Intent("run", seq, "Broadcast", "f" * 64, IntentState.OPEN, fence=lease.fence))

    def theirs(seq: int) -> None:
        raw.execute("BEGIN IMMEDIATE")
        raw.execute("INSERT INTO intents VALUES (?, ?, ?, ?, ?, ?, ?)", ("run", seq, *ROW[2:]))
        raw.execute("COMMIT")

    for seq in range(count):
        taken["ledger"].append(seconds(lambda seq=seq: ours(seq)))
        taken["sqlite3"].append(seconds(lambda seq=seq: theirs(seq)))
    raw.close()
    ledger.close()
    return {name: values[count // 10 :] for name, values in taken.items()}


def example(number: int) -> Record:
    files = [{"path": f"data/{number}.csv", "size": 12345, "sha256": f"{number:064x}", "mediaType": "text/csv"}]
    spec = {"identityRef": "me", "title": f"Set {number}", "tags": ["a", "b"], "price": 5000, "license": "commercial"}
    outputs = {
        "tokens": [{"outpoint": f"{number:064x}.0", "topic": "tm_producer", "script": "00" * 200}],
        "files": files, "version": 1, "replicas": {"eu1": {files[0]["sha256"]: {"location": "https://eu1.example/x"}}},
    }  # fmt: skip
    ready = tuple(Condition(kind, Truth.TRUE, "Published", "1 file", 1, NOW) for kind in ("Ready", "Confirmed"))
    body = {"spec": spec, "files": files, "using": {"Identity/me": {"publicKey": "02" + "ab" * 32}}}
    ref = ResourceRef("Dataset", f"set-{number}")
    return Record(ref, f"uid-{number}", 1, body, outputs, (ResourceRef("Identity", "me"),), Status(1, ready))


def reads(directory: Path, count: int) -> dict[str, float]:
    """Seconds for a cold read, a warm one, and one after a single record changed in another process."""
    writer, _ = open_ledger(directory / "records.db")
    with writer.begin() as tx:
        for number in range(count):
            tx.put_record(example(number))
    reader: SqlLedger = open_ledger(directory / "records.db")[0]
    found = {name: seconds(lambda: reader.read(NOW)) for name in ("cold", "warm")}
    with writer.begin() as tx:
        tx.put_record(example(0))
    found["one changed"] = seconds(lambda: reader.read(NOW))
    assert len(reader.read(NOW).records) == count
    writer.close()
    reader.close()
    return found


def main() -> None:
    """Print both measurements."""
    count, records = (int(given) for given in (*sys.argv[1:], "2000", "10000")[:2])
    with tempfile.TemporaryDirectory() as directory:
        taken = commits(Path(directory), count)
        print(f"commit of one intent, fsynced, {count} alternating commits     p50 ms   p99 ms")
        for name, values in taken.items():
            print(f"  {name:<56}{quantile(values, 0.5):>9.3f}{quantile(values, 0.99):>9.3f}")
        ratios = [quantile(taken["ledger"], share) / quantile(taken["sqlite3"], share) for share in (0.5, 0.99)]
        print(f"  {'ratio ledger / sqlite3':<56}{ratios[0]:>9.2f}{ratios[1]:>9.2f}")
        print(f"reading {records} records")
        for name, taken_seconds in reads(Path(directory), records).items():
            print(f"  {name:<56}{taken_seconds * 1e3:>9.1f} ms")


if __name__ == "__main__":
    main()
