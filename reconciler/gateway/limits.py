"""How much one asker may ask for, and how a request that was sent twice is answered once. Both hold a bounded number of things.

Budgets: every request costs some units, by what it makes us do; each identity has a bucket of them that refills evenly, and so
has each address from which strangers come. Answers say what is left (RateLimit and RateLimit-Policy, as
draft-ietf-httpapi-ratelimit-headers has them); without enough left the answer is 429 with Retry-After.

Repeats: a POST with an Idempotency-Key (draft-ietf-httpapi-idempotency-key-header) is answered from memory when the same asker
sends the same request under the same key again, and refused when it is another request. That memory lasts for a day and ends with
the process; what must never happen twice, such as a payment, is kept apart by the ledger.

Both stand behind `gateway.auth.Authenticated`, which says who asks.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.gateway.auth import MAX_BODY, again, headers_of, target_of
from reconciler.gateway.problems import problem
from reconciler.ports import Clock

# Cost of a request in units, by method and path.
Cost = Callable[[str, str], int]


def asker_of(scope: Scope) -> str:
    """Who asks: `id:` and the proven identity key, or `ip:` and the address a stranger comes from; of IPv6 the network (/64)."""
    identity = (scope.get("state") or {}).get("identity")
    if identity:
        return f"id:{identity.hex()}"
    host = (scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"ip:{host}"
    return f"ip:{ipaddress.ip_network((int(address), 64), strict=False)}" if address.version == 6 else f"ip:{address}"


# --- budgets --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Allowance:
    """`units` at once, and as many again every `window`. `name` is what RateLimit calls it."""

    name: str
    units: int
    window: timedelta


# A person who looks around needs little; who signs pays, and is rather held back by prices and access policies than by this.
STRANGERS = Allowance("address", 600, timedelta(minutes=1))
KNOWN = Allowance("identity", 60_000, timedelta(minutes=1))
GREETINGS = Allowance("handshake", 600, timedelta(minutes=1))
# Buckets of each sort; the ones that were not used for longest make room, and those are the fullest.
MAX_BUCKETS = 20_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request passes, the whole units that are left, and seconds: until all are back, and until another try."""

    passes: bool
    left: int
    full: int
    retry: int


class Buckets:
    """What each asker has left of one allowance."""

    def __init__(self, allowance: Allowance, most: int = MAX_BUCKETS) -> None:
        self.allowance, self._most = allowance, most
        self._held: OrderedDict[str, tuple[float, datetime]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def take(self, asker: str, cost: int, now: datetime) -> Verdict:
        """Take the cost out of the asker's bucket if it holds that much; what costs more than a bucket holds takes all of it."""
        size, rate = self.allowance.units, self.allowance.units / self.allowance.window.total_seconds()
        level, since = self._held.pop(asker, (float(size), now))
        # A clock that was set back fills nothing.
        level = min(float(size), level + max(0.0, (now - since).total_seconds()) * rate)
        due = min(cost, size)
        passes = level >= due
        level -= due if passes else 0
        if level < size:
            self._held[asker] = (level, now)
        while len(self._held) > self._most:
            self._held.popitem(last=False)
        return Verdict(passes, int(level), math.ceil((size - level) / rate), max(1, math.ceil((due - level) / rate)))


class Limited:
    """The middleware: strangers share a bucket by address, the known have one each. `cost` says what a request takes."""

    def __init__(
        self,
        app: ASGIApp,
        clock: Clock,
        *,
        cost: Cost = lambda method, path: 1,
        strangers: Allowance = STRANGERS,
        known: Allowance = KNOWN,
    ) -> None:
        self._app, self._clock, self._cost = app, clock, cost
        self.strangers, self.known = Buckets(strangers), Buckets(known)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request pass, or answer 429."""
        cost = self._cost(scope["method"], scope["path"]) if scope["type"] == "http" else 0
        if cost == 0:
            await self._app(scope, receive, send)
            return
        asker = asker_of(scope)
        # A token is shown instead of a signature. That it is none costs us next to nothing to find out.
        known = asker.startswith("id:") or b"access=" in (scope.get("query_string") or b"")
        buckets = self.known if known else self.strangers
        verdict, allowance = buckets.take(asker, cost, self._clock.now()), buckets.allowance

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["ratelimit-policy"] = f'"{allowance.name}";q={allowance.units};w={int(allowance.window.total_seconds())}'
                headers["ratelimit"] = f'"{allowance.name}";r={verdict.left};t={verdict.full}'
            await send(message)

        if verdict.passes:
            await self._app(scope, receive, marked)
            return
        seconds = int(allowance.window.total_seconds())
        told = f"cannot answer so many requests: {allowance.units} units in {seconds} seconds are spent"
        hint = f"wait {verdict.retry} seconds, or sign requests with an identity"
        response = problem("rate-limited", told, hint=hint, headers={"retry-after": str(verdict.retry)})
        await response(scope, receive, marked)


# --- repeats --------------------------------------------------------------------------------------

HEADER = "idempotency-key"
KEPT_FOR = timedelta(days=1)
MAX_KEY = 255
# Keys of one asker, and what is kept of all of them together.
MAX_KEYS, MAX_HELD = 200, 32 * 1024 * 1024
# A longer answer is not kept: it is content, and fetching that again changes nothing.
MAX_ANSWER = 64 * 1024
# The longest body under a key that a stranger may send; one who is known may send what he may send anyhow.
_MAX_BODY = 1024 * 1024
# What a key takes beside the answer it holds.
_OVERHEAD = 512
# Of these the next attempt must learn anew: who asks, what is to be paid, whether it is time.
_PASSING = frozenset({401, 402, 408, 409, 413, 425, 429})


@dataclass(slots=True)
class _Told:
    """What a key stands for: the request by its digest, and the answer once there is one."""

    request: bytes
    since: datetime
    start: Message | None = None
    body: bytes = b""

    @property
    def size(self) -> int:
        return _OVERHEAD + len(self.body)


class Repeats:
    """Answers by asker and key, bounded in number, size and time."""

    def __init__(self, most: int = MAX_HELD) -> None:
        self._most, self.held = most, 0
        self._told: OrderedDict[tuple[str, str], _Told] = OrderedDict()
        self._keys: dict[str, OrderedDict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._told)

    def find(self, asker: str, key: str, now: datetime) -> _Told | None:
        """What the key stands for, unless that was too long ago."""
        found = self._told.get((asker, key))
        if found is not None and now - found.since > KEPT_FOR:
            self.forget(asker, key)
            return None
        return found

    def begin(self, asker: str, key: str, told: _Told) -> None:
        """A request is being answered under the key."""
        self._told[asker, key] = told
        keys = self._keys.setdefault(asker, OrderedDict())
        keys[key] = None
        self.held += told.size
        if len(keys) > MAX_KEYS:
            self.forget(asker, next(iter(keys)))
        self._shrink()

    def end(self, asker: str, key: str, start: Message, body: bytes) -> None:
        """It was answered so."""
        told = self._told.get((asker, key))
        if told is not None:
            told.start, told.body = start, body
            self.held += len(body)
            self._shrink()

    def forget(self, asker: str, key: str) -> None:
        """The key is free again."""
        told = self._told.pop((asker, key), None)
        if told is None:
            return
        self.held -= told.size
        keys = self._keys[asker]
        del keys[key]
        if not keys:
            del self._keys[asker]

    def _shrink(self) -> None:
        while self.held > self._most and len(self._told) > 1:
            self.forget(*next(iter(self._told)))


class Idempotent:
    """The middleware: the same POST under the same key has one answer."""

    def __init__(self, app: ASGIApp, clock: Clock, repeats: Repeats | None = None) -> None:
        self._app, self._clock = app, clock
        self.repeats = Repeats() if repeats is None else repeats

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from memory what was answered before; pass on everything else."""
        key = headers_of(scope).get(HEADER) if scope["type"] == "http" and scope["method"] == "POST" else None
        if key is None:
            await self._app(scope, receive, send)
            return
        answer = await self._answer(key, scope, receive, send)
        if answer is not None:
            await answer(scope, receive, send)

    async def _answer(self, key: str, scope: Scope, receive: Receive, send: Send) -> ASGIApp | None:
        if not 1 <= len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
            return problem("bad-idempotency-key", f"cannot use a key that is not 1 to {MAX_KEY} printable ASCII characters")
        asker, now = asker_of(scope), self._clock.now()
        most = MAX_BODY if asker.startswith("id:") else _MAX_BODY
        body = await _whole(receive, most)
        if body is None:
            return problem("too-large", f"cannot take a body of more than {most} bytes under an Idempotency-Key")
        request = hashlib.sha256(target_of(scope).encode() + b"\n" + body).digest()
        told = self.repeats.find(asker, key, now)
        if told is not None and told.request != request:
            hint = "take a new key for a new request"
            return problem("idempotency-key-reused", "cannot use one Idempotency-Key for two requests", hint=hint)
        if told is not None and told.start is None:
            answering = "cannot answer yet: the same request is being answered"
            return problem("in-progress", answering, hint="send it again in a moment", headers={"retry-after": "1"})
        if told is not None:
            return _again(told)
        self.repeats.begin(asker, key, _Told(request, now))
        await self._fresh(asker, key, body, scope, receive, send)
        return None

    async def _fresh(self, asker: str, key: str, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the request answered, and keep the answer where it will be the same again."""
        start: Message | None = None
        kept, whole = bytearray(), False

        async def listened(message: Message) -> None:
            nonlocal start, whole
            if message["type"] == "http.response.start":
                start = {**message, "headers": list(message.get("headers", ()))}
            elif message["type"] == "http.response.body":
                if len(kept) <= MAX_ANSWER:
                    kept.extend(message.get("body", b""))
                whole = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, again(body, receive), listened)
        finally:
            lasting = start is not None and start["status"] < 500 and start["status"] not in _PASSING
            if whole and lasting and len(kept) <= MAX_ANSWER and start is not None:
                self.repeats.end(asker, key, start, bytes(kept))
            else:
                self.repeats.forget(asker, key)


def _again(told: _Told) -> ASGIApp:
    """The kept answer, marked as one."""
    assert told.start is not None
    start, body = told.start, told.body

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        lines = [(name, value) for name, value in start["headers"] if not name.lower().startswith((b"x-bsv-auth", b"ratelimit"))]
        await send({**start, "headers": [*lines, (b"idempotency-replayed", b"true")]})
        await send({"type": "http.response.body", "body": body})

    return answer


async def _whole(receive: Receive, most: int) -> bytes | None:
    """The body; None when it is longer than is taken, or its sender left."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > most:
            return None
        if not message.get("more_body"):
            return bytes(body)
