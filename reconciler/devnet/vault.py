"""Where a storage host keeps bytes: in memory, or as files in a directory."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path

from reconciler.model.errors import Invariant

_CHUNK = 64 * 1024


class TooLong(Exception):
    """More bytes arrived than were announced."""


class Vault:
    """Contents by object id. Object ids are ours, so they are safe as file names."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._memory: dict[str, bytes] = {}
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)

    async def take(self, object_id: str, limit: int, chunks: AsyncIterator[bytes]) -> tuple[str, int]:
        """Keep a stream as it arrives; (SHA-256 hex, size). TooLong beyond `limit`; nothing is kept of a stream that fails."""
        digest, size = hashlib.sha256(), 0
        part = None if self._directory is None else self._directory / f"{object_id}.part"
        buffer = bytearray()
        try:
            with nullcontext() if part is None else part.open("wb") as sink:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise TooLong
                    digest.update(chunk)
                    if sink is None:
                        buffer += chunk
                    else:
                        sink.write(chunk)
        except BaseException:
            if part is not None:
                part.unlink(missing_ok=True)
            raise
        if part is None:
            self._memory[object_id] = bytes(buffer)
        else:
            part.replace(part.with_suffix(""))
        return digest.hexdigest(), size

    def size(self, object_id: str) -> int | None:
        """Bytes held; None when the object is not here."""
        if self._directory is None:
            held = self._memory.get(object_id)
            return None if held is None else len(held)
        path = self._directory / object_id
        return path.stat().st_size if path.exists() else None

    def slice(self, object_id: str, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop`."""
        if self._directory is None:
            return self._memory[object_id][start:stop]
        with (self._directory / object_id).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    async def read(self, object_id: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """The same bytes in pieces."""
        for at in range(start, stop, _CHUNK):
            yield self.slice(object_id, at, min(at + _CHUNK, stop))

    def corrupt(self, object_id: str) -> bool:
        """Flip one bit in the middle; False when there is nothing to flip."""
        size = self.size(object_id)
        if not size:
            return False
        damaged = bytearray(self.slice(object_id, 0, size))
        damaged[size // 2] ^= 1
        if self._directory is None:
            self._memory[object_id] = bytes(damaged)
        else:
            (self._directory / object_id).write_bytes(damaged)
        return True

    def drop(self, object_id: str) -> bool:
        """Lose the bytes; whether they were here."""
        if self._directory is None:
            return self._memory.pop(object_id, None) is not None
        path = self._directory / object_id
        held = path.exists()
        path.unlink(missing_ok=True)
        return held

    def snapshot(self) -> dict[str, bytes]:
        """Everything, when it is in memory; Invariant for a directory, which has no cheap copy."""
        if self._directory is not None:
            raise Invariant("vault-on-disk", "cannot copy a world whose storage hosts keep files", hint="leave out the directory")
        return dict(self._memory)

    def restore(self, contents: dict[str, bytes]) -> None:
        """Hold exactly this."""
        self._memory = dict(contents)
