"""The HTTP face of a storage host: quote, upload, list, find, renew, content with ranges, and the switches that damage it.

Deployed hosts demand TLS. This one speaks plain http on its own address, while the locations in its tokens are the https
form of that address, as the topic demands: a client maps `https://host/cdn/...` to the base URL it knows plus the path.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from urllib.parse import parse_qs, quote, urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from reconciler.devnet.storage import StorageHost, Stored
from reconciler.devnet.vault import TooLong
from reconciler.model.canonical import Json
from reconciler.model.errors import RemoteProtocolError
from reconciler.wire import storage as wire
from reconciler.wire.jsontext import Fields
from reconciler.wire.keys import invoice
from reconciler.wire.uhrp import parse_uhrp

ANONYMOUS = "devnet"
# An upload URL outlives the retention it was bought for by this much, so that a slow upload still lands.
_GRACE = 300


class StorageApp:
    """Routes over one host."""

    def __init__(self, host: StorageHost) -> None:
        self.host = host
        self._hmac_key = host.purse.child(invoice("storage upload", "1"), host.purse.public)
        post, put = ["POST"], ["PUT"]
        self.app = Starlette(
            routes=[
                Route("/quote", self._quote, methods=post),
                Route("/upload", self._upload, methods=post),
                Route("/put", self._put, methods=put),
                Route("/list", self._list),
                Route("/find", self._find),
                Route("/downloads", self._downloads),
                Route("/renew", self._renew, methods=post),
                Route("/cdn/{id}", self._cdn),
                Route("/health", self._health),
                Route("/devnet/stats", self._stats),
                Route("/devnet/corrupt", self._damage(host.vault.corrupt), methods=post),
                Route("/devnet/delete", self._damage(host.vault.drop), methods=post),
                Route("/devnet/wipe", self._wipe, methods=post),
            ],
            exception_handlers={404: _no_route},
        )

    # --- buying and putting ------------------------------------------------------------------------------------

    async def _quote(self, request: Request) -> Response:
        try:
            size, minutes = wire.parse_offer(await request.body())
        except RemoteProtocolError as error:
            return _refused(error)
        return JSONResponse(wire.quote_answer(self.host.quote(size, minutes)))

    async def _upload(self, request: Request) -> Response:
        try:
            size, minutes = wire.parse_offer(await request.body())
        except RemoteProtocolError as error:
            return _refused(error)
        amount = self.host.quote(size, minutes)
        if amount:
            return _unpaid(amount)
        self.host.state.uploads += 1
        facts = {
            "fileSize": size,
            "objectID": f"{self.host.name}-{self.host.state.uploads}",
            "expiry": (self.host.chain.clock.now() + timedelta(minutes=minutes, seconds=_GRACE)).isoformat(),
            "retention": minutes,
            "uploader": _caller(request),
        }
        text = urlencode(facts, quote_via=quote)
        url = f"{str(request.base_url).rstrip('/')}/put?{text}&hmac={self._seal(text)}"
        return JSONResponse(wire.upload_answer(wire.UploadTarget(url, {}, amount, "File can now be uploaded.")))

    async def _put(self, request: Request) -> Response:
        host = self.host
        text, _, seal = request.url.query.rpartition("&hmac=")
        if not hmac.compare_digest(seal.encode(), self._seal(text).encode()):
            return _problem(401, "the upload URL was not issued by this host")
        facts = {name: values[0] for name, values in parse_qs(text).items()}
        if datetime.fromisoformat(facts["expiry"]) < host.chain.clock.now():
            return _problem(400, "Upload URL expired")
        object_id, size = facts["objectID"], int(facts["fileSize"])
        if object_id in host.state.objects:
            return _problem(400, "File exists")
        host.open_uploads += 1
        host.max_open_uploads = max(host.max_open_uploads, host.open_uploads)
        try:
            digest, received = await host.vault.take(object_id, size, request.stream())
        except TooLong:
            return _problem(400, "Size mismatch")
        finally:
            host.open_uploads -= 1
        if received != size:
            host.vault.drop(object_id)
            return _problem(400, "Size mismatch")
        media_type = request.headers.get("content-type", "application/octet-stream")
        expires = host.now + int(facts["retention"]) * 60
        await host.store(Stored(object_id, digest, size, media_type, facts["uploader"], expires))
        return JSONResponse({"status": "success"})

    def _seal(self, text: str) -> str:
        return hmac.digest(self._hmac_key, text.encode(), "sha256").hex()

    # --- what is held ------------------------------------------------------------------------------------------

    async def _list(self, request: Request) -> Response:
        held = self.host.mine(_caller(request))
        return JSONResponse(wire.list_answer([wire.Listed(item.sha256, item.expires) for item in held]))

    async def _find(self, request: Request) -> Response:
        url = request.query_params.get("uhrpUrl", "")
        if not url:
            return _error("ERR_NO_UHRP_URL")
        try:
            item = self.host.find(parse_uhrp(url), _caller(request))
        except RemoteProtocolError:
            item = None
        if item is None:
            return _error("ERR_FIND")
        answer = wire.find_answer(wire.StoredFile(f"cdn/{item.id}", item.size, item.media_type, item.expires))
        return JSONResponse(answer)

    async def _downloads(self, request: Request) -> Response:
        try:
            sha256 = parse_uhrp(request.query_params.get("uhrpUrl", ""))
        except RemoteProtocolError:
            return _error("ERR_NO_UHRP_URL")
        return JSONResponse(wire.downloads_answer(self.host.state.downloads[sha256]))

    async def _renew(self, request: Request) -> Response:
        try:
            sha256, minutes = wire.parse_renewal(await request.body())
        except RemoteProtocolError as error:
            return _refused(error)
        item = self.host.find(sha256, _caller(request))
        if item is None:
            return _error("ERR_OLD_ADVERTISEMENT_NOT_FOUND")
        if amount := self.host.quote(item.size, minutes):
            return _unpaid(amount)
        renewed = await self.host.renew(item, minutes)
        return JSONResponse(wire.renew_answer(wire.Renewal(item.expires, renewed.expires, 0)))

    async def _cdn(self, request: Request) -> Response:
        item = self.host.state.objects.get(request.path_params["id"])
        size = None if item is None or item.expires <= self.host.now else self.host.vault.size(item.id)
        if item is None or size is None:
            return _problem(404, "File not found")
        span = _span(request.headers.get("range"), size)
        headers = {"accept-ranges": "bytes", "content-type": item.media_type}
        if span is None:
            return Response(status_code=416, headers={"content-range": f"bytes */{size}"})
        start, stop = span
        # Whoever reads the beginning reads the file; the rest of a download in parts is the same download.
        if start == 0 and request.headers.get("x-purpose") != "probe":
            self.host.state.downloads[item.sha256] += 1
        partial = "range" in request.headers and (start, stop) != (0, size)
        if partial:
            headers["content-range"] = f"bytes {start}-{stop - 1}/{size}"
        headers["content-length"] = str(stop - start)
        return StreamingResponse(self.host.vault.read(item.id, start, stop), 206 if partial else 200, headers)

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "live": True, "ready": True})

    # --- the switches ------------------------------------------------------------------------------------------

    async def _stats(self, request: Request) -> Response:
        host = self.host
        sizes = [host.vault.size(object_id) for object_id in host.state.objects]
        return JSONResponse(
            {
                "identityKey": host.purse.public.hex(),
                "objects": sum(size is not None for size in sizes),
                "bytes": sum(size or 0 for size in sizes),
                "uploads": host.state.uploads,
                "renewals": host.state.renewals,
                "openUploads": host.open_uploads,
                "maxOpenUploads": host.max_open_uploads,
                "unannounced": len(host.state.unsent),
                "tokens": [str(item.token) for item in host.state.objects.values() if item.token is not None],
            }
        )

    def _damage(self, act: Callable[[str], bool]) -> Callable[[Request], Awaitable[Response]]:
        async def damage(request: Request) -> Response:
            try:
                hit = self.host.damage(Fields.parse(await request.body(), "request").hex("sha256", 32), act)
            except RemoteProtocolError as error:
                return _problem(400, error.message)
            return JSONResponse({"status": "success", "objects": hit}) if hit else _problem(404, "no such content here")

        return damage

    async def _wipe(self, request: Request) -> Response:
        self.host.wipe()
        return JSONResponse({"status": "success"})


def _caller(request: Request) -> str:
    return request.headers.get("x-bsv-auth-identity-key", ANONYMOUS)


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """The half-open span of a single byte range (RFC 9110, section 14); all for none or several, None when unsatisfiable."""
    unit, _, text = (header or "").partition("=")
    first, dash, last = text.strip().partition("-")
    if unit.strip() != "bytes" or not dash or "," in text or not all(part == "" or part.isdecimal() for part in (first, last)):
        return 0, size
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    else:
        start, stop = max(0, size - int(last or 0)), size
    return (start, stop) if start < stop else None


def _error(code: str) -> Response:
    status, body = wire.error_answer(code)
    return JSONResponse(body, status)


def _refused(error: RemoteProtocolError) -> Response:
    """A refusal by the code the reader found; what was not even readable counts as a missing size."""
    return _error(error.code if error.code in wire.ERRORS else "ERR_NO_SIZE")


def _unpaid(amount: int) -> Response:
    status, body = wire.error_answer("ERR_PAYMENT_REQUIRED")
    return JSONResponse(body, status, headers={"x-bsv-payment-satoshis-required": str(amount)})


def _problem(status: int, description: str) -> Response:
    body: dict[str, Json] = {"status": "error", "description": description}
    return JSONResponse(body, status)


async def _no_route(request: Request, error: Exception) -> Response:
    return _error("ERR_ROUTE_NOT_FOUND")
