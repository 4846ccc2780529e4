"""The signed documents that tokens on the chain anchor, byte for byte: what a stranger reads before trusting a price."""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from reconciler.gateway.problems import problem
from reconciler.gateway.ranges import digest_field
from reconciler.gateway.showcase import Showcase, unless_known
from reconciler.model.record import Record
from reconciler.sales.paywall import Shop

PATH = "/.well-known/overlay-producer.json"
# A document that was replaced is spent on the chain, too, so whoever checks it learns of it there.
_KEPT = "public, max-age=60"


def routes(shop: Shop) -> list[BaseRoute]:
    """The routes of this family."""
    return [Route(PATH, WellKnown(Showcase.of(shop)).document, methods=["GET"])]


class WellKnown:
    """The handler, over one window."""

    def __init__(self, window: Showcase) -> None:
        self._window = window

    async def document(self, request: Request) -> Response:
        """The envelope (BRC-77) of the service named by `service`, or of the first; of an identity where nothing is announced."""
        documents = self._documents()
        wanted = request.query_params.get("service")
        name = wanted if wanted is not None else next(iter(documents), None)
        if name is None or name not in documents:
            what = "a signed document" if name is None else f"a service called {name[:80]!r}"
            return problem("no-document", f"cannot find {what}", hint="GET /producers/{id} lists the services")
        sha256 = documents[name]
        response = Response(self._window.blobs.get(sha256), media_type="application/json")
        response.headers["cache-control"] = _KEPT
        response.headers["access-control-allow-origin"] = "*"
        response.headers["repr-digest"] = digest_field(sha256)
        others = [one for one in documents if one != name]
        if others:
            response.headers["link"] = ", ".join(f'<{PATH}?service={quote(one)}>; rel="related"' for one in others[:20])
        return unless_known(request, response, sha256)

    def _documents(self) -> dict[str, str]:
        """SHA-256 of every document that is there to be shown, by the name of its resource: services first."""
        found: dict[str, str] = {}
        records = self._window.records()
        for kind in ("Advertisement", "Identity"):
            for ref, record in sorted(records.items()):
                digest = _digest(record) if ref.kind == kind else None
                if digest is not None and self._window.blobs.has(digest):
                    found.setdefault(ref.name, digest)
        return found


def _digest(record: Record) -> str | None:
    document = record.outputs.get("document")
    return None if record.retiring or not document else str(document["digest"])
