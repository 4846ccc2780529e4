"""The door for broadcasters: one tells that a transaction of ours has moved. A hint and nothing more.

Whoever knows the token of our submissions is heard. What it says is not believed: it makes the daemon ask, and a proof is held
against headers as always. So a callback that is repeated, late, out of order or invented costs one look.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reconciler.gateway.admin import hurried
from reconciler.gateway.push import same, whole
from reconciler.model.errors import RemoteProtocolError
from reconciler.wire import arc

log = logging.getLogger("reconciler.callbacks")

PATH = "/callbacks/broadcast"
# A batch has fifty states at most, each with a merkle path of a kilobyte or two.
MAX_BODY = 1024 * 1024


@dataclass(slots=True)
class Listener:
    """`token` is read for every callback, so that it can be replaced. `hint` is given txids; it says how many are ours."""

    token: Callable[[], bytes]
    hint: Callable[[Sequence[str]], int]
    told: Callable[[str], None] = lambda result: None

    async def heard(self, request: Request) -> Response:
        """200 when it was understood, whether or not it is about us; 401 without the token; 413 when too large; 400 else."""
        if not self._authentic(request.headers.get("authorization", "")):
            log.warning("callback.refused", extra={"hint": "compare callbacks.token with what the broadcaster was given"})
            return self._done("refused", 401)
        try:
            body = await whole(request, MAX_BODY)
            states = () if body is None else arc.parse_callback(body)
        except (ClientDisconnect, RemoteProtocolError):
            return self._done("malformed", 400)
        if body is None:
            return self._done("too-large", 413)
        ours = self.hint(list(dict.fromkeys(state.txid for state in states)))
        return self._done("heard" if ours else "unknown", 200)

    def _authentic(self, shown: str) -> bool:
        scheme, _, token = shown.partition(" ")
        return scheme.lower() == "bearer" and same(token.strip(), self.token().decode())

    def _done(self, result: str, code: int) -> Response:
        self.told(result)
        return JSONResponse({"result": result}, status_code=code)


def routes(listener: Listener) -> list[Route]:
    """The one route, for whatever application it is to be part of."""
    return [Route(PATH, listener.heard, methods=["POST"])]


def server(listener: Listener) -> uvicorn.Server:
    """A server for it alone; `serve(sockets=[...])` runs it."""
    return hurried(Starlette(routes=routes(listener)))
