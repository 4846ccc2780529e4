"""The disk under the ledger and the blobs: commits that find it full, commits that a power cut tears, files half written.

A full disk is the driver's own error, raised where SQLite raises it, so that the product translates it. A power cut is an image:
the database as it stood, with the write-ahead log as far as the platter got it. Frames of the last commit are cut at a byte.
"""

from __future__ import annotations

import contextlib
import errno
import random
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from reconciler.adapters.blobs import BlobDirectory
from reconciler.adapters.sql.dialect import Database
from reconciler.adapters.sql.ledger import SqlLedger
from reconciler.adapters.sql.plain import PlainLedger
from reconciler.ports import Ledger
from tests.simulator.life import Killed, Life

_SIDE = ("-wal", "-shm")


class PowerCut(Killed):
    """Every process of the machine ends at this commit."""


@dataclass(slots=True)
class Disk:
    """What the disk does. `full` is the share of writes that find no room; `tear` cuts the power in one of the next commits."""

    database: Path
    random: random.Random
    full: float = 0.0
    tear: int | None = None
    image: tuple[bytes, bytes] | None = None
    refused: int = 0
    torn: int = 0
    on_cut: Callable[[], None] = field(default=lambda: None)

    def room(self) -> bool:
        """Whether the next write fits."""
        fits = not self.full or self.random.random() >= self.full
        self.refused += not fits
        return fits

    def calm(self) -> None:
        """Room for everything, power for ever."""
        self.full, self.tear = 0.0, None

    def before(self) -> bytes | None:
        """The log before a commit, when this is the one that will be torn."""
        if self.tear is None or self.image is not None:
            return None
        self.tear -= 1
        return self._read("-wal") if self.tear <= 0 else None

    def cut(self, log: bytes) -> None:
        """The power fails while the commit is being written: of the bytes that changed, some reached the disk."""
        now = self._read("-wal")
        same = next((at for at, (a, b) in enumerate(zip(log, now, strict=False)) if a != b), min(len(log), len(now)))
        torn = self.random.randrange(same, len(now)) if len(now) > same else len(now)
        self.image = (self._read(""), now[:torn] + log[torn:])
        self.torn += 1
        self.on_cut()

    def restore(self) -> None:
        """After every process has ended: the files as the power cut left them."""
        if self.image is None:
            return
        for side in _SIDE:
            Path(f"{self.database}{side}").unlink(missing_ok=True)
        self.database.write_bytes(self.image[0])
        Path(f"{self.database}-wal").write_bytes(self.image[1])
        self.image, self.tear = None, None

    def _read(self, side: str) -> bytes:
        path = Path(f"{self.database}{side}")
        return path.read_bytes() if path.exists() else b""


def database_of(ledger: Ledger) -> Database:
    """What a ledger writes to."""
    whole = ledger.whole if isinstance(ledger, PlainLedger) else ledger
    assert isinstance(whole, SqlLedger)
    return whole._database


def mortal(database: Database, life: Life, disk: Disk) -> None:
    """Let this process's commits be steps of its life, on that disk."""
    real = database.write

    @contextlib.contextmanager
    def write() -> Iterator[Connection]:
        life.require()
        log = None
        with real() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            changes = raw.total_changes
            yield connection
            wrote = raw.total_changes != changes
            if wrote:
                life.step("before a commit")
                if not disk.room():
                    raise _disk_full()
                log = disk.before()
        if log is not None:
            disk.cut(log)
            raise PowerCut
        if wrote:
            life.step("after a commit")

    database.write = write  # type: ignore[method-assign]


def _disk_full() -> OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return OperationalError("COMMIT", {}, error)


class MortalBlobs(BlobDirectory):
    """Blobs on that disk: a kill leaves half a file under a name that nothing reads."""

    def __init__(self, root: Path, life: Life, disk: Disk) -> None:
        super().__init__(root)
        self._life, self._disk = life, disk

    def _write_to(self, place: Path, blocks: Iterable[bytes], sha256: str) -> None:
        whole = b"".join(blocks)
        if not self._disk.room():
            raise OSError(errno.ENOSPC, "No space left on device")
        try:
            self._life.step("before a file")
        except Killed:
            place.parent.mkdir(parents=True, exist_ok=True)
            (place.parent / f".new-{self._life.name}").write_bytes(whole[: len(whole) // 2])
            raise
        # The rename is what counts; the engine's own fsyncs are of the machine, and this machine is a story.
        super()._write_to(place, (whole,), sha256)
        self._life.step("after a file")
