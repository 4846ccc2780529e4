"""The content store on disk: <dir>/<aa>/<sha256>, each file complete or absent.

A blob is written beside its place, fsynced, and renamed; then its directory is fsynced. A crash leaves at most a file
whose name begins with `.new-`, which nothing reads, or with `.part-`, with which the next attempt goes on.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from reconciler.adapters.copying import Copying, sync_directory
from reconciler.engine import heart
from reconciler.model.errors import Conflict, Refused, Unavailable

_HEX = frozenset("0123456789abcdef")


class BlobDirectory:
    """Blobs by SHA-256, readable by their owner only."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, content: bytes) -> str:
        """Keep the bytes durably; their digest."""
        sha256 = hashlib.sha256(content).hexdigest()
        if not self.has(sha256):
            self._write((content,), sha256)
        return sha256

    def adopt(self, path: Path, sha256: str) -> None:
        """Copy a file in, going on where an earlier attempt stopped; Conflict when it is gone or has other bytes by now."""
        if self.has(sha256):
            return
        try:
            path.open("rb").close()
        except OSError as error:
            raise Conflict("blob-source", f"cannot copy {path}: {error.strerror}", hint="plan again") from error
        place = self.path(sha256)
        try:
            self._make_room(place)
            with Copying(path, place, sha256) as copying:
                going = not copying.settled()
                while going:
                    going = copying.step()
                    heart.beat()
        except OSError as error:
            raise _unkept(place, error) from error

    def keep(self, blocks: Iterable[bytes], sha256: str) -> None:
        """Keep a stream of bytes; Conflict when they are not those that were promised."""
        if not self.has(sha256):
            self._write(blocks, sha256)

    def get(self, sha256: str) -> bytes:
        """The bytes, hashed again on the way out; Conflict when the disk changed them, Refused when they were never here."""
        path = self.path(sha256)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            content = None
        if content is None:
            raise Refused("blob-missing", f"cannot find blob {sha256} in {self.root}", hint="apply again to make it anew")
        if hashlib.sha256(content).hexdigest() != sha256:
            raise Conflict(
                "blob-corrupt", f"cannot use blob {path}: its bytes are no longer what they were", hint=f"remove {path}"
            )
        return content

    def path(self, sha256: str) -> Path:
        """Where the blob stands or would stand; Refused on anything that is not a digest."""
        if len(sha256) != 64 or not _HEX.issuperset(sha256):
            raise Refused("bad-digest", f"cannot use {sha256[:80]!r} as a digest", hint="write SHA-256 in lower-case hex")
        return self.root / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        """Whether a whole blob stands there; its bytes are proven by `get`."""
        return self.path(sha256).is_file()

    def _write(self, blocks: Iterable[bytes], sha256: str) -> None:
        place = self.path(sha256)
        try:
            self._write_to(place, blocks, sha256)
        except OSError as error:
            raise _unkept(place, error) from error

    def _make_room(self, place: Path) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not place.parent.is_dir():
            place.parent.mkdir(mode=0o700, exist_ok=True)
            sync_directory(self.root)

    def _write_to(self, place: Path, blocks: Iterable[bytes], sha256: str) -> None:
        self._make_room(place)
        handle, name = tempfile.mkstemp(prefix=".new-", dir=place.parent)
        try:
            total = hashlib.sha256()
            with os.fdopen(handle, "wb") as stream:
                for block in blocks:
                    total.update(block)
                    stream.write(block)
                stream.flush()
                os.fsync(stream.fileno())
            if total.hexdigest() != sha256:
                raise Conflict(
                    "blob-changed", f"cannot keep {sha256}: the bytes have digest {total.hexdigest()}", hint="plan again"
                )
            Path(name).rename(place)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_directory(place.parent)


def _unkept(place: Path, error: OSError) -> Unavailable:
    return Unavailable("disk", f"cannot keep {place}: {error.strerror}", hint="make room, or mend the disk")
