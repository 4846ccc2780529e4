"""The network between a client and the hosts of a world: an httpx transport that runs each host's ASGI app in process.

Weather is data. A `Fault` says what goes wrong, where and how often; which of the matching requests it strikes is
drawn from the seed. The exceptions are those httpx raises on a real socket, so a client cannot tell the difference:
nothing was sent (ConnectError, ConnectTimeout), or it was sent and the answer is missing (ReadTimeout).
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import httpx
from starlette.types import ASGIApp

from reconciler.devnet.door import exchange

# A client that set no timeout waits this long for an answer that will not come; real sockets are reset in the end too.
_PATIENCE = 3600.0


class Trouble(Enum):
    """What can befall one exchange."""

    REFUSE = "refuse"  # connection refused: the host saw nothing
    LOSE = "lose"  # the host did its work, the answer never arrives
    DELAY = "delay"  # the host did its work, the answer takes `seconds`
    DUPLICATE = "duplicate"  # the request arrives twice; the second answer is the one seen
    STATUS = "status"  # a front proxy answers `status`; the host saw nothing
    CORRUPT = "corrupt"  # one byte of the answer's body is flipped


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of trouble and the requests it may strike.

    `host` "*" means every host; `path` is a prefix; the first `skip` matches pass, then at most `times` are
    struck (None: without end), each with `probability`.
    """

    trouble: Trouble
    host: str = "*"
    path: str = "/"
    method: str = "*"
    probability: float = 1.0
    skip: int = 0
    times: int | None = None
    seconds: float = 0.0
    status: int = 503

    def matches(self, request: httpx.Request) -> bool:
        """Whether this request is one the fault may strike."""
        return (
            self.host in ("*", request.url.host)
            and request.url.path.startswith(self.path)
            and self.method in ("*", request.method)
        )


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request as the network saw it; `status` is 0 when the client got no answer."""

    method: str
    host: str
    path: str
    status: int
    troubles: tuple[Trouble, ...] = ()


@dataclass(slots=True)
class _Armed:
    fault: Fault
    met: int = 0
    struck: int = 0


class Network(httpx.AsyncBaseTransport):
    """Host name -> app. `down` hosts refuse connections, `partitioned` hosts swallow them.

    A host that is not in `apps` is unknown to DNS, unless `beyond` carries requests to the world outside.
    """

    def __init__(self, apps: Mapping[str, ASGIApp], *, seed: int = 0, beyond: httpx.AsyncBaseTransport | None = None) -> None:
        self.apps = dict(apps)
        self.down: set[str] = set()
        self.partitioned: set[str] = set()
        self.exchanges: list[Exchange] = []
        self._beyond = beyond
        self._armed: list[_Armed] = []
        self._random = random.Random(seed)  # noqa: S311 - reproducibility is the purpose

    def arm(self, *faults: Fault) -> None:
        """Let these faults strike from now on."""
        self._armed += [_Armed(fault) for fault in faults]

    def calm(self) -> None:
        """No faults, every host up and reachable."""
        self._armed.clear()
        self.down.clear()
        self.partitioned.clear()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry one request, through whatever weather strikes it."""
        struck = self._strike(request)
        troubles = tuple(fault.trouble for fault in struck)
        status = 0
        try:
            response = await self._carry(request, {fault.trouble: fault for fault in struck})
            status = response.status_code
            return response
        finally:
            self.exchanges.append(Exchange(request.method, request.url.host, request.url.path, status, troubles))

    async def aclose(self) -> None:
        """Close the way out, when there is one."""
        if self._beyond is not None:
            await self._beyond.aclose()

    def _strike(self, request: httpx.Request) -> Sequence[Fault]:
        struck = []
        for armed in self._armed:
            fault = armed.fault
            if not fault.matches(request):
                continue
            armed.met += 1
            spent = fault.times is not None and armed.struck >= fault.times
            if armed.met > fault.skip and not spent and self._random.random() < fault.probability:
                armed.struck += 1
                struck.append(fault)
        return struck

    async def _carry(self, request: httpx.Request, troubles: Mapping[Trouble, Fault]) -> httpx.Response:
        host = request.url.host
        if host not in self.apps:
            if self._beyond is not None:
                return await self._beyond.handle_async_request(request)
            unknown = socket.gaierror(-2, "Name or service not known")
            raise httpx.ConnectError(f"{unknown}: {host}", request=request) from unknown
        if host in self.partitioned:
            await asyncio.sleep(_timeout(request, "connect"))
            raise httpx.ConnectTimeout(f"no route to {host}", request=request)
        if host in self.down or Trouble.REFUSE in troubles:
            raise httpx.ConnectError(f"[Errno 111] Connection refused: {host}", request=request)
        if fault := troubles.get(Trouble.STATUS):
            return httpx.Response(fault.status, text=f"{fault.status} from the proxy before {host}", request=request)
        response = await self._deliver(request, twice=Trouble.DUPLICATE in troubles)
        return await self._return(request, response, troubles)

    async def _deliver(self, request: httpx.Request, *, twice: bool) -> httpx.Response:
        app = self.apps[request.url.host]
        if not twice:
            return await exchange(app, request)
        body = b"".join([chunk async for chunk in _stream(request)])
        for _ in range(2):
            again = httpx.Request(request.method, request.url, headers=request.headers, content=body)
            response = await exchange(app, again)
        return response

    async def _return(
        self, request: httpx.Request, response: httpx.Response, troubles: Mapping[Trouble, Fault]
    ) -> httpx.Response:
        patience = _timeout(request, "read")
        delay = troubles[Trouble.DELAY].seconds if Trouble.DELAY in troubles else 0.0
        if Trouble.LOSE in troubles or delay > patience:
            await response.aread()
            await asyncio.sleep(patience)
            raise httpx.ReadTimeout(f"no answer from {request.url.host} within {patience:g} s", request=request)
        if delay:
            await asyncio.sleep(delay)
        if Trouble.CORRUPT in troubles:
            return _flip(response, await response.aread(), self._random)
        return response


def _timeout(request: httpx.Request, phase: str) -> float:
    limits: Mapping[str, Any] = request.extensions.get("timeout", {})
    value = limits.get(phase)
    return _PATIENCE if value is None else float(value)


async def _stream(request: httpx.Request) -> AsyncIterator[bytes]:
    if isinstance(request.stream, httpx.AsyncByteStream):
        async for chunk in request.stream:
            yield chunk


def _flip(response: httpx.Response, body: bytes, source: random.Random) -> httpx.Response:
    """The same answer with one bit wrong; an empty body has nothing to flip."""
    if body:
        at = source.randrange(len(body))
        body = body[:at] + bytes([body[at] ^ 1 << source.randrange(8)]) + body[at + 1 :]
    return httpx.Response(response.status_code, headers=response.headers, content=body)
