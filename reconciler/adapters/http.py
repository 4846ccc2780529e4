"""The one client behind every URL: deadlines, size caps, a breaker per host, and no hidden retries.

What a failure means is decided here and nowhere else. If nothing left the machine, or what left can be sent again
at will, it is Unavailable. If the caller said the request is irreversible and bytes may have left without an answer,
it is Uncertain, and only the caller's journal may say what happens next.

A URL that a stranger can influence is marked (`Request.stranger`) and leads to the public internet only (guard.py).

Mutual authentication and payment enter through one seam, `Conversation`: it may rewrite a request before it is sent
and answer a 402. Without one, a host that demands either is Refused rather than retried.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Protocol
from urllib.parse import urlsplit

from reconciler import __version__
from reconciler.adapters.breaker import Breaker
from reconciler.adapters.client import httpx
from reconciler.adapters.guard import Pinned, Resolver, admit, system
from reconciler.engine import heart
from reconciler.model.canonical import Json
from reconciler.model.errors import LocalProtocolError, ReconcilerError, Refused, RemoteProtocolError, Unavailable, Uncertain
from reconciler.ports import Clock
from reconciler.wire.jsontext import parse

USER_AGENT = f"reconciler/{__version__}"
# A whole call, from the first name look-up to the last byte. Overlay nodes verify and store before they answer.
DEADLINE = 30.0
# A host that cannot be reached within this is down for us; the breaker and the queue do the rest.
CONNECT_DEADLINE = 5.0
# Answers are parsed in memory. A lookup with a thousand deep ancestries stays below this; a hostile stream does not.
MAX_ANSWER = 32 * 1024 * 1024
# A host that is silent for this long within a call is gone, however long the whole call may take.
IDLE = 60.0
# What still comes after a minute comes at this many bytes a second at least: deadlines of transfers follow from sizes that
# hosts state themselves, and whoever states a terabyte and sends a byte now and then must not hold a worker for weeks.
SLOWEST_FLOW = 4096
# Every chunk of an answer costs the same work however small it is; this many may be smaller than a crumb on the average.
MAX_CRUMBS, CRUMB = 4000, 32
# Answers that mean the host itself is in trouble, as opposed to having an opinion about our request.
TROUBLE = frozenset({502, 503, 504})
# A server that says "later" is believed up to here, so that a mistaken header does not park a resource for a week.
MAX_RETRY_AFTER = 3600

# What every request says. Content is hashed and capped as it arrives; a compressed body would be neither.
_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "connection": "keep-alive", "user-agent": USER_AGENT}
_TIMEOUT = {"timeout": httpx.Timeout(IDLE, connect=CONNECT_DEADLINE, pool=None).as_dict()}
# The same few URLs are asked again and again, and reading one costs more than the rest of a request.
_url = lru_cache(512)(httpx.URL)

# The request failed before a byte of it could reach the peer.
_NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)

Body = bytes | AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. Header names are lower case; a streamed body needs its `content-length` among them.

    `terms` is what the conversation should know of the host: `identityKey` (hex33) that it must show, `chain` it is paid on.
    `stranger` says that the URL was not declared by the operator, but named by somebody else.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = b""
    terms: Mapping[str, Json] = field(default_factory=dict)
    stranger: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer read to its end. `paid` are the satoshis a conversation handed over to obtain it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    paid: int = 0

    @property
    def media_type(self) -> str:
        """The content type without parameters, lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self) -> Json:
        """The body as JSON; RemoteProtocolError when it is not."""
        return parse(self.body, f"the answer of {host_of(self.url)}")


def _nobody_minds() -> None:
    """What was paid for is the caller's to follow."""


@dataclass(frozen=True, slots=True)
class Paid:
    """A request that carries a payment, and what it is worth; `lost` is called when no answer to it can be believed."""

    request: Request
    satoshis: int
    lost: Callable[[], None] = _nobody_minds


def _any_status(status: int, headers: Mapping[str, str]) -> None:
    """Nobody wants to know what comes."""


@dataclass(frozen=True, slots=True)
class Sink:
    """Where the body of a 200 or 206 goes in pieces; `begin` hears status and headers before the first piece."""

    write: Callable[[bytes], object]
    begin: Callable[[int, Mapping[str, str]], None] = _any_status


class Conversation(Protocol):
    """Mutual authentication and payment (BRC-103/104, BRC-105) around a request."""

    async def prepare(self, request: Request) -> Request:
        """The request as it must be sent: authenticated, after whatever handshake that takes."""
        ...

    async def forgot(self, request: Request, answer: Answer) -> bool:
        """Whether this 401 only means that the peer does not know us yet, or no longer, and now does: ask once more."""
        ...

    async def accept(self, request: Request, answer: Answer) -> None:
        """RemoteProtocolError when the answer is not from the peer that was asked."""
        ...

    async def pay(self, request: Request, answer: Answer, limit: int) -> Paid | None:
        """The same request with the payment a 402 asks for; None when it asks for more than `limit` satoshis."""
        ...


class _Sent(httpx.AsyncByteStream):
    """A request body that remembers whether anybody began to read it."""

    def __init__(self, body: Body) -> None:
        self.body, self.begun = body, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun = True
        if isinstance(self.body, bytes):
            yield self.body
            return
        async for chunk in self.body:
            heart.beat()
            yield chunk


def host_of(url: str) -> str:
    """`host:port` as people write it: what breakers count and messages name."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()


class Http:
    """Every request of the program. One pool of connections, one breaker per host; redirects and cookies are not followed.

    Hosts that strangers name are looked up with `resolve`, and judged. A `transport` has names of its own, and looks nothing up.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        conversation: Conversation | None = None,
        resolve: Resolver = system,
    ) -> None:
        self.clock = clock
        self.conversation = conversation
        self.breaker = Breaker(clock)
        # Seconds for every exchange that carries no content, where somebody has set it; else the sender knows.
        self.patience: float | None = None
        # The library logs whole URLs at INFO, and upload URLs carry their authority in the query.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self._transport, self._resolve = transport, resolve
        self._opened: dict[bool, httpx.AsyncClient] = {}

    def _client(self, stranger: bool) -> httpx.AsyncClient:
        """The connections, from the first request on: reading the trusted certificates costs more than many a command."""
        if stranger not in self._opened:
            transport = self._transport or (Pinned(self._resolve) if stranger else None)
            cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
            self._opened[stranger] = httpx.AsyncClient(transport=transport, follow_redirects=False, cookies=cookies)
        return self._opened[stranger]

    async def close(self) -> None:
        """Give the connections back."""
        for client in self._opened.values():
            await client.aclose()

    async def send(
        self,
        request: Request,
        *,
        deadline: float = DEADLINE,
        limit: int = MAX_ANSWER,
        irreversible: bool = False,
        talk: bool = False,
        max_payment: int = 0,
        sink: Sink | None = None,
    ) -> Answer:
        """The answer, whatever its status, except 3xx, and 401 and 402 that nobody can satisfy (Refused).

        `talk` leads it through the conversation, which may pay up to `max_payment` satoshis once. `sink` receives
        the body of a 200 or 206 in pieces instead of `Answer.body`.
        """
        if self.patience is not None and sink is None and isinstance(request.body, bytes):
            deadline = self.patience
        if talk and self.conversation is not None:
            return await self._converse(self.conversation, request, deadline, limit, irreversible, max_payment)
        answer = await self._guarded(request, deadline, limit, irreversible, sink)
        return _satisfied(answer)

    async def _converse(
        self, peer: Conversation, request: Request, deadline: float, limit: int, irreversible: bool, max_payment: int
    ) -> Answer:
        answer = await self._heard(peer, request, deadline, limit, irreversible)
        if answer.status == 402:
            paid = await peer.pay(request, answer, max_payment)
            if paid is None:
                raise Refused(
                    "payment-limit",
                    f"cannot pay {host_of(request.url)}: it asks for more than {max_payment} satoshis",
                    hint="raise the payment limit, or choose another host",
                )
            try:
                # From here money is on its way: silence is Uncertain even where the bare request was harmless.
                answer = await self._heard(peer, paid.request, deadline, limit, True)
            except BaseException:
                paid.lost()
                raise
            answer = replace(answer, paid=paid.satoshis)
        return _satisfied(answer)

    async def _heard(self, peer: Conversation, request: Request, deadline: float, limit: int, irreversible: bool) -> Answer:
        """An answer that the peer itself gave; one that has forgotten us is met anew and asked again, once."""
        prepared = await peer.prepare(request)
        answer = await self._guarded(prepared, deadline, limit, irreversible, None)
        if answer.status == 401 and await peer.forgot(prepared, answer):
            prepared = await peer.prepare(request)
            answer = await self._guarded(prepared, deadline, limit, irreversible, None)
        await peer.accept(prepared, answer)
        return answer

    async def _guarded(self, request: Request, deadline: float, limit: int, irreversible: bool, sink: Sink | None) -> Answer:
        """One exchange behind the host's breaker; only trouble of the host itself counts against it."""
        host = host_of(request.url)
        with self.breaker.passage(host) as passage:
            answer = await self._exchange(request, deadline, limit, irreversible, sink)
            if answer.status in TROUBLE:
                passage.failed()
            return answer

    async def _exchange(self, request: Request, deadline: float, limit: int, irreversible: bool, sink: Sink | None) -> Answer:
        host = host_of(request.url)
        body = _Sent(request.body)
        try:
            heart.beat()
            outgoing = self._build(request, body)
            async with asyncio.timeout(deadline):
                response = await self._client(request.stranger).send(outgoing, stream=True)
                try:
                    return await _read(response, request.url, limit, sink)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            why = str(error) or f"no whole answer within {deadline:g} s"
            raise _silence(host, why, irreversible and body.begun) from error
        except httpx.TransportError as error:
            sent = not isinstance(error, _NOTHING_SENT)
            if _too_long(error) and not irreversible:
                raise RemoteProtocolError(f"cannot read the answer of {host}: its head has no end", code="too-large") from error
            raise _silence(host, str(error) or type(error).__name__, irreversible and sent) from error
        except httpx.InvalidURL as error:
            raise Refused("bad-url", f"cannot use {request.url!r} as a URL: {error}", hint="write https://host/path") from error

    def _build(self, request: Request, body: _Sent) -> httpx.Request:
        if request.stranger:
            admit(request.url)
        if urlsplit(request.url).scheme not in ("http", "https"):
            raise Refused("bad-url", f"cannot open {request.url!r}", hint="write https://host/path")
        headers = {**_HEADERS, **request.headers}
        if isinstance(request.body, bytes):
            if request.body or request.method in ("POST", "PUT"):
                headers["content-length"] = str(len(request.body))
            if not request.body:
                return httpx.Request(request.method, _url(request.url), headers=headers, extensions=_TIMEOUT)
        elif "content-length" not in headers:
            raise LocalProtocolError("no-length", "cannot stream a body of unknown length", hint="set content-length")
        return httpx.Request(request.method, _url(request.url), headers=headers, content=body, extensions=_TIMEOUT)


async def _read(response: httpx.Response, url: str, limit: int, sink: Sink | None) -> Answer:
    """The answer to its end, or RemoteProtocolError once it is larger than it may be."""
    host = host_of(url)
    headers = {name.lower(): value for name, value in response.headers.items()}
    encoding = headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        told = f"cannot read the answer of {host}: it is {encoding[:80]} although identity was asked for"
        raise RemoteProtocolError(told, code="bad-encoding")
    streaming = sink if response.status_code in (200, 206) else None
    if streaming is not None:
        streaming.begin(response.status_code, headers)
    body, size, pieces, moment = bytearray(), 0, 0, asyncio.get_running_loop().time
    began = moment()
    async for chunk in response.aiter_bytes():  # nothing is decoded: the encoding is identity
        heart.beat()
        size, pieces = size + len(chunk), pieces + 1
        if size > limit:
            raise RemoteProtocolError(f"cannot read the answer of {host}: it is larger than {limit} bytes", code="too-large")
        if pieces > MAX_CRUMBS and size < pieces * CRUMB:
            raise RemoteProtocolError(f"cannot read the answer of {host}: it comes in crumbs", code="too-many-pieces")
        if (took := moment() - began) > IDLE and size < took * SLOWEST_FLOW:
            raise TimeoutError(f"less than {SLOWEST_FLOW} bytes a second")
        if streaming is not None:
            streaming.write(chunk)
        else:
            body += chunk
    return Answer(response.status_code, headers, bytes(body), url)


def _too_long(error: httpx.TransportError) -> bool:
    """Whether the head of an answer, or of a piece of it, outgrew what the HTTP library keeps (100 KiB)."""
    cause: BaseException | None = error
    while cause is not None and getattr(cause, "error_status_hint", 0) != 431:
        cause = cause.__context__
    return cause is not None


def _satisfied(answer: Answer) -> Answer:
    """The answer, unless it sends us elsewhere or asks for what we cannot give."""
    host = host_of(answer.url)
    if 300 <= answer.status < 400:
        there = answer.headers.get("location", "nowhere")
        raise Refused("redirected", f"cannot use {host}: it redirects to {there}", hint="write the final address in the Network")
    if answer.status == 401:
        raise Refused(
            "unauthorised",
            f"cannot use {host}: it wants to know who asks (401)",
            hint="configure its apiKey or mutual authentication",
        )
    if answer.status == 402:
        raise Refused(
            "payment-required", f"cannot use {host}: it wants to be paid (402)", hint="choose a free host, or configure payment"
        )
    return answer


def _silence(host: str, why: str, irreversible: bool) -> ReconcilerError:
    if irreversible:
        return Uncertain("no-answer", f"cannot tell whether {host} acted: {why}", hint="the same bytes will be sent again")
    return Unavailable("no-answer", f"cannot reach {host}: {why}", hint="it will be tried again")


def retry_after(answer: Answer, clock: Clock) -> dict[str, Any]:
    """Keyword arguments for Unavailable from a Retry-After in seconds (RFC 9110, section 10.2.3); dates are ignored."""
    text = answer.headers.get("retry-after", "")
    if not text.isascii() or not text.isdecimal():
        return {}
    return {"retry_at": clock.now() + timedelta(seconds=min(int(text[:9]), MAX_RETRY_AFTER))}


def refusal(answer: Answer, what: str, clock: Clock) -> ReconcilerError:
    """What an unexpected status means: later for 408, 425, 429 and 5xx, otherwise no. `what` completes "cannot ..."."""
    host = host_of(answer.url)
    said = _reason(answer)
    if answer.status in (408, 425, 429) or answer.status >= 500:
        return Unavailable("host-trouble", f"cannot {what}: {host} answered {answer.status}{said}", **retry_after(answer, clock))
    return Refused("host-refused", f"cannot {what}: {host} answered {answer.status}{said}", hint="see what the host says")


def _reason(answer: Answer) -> str:
    """What a JSON error body says, in one line of bounded length."""
    if answer.body[:1] != b"{":
        return ""
    try:
        body = answer.json()
    except RemoteProtocolError:
        return ""
    for name in ("message", "description", "detail", "title", "error", "code"):
        if isinstance(body.get(name), str) and body[name]:
            return ": " + " ".join(body[name].split())[:200]
    return ""
