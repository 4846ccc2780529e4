"""Mutual authentication of whoever asks (BRC-103/104), as middleware around an ASGI application.

Theory of operation. A handshake costs its asker nothing and proves nothing: it makes a session that is *met*. The first request
that is signed under it makes it *proven*. The two are kept apart, each with a bound of its own, so that a flood of handshakes can
push out nobody who is really there. A session ends after a while without use, after a while at all, and after so many requests;
then the asker gets an unsigned 401 and introduces himself again. Every request nonce is good once in its session, so a captured
request cannot be shown again. No clock but ours is asked: nothing in a message is a time.

Certificates are asked for with the answer to a handshake. `Demands` says of each request what it takes, so that one door may let
some things go to everybody, and others only to who can show what he is.

The application finds the asker's identity key (33 bytes) in `request.state.identity`, None where `optional` let somebody in
unknown. Bodies are held in memory in both directions, because the signature stands before the last byte: large content does not
belong here.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.gateway.demands import Demands, FromAll, Judge
from reconciler.gateway.problems import beside
from reconciler.model.canonical import Json
from reconciler.model.errors import RemoteProtocolError
from reconciler.ports import Clock, Entropy
from reconciler.wire import auth, authhttp
from reconciler.wire.speaker import Speaker

# Sessions that sent a signed request, and those that only said hello; a session takes a few hundred bytes.
MAX_PROVEN = 10_000
MAX_MET = 1_000
# Request nonces remembered for all of them together, at about 150 bytes; past it the session that was silent longest ends.
MAX_REMEMBERED = 250_000
# Handshakes are followed by a request at once; a busy asker stays a day, a silent one an hour.
MET_FOR = timedelta(minutes=1)
IDLE_FOR = timedelta(hours=1)
KEPT_FOR = timedelta(days=1)
# Nonces are remembered for as long as their session; past this many it ends, and with it the need to remember.
MAX_REQUESTS = 10_000
MAX_BODY = 16 * 1024 * 1024
MAX_ANSWER = 16 * 1024 * 1024
# Seconds a request waits for the certificates that were asked for at the handshake; clients give up after 30.
CERTIFICATES_WITHIN = 20.0
# A certificate may be revoked while its session lasts, so what was shown is judged again after a while.
JUDGED_FOR = timedelta(minutes=10)


class _Broken(Exception):
    """The asker left, or sent more than is taken: nothing is answered but this status."""

    def __init__(self, status: int) -> None:
        self.status = status


@dataclass(slots=True)
class Session:
    """One asker. `ours` and `theirs` are the session nonces; `certified` is set once there was an answer to what was asked for:
    `said` is that answer as it came, `judged` when it was last looked at.
    """

    peer: bytes
    ours: str
    theirs: str
    since: datetime
    used: datetime
    seen: set[str] = field(default_factory=set)
    certified: asyncio.Event = field(default_factory=asyncio.Event)
    said: Sequence[Json] = ()
    judged: datetime | None = None
    shown: Sequence[Any] = ()


class Sessions:
    """Sessions by our nonce, bounded in number and time. Of those that are met only, the oldest make room; so of the proven."""

    def __init__(
        self, clock: Clock, max_proven: int = MAX_PROVEN, max_met: int = MAX_MET, max_remembered: int = MAX_REMEMBERED
    ) -> None:
        self._clock, self._most, self._most_met, self._most_nonces = clock, max_proven, max_met, max_remembered
        self._nonces = 0
        self._proven: OrderedDict[str, Session] = OrderedDict()
        self._met: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._proven) + len(self._met)

    def meet(self, peer: bytes, ours: str, theirs: str) -> Session:
        """A new session, of which nothing is proven."""
        now = self._clock.now()
        session = self._met[ours] = Session(peer, ours, theirs, now, now)
        while len(self._met) > self._most_met:
            self._met.popitem(last=False)
        return session

    def find(self, ours: str) -> Session | None:
        """The session of our nonce, unless it has ended."""
        now, met = self._clock.now(), self._met.get(ours)
        session = met or self._proven.get(ours)
        if session is None:
            return None
        idle = MET_FOR if met is not None else IDLE_FOR
        # A clock that was set back makes nobody younger.
        if abs(now - session.used) > idle or abs(now - session.since) > KEPT_FOR or len(session.seen) >= MAX_REQUESTS:
            self._end(ours)
            return None
        return session

    def _end(self, ours: str) -> None:
        """Forget a session, and with it what it remembers."""
        session = self._met.pop(ours, None) or self._proven.pop(ours, None)
        self._nonces -= len(session.seen) if session is not None else 0

    def prove(self, session: Session, nonce: str) -> bool:
        """Take note of a signed request; False when its nonce was shown before."""
        if nonce in session.seen:
            return False
        session.seen.add(nonce)
        self._nonces += 1
        session.used = self._clock.now()
        self._met.pop(session.ours, None)
        self._proven[session.ours] = session
        self._proven.move_to_end(session.ours)
        while len(self._proven) > self._most or (self._nonces > self._most_nonces and len(self._proven) > 1):
            self._end(next(iter(self._proven)))
        return True


class Authenticated:
    """The middleware. `asked` are certificates that all must show, judged by `judge`; or `demands` says what is wanted for what.
    `optional` lets strangers in, unknown.
    """

    def __init__(
        self,
        app: ASGIApp,
        speaker: Speaker,
        clock: Clock,
        entropy: Entropy,
        *,
        sessions: Sessions | None = None,
        asked: auth.Asked | None = None,
        judge: Judge | None = None,
        demands: Demands | None = None,
        optional: bool = False,
    ) -> None:
        if asked and judge is None:
            raise ValueError("certificates are asked for and nobody judges them")
        self._app, self._speaker, self._entropy, self._optional = app, speaker, entropy, optional
        self.sessions = sessions or Sessions(clock)
        self._clock, self.demands = clock, demands or FromAll(asked or auth.Asked(), judge)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer handshakes; pass on what is signed, and sign what comes back."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            try:
                await self._answer(scope, receive, send)
            except _Broken as broken:
                await Response(status_code=broken.status)(scope, receive, send)
        elif self._optional:
            await self._app(known(scope, None), receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == auth.PATH and scope["method"] == "POST":
            response = await self._handshake(await body_of(receive, auth.MAX_MESSAGE))
            await response(scope, receive, send)
            return
        try:
            stamp = authhttp.parse_stamp(headers_of(scope))
            if stamp is None and self._optional and not self.demands.lacking(scope, b"", ()):
                await self._app(known(scope, None), receive, send)
                return
            if stamp is None:
                told = {"status": "error", "code": "UNAUTHORIZED", "message": "Mutual-authentication failed!"}
                await JSONResponse(told, 401)(scope, receive, send)
                return
            body = await body_of(receive, MAX_BODY)
            session = self._heard(scope, stamp, body)
        except RemoteProtocolError as error:
            await _refused("ERR_AUTH_FAILED", error.message)(scope, receive, send)
            return
        answer = Held(scope["method"])
        if (kept_out := await self._kept_out(session, scope, body)) is None:
            await self._app(known(scope, session.peer), again(body, receive), answer.send)
        else:
            await kept_out(scope, receive, answer.send)
        await answer.sign(self._speaker, session, stamp, self._entropy, send)

    # --- handshakes -------------------------------------------------------------------------------

    async def _handshake(self, body: bytes) -> Response:
        try:
            message = auth.parse_message(body)
            if message.kind == "initialRequest":
                return self._meet(message)
            if message.kind in ("certificateResponse", "certificateRequest"):
                return await self._certificates(message)
            raise RemoteProtocolError(f"cannot take a {message.kind} here", code="bad-auth-message")
        except RemoteProtocolError as error:
            return _refused("ERR_AUTH_FAILED", error.message)

    def _meet(self, hello: auth.Message) -> Response:
        ours = self._speaker.nonce(self._entropy.bytes(auth.SEED_SIZE))
        session = self.sessions.meet(hello.identity, ours, hello.initial_nonce)
        asked = self.demands.asked()
        if not asked:
            session.certified.set()
        said = auth.Message("initialResponse", self._speaker.identity, ours, "", hello.initial_nonce, asked.json())
        said = self._speaker.seal(said, hello.identity)
        return _message(said)

    async def _certificates(self, message: auth.Message) -> Response:
        session = self._session(message.your_nonce, message.identity)
        self._speaker.check(message)
        if not self.sessions.prove(session, message.nonce):
            raise RemoteProtocolError("cannot accept the auth message: it was shown before", code="replayed")
        if message.kind == "certificateResponse":
            await self._judge(session, message.certificates)
            session.certified.set()
            return JSONResponse({"status": "success"})
        # We have none to show, which is an answer.
        nonce = auth.fresh_nonce(self._entropy.bytes(auth.FRESH_SIZE))
        none = auth.Message("certificateResponse", self._speaker.identity, session.ours, nonce, session.theirs, None, [])
        return _message(self._speaker.seal(none, session.peer))

    async def _judge(self, session: Session, certificates: Sequence[Json]) -> None:
        session.shown = await self.demands.judge(session.peer, certificates)
        session.said, session.judged = certificates, self._clock.now()

    async def _kept_out(self, session: Session, scope: Scope, body: bytes) -> Response | None:
        """The answer to who does not show what the request takes; None where nothing is lacking."""
        if session.judged is not None and session.shown and abs(self._clock.now() - session.judged) > JUDGED_FOR:
            await self._judge(session, session.said)
        if not self.demands.lacking(scope, body, session.shown):
            return None
        # A client sends its first request and its certificates at once, in no order.
        try:
            async with asyncio.timeout(CERTIFICATES_WITHIN):
                await session.certified.wait()
        except TimeoutError:
            told = {"status": "error", "code": "CERTIFICATE_TIMEOUT", "message": "Certificate request timed out"}
            return JSONResponse(told | beside("certificate-timeout", "No certificate was shown in time"), 408)
        if not (why := self.demands.lacking(scope, body, session.shown)):
            return None
        told = {"status": "error", "code": "CERTIFICATE_REQUIRED", "message": why}
        return JSONResponse(told | beside("certificate-required", "A certificate is required", why), 401)

    # --- requests ---------------------------------------------------------------------------------

    def _heard(self, scope: Scope, stamp: authhttp.Stamp, body: bytes) -> Session:
        """The session of a request that its peer signed, once; RemoteProtocolError otherwise."""
        session = self._session(stamp.your_nonce, stamp.identity)
        lines = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        target = target_of(scope)
        ways = [
            authhttp.request_payload(stamp.request_id, scope["method"], target, lines, body, empty)
            for empty in (authhttp.EMPTY if not body else authhttp.EMPTY[:1])
        ]
        if not self._speaker.heard(stamp, ways):
            raise RemoteProtocolError("cannot accept the request: its signature does not fit", code="bad-signature")
        if not self.sessions.prove(session, stamp.nonce):
            raise RemoteProtocolError("cannot accept the request: it was shown before", code="replayed")
        return session

    def _session(self, ours: str, peer: bytes) -> Session:
        session = self.sessions.find(ours)
        if session is None or session.peer != peer:
            raise RemoteProtocolError("Session not found for nonce: introduce yourself again", code="no-session")
        return session


class Held:
    """What the application answers, held back until it is whole."""

    def __init__(self, method: str) -> None:
        self._bare = method == "HEAD"
        self._start: Message | None = None
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        """What the application calls."""
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if len(self._body) > MAX_ANSWER:
                raise _Broken(500)

    def whole(self) -> tuple[Message, bytes]:
        """The start and the body."""
        assert self._start is not None, "an application answers"
        return self._start, b"" if self._bare else bytes(self._body)

    async def sign(self, speaker: Speaker, session: Session, asked: authhttp.Stamp, entropy: Entropy, send: Send) -> None:
        """Send it with the stamp that says it is ours."""
        assert self._start is not None, "an application answers"
        body = b"" if self._bare else bytes(self._body)
        lines = [(n.lower(), v) for n, v in self._start["headers"] if not n.lower().startswith(authhttp.PREFIX.encode())]
        said = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in lines]
        # The reference client reads an empty body as length 0.
        payload = authhttp.answer_payload(asked.request_id, self._start["status"], said, body, authhttp.EMPTY[1])
        nonce = auth.fresh_nonce(entropy.bytes(auth.FRESH_SIZE))
        stamp = speaker.stamp(payload, session.peer, nonce, session.theirs)
        lines += [(name.encode(), value.encode()) for name, value in stamp.headers().items()]
        await send({**self._start, "headers": lines})
        await send({"type": "http.response.body", "body": bytes(self._body)})


# --- ASGI ----------------------------------------------------------------------------------------


def headers_of(scope: Scope) -> dict[str, str]:
    """Lower-case headers by name, repeated ones joined as they are signed."""
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1").strip()
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def target_of(scope: Scope) -> str:
    """Path and query as they were sent."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope.get("query_string") or b""
    return (path.partition(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1")


async def body_of(receive: Receive, most: int) -> bytes:
    """The whole body; a longer one than `most` is refused as soon as that is known."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Broken(400)
        body += message.get("body", b"")
        if len(body) > most:
            raise _Broken(413)
        if not message.get("more_body"):
            return bytes(body)


def again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, for whoever reads it next."""
    told = False

    async def replay() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def known(scope: Scope, identity: bytes | None) -> Scope:
    """The scope, with who asks."""
    return {**scope, "state": {**scope.get("state", {}), "identity": identity}}


def _message(said: auth.Message) -> Response:
    """A message as the body, which is what counts, and in the headers that some clients read."""
    headers = {
        "x-bsv-auth-version": auth.VERSION,
        "x-bsv-auth-message-type": said.kind,
        "x-bsv-auth-identity-key": said.identity.hex(),
        "x-bsv-auth-nonce": said.nonce or said.initial_nonce,
        "x-bsv-auth-your-nonce": said.your_nonce,
        "x-bsv-auth-signature": said.signature.hex(),
    }
    return Response(auth.write_message(said), media_type="application/json", headers=headers)


def _refused(code: str, description: str) -> Response:
    return JSONResponse({"status": "error", "code": code, "description": description}, 401)
