"""Local files copied in steps: constant memory, and a copy that was cut off goes on where it stopped.

The unfinished copy stands beside its place as `.part-<sha256>`, which nothing else reads. It is its own journal: whoever goes on
compares it with the source block by block and keeps what agrees, so that neither a killed process nor a lost page costs more than
what is missing. It counts once it is whole: hashed, fsynced, renamed, and its directory fsynced.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from pathlib import Path
from types import TracebackType

from reconciler.engine import heart
from reconciler.model.errors import Conflict

# Bytes in memory at a time.
BLOCK = 1024 * 1024
PREFIX = ".part-"


def sync_directory(path: Path) -> None:
    """Make renames inside a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def part_of(place: Path) -> Path:
    """Where the unfinished copy of a place stands."""
    return place.with_name(PREFIX + place.name)


def size_of(path: Path) -> int:
    """Bytes of a file that is to be stored; Conflict when it is gone."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise Conflict("blob-missing", f"cannot store {path}: {error.strerror}", hint="plan again") from error


def digest(path: Path, start: int = 0, stop: int | None = None) -> str:
    """SHA-256 of a file's bytes from `start` up to `stop`, or to its end, in hex."""
    hashed = hashlib.sha256()
    with path.open("rb") as stream:
        stream.seek(start)
        left = -1 if stop is None else max(0, stop - start)
        while block := stream.read(BLOCK if left < 0 else min(BLOCK, left)):
            hashed.update(block)
            heart.beat()
            left = left if left < 0 else left - len(block)
    return hashed.hexdigest()


class Partial:
    """The unfinished copy, open and locked: two processes never write one."""

    def __init__(self, place: Path) -> None:
        """Waits while another process writes the same copy."""
        self.place, self.path = place, part_of(place)
        while True:
            self.handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            fcntl.flock(self.handle, fcntl.LOCK_EX)
            # Whoever held the lock before may have renamed or removed the very file that was opened here.
            if self.path.exists() and os.fstat(self.handle).st_ino == self.path.stat().st_ino:
                return
            os.close(self.handle)

    def cut(self, size: int) -> None:
        """Keep the first `size` bytes, and go on behind them."""
        os.ftruncate(self.handle, size)
        os.lseek(self.handle, size, os.SEEK_SET)

    def write(self, block: bytes) -> None:
        """All of the block."""
        view = memoryview(block)
        while view:
            view = view[os.write(self.handle, view) :]

    def finish(self, mode: int) -> None:
        """It is whole and right: make it durable and let it count."""
        os.fchmod(self.handle, mode)
        os.fsync(self.handle)
        self.path.rename(self.place)
        sync_directory(self.place.parent)

    def discard(self) -> None:
        """It is of no use to whoever comes next."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it; what is there stays for whoever goes on."""
        os.close(self.handle)


class Copying:
    """One copy under way; `step` until it is done. The bytes must have the promised hash, or they never come to count."""

    def __init__(self, source: Path, place: Path, sha256: str, mode: int = 0o600) -> None:
        self.sha256, self.mode = sha256, mode
        # `done` bytes are in place, of which `kept` were there from an earlier attempt.
        self.done = self.kept = 0
        self._from = source.open("rb")
        try:
            self._to = Partial(place)
        except BaseException:
            self._from.close()
            raise
        self.size = os.fstat(self._from.fileno()).st_size
        self._hashed = hashlib.sha256()
        self._comparing = True

    def settled(self) -> bool:
        """Whether the place holds the promised bytes already, perhaps from another process that was waited for."""
        if not self._to.place.is_file() or digest(self._to.place) != self.sha256:
            return False
        self._to.discard()
        self.done = self.kept = self.size
        return True

    def step(self, amount: int = 8 * BLOCK) -> bool:
        """Bring about `amount` bytes more; False once the copy counts. Conflict when the source is something else by now."""
        stop = self.done + amount
        while self.done < stop:
            block = self._from.read(BLOCK)
            if not block:
                self._finish()
                return False
            self._hashed.update(block)
            if not self._comparing or not self._agrees(block):
                self._to.write(block)
            else:
                self.kept += len(block)
            self.done += len(block)
        return True

    def _agrees(self, block: bytes) -> bool:
        """Whether an earlier attempt left this very block; from the first that differs on, everything is written anew."""
        if os.pread(self._to.handle, len(block), self.done) == block:
            return True
        self._comparing = False
        self._to.cut(self.done)
        return False

    def _finish(self) -> None:
        if self._hashed.hexdigest() != self.sha256:
            self._to.discard()
            found = f"{self._from.name} has other bytes by now, with digest {self._hashed.hexdigest()}"
            raise Conflict("blob-changed", f"cannot store {self.sha256}: {found}", hint="plan again")
        if self._comparing:
            self._to.cut(self.done)
        self._to.finish(self.mode)

    def __enter__(self) -> Copying:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            self._to.discard()  # a full disk needs the room more than the next attempt needs the bytes
        self._from.close()
        self._to.close()
