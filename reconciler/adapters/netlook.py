"""Looking at every host of a network, one after the other, without a ledger, a key or a write: what is wrong, and what to do.

Besides what each host says, every answer carries a Date (RFC 9110, 6.6.1): the middle one of all hosts is the time, and
whoever is far from it has a wrong clock, be it a host or this machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from statistics import median

from reconciler.adapters.chain import ArcChain
from reconciler.adapters.client import httpx
from reconciler.adapters.headers import HeaderSources
from reconciler.adapters.http import Http, Request, host_of
from reconciler.adapters.overlay import HttpOverlay
from reconciler.adapters.storage import StorageHosts
from reconciler.kinds.network import Net
from reconciler.model.change import FeeRate
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import ReconcilerError, Refused, RemoteProtocolError, Unavailable
from reconciler.ports import Clock
from reconciler.wire import overlay as wire
from reconciler.wire.proof import parse_header

# Clocks that differ by more than this make quotes run out and signatures look old.
SKEW = 30.0
# Blocks come every ten minutes on the average; six hours without one is not bad luck.
STALE = 6 * 3600.0
# Chains whose blocks come by themselves.
LIVE = ("main", "test")
_SIZE, _MINUTES = 1024, 24 * 60
_NO_TRANSACTION = "00" * 32


@dataclass(frozen=True, slots=True)
class Visit:
    """What one host showed: `fix` is for a host that is not `ok`."""

    name: str
    ok: bool
    said: str
    fix: str = ""


class Wrong(Exception):
    """A host that answers, and is not fit; says what to do."""

    def __init__(self, said: str, fix: str) -> None:
        super().__init__(said)
        self.fix = fix


class Dated(httpx.AsyncBaseTransport):
    """A transport that remembers by how many seconds each host's Date is ahead of our clock."""

    def __init__(self, inner: httpx.AsyncBaseTransport, clock: Clock) -> None:
        self._inner, self._clock = inner, clock
        self.ahead: dict[str, float] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass it on."""
        began = self._clock.now()
        response = await self._inner.handle_async_request(request)
        try:
            said = parsedate_to_datetime(response.headers.get("date", ""))
        except ValueError:
            return response
        if said.tzinfo is not None:
            # A Date is cut to whole seconds, and told somewhere between question and answer.
            middle = began + (self._clock.now() - began) / 2
            self.ahead[host_of(str(request.url))] = (said - middle).total_seconds() + 0.5
        return response

    async def aclose(self) -> None:
        """Close the transport inside."""
        await self._inner.aclose()


class NetLook:
    """Looks at networks. `transport` carries the requests."""

    def __init__(self, clock: Clock, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._clock = clock
        self._dated = Dated(transport or httpx.AsyncHTTPTransport(), clock)
        self._http = Http(clock, transport=self._dated)
        self._overlay, self._storage = HttpOverlay(self._http), StorageHosts(self._http)
        self._chain = ArcChain(self._http, HeaderSources(self._http))

    async def visit(self, net: Net, topics: Collection[str], services: Collection[str]) -> list[Visit]:
        """Each host in turn, and the clocks. `topics` and `services` are what our resources need of an overlay host."""
        found = [await _visit("overlay", host, lambda host: self._overlays(host, topics, services)) for host in net.overlays]
        found += [await _visit("storage", host, self._stores) for host in net.storage]
        found += [await _visit("broadcaster", host, lambda host: self._sends(host, net)) for host in net.broadcasters]
        found += [await _visit("headers", net.headers, lambda host: self._proves(host, net))]
        return [*found, *self._clocks()]

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _overlays(self, host: Endpoint, topics: Collection[str], services: Collection[str]) -> str:
        report = await self._overlay.health(host)
        if not report["healthy"]:
            told = f"it answers {report['status']} on /health, and other nodes will drop it"
            raise Wrong(told, "tell its operator, or name another host")
        held, asked = await self._listed(host, "/listTopicManagers"), await self._listed(host, "/listLookupServiceProviders")
        lacking = sorted({*topics, *services} - {*held, *asked})
        if lacking:
            fix = "send its operator what reconciler export brc102 writes, or name a host that serves them"
            raise Wrong(f"healthy, but it does not serve {', '.join(lacking)}", fix)
        return f"healthy, serves {len(held)} topics and {len(asked)} lookup services"

    async def _listed(self, host: Endpoint, path: str) -> Sequence[str]:
        answer = await self._http.send(Request("GET", host.url.rstrip("/") + path))
        if answer.status != 200:
            raise Wrong(f"it answers {answer.status} on {path}", "check the address: this is no overlay node, or an old one")
        return wire.parse_listing(answer.body)

    async def _stores(self, host: Endpoint) -> str:
        price = await self._storage.quote(host, _SIZE, _MINUTES)
        most = host.options.get("maxPayment")
        if price and host.kind in ("", "uhrp") and not most:
            raise Wrong(f"it asks {price} sat for 1 KiB and a day", "say how much may be paid an upload: maxPayment")
        return f"asks {price} sat for 1 KiB and a day"

    async def _sends(self, host: Endpoint, net: Net) -> str:
        # One that is silent has a fallback rate; a question about a transaction has no answer without it.
        await self._chain.status(_NO_TRANSACTION, [host])
        rate = await self._chain.fee_rate([host])
        told = f"asks {rate.satoshis} sat per {rate.bytes} bytes"
        if net.max_rate is not None and FeeRate(*net.max_rate).below(rate):
            raise Wrong(f"{told}, more than fees.max", "raise fees.max, or name another broadcaster")
        return told

    async def _proves(self, host: Endpoint, net: Net) -> str:
        height = await self._chain.tip(host)
        header = await self._chain.header(height, host)
        if header is None:
            raise Wrong(f"it names height {height} and has no header there", "ask its operator, or name another source")
        age = self._clock.now().timestamp() - parse_header(header.raw, height).time
        if net.chain in LIVE and age > STALE:
            fix = "let it catch up, or name another source: what is mined now cannot be proven with it"
            raise Wrong(f"its newest block, {height}, is {age / 3600:.0f} hours old", fix)
        return f"tip at height {height}"

    def _clocks(self) -> list[Visit]:
        """The middle of all clocks against ours, and each host's against the middle."""
        ahead = self._dated.ahead
        if not ahead:
            return []
        middle, now = median(ahead.values()), self._clock.now().replace(microsecond=0)
        if abs(middle) > SKEW:
            theirs = datetime.fromtimestamp(now.timestamp() + middle, UTC)
            told = f"it is {now:%Y-%m-%d %H:%M:%S}Z here, and {theirs:%Y-%m-%d %H:%M:%S}Z for the hosts"
            own = Visit("clock", False, told, "set the clock, and keep it set: timedatectl set-ntp true")
        else:
            own = Visit("clock", True, f"{abs(middle):.0f} s from the middle of {len(ahead)} hosts")
        off = {host: one - middle for host, one in sorted(ahead.items()) if abs(one - middle) > SKEW}
        fix = "tell its operator: what it signs and quotes looks old, or early"
        return [own, *(Visit(f"clock of {host}", False, f"{one:+.0f} s from the others", fix) for host, one in off.items())]


async def _visit(kind: str, host: Endpoint, ask: Callable[[Endpoint], Awaitable[str]]) -> Visit:
    label = f"{kind} {host.name}" if kind != host.name else kind
    try:
        return Visit(label, True, f"{await asyncio.wait_for(ask(host), 60)}  {host.url}")
    except Wrong as wrong:
        return Visit(label, False, str(wrong), wrong.fix)
    except TimeoutError:
        return Visit(label, False, "no whole answer within a minute", f"check {host.url}, and the way there")
    except ReconcilerError as error:
        return Visit(label, False, error.message, _fix(error, host))


def _fix(error: ReconcilerError, host: Endpoint) -> str:
    """What the sort of failure asks for."""
    if error.code == "unauthorised" or (isinstance(error, Refused) and "401" in error.message):
        return f"give {host.name} its apiKey, or the identityKey it must prove"
    if isinstance(error, Unavailable):
        return f"check {host.url} in the Network manifest, the way there, and whether it is up"
    if isinstance(error, RemoteProtocolError):
        return f"check what {host.url} is: it does not answer as one of its kind does"
    return error.hint or f"see what {host.url} says, or name another host"
