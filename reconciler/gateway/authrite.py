"""Buyers who still speak Authrite (BRC-31), where a Network says `gateway.authrite: true`: as middleware before the door.

Nothing in Authrite binds a request's method, path or headers to its signature, so it is off unless asked for, and never enough
where certificates are required. What it does bind is kept: a message nonce is good once, in its session.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from reconciler.gateway.auth import Authenticated, Held, Sessions, again, body_of, headers_of, known, target_of
from reconciler.model.errors import RemoteProtocolError
from reconciler.ports import Clock, Entropy
from reconciler.wire import auth, authrite
from reconciler.wire.speaker import Speaker

MAX_BODY = 16 * 1024 * 1024


class Legacy:
    """Answers Authrite, and passes the rest on to the `door`. `app` is what stands behind both; `base` is our public address."""

    def __init__(self, door: Authenticated, app: ASGIApp, speaker: Speaker, base: str, clock: Clock, entropy: Entropy) -> None:
        self._door, self._app, self._speaker, self._base, self._entropy = door, app, speaker, base, entropy
        self.sessions = Sessions(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._door(scope, receive, send)
            return
        try:
            if scope["path"] == authrite.PATH and scope["method"] == "POST":
                await self._welcome(await body_of(receive, authrite.MAX_HELLO))(scope, receive, send)
                return
            stamp = authrite.parse_stamp(headers_of(scope))
            if stamp is None:
                await self._door(scope, receive, send)
                return
            await self._answer(scope, receive, send, stamp)
        except RemoteProtocolError as error:
            told = {"status": "error", "code": "ERR_AUTHRITE_FAILED", "description": error.message}
            await JSONResponse(told, 401)(scope, receive, send)

    def _welcome(self, body: bytes) -> JSONResponse:
        hello = authrite.parse_hello(body)
        ours = self._speaker.nonce(self._entropy.bytes(auth.SEED_SIZE))
        self.sessions.meet(hello.identity, ours, hello.nonce)
        return JSONResponse(self._speaker.welcome(hello, ours))

    async def _answer(self, scope: Scope, receive: Receive, send: Send, stamp: authrite.Stamp) -> None:
        session = self.sessions.find(stamp.your_nonce)
        if session is None or session.peer != stamp.identity:
            raise RemoteProtocolError("cannot find the session: introduce yourself again", code="no-session")
        body = await body_of(receive, MAX_BODY)
        target = target_of(scope)
        # Clients sign the body; without one, the address as they wrote it.
        ways = [body] if body else [(self._base + target).encode(), str(Request(scope).url).encode(), target.encode()]
        if not any(self._speaker.heard_authrite(stamp, data) for data in ways):
            raise RemoteProtocolError("cannot accept the request: its signature does not fit", code="bad-signature")
        if not self.sessions.prove(session, stamp.nonce):
            raise RemoteProtocolError("cannot accept the request: it was shown before", code="replayed")
        if why := self._door.demands.lacking(scope, body, ()):
            raise RemoteProtocolError(f"cannot go on: {why}, and Authrite shows none", code="no-certificate")
        answer = Held(scope["method"])
        await self._app(known(scope, session.peer), again(body, receive), answer.send)
        start, content = answer.whole()
        nonce = auth.fresh_nonce(self._entropy.bytes(auth.FRESH_SIZE))
        said = self._speaker.stamp_authrite(session.peer, nonce, session.theirs, content or ways[0])
        lines = [(name.encode(), value.encode()) for name, value in said.headers().items()]
        await send({**start, "headers": [*start["headers"], *lines]})
        await send({"type": "http.response.body", "body": content})
