"""A store that is open here is left whole by whoever opens and closes it elsewhere."""

import subprocess
import sys
from pathlib import Path

from reconciler.adapters.clock import SystemClock, SystemEntropy
from reconciler.adapters.sql.plain import open_store

# As any command does that reads the ledger of a running daemon: open, ask, close.
ELSEWHERE = """\
import sqlite3, sys
sql = sqlite3.connect(sys.argv[1])
print([value for (value,) in sql.execute("SELECT value FROM cursors WHERE name = 'word'")])
sql.close()
"""


def elsewhere(path: Path) -> str:
    return subprocess.run([sys.executable, "-c", ELSEWHERE, str(path)], capture_output=True, text=True, check=True).stdout.strip()


def test_what_is_written_here_is_seen_elsewhere_however_often_the_store_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    made, _ = open_store(path, SystemClock(), SystemEntropy())
    made.close()
    # Read plainly first, then through the library, as the daemon does: two ways into one file, in one process.
    ledger, queue = open_store(path, SystemClock(), SystemEntropy())
    try:
        with ledger.view() as view:
            assert view.get("word") is None
        for word in ("one", "two"):
            with ledger.begin() as tx:
                tx.put("word", word)
            assert elsewhere(path) == f"['\"{word}\"']"
        assert queue.holders(SystemClock().now()) == []
        assert (path.with_name("ledger.db-wal")).exists(), "another process took the journal away"
    finally:
        ledger.close()
