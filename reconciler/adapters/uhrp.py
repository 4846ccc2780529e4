"""UHRP storage hosts over HTTP behind the Storage port.

Putting content on a UHRP host is quote, upload, PUT, find. Payment, if any, happens in `upload`, before a byte is sent;
so a slot that was granted is remembered until the PUT has succeeded, and a second attempt in the same process uses it
instead of paying again. After a crash the host is asked by `find` first, which is the engine's habit anyway. The API takes a file
in one PUT: what was cut off there is sent from its beginning again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote as escape

from reconciler.adapters.copying import size_of
from reconciler.adapters.fetching import fetch
from reconciler.adapters.http import Answer, Http, Request, Sink, host_of, refusal
from reconciler.adapters.secret import bearer
from reconciler.model.canonical import Json
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Conflict, ReconcilerError, Refused, RemoteProtocolError, Unavailable, Uncertain
from reconciler.ports import Hosted, Part
from reconciler.wire import storage as wire
from reconciler.wire.address import origin
from reconciler.wire.uhrp import uhrp_url

# Bytes in flight per read of the file: large enough to be quick, small enough for smooth progress.
CHUNK = 256 * 1024
# The slowest link worth waiting for; a transfer may take this long on top of the common deadline.
SLOWEST = 128 * 1024
TRANSFER_DEADLINE = 60.0
# Bucket hosts hash and list content some time after they took it: asked again after these seconds, half a minute in all.
LISTING_DELAYS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
# A host may dictate headers of the upload, but not who is spoken to or where the body ends.
_NOT_FOR_HOSTS = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "user-agent"}
)

Progress = Callable[[Endpoint, int, int], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Slot:
    """A granted upload: where to, and what it cost."""

    target: wire.UploadTarget
    paid: int


class UhrpHosts:
    """The Storage port on UHRP hosts. `told(host, bytes sent, bytes in all)` is called while content leaves."""

    def __init__(self, http: Http, told: Progress) -> None:
        self._told, self._http = told, http
        self._slots: dict[tuple[str, str], _Slot] = {}

    async def quote(self, host: Endpoint, size: int, retention: int) -> int:
        """What keeping `size` bytes for `retention` minutes would cost, in satoshis."""
        answer = await self._ask(host, "POST", "/quote", wire.offer(size, retention))
        return self._expect(wire.parse_quote(answer.status, answer.body), answer, "get a quote")

    async def put(self, host: Endpoint, sha256: str, path: Path, media_type: str, retention: int, max_payment: int) -> Hosted:
        """Store the file's bytes, for `max_payment` satoshis at most.

        Refused when it would cost more. Uncertain when the host took them but does not list them yet: find, do not pay again.
        """
        size = await asyncio.to_thread(size_of, path)
        slot = self._slots.get((host.url, sha256))
        if slot is None:
            slot = await self._granted(host, sha256, size, retention, max_payment)
        try:
            await self._send(host, slot.target, sha256, path, size, media_type)
        except Unavailable as error:
            if not slot.paid:
                raise
            # Nothing of the content may be there, but money is: that is not "nothing was sent".
            raise Uncertain("upload-paid", error.message, hint="the upload is paid for and will be tried again") from error
        self._slots.pop((host.url, sha256), None)
        for delay in LISTING_DELAYS:
            await self._http.clock.sleep(delay)
            found = await self.find(host, sha256)
            if found is not None:
                return Hosted(found.url, found.location, found.expires, slot.paid)
        raise Uncertain(
            "not-listed", f"cannot find {sha256} on {host.name} although it took the bytes", hint="it may be listed later"
        )

    async def find(self, host: Endpoint, sha256: str) -> Hosted | None:
        """What the host holds of it for us; None when it holds nothing, or nothing that is still paid for."""
        stored = await self._stored(host, sha256)
        return None if stored is None else Hosted(uhrp_url(sha256), _location(host, stored), stored.expires)

    async def check(self, host: Endpoint, sha256: str, part: Part | None = None) -> Mapping[str, Json]:
        """Read it back, or a part of it, and hash it. `ms` is how long the reading took."""
        stored = await self._stored(host, sha256)
        began = self._http.clock.now()
        state = "missing" if stored is None else await self._verify(host, stored, sha256, part)
        expires = 0 if stored is None else stored.expires
        took = max(timedelta(0), self._http.clock.now() - began)
        return {"state": state, "ms": round(took / timedelta(milliseconds=1)), "expires": expires if state != "missing" else 0}

    async def read(self, host: Endpoint, sha256: str) -> bytes | None:
        """A blob small enough for memory, verified by its hash; None when it is not there, or is something else."""
        stored = await self._stored(host, sha256)
        if stored is None:
            return None
        request = Request("GET", _location(host, stored), wire.PROBING, stranger=host.stranger)
        answer = await self._http.send(request, deadline=TRANSFER_DEADLINE)
        if answer.status not in (200, 404, 410):
            raise refusal(answer, f"read {sha256}", self._http.clock)
        content = answer.body if answer.status == 200 else None
        return content if content is not None and hashlib.sha256(content).hexdigest() == sha256 else None

    async def fetch(self, host: Endpoint, sha256: str, place: Path) -> bool:
        """Download it into a file, continuing by range what was cut off; False when it is not there, or is something else."""
        stored = await self._stored(host, sha256)
        if stored is None:
            return False
        url, deadline = _location(host, stored), TRANSFER_DEADLINE + stored.size / SLOWEST

        async def ask(headers: Mapping[str, str], sink: Sink) -> Answer:
            request = Request("GET", url, {**wire.PROBING, **headers}, stranger=host.stranger)
            return await self._http.send(request, deadline=deadline, limit=max(stored.size, CHUNK), sink=sink)

        try:
            answer = await fetch(place, sha256, ask)
        except RemoteProtocolError as error:
            if error.code not in ("wrong-bytes", "too-large"):
                raise
            return False
        if answer is not None and answer.status not in (404, 410):
            raise refusal(answer, f"fetch {sha256[:12]}", self._http.clock)
        return answer is None

    async def renew(self, host: Endpoint, sha256: str, minutes: int, max_payment: int) -> Hosted:
        """Keep it for `minutes` more, for `max_payment` satoshis at most; `expires` is 0 when a host was paid and did not."""
        answer = await self._ask(host, "POST", "/renew", wire.renewal(sha256, minutes), max_payment, irreversible=True)
        done = _renewal(answer)
        if isinstance(done, RemoteProtocolError) and not answer.paid:
            raise done
        if isinstance(done, wire.StorageError) and not answer.paid:
            raise _refused(done, answer, f"keep {sha256[:12]} longer", self._http)
        # Whatever else it said, money has gone there: that has to be told, even where it bought nothing.
        return Hosted(uhrp_url(sha256), "", done.expires if isinstance(done, wire.Renewal) else 0, answer.paid)

    async def release(self, host: Endpoint, sha256: str) -> None:
        """UHRP hosts have no such call: content stays until what was paid for runs out."""
        self._slots.pop((host.url, sha256), None)

    async def _granted(self, host: Endpoint, sha256: str, size: int, retention: int, max_payment: int) -> _Slot:
        price = await self.quote(host, size, retention)
        if price > max_payment:
            raise _too_dear(host, price, max_payment)
        answer = await self._ask(host, "POST", "/upload", wire.offer(size, retention), max_payment, irreversible=True)
        target = self._expect(wire.parse_upload(answer.status, answer.body), answer, "get room for an upload")
        if answer.paid > max_payment:
            raise _too_dear(host, answer.paid, max_payment)
        if host.url.startswith("https:") and not target.url.startswith("https:"):
            raise RemoteProtocolError(f"cannot upload to {host.name}: it wants the bytes in the clear", code="downgrade")
        if any(name.lower() in _NOT_FOR_HOSTS for name in target.headers):
            raise RemoteProtocolError(f"cannot upload to {host.name}: it dictates a header that is not its business")
        slot = self._slots[host.url, sha256] = _Slot(target, answer.paid)
        return slot

    async def _send(self, host: Endpoint, target: wire.UploadTarget, sha256: str, path: Path, size: int, media_type: str) -> None:
        headers = {"content-type": media_type} | {name.lower(): value for name, value in target.headers.items()}
        headers["content-length"] = str(size)
        hashed = hashlib.sha256()
        # A host may name any place for the bytes; only its own, as the operator declared it, is taken on trust.
        elsewhere = host.stranger or origin(target.url) != origin(host.url)
        request = Request("PUT", target.url, headers, self._stream(host, path, size, hashed.update), stranger=elsewhere)
        answer = await self._http.send(request, deadline=TRANSFER_DEADLINE + size / SLOWEST)
        refused = wire.parse_put(answer.status, answer.body)
        if refused is not None:
            if not refused.retry:
                self._slots.pop((host.url, sha256), None)
            raise _refused(refused, answer, "upload", self._http)
        if hashed.hexdigest() != sha256:
            self._slots.pop((host.url, sha256), None)
            raise Conflict("blob-changed", f"cannot store {sha256}: {path} has other bytes by now", hint="plan again")

    async def _stream(self, host: Endpoint, path: Path, size: int, update: Callable[[bytes], None]) -> AsyncIterator[bytes]:
        sent = 0
        with path.open("rb") as stream:
            while block := await asyncio.to_thread(stream.read, CHUNK):
                update(block)
                yield block
                sent += len(block)
                self._told(host, sent, size)

    async def _stored(self, host: Endpoint, sha256: str) -> wire.StoredFile | None:
        answer = await self._ask(host, "GET", wire.find_path(sha256))
        found = wire.parse_find(answer.status, answer.body)
        if found is None:
            return None
        stored = self._expect(found, answer, f"find {sha256}")
        return stored if stored.expires > self._http.clock.now().timestamp() else None

    async def downloads(self, host: Endpoint, sha256: str) -> int | None:
        """How often others have read it there; None of a host that does not count."""
        answer = await self._ask(host, "GET", wire.downloads_path(sha256))
        counted = wire.parse_downloads(answer.status, answer.body)
        return None if counted is None else self._expect(counted, answer, f"count downloads of {sha256[:12]}")

    async def _verify(self, host: Endpoint, stored: wire.StoredFile, sha256: str, part: Part | None) -> str:
        hashed = hashlib.sha256()
        # A host that counts downloads must not count ours: they are no demand.
        headers = wire.PROBING if part is None else {**wire.PROBING, "range": f"bytes={part.start}-{part.stop - 1}"}
        request = Request("GET", _location(host, stored), headers, stranger=host.stranger)
        deadline = TRANSFER_DEADLINE + stored.size / SLOWEST
        try:
            answer = await self._http.send(request, deadline=deadline, limit=max(stored.size, CHUNK), sink=Sink(hashed.update))
        except RemoteProtocolError as error:
            if error.code == "too-large":
                return "corrupt"
            raise
        if answer.status in (404, 410):
            return "missing"
        if part is not None and answer.status == 206:
            return "ok" if hashed.hexdigest() == part.sha256 else "corrupt"
        if part is not None and answer.status == 416:
            return "corrupt"  # it is shorter than it should be
        if answer.status != 200:
            raise refusal(answer, f"read {sha256} back", self._http.clock)
        return "ok" if hashed.hexdigest() == sha256 else "corrupt"

    async def _ask(
        self, host: Endpoint, method: str, path: str, body: Json = None, max_payment: int = 0, *, irreversible: bool = False
    ) -> Answer:
        content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = bearer(host) | ({"content-type": "application/json"} if content else {})
        request = Request(method, host.url.rstrip("/") + path, headers, content, host.options, host.stranger)
        talk = path != "/quote"  # the one call that nobody has to introduce himself for
        return await self._http.send(request, talk=talk, max_payment=max_payment, irreversible=irreversible)

    def _expect(self, answered: T | wire.StorageError, answer: Answer, what: str) -> T:
        if isinstance(answered, wire.StorageError):
            raise _refused(answered, answer, what, self._http)
        return answered


def _refused(error: wire.StorageError, answer: Answer, what: str, http: Http) -> ReconcilerError:
    if not error.code:
        return refusal(answer, what, http.clock)
    message = f"cannot {what}: {host_of(answer.url)} says {error.code}, {error.meaning}"
    if error.retry:
        return Unavailable("storage-trouble", message, hint="it will be tried again")
    return Refused("storage-refused", message, hint="check size, retention and the host's rules")


def _renewal(answer: Answer) -> wire.Renewal | wire.StorageError | RemoteProtocolError:
    try:
        return wire.parse_renew(answer.status, answer.body)
    except RemoteProtocolError as error:
        return error


def _too_dear(host: Endpoint, price: int, limit: int) -> Refused:
    hint = "raise the limit, shorten the retention, or choose another host"
    return Refused("payment-limit", f"cannot store on {host.name}: it asks {price} satoshis, the limit is {limit}", hint=hint)


def _location(host: Endpoint, stored: wire.StoredFile) -> str:
    """The download URL: the name is a path below the host, and can lead nowhere else."""
    return host.url.rstrip("/") + "/" + escape(stored.name.lstrip("/"), safe="/%")
