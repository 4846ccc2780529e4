"""Storage that is a directory: <dir>/<sha256>, for a web server or a mounted disk to serve.

Nothing is paid and nothing expires. The directory must exist: a mount that is not there must not look like an empty host. Where
the Network says under which `publicUrl` the directory is served, that is where buyers are sent.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from reconciler.adapters.copying import Copying, digest, part_of, size_of
from reconciler.engine import heart
from reconciler.model.canonical import Json
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Conflict, Refused, Unavailable
from reconciler.ports import Clock, Hosted, Part
from reconciler.wire.uhrp import uhrp_url

# 9999-12-31T23:59:59Z: a directory forgets nothing, and dates end there.
NEVER = 253_402_300_799

Progress = Callable[[Endpoint, int, int], None]


class Shelves:
    """The Storage port on directories."""

    def __init__(self, clock: Clock, told: Progress) -> None:
        self._clock, self._told = clock, told

    async def quote(self, host: Endpoint, size: int, retention: int) -> int:
        """Room in a directory costs nothing."""
        return 0

    async def put(self, host: Endpoint, sha256: str, path: Path, media_type: str, retention: int, max_payment: int) -> Hosted:
        """Copy the file's bytes in, whole or not at all; what an interrupted copy left is gone on with."""
        place = _place(host, sha256)
        try:
            await asyncio.to_thread(size_of, path)
            await self._copy(host, sha256, path, place)
        except OSError as error:
            raise Unavailable("shelf", f"cannot write to {host.name}: {error.strerror}", hint=f"check {place.parent}") from error
        return _hosted(host, sha256)

    async def _copy(self, host: Endpoint, sha256: str, source: Path, place: Path) -> None:
        copying = await asyncio.to_thread(Copying, source, place, sha256, 0o644)  # content on a host is public
        with copying:
            if await asyncio.to_thread(copying.settled):
                return
            while await asyncio.to_thread(copying.step):
                heart.beat()
                self._told(host, copying.done, copying.size)
        self._told(host, copying.size, copying.size)

    async def find(self, host: Endpoint, sha256: str) -> Hosted | None:
        """Where it stands, if something stands there."""
        return _hosted(host, sha256) if _place(host, sha256).is_file() else None

    async def check(self, host: Endpoint, sha256: str, part: Part | None = None) -> Mapping[str, Json]:
        """Read all of it or a part, and hash that."""
        place, began = _place(host, sha256), self._clock.now()
        span = (0, None) if part is None else (part.start, part.stop)
        try:
            sound = await asyncio.to_thread(digest, place, *span) == (sha256 if part is None else part.sha256)
        except FileNotFoundError:
            return {"state": "missing", "ms": 0, "expires": 0}
        except OSError as error:
            raise Unavailable("shelf", f"cannot read {place}: {error.strerror}") from error
        took = max(timedelta(0), self._clock.now() - began)
        return {"state": "ok" if sound else "corrupt", "ms": round(took / timedelta(milliseconds=1)), "expires": NEVER}

    async def read(self, host: Endpoint, sha256: str) -> bytes | None:
        """A small blob, if it stands there undamaged."""
        place = _place(host, sha256)
        try:
            content = await asyncio.to_thread(place.read_bytes)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable("shelf", f"cannot read {place}: {error.strerror}") from error
        return content if hashlib.sha256(content).hexdigest() == sha256 else None

    async def fetch(self, host: Endpoint, sha256: str, place: Path) -> bool:
        """Copy it to a place of ours, going on where an earlier attempt stopped; False when it is not there or is damaged."""
        source = _place(host, sha256)
        try:
            if not source.is_file():
                return False
            place.parent.mkdir(parents=True, exist_ok=True)
            copying = await asyncio.to_thread(Copying, source, place, sha256)
            with copying:
                while await asyncio.to_thread(copying.step):
                    heart.beat()
        except Conflict:
            return False
        except OSError as error:
            raise Unavailable("shelf", f"cannot copy from {host.name}: {error.strerror}", hint="make room, or mend it") from error
        return True

    async def downloads(self, host: Endpoint, sha256: str) -> int | None:
        """A directory does not count."""
        return None

    async def renew(self, host: Endpoint, sha256: str, minutes: int, max_payment: int) -> Hosted:
        """A directory keeps everything for ever, for nothing."""
        return _hosted(host, sha256)

    async def release(self, host: Endpoint, sha256: str) -> None:
        """Take it down, and what an interrupted copy left; nothing when it is not there."""
        place = _place(host, sha256)
        try:
            place.unlink(missing_ok=True)
            part_of(place).unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable("shelf", f"cannot remove {sha256} from {host.name}: {error.strerror}") from error


def _hosted(host: Endpoint, sha256: str) -> Hosted:
    public = host.options.get("publicUrl")
    return Hosted(uhrp_url(sha256), f"{public}/{sha256}" if public else _place(host, sha256).as_uri(), NEVER)


def _place(host: Endpoint, sha256: str) -> Path:
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise Refused("bad-digest", f"cannot use {sha256[:80]!r} as a digest", hint="write SHA-256 in lower-case hex")
    parts = urlsplit(host.url)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise Refused("bad-url", f"cannot use {host.url} as a directory", hint="write file:///path, or an absolute path")
    directory = Path(unquote(parts.path) if parts.scheme else host.url)
    if not directory.is_dir():
        raise Unavailable("shelf", f"cannot use {host.name}: {directory} is not a directory", hint="mount or create it")
    return directory / sha256
