"""Downloads into files: constant memory, continued by range where they were cut off, there only once their hash is right."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from reconciler.adapters.copying import BLOCK, Partial
from reconciler.adapters.http import Answer, Sink
from reconciler.model.errors import RemoteProtocolError, Unavailable

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")
# Asks for the bytes from an offset on, and has them written into the sink.
Ask = Callable[[Mapping[str, str], Sink], Awaitable[Answer]]


class _Arriving:
    """The end of a partial file that an answer is written to and hashed with what was there before it."""

    def __init__(self, partial: Partial) -> None:
        self.partial, self.had = partial, os.fstat(partial.handle).st_size
        self.hashed, at = hashlib.sha256(), 0
        while block := os.pread(partial.handle, BLOCK, at):
            self.hashed.update(block)
            at += len(block)

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Where the bytes that come now belong: behind what we have, or, of a host that knows no ranges, at the beginning."""
        if status == 206:
            told = _CONTENT_RANGE.match(headers.get("content-range", ""))
            if told is None or int(told[1]) != self.had:
                raise RemoteProtocolError("cannot use the part that was sent: it is not the one that was asked for")
        else:
            self.had, self.hashed = 0, hashlib.sha256()
        self.partial.cut(self.had)

    def write(self, block: bytes) -> None:
        """The next bytes."""
        self.partial.write(block)
        self.hashed.update(block)


async def fetch(place: Path, sha256: str, ask: Ask) -> Answer | None:
    """Bring the blob to `place`; the answer where it was another than 200 or 206, None once the file is there and right.

    RemoteProtocolError("wrong-bytes") when something else was sent: what came of it is thrown away.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = await asyncio.to_thread(Partial, place)
        try:
            return await _continued(partial, sha256, ask)
        finally:
            partial.close()
    except OSError as error:
        raise Unavailable("disk", f"cannot keep {place}: {error.strerror}", hint="make room, or mend the disk") from error


async def _continued(partial: Partial, sha256: str, ask: Ask) -> Answer | None:
    arriving = await asyncio.to_thread(_Arriving, partial)
    had = arriving.had
    # An earlier attempt may have brought everything but the name.
    if not had or arriving.hashed.hexdigest() != sha256:
        answer = await ask({"range": f"bytes={had}-"} if had else {}, Sink(arriving.write, arriving.begin))
        if answer.status == 416:
            partial.discard()
            raise RemoteProtocolError(
                f"cannot use the download of {sha256[:12]}: it is shorter than it should be", code="wrong-bytes"
            )
        if answer.status not in (200, 206):
            if not had:
                partial.discard()
            return answer
    if arriving.hashed.hexdigest() == sha256:
        await asyncio.to_thread(partial.finish, 0o600)
        return None
    if arriving.had:
        # Perhaps it was our own beginning that was damaged: the host is judged by what it sends alone.
        partial.cut(0)
        return await _continued(partial, sha256, ask)
    partial.discard()
    raise RemoteProtocolError(f"cannot use the download of {sha256[:12]}: it is something else", code="wrong-bytes")
