"""What the public routes look at, and how they answer: JSON or a page, with an ETag, as the asker prefers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response

from reconciler.gateway.pages import Place
from reconciler.gateway.ranges import matches
from reconciler.gateway.style import POLICY
from reconciler.model.canonical import Json
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.ports import Blobs, Clock, Ledger
from reconciler.sales.paywall import Shop
from reconciler.sales.shelf import Shelf, shelf

# Pages say how long ago something was; a copy is good for as long as nobody would notice.
PUBLIC = "public, max-age=15"
_PAGE_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}


@dataclass(slots=True)
class Showcase:
    """The doors that strangers may look through. `base` is the public address, without a slash at the end.

    `sells` is the Identity whose goods are shown and the Network they are on; without it, everything on record is.
    """

    ledger: Ledger
    blobs: Blobs
    clock: Clock
    base: str = ""
    sells: tuple[str, str] | None = None
    _seen: Mapping[ResourceRef, Record] | None = field(default=None, repr=False)
    _shelf: Shelf = field(default_factory=Shelf, repr=False)

    @classmethod
    def of(cls, shop: Shop) -> Showcase:
        """The window of a shop: what it sells, and nothing else on record."""
        ports = shop.ports
        return cls(ports.ledger, ports.blobs, ports.clock, shop.base, (shop.identity, shop.till.net.name))

    def records(self) -> Mapping[ResourceRef, Record]:
        """What is on record now."""
        return self.ledger.read(self.clock.now()).records

    def shelf(self) -> Shelf:
        """What is on sale now; laid out again only when a record has changed."""
        records = self.records()
        if records is not self._seen:
            self._seen, self._shelf = records, shelf(records, self.sells)
        return self._shelf

    def scores(self, name: str) -> tuple[int, ...]:
        """What buyers gave a dataset, from 1 to 5, each by a receipt of their own."""
        with self.ledger.sales() as rows:
            return tuple(one.score for one in rows.ratings(name))

    def address(self, request: Request) -> str:
        """The address that others reach us by: the declared one, or else the one this request came to."""
        return self.base or str(request.base_url).rstrip("/")

    def place(self, request: Request) -> Place:
        """Where a page stands."""
        sellers = list(self.shelf().producers.values())
        return Place(sellers[0].title if len(sellers) == 1 else "Data catalog", self.address(request), self.clock.now())


def wants_page(request: Request) -> bool:
    """Whether the asker would rather have HTML than JSON: browsers would. `format` settles it."""
    chosen = request.query_params.get("format")
    if chosen in ("html", "json"):
        return chosen == "html"
    return _weight(request, "text/html") > _weight(request, "application/json")


def page(request: Request, text: str, status: int = 200) -> Response:
    """HTML that may do nothing but be read."""
    return _answer(request, text.encode(), "text/html; charset=utf-8", status, _PAGE_HEADERS)


def told(request: Request, value: Json, media_type: str = "application/json") -> Response:
    """JSON for whoever asks, from any page."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return _answer(request, body, media_type, 200, {"access-control-allow-origin": "*"})


def _answer(request: Request, body: bytes, media_type: str, status: int, headers: Mapping[str, str]) -> Response:
    response = Response(body, status, media_type=media_type, headers=dict(headers))
    response.headers["vary"] = "Accept"
    if status == 200:
        response.headers["cache-control"] = PUBLIC
        response = unless_known(request, response, hashlib.sha256(body).hexdigest()[:32], weak=True)
    return response


def unless_known(request: Request, response: Response, tag: str, *, weak: bool = False) -> Response:
    """The response under its ETag; 304 when the asker has that already (RFC 9110, section 13.1.2)."""
    response.headers["etag"] = f'{"W/" if weak else ""}"{tag}"'
    if not matches(request.headers.get("if-none-match"), f'"{tag}"'):
        return response
    fresh = Response(status_code=304)
    kept = MutableHeaders(raw=[(name, value) for name, value in response.raw_headers if name not in _BODY_HEADERS])
    fresh.raw_headers = kept.raw
    return fresh


_BODY_HEADERS = (b"content-length", b"content-type")


def _weight(request: Request, kind: str) -> float:
    """How much a media type is wanted, by the most specific range of Accept that fits it."""
    best = (-1, 0.0)
    for part in request.headers.get("accept", "*/*").split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        ranks = {"*/*": 0, f"{kind.partition('/')[0]}/*": 1, kind: 2}
        if name in ranks and ranks[name] >= best[0]:
            best = (ranks[name], _quality(parameters))
    return best[1]


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
