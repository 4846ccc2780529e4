"""The shop as an application: families of routes, and around them what every answer shares."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.gateway import catalog, content, native, openapi, payments, refunds, wellknown
from reconciler.gateway.auth import Authenticated
from reconciler.gateway.authrite import Legacy
from reconciler.gateway.certificates import Required
from reconciler.gateway.limits import GREETINGS, Idempotent, Limited
from reconciler.gateway.problems import problem, told
from reconciler.gateway.showcase import Showcase
from reconciler.model.canonical import Json
from reconciler.model.errors import ReconcilerError
from reconciler.sales.paywall import Shop

log = logging.getLogger("reconciler.gateway")

# Each makes its routes of a shop. A family is a file; one more is one more line here.
Family = Callable[[Shop], Sequence[BaseRoute]]
ROUTES: tuple[Family, ...] = (catalog.routes, wellknown.routes, payments.routes, native.routes, refunds.routes, content.routes)

_CODES = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}


def application(shop: Shop, families: Sequence[Family] = ROUTES) -> ASGIApp:
    """The shop behind mutual authentication, which lets strangers look and has buyers sign."""
    here = [Route("/health", _health), Route("/readyz", lambda request: _ready(shop))]
    routes = [*here, *(route for family in families for route in family(shop))]
    app = Starlette(
        routes=[*routes, *openapi.routes(routes, shop.base)],
        exception_handlers={ReconcilerError: _refused, HTTPException: partial(_unserved, Showcase.of(shop))},
    )
    ports = shop.ports
    limited = Limited(Idempotent(_whole(app), ports.clock), ports.clock, cost=openapi.cost)
    required = Required(lambda: _policies(shop), ports.chain, shop.till.net.headers)
    speaker = shop.till.speaker
    door = Authenticated(limited, speaker, ports.clock, ports.entropy, demands=required, optional=True)
    whole = Legacy(door, limited, speaker, shop.base, ports.clock, ports.entropy) if shop.till.net.authrite else door
    # Handshakes are answered before anybody is known, and cost a signature each.
    return Limited(whole, ports.clock, cost=openapi.greeting, strangers=GREETINGS, known=GREETINGS)


def _policies(shop: Shop) -> dict[str, Mapping[str, Json]]:
    """The access policies in force, by name of the content."""
    return {name: offer.access for name, offer in shop.offers().items() if offer.access is not None}


async def _health(request: Request) -> Response:
    """200 while requests are answered."""
    return JSONResponse({"status": "ok"})


def _ready(shop: Shop) -> Response:
    """200 while there is a ledger to sell from."""
    return JSONResponse({"ready": True, "offers": len(shop.offers()), "producer": shop.producer})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ReconcilerError)
    answer = told(error)
    if answer.status_code == 500:
        log.error("request.failed", extra={"error": error.message, "at": request.url.path})
    return answer


async def _unserved(window: Showcase, request: Request, error: Exception) -> Response:
    """What the routing itself refuses."""
    assert isinstance(error, HTTPException)
    said = f"cannot serve {request.method} {request.url.path[:120]}"
    return catalog.astray(window, request, _CODES.get(error.status_code, "bad-request"), said, headers=error.headers)


def _whole(app: ASGIApp) -> ASGIApp:
    """A fault of ours is a problem, too, unless the answer has begun. The log has it, in the words that it may have."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await app(scope, receive, watched)
        except Exception as error:
            log.exception("request.failed", extra={"at": scope.get("path", "")})
            if begun or scope["type"] != "http":
                raise error from None
            await problem("internal")(scope, receive, send)

    return guarded
