"""The HTTP face of an overlay node: /submit, /lookup, listings, documentation, health, and the switches that damage it.

`/health` answers what the janitors of other nodes look for, so that a node advertised here would keep its place there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from reconciler.devnet.overlay import BadRequest, Node
from reconciler.devnet.topics import Service, Topic
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused, RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire import overlay as wire
from reconciler.wire.jsontext import Fields


def application(node: Node) -> Starlette:
    """The ASGI app of one node; CORS is open, as on deployed nodes."""

    async def submit(request: Request) -> Response:
        body = await request.body()
        return _answered(lambda: _submit(node, request, body))

    async def lookup(request: Request) -> Response:
        body = await request.body()
        return _answered(lambda: _lookup(node, request, body))

    async def topics(request: Request) -> Response:
        return JSONResponse(_listing(node.topics))

    async def services(request: Request) -> Response:
        return JSONResponse(_listing(node.services))

    async def topic_page(request: Request) -> Response:
        return _page(node.topics, request.query_params.get("manager", ""))

    async def service_page(request: Request) -> Response:
        return _page(node.services, request.query_params.get("lookupService", ""))

    async def health(request: Request) -> Response:
        report = wire.health_json(node.name)
        service = {"name": node.name, "topicManagerCount": len(node.topics), "lookupServiceCount": len(node.services)}
        return JSONResponse(report | {"service": service})

    async def wipe(request: Request) -> Response:
        node.wipe()
        return JSONResponse({"status": "success"})

    async def evict(request: Request) -> Response:
        body = await request.body()
        return _answered(lambda: _evict(node, body))

    routes = [
        Route("/submit", submit, methods=["POST"]),
        Route("/lookup", lookup, methods=["POST"]),
        Route("/listTopicManagers", topics),
        Route("/listLookupServiceProviders", services),
        Route("/getDocumentationForTopicManager", topic_page),
        Route("/getDocumentationForLookupServiceProvider", service_page),
        Route("/health", health),
        Route("/health/live", health),
        Route("/health/ready", health),
        Route("/devnet/wipe", wipe, methods=["POST"]),
        Route("/devnet/evict", evict, methods=["POST"]),
    ]
    cors = Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"], expose_headers=["*"])
    return Starlette(routes=routes, middleware=[cors])


def _answered(act: Callable[[], Response]) -> Response:
    """Run, and word every refusal as nodes do: 400 and a text."""
    try:
        return act()
    except BadRequest as fault:
        return JSONResponse(wire.refusal_json(str(fault)), 400)
    except (RemoteProtocolError, Refused) as fault:
        return JSONResponse(wire.refusal_json(fault.message), 400)


def _submit(node: Node, request: Request, body: bytes) -> Response:
    asked = wire.parse_submit(request.headers, body)
    return JSONResponse(wire.steak_json(node.submit(asked.beef, asked.topics)))


def _lookup(node: Node, request: Request, body: bytes) -> Response:
    service, query = wire.parse_lookup_request(body)
    found = [wire.Answer(at.txid, at.vout, node.beef(at.txid)) for at in node.lookup(service, query)]
    if request.headers.get("x-aggregation") == "yes":
        return Response(wire.aggregated(found), media_type=wire.OCTETS)
    return JSONResponse(wire.output_list(found))


def _evict(node: Node, body: bytes) -> Response:
    asked = Fields.parse(body, "eviction")
    found = node.evict(Outpoint.parse(asked.text("outpoint")), remember=asked.flag("remember", default=False))
    if not found:
        raise BadRequest(f"output {asked.text('outpoint')} is not held here")
    return JSONResponse({"status": "success"})


def _listing(known: Mapping[str, Topic] | Mapping[str, Service]) -> dict[str, Json]:
    return {name: {"name": name, "shortDescription": entry.about} for name, entry in known.items()}


def _page(known: Mapping[str, Topic] | Mapping[str, Service], name: str) -> Response:
    entry = known.get(name)
    if entry is None:
        return JSONResponse(wire.refusal_json(f"No documentation found for {name}"), 400)
    return PlainTextResponse(f"# {name}\n\n{entry.about}\n", media_type="text/markdown")
