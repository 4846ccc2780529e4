"""The catalog: what is on sale and who sells it, as pages, as JSON, and as JSON-LD for other catalogs. Anybody may look."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from reconciler.gateway import dcat, problems
from reconciler.gateway.dataset_page import dataset_page
from reconciler.gateway.pages import Place, catalog_page, error_page, frame, price_list, producer_page
from reconciler.gateway.showcase import Showcase, page, told, wants_page
from reconciler.model.errors import Refused
from reconciler.sales import showing
from reconciler.sales.listing import Page, Query, facets, find, read_query
from reconciler.sales.paywall import Shop
from reconciler.sales.preview import HEAD, Preview, preview
from reconciler.sales.shelf import Item, Producer

# Units that a price list may be asked for at once: more than any sale, less than what breaks arithmetic elsewhere.
MAX_UNITS = 10**9

Endpoint = Callable[[Request], Awaitable[Response]]


def routes(shop: Shop) -> list[BaseRoute]:
    """The routes of this family."""
    here = Catalog(Showcase.of(shop))
    table: tuple[tuple[str, Endpoint], ...] = (
        ("/", here.home),
        ("/catalog", here.listing),
        ("/catalog.jsonld", here.jsonld),
        ("/catalog/{name}", here.item),
        ("/producers/{id}", here.producer),
        ("/producers/{id}/catalog", here.producer_listing),
        ("/producers/{id}/pricing", here.pricing),
        ("/producers/{id}/streams", here.streams),
    )
    return [Route(path, here.told_well(endpoint), methods=["GET"]) for path, endpoint in table]


def astray(
    window: Showcase, request: Request, code: str, detail: str, hint: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """What is wrong, as a page that helps on for people and as a problem for programs."""
    if not wants_page(request):
        return problems.problem(code, detail, hint=hint, headers=headers)
    status, title = problems.PROBLEMS[code]
    shown = page(request, error_page(window.place(request), status, title, detail, hint or ""), status)
    shown.headers.update(headers or {})
    return shown


class Catalog:
    """The handlers, over one window."""

    def __init__(self, window: Showcase) -> None:
        self._window = window

    def told_well(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint, with what it refuses as the asker would have it."""

        @wraps(endpoint)
        async def answered(request: Request) -> Response:
            try:
                return await endpoint(request)
            except Refused as error:
                return astray(self._window, request, error.code, error.message, error.hint)

        return answered

    async def home(self, request: Request) -> Response:
        """To the catalog."""
        return RedirectResponse("/catalog")

    # --- everything -------------------------------------------------------------------------------

    async def listing(self, request: Request) -> Response:
        """What is on sale."""
        shelf = self._window.shelf()
        only = list(shelf.producers.values())
        title, lead = (only[0].title, only[0].description) if len(only) == 1 else ("Data catalog", "")
        return self._listed(request, list(shelf.items.values()), "/catalog", title, lead)

    async def producer_listing(self, request: Request) -> Response:
        """What one producer sells."""
        producer = self._producer(request)
        path = showing.producer_path(producer.key, "/catalog")
        return self._listed(request, list(self._window.shelf().of(producer.key)), path, producer.title, producer.description)

    def _listed(self, request: Request, items: list[Item], path: str, title: str, lead: str) -> Response:
        query, found, place = self._found(request, items)
        if wants_page(request):
            data = dcat.schema_catalog(found.items, place.base, title)
            return page(request, catalog_page(place, found, query, facets(items), title=title, lead=lead, path=path, data=data))
        listed = [showing.item_json(item, place.now, place.base) for item in found.items]
        return told(request, {"items": listed, "next": found.next, "total": found.total})

    def _found(self, request: Request, items: list[Item]) -> tuple[Query, Page, Place]:
        asked = {name: request.query_params.getlist(name) for name in request.query_params}
        place, query = self._window.place(request), read_query(asked)
        return query, find(items, query, place.now), place

    async def jsonld(self, request: Request) -> Response:
        """The whole catalog in DCAT 3."""
        place = self._window.place(request)
        value = dcat.catalog(self._window.shelf(), place.base, place.shop, place.now)
        return told(request, value, "application/ld+json")

    # --- one thing --------------------------------------------------------------------------------

    async def item(self, request: Request) -> Response:
        """One offer."""
        name = request.path_params["name"]
        item = self._window.shelf().items.get(name)
        if item is None:
            raise Refused("no-content", f"cannot find a dataset called {name[:80]!r}", hint="search the catalog")
        place, scores = self._window.place(request), self._window.scores(name)
        if wants_page(request):
            return page(request, dataset_page(place, item, self._look(item), scores, dcat.schema_org(item, place.base, scores)))
        return told(request, showing.item_json(item, place.now, place.base) | {"ratings": showing.ratings_json(scores)})

    def _look(self, item: Item) -> Preview | None:
        """The beginning of its first file, where the producer shows that and the bytes are here."""
        first = item.offer.files[0]
        if not item.offer.sample or not self._window.blobs.has(first.sha256):
            return None
        with self._window.blobs.path(first.sha256).open("rb") as file:
            return preview(file.read(HEAD), first.media_type, item.offer.sample)

    # --- producers --------------------------------------------------------------------------------

    async def producer(self, request: Request) -> Response:
        """Who sells, and the addresses at which one deals with them."""
        producer, place = self._producer(request), self._window.place(request)
        if wants_page(request):
            return page(request, producer_page(place, producer, self._window.shelf()))
        return told(request, showing.producer_json(producer, self._window.shelf(), place.base))

    async def pricing(self, request: Request) -> Response:
        """What everything costs, by the arithmetic that quotes are made with."""
        producer = self._producer(request)
        items = list(self._window.shelf().of(producer.key))
        if wants_page(request):
            place = self._window.place(request)
            return page(request, frame(place, f"Prices of {producer.title}", price_list(items)))
        wanted = request.query_params.get("contentId")
        items = [item for item in items if wanted in (None, item.offer.name)]
        units, tier = _units(request.query_params.get("units")), request.query_params.get("tier")
        _, found, _ = self._found(request, items)
        listed = [showing.pricing_json(item, units, tier) for item in found.items]
        return told(request, {"producer": producer.key, "items": listed, "next": found.next})

    async def streams(self, request: Request) -> Response:
        """Live streams with their state. A producer without any has an empty list."""
        self._producer(request)
        return told(request, {"items": [], "next": None})

    def _producer(self, request: Request) -> Producer:
        word = request.path_params["id"]
        found = self._window.shelf().producer(word)
        if found is None:
            hint = "a producer is known by its identity key, 66 hex digits, or by the name of its Identity"
            raise Refused("no-producer", f"cannot find a producer {word[:80]!r}", hint=hint)
        return found


def _units(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:11]) <= MAX_UNITS):
        raise Refused("bad-query", f"cannot read the query: units is no whole number from 1 to {MAX_UNITS}")
    return int(text)
