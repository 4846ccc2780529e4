"""Buckets of S3-compatible object stores behind the Storage port: one object per content hash, large ones in parts.

An upload in parts that was cut off is found again by listing the bucket's unfinished uploads of that object; parts that the store
has and whose entity tag is the MD5 of our bytes are not sent again. An upload cut into parts of another size is put away. None of
this is believed in the end: the engine reads the whole copy back and hashes it. The store keeps everything until it is released;
what the bucket costs is between its owner and the store.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from reconciler.adapters.copying import BLOCK, size_of
from reconciler.adapters.fetching import fetch
from reconciler.adapters.http import DEADLINE, MAX_ANSWER, Answer, Http, Request, Sink, host_of, refusal
from reconciler.adapters.secret import token
from reconciler.adapters.shelf import NEVER
from reconciler.model.canonical import Json
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Conflict, ReconcilerError, Refused, RemoteProtocolError, Unavailable
from reconciler.ports import Hosted, Part
from reconciler.wire import s3 as wire
from reconciler.wire.uhrp import uhrp_url

CHUNK = 256 * 1024
# As with other hosts: the slowest link worth waiting for, on top of a deadline for the exchange itself.
SLOWEST = 128 * 1024
TRANSFER_DEADLINE = 60.0
# Putting ten thousand parts together takes stores a while.
COMPLETION_DEADLINE = 600.0
# Content is public and never changes under its name.
_CACHE = "public, max-age=31536000, immutable"
# What only a person can mend, by the code that the store gives.
_HINTS = {
    "AccessDenied": "let the key read, write, list uploads and delete in this bucket",
    "InvalidAccessKeyId": "check s3.accessKeyId of the Network",
    "SignatureDoesNotMatch": "check s3.secretKey and s3.region of the Network",
    "AuthorizationHeaderMalformed": "check s3.region of the Network",
    "NoSuchBucket": "make the bucket, or correct its address in the Network",
    "RequestTimeTooSkewed": "set the clock of this machine",
}

Progress = Callable[[Endpoint, int, int], None]


@dataclass(frozen=True, slots=True)
class _Read:
    """Some bytes of our file: their SHA-256 in hex, and their MD5 where an entity tag is to be compared with it."""

    sha256: str
    md5: str


@dataclass(frozen=True, slots=True)
class _Body:
    """What is sent: bytes, or a span of a file."""

    sha256: str
    size: int
    content: bytes | AsyncIterator[bytes]


_NOTHING = _Body(wire.EMPTY, 0, b"")


class Buckets:
    """The Storage port on object stores. `told(host, bytes sent, bytes in all)` is called while content leaves."""

    def __init__(self, http: Http, told: Progress) -> None:
        self._http, self._told = http, told

    async def quote(self, host: Endpoint, size: int, retention: int) -> int:
        """Nothing is paid in satoshis; the bucket is asked whether it is there, which tells its pace."""
        await self._ask(host, "HEAD", "")
        return 0

    async def find(self, host: Endpoint, sha256: str) -> Hosted | None:
        """Where it stands, if something stands there."""
        answer = await self._ask(host, "HEAD", _name(host, sha256))
        if answer.status == 404:
            return None
        self._require(answer, f"find {sha256[:12]}")
        return _hosted(host, sha256)

    async def put(self, host: Endpoint, sha256: str, path: Path, media_type: str, retention: int, max_payment: int) -> Hosted:
        """Send the file, in parts where it is large, without those that an earlier attempt brought there."""
        size = await asyncio.to_thread(size_of, path)
        name, headers = _name(host, sha256), {"content-type": media_type, "cache-control": _CACHE}
        cut = wire.spans(size, wire.part_size(size, int(host.options.get("partSize") or wire.USUAL_PART)))
        if len(cut) > 1:
            await self._put_parts(host, name, sha256, path, headers, cut)
            return _hosted(host, sha256)
        read = await asyncio.to_thread(_read, path, 0, size, hashlib.sha256())
        if read.sha256 != sha256:
            raise _changed(sha256, path)
        body = _Body(sha256, size, self._stream(host, path, (0, size), size))
        self._require(await self._ask(host, "PUT", name, headers=headers, body=body), f"store {sha256[:12]}")
        return _hosted(host, sha256)

    async def _put_parts(
        self, host: Endpoint, name: str, sha256: str, path: Path, headers: Mapping[str, str], cut: Sequence[tuple[int, int]]
    ) -> None:
        upload, listed = await self._upload(host, name, headers, cut)
        whole, size, etags = hashlib.sha256(), cut[-1][1], []
        for number, span in enumerate(cut, 1):
            read = await asyncio.to_thread(_read, path, *span, whole, number in listed)
            if listed.get(number) != read.md5:
                body = _Body(read.sha256, span[1] - span[0], self._stream(host, path, span, size))
                answer = await self._ask(host, "PUT", name, {"partNumber": str(number), "uploadId": upload}, body=body)
                self._require(answer, f"store part {number} of {sha256[:12]}")
                etags.append(_etag(answer))
            else:
                etags.append(read.md5)
                self._told(host, span[1], size)
        if whole.hexdigest() != sha256:
            await self._abort(host, name, upload)
            raise _changed(sha256, path)
        content = wire.completion(etags)
        body = _Body(hashlib.sha256(content).hexdigest(), len(content), content)
        done = await self._ask(host, "POST", name, {"uploadId": upload}, body=body, deadline=COMPLETION_DEADLINE)
        self._require(done, f"put {sha256[:12]} together")

    async def _upload(
        self, host: Endpoint, name: str, headers: Mapping[str, str], cut: Sequence[tuple[int, int]]
    ) -> tuple[str, dict[int, str]]:
        """The upload to go on with, and the entity tags of the parts it has; a new one where none is of this cut."""
        for upload in await self._unfinished(host, name):
            listed = await self._parts(host, name, upload)
            if listed is not None and wire.fits(listed, cut):
                return upload, {one.number: one.etag for one in listed}
            await self._abort(host, name, upload)
        answer = await self._ask(host, "POST", name, {"uploads": ""}, headers=headers)
        self._require(answer, "begin an upload in parts")
        return wire.parse_started(answer.body), {}

    async def _unfinished(self, host: Endpoint, name: str) -> list[str]:
        answer = await self._ask(host, "GET", "", {"uploads": "", "prefix": name})
        if answer.status == 501:
            return []  # a store that cannot tell; then every upload is a new one
        self._require(answer, "list unfinished uploads")
        return wire.parse_uploads(answer.body, name)

    async def _parts(self, host: Endpoint, name: str, upload: str) -> list[wire.Listed] | None:
        """What the store has of an upload; None when that has ended meanwhile."""
        found: list[wire.Listed] = []
        marker = "0"
        while marker:
            answer = await self._ask(host, "GET", name, {"uploadId": upload, "part-number-marker": marker})
            if answer.status == 404:
                return None
            self._require(answer, "list the parts of an upload")
            page, after = wire.parse_parts(answer.body)
            if page and page[-1].number <= int(marker):
                raise RemoteProtocolError(f"cannot list the parts of an upload: {host_of(answer.url)} repeats itself")
            found, marker = [*found, *page], after
        return found

    async def _abort(self, host: Endpoint, name: str, upload: str) -> None:
        answer = await self._ask(host, "DELETE", name, {"uploadId": upload})
        if answer.status != 404:
            self._require(answer, "put an unfinished upload away")

    async def check(self, host: Endpoint, sha256: str, part: Part | None = None) -> Mapping[str, Json]:
        """Read it back, or a part of it, and hash it; `ms` is how long the reading took."""
        began, hashed = self._http.clock.now(), hashlib.sha256()
        headers = {} if part is None else {"range": f"bytes={part.start}-{part.stop - 1}"}
        answer = await self._get(host, sha256, headers, Sink(hashed.update))
        took = max(timedelta(0), self._http.clock.now() - began)
        state = "corrupt" if answer.status == 416 else "missing" if answer.status == 404 else "ok"
        # A store that knows no ranges has sent all of it.
        wanted = part.sha256 if part is not None and answer.status == 206 else sha256
        if state == "ok" and hashed.hexdigest() != wanted:
            state = "corrupt"
        expires = 0 if state == "missing" else NEVER
        return {"state": state, "ms": round(took / timedelta(milliseconds=1)), "expires": expires}

    async def read(self, host: Endpoint, sha256: str) -> bytes | None:
        """A blob small enough for memory, verified by its hash; None when it is not there, or is something else."""
        answer = await self._get(host, sha256, {}, None)
        return answer.body if answer.status == 200 and hashlib.sha256(answer.body).hexdigest() == sha256 else None

    async def fetch(self, host: Endpoint, sha256: str, place: Path) -> bool:
        """Download it into a file, continuing by range what was cut off; False when it is not there, or is something else."""

        async def ask(headers: Mapping[str, str], sink: Sink) -> Answer:
            return await self._get(host, sha256, headers, sink)

        try:
            return await fetch(place, sha256, ask) is None
        except RemoteProtocolError as error:
            if error.code != "wrong-bytes":
                raise
            return False

    async def downloads(self, host: Endpoint, sha256: str) -> int | None:
        """Object stores do not count."""
        return None

    async def renew(self, host: Endpoint, sha256: str, minutes: int, max_payment: int) -> Hosted:
        """A bucket keeps everything until it is told otherwise."""
        return _hosted(host, sha256)

    async def release(self, host: Endpoint, sha256: str) -> None:
        """Remove it, and what unfinished uploads left; nothing when it is not there."""
        name = _name(host, sha256)
        for upload in await self._unfinished(host, name):
            await self._abort(host, name, upload)
        answer = await self._ask(host, "DELETE", name)
        if answer.status != 404:
            self._require(answer, f"remove {sha256[:12]}")

    # --- one exchange -------------------------------------------------------------------------------

    async def _get(self, host: Endpoint, sha256: str, headers: Mapping[str, str], sink: Sink | None) -> Answer:
        answer = await self._ask(host, "GET", _name(host, sha256), headers=headers, sink=sink)
        if answer.status not in (200, 206, 416) and not _is_absent(answer):
            self._require(answer, f"read {sha256[:12]}")
        return answer

    async def _ask(
        self,
        host: Endpoint,
        method: str,
        name: str,
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: _Body = _NOTHING,
        deadline: float = DEADLINE,
        sink: Sink | None = None,
    ) -> Answer:
        url = wire.address(host.url, name, query)
        told = wire.signed(method, url, headers or {}, body.sha256, _key(host), self._http.clock.now())
        if body.content:
            told["content-length"] = str(body.size)
        # How much a store sends is known only once it sends; a deadline for a transfer allows for the largest object there is.
        limits: dict[str, Any] = {"deadline": deadline + body.size / SLOWEST, "limit": MAX_ANSWER}
        if sink is not None:
            limits = {"deadline": TRANSFER_DEADLINE + wire.MOST_PART / SLOWEST, "limit": wire.MOST_PART * wire.MAX_PARTS}
        return await self._http.send(Request(method, url, told, body.content), sink=sink, **limits)

    async def _stream(self, host: Endpoint, path: Path, span: tuple[int, int], size: int) -> AsyncIterator[bytes]:
        at, stop = span
        with path.open("rb") as stream:
            stream.seek(at)
            while at < stop and (block := await asyncio.to_thread(stream.read, min(CHUNK, stop - at))):
                yield block
                at += len(block)
                self._told(host, at, size)

    def _require(self, answer: Answer, what: str) -> None:
        """Raise what the store's answer means, unless it did what it was asked to."""
        failure = wire.parse_failure(answer.body) if answer.body else None
        if answer.status in (200, 204, 206) and failure is None:
            return
        if failure is None and answer.status == 403:  # the answer to HEAD has no body
            failure = wire.Failure("AccessDenied", "")
        if failure is None or not failure.code:
            raise refusal(answer, what, self._http.clock)
        raise _refused(answer, failure, what)


def _refused(answer: Answer, failure: wire.Failure, what: str) -> ReconcilerError:
    message = f"cannot {what}: {host_of(answer.url)} says {failure.code}, {failure.message or 'and no more'}"
    # An upload that has ended under our hands is begun anew; a store in trouble (also behind a 200) is asked again.
    if failure.code in ("NoSuchUpload", "InvalidPart", "RequestTimeout", "SlowDown") or answer.status in (200, 408, 429):
        return Unavailable("storage-trouble", message, hint="it will be tried again")
    if answer.status >= 500:
        return Unavailable("storage-trouble", message, hint="it will be tried again")
    return Refused("storage-refused", message, hint=_HINTS.get(failure.code, "see what the store says"))


def _is_absent(answer: Answer) -> bool:
    """Whether the object is not there, as opposed to the bucket."""
    if answer.status != 404:
        return False
    failure = wire.parse_failure(answer.body) if answer.body else None
    return failure is None or failure.code != "NoSuchBucket"


def _etag(answer: Answer) -> str:
    etag = answer.headers.get("etag", "").strip('"')
    if not etag:
        raise RemoteProtocolError(f"cannot use the answer of {host_of(answer.url)}: the part has no entity tag")
    return etag


def _read(path: Path, start: int, stop: int, whole: Any, tagged: bool = False) -> _Read:
    """Digests of a span, which `whole` takes in as well; entity tags are MD5, which nobody's safety rests on."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    digests = (sha256, whole, md5) if tagged else (sha256, whole)
    with path.open("rb") as stream:
        stream.seek(start)
        while start < stop and (block := stream.read(min(BLOCK, stop - start))):
            for hashed in digests:
                hashed.update(block)
            start += len(block)
    return _Read(sha256.hexdigest(), md5.hexdigest())


def _key(host: Endpoint) -> wire.Key:
    return wire.Key(str(host.options.get("accessKeyId") or ""), token(host), str(host.options.get("region") or "us-east-1"))


def _name(host: Endpoint, sha256: str) -> str:
    return f"{host.options.get('prefix') or ''}{sha256}"


def _hosted(host: Endpoint, sha256: str) -> Hosted:
    public, name = host.options.get("publicUrl"), _name(host, sha256)
    return Hosted(uhrp_url(sha256), f"{public}/{sha256}" if public else wire.address(host.url, name), NEVER)


def _changed(sha256: str, path: Path) -> Conflict:
    return Conflict("blob-changed", f"cannot store {sha256}: {path} has other bytes by now", hint="plan again")
