"""The Storage port: every host is spoken to as its kind asks, and nobody above this line knows the difference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from reconciler.adapters.http import Http
from reconciler.adapters.s3 import Buckets
from reconciler.adapters.shelf import Shelves
from reconciler.adapters.uhrp import UhrpHosts
from reconciler.hosts import Storage
from reconciler.model.canonical import Json
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused
from reconciler.ports import Hosted, Part

Progress = Callable[[str, int, int], None]


class StorageHosts:
    """Storage hosts of every kind. `on_progress(host name, bytes sent, bytes in all)` is called while content leaves."""

    def __init__(self, http: Http, on_progress: Progress | None = None) -> None:
        self.on_progress = on_progress
        uhrp = UhrpHosts(http, self._told)
        # A host without a kind speaks the API that storage hosts of the overlay share.
        self._stores: Mapping[str, Storage] = {
            "": uhrp,
            "uhrp": uhrp,
            "filesystem": Shelves(http.clock, self._told),
            "s3": Buckets(http, self._told),
        }

    def _told(self, host: Endpoint, sent: int, total: int) -> None:
        if self.on_progress is not None:
            self.on_progress(host.name, sent, total)

    def _of(self, host: Endpoint) -> Storage:
        store = self._stores.get(host.kind)
        if store is None:
            raise Refused(
                "storage-kind",
                f"cannot store on {host.name}: hosts of kind {host.kind!r} are not served",
                hint="use uhrp, filesystem or s3",
            )
        return store

    async def quote(self, host: Endpoint, size: int, retention: int) -> int:
        """What keeping `size` bytes for `retention` minutes would cost, in satoshis."""
        return await self._of(host).quote(host, size, retention)

    async def put(self, host: Endpoint, sha256: str, path: Path, media_type: str, retention: int, max_payment: int) -> Hosted:
        """Store the file's bytes, for `max_payment` satoshis at most, going on with what an interrupted attempt left."""
        return await self._of(host).put(host, sha256, path, media_type, retention, max_payment)

    async def find(self, host: Endpoint, sha256: str) -> Hosted | None:
        """What the host holds of it for us."""
        return await self._of(host).find(host, sha256)

    async def check(self, host: Endpoint, sha256: str, part: Part | None = None) -> Mapping[str, Json]:
        """Read it back, or a part of it, and hash that."""
        return await self._of(host).check(host, sha256, part)

    async def read(self, host: Endpoint, sha256: str) -> bytes | None:
        """A blob small enough for memory, verified by its hash; None when it is not there, or is something else."""
        return await self._of(host).read(host, sha256)

    async def fetch(self, host: Endpoint, sha256: str, place: Path) -> bool:
        """A blob of any size, into a file of ours."""
        return await self._of(host).fetch(host, sha256, place)

    async def downloads(self, host: Endpoint, sha256: str) -> int | None:
        """How often others have read it there; None of a host that does not count."""
        return await self._of(host).downloads(host, sha256)

    async def renew(self, host: Endpoint, sha256: str, minutes: int, max_payment: int) -> Hosted:
        """Keep it for `minutes` more, for `max_payment` satoshis at most; `expires` is 0 when a host was paid and did not."""
        return await self._of(host).renew(host, sha256, minutes, max_payment)

    async def release(self, host: Endpoint, sha256: str) -> None:
        """Remove it where that is possible."""
        await self._of(host).release(host, sha256)
