"""Datasets: their bytes for those who may have them, and for everybody what shows that they are worth it.

An answer under BRC-104 is signed, hence whole and in memory; what is larger than that allows is fetched with the access token of
a purchase, which streams from disk. Files never change, so their SHA-256 is their entity tag.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256 as hashed
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from reconciler.engine.evidence import assemble_at
from reconciler.gateway.auth import MAX_ANSWER
from reconciler.gateway.buying import Bought, bought, buyer_of, delivery, receipted, stranger
from reconciler.gateway.problems import problem
from reconciler.gateway.ranges import digest_field, matches, span
from reconciler.model.canonical import Json
from reconciler.model.codec import timestamp
from reconciler.model.errors import Refused, Unavailable
from reconciler.model.ref import Outpoint
from reconciler.model.sale import Edition, EditionFile, Entitlement
from reconciler.sales.paywall import Goods, Shop
from reconciler.sales.sample import sample_of

JSON = "application/json"
# Read and sent at a time; large enough that the hop to a thread costs nothing beside it.
BLOCK = 1024 * 1024
# Bytes are the buyer's; what lies between may keep nothing.
_PRIVATE = "private, no-transform"


def routes(shop: Shop) -> list[BaseRoute]:
    """The routes of this family."""
    here = Content(shop)
    return [
        Route("/content/{content}", here.whole, methods=["GET"]),
        Route("/content/{content}/files/{path:path}", here.file, methods=["GET"]),
        Route("/content/{content}/sample", here.sample, methods=["GET"]),
        Route("/content/{content}/proof", here.proof, methods=["GET"]),
        Route("/content/{content}/versions", here.versions, methods=["GET"]),
    ]


@dataclass(frozen=True, slots=True)
class Content:
    """The handlers, over one shop."""

    shop: Shop

    async def whole(self, request: Request) -> Response:
        """The file; of several, where each of them is."""
        return await self._served(request, None)

    async def file(self, request: Request) -> Response:
        """One of the files."""
        return await self._served(request, request.path_params["path"])

    async def _served(self, request: Request, path: str | None) -> Response:
        content, token, buyer = request.path_params["content"], request.query_params.get("access"), buyer_of(request)
        if token is not None:
            edition, right = self.shop.opened(token, content)
            goods = Goods(edition, self.shop.offers().get(edition.content))
            file = _chosen(edition, path)
            self.shop.admitted(goods, right.consumer, file.size if file is not None else 0)
            return await self._given(request, Bought(goods, right), file)
        goods = self.shop.goods(content)
        file = _chosen(goods.edition, path)
        if buyer is None:
            return stranger()
        if file is not None:
            _small(request, file)
        found = await bought(self.shop, request, buyer, goods, file.size if file is not None else 0)
        if isinstance(found, Response):
            return found
        return receipted(await self._given(request, found, file), found)

    async def _given(self, request: Request, found: Bought, file: EditionFile | None) -> Response:
        if file is None:
            return JSONResponse(delivery(self.shop, found), headers={"cache-control": _PRIVATE})
        tag = f'"{file.sha256}"'
        headers = {
            "etag": tag,
            "accept-ranges": "bytes",
            "repr-digest": digest_field(file.sha256),
            "cache-control": _PRIVATE,
            "x-content-type-options": "nosniff",
        }
        if matches(request.headers.get("if-none-match"), tag):
            return Response(status_code=304, headers=headers)
        condition = request.headers.get("if-range")
        asked = request.headers.get("range") if condition in (None, tag) else None
        try:
            part = span(asked, file.size)
        except ValueError as error:
            more = {**headers, "content-range": f"bytes */{file.size}"}
            return problem("bad-range", f"cannot serve {error}", headers=more)
        start, stop = part or (0, file.size)
        headers["content-length"] = str(stop - start)
        if part is not None:
            headers["content-range"] = f"bytes {start}-{stop - 1}/{file.size}"
        return await self._bytes(request, found, file, (start, stop), 206 if part is not None else 200, headers)

    async def _bytes(
        self, request: Request, found: Bought, file: EditionFile, part: tuple[int, int], status: int, headers: dict[str, str]
    ) -> Response:
        start, stop = part
        if not self.shop.ports.blobs.has(file.sha256):
            raise Unavailable("bytes-missing", f"cannot serve {file.path}: its bytes are not at hand")
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type=file.media_type)
        # Durable before the first byte leaves: the clock of what was bought is not wound back by a crash.
        right = await self.shop.begin(found.right)
        place, count = self.shop.ports.blobs.path(file.sha256), _Count(self.shop, found.goods.edition, right, start)
        if "access" in request.query_params:
            return StreamingResponse(_streamed(place, start, stop, count), status, headers, file.media_type)
        data = b"".join([block async for block in _streamed(place, start, stop, count)])
        headers["content-digest"] = digest_field(hashed(data).hexdigest())
        return Response(data, status, headers, file.media_type)

    # --- for everybody ------------------------------------------------------------------------

    async def sample(self, request: Request) -> Response:
        """The first rows or bytes, where the dataset gives some away."""
        offer = self.shop.goods(request.path_params["content"]).offer
        if offer is None or not offer.sample:
            raise Refused("no-sample", "cannot show a sample: the dataset gives none away", hint="GET /catalog/{name}")
        file = offer.files[0]
        if not self.shop.ports.blobs.has(file.sha256):
            raise Unavailable("bytes-missing", f"cannot show a sample of {file.path}: its bytes are not at hand")
        place = self.shop.ports.blobs.path(file.sha256)
        data = await asyncio.to_thread(sample_of, place, file.media_type, offer.sample)
        headers = {"x-sample-of": file.path.encode("ascii", "replace").decode(), "cache-control": "public, max-age=60"}
        return Response(data, media_type=file.media_type, headers={**headers, "x-content-type-options": "nosniff"})

    async def proof(self, request: Request) -> Response:
        """A bundle that shows, offline, what was published, by whom and in which block; of one file with ?file=."""
        edition = self.shop.goods(request.path_params["content"]).edition
        path = request.query_params.get("file")
        if path is not None and edition.file(path) is None:
            raise Refused("no-file", f"cannot prove {path[:80]!r}: {edition.id} has no such file")
        ports, outpoint = self.shop.ports, Outpoint.parse(edition.outpoint or "")
        with ports.ledger.begin() as tx:
            stored = tx.transaction(outpoint.txid)
        if stored is None or not stored.proof:
            raise Refused("not-mined", f"cannot prove {edition.id} yet: {outpoint.txid} is in no block", hint="try again later")
        subject = f"Dataset/{edition.content}"
        data = await assemble_at(ports, subject, edition.digest, outpoint, self.shop.till.net, path)
        return Response(data, media_type=JSON, headers={"cache-control": "public, max-age=60"})

    async def versions(self, request: Request) -> Response:
        """Every version there was, the newest first."""
        found = self.shop.editions(request.path_params["content"])
        current = self.shop.offers().get(found[0].content)
        return JSONResponse({"versions": [_version(one, current is not None and one == found[0]) for one in found]})


@dataclass(frozen=True, slots=True)
class _Count:
    """Adds up what one answer really sent."""

    shop: Shop
    edition: Edition
    right: Entitlement
    start: int

    def sent(self, count: int) -> None:
        """So many bytes, from where the answer began."""
        downloads = 1 if self.start == 0 and count else 0
        self.shop.meter.count(self.right.consumer, self.shop.ports.clock.now(), bytes=count)
        self.shop.tally.add(self.edition.producer, self.right.consumer, self.edition.content, count, downloads)


def _chosen(edition: Edition, path: str | None) -> EditionFile | None:
    """The file of that path; without one the only one, and None where there are several."""
    if path is None:
        return edition.files[0] if len(edition.files) == 1 else None
    found = edition.file(path)
    if found is None:
        raise Refused("no-file", f"cannot serve {path[:80]!r}: {edition.id} has no such file", hint="GET /content/{id}/versions")
    return found


def _small(request: Request, file: EditionFile) -> None:
    """Refused unless what is asked for can be signed; said before anybody pays for it."""
    try:
        part = span(request.headers.get("range"), file.size) or (0, file.size)
    except ValueError:
        return
    if request.method != "HEAD" and part[1] - part[0] > MAX_ANSWER:
        told = f"cannot sign {part[1] - part[0]} bytes in one answer; at most {MAX_ANSWER}"
        raise Refused("too-large-to-sign", told, hint="POST /purchases gives a token that streams it; or ask for ranges")


async def _streamed(place: Path, start: int, stop: int, count: _Count) -> AsyncIterator[bytes]:
    sent = 0
    # Opened by whoever iterates: an answer that nobody reads holds no file.
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while start + sent < stop:
            block = await asyncio.to_thread(os.pread, descriptor, min(BLOCK, stop - start - sent), start + sent)
            if not block:
                break  # shorter than it says: the answer ends early, which its length shows
            sent += len(block)
            yield block
    finally:
        os.close(descriptor)
        count.sent(sent)


def _version(edition: Edition, current: bool) -> dict[str, Json]:
    return {
        "contentId": edition.id,
        "sequence": edition.sequence,
        "version": edition.version,
        "current": current,
        "digest": edition.digest,
        "merkleRoot": edition.merkle_root,
        "outpoint": edition.outpoint,
        "published": timestamp(edition.published) if edition.published is not None else None,
        "files": len(edition.files),
        "size": edition.size,
    }
