"""Hosts that nobody declared, found as the reference clients find them (BRC-88), and believed only where they prove it.

Who answers a lookup service is what the SLAP tokens say that the trackers list; who keeps a topic is what the SHIP tokens say
that the hosts of ls_ship list. Deployed clients believe what they are told. Here a token counts when the key it names signed and
locked it, when its name and address are ones nodes admit, and when its transaction is proven against our own headers.

All hosts are asked at once. The first answer that holds anything leaves the others a moment more; what they give is joined by
outpoint. A host that fails rests for a while (wire/reputation.py); that all of them rest is an error, not an empty answer.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from reconciler.adapters.http import host_of
from reconciler.adapters.remembered import Remembered
from reconciler.model.canonical import Json
from reconciler.model.endpoint import Directory, Endpoint
from reconciler.model.errors import ReconcilerError, Refused, RemoteProtocolError, Unavailable, Uncertain
from reconciler.ports import Chain, Clock, Found, Overlay
from reconciler.wire import advert, descriptor, reputation, uhrp
from reconciler.wire.beef import parse_beef
from reconciler.wire.proof import roots_needed, verify_beef

# Seconds a tracker or a host is waited for.
PATIENCE = 5.0
# Seconds that the others have left once somebody has answered with something.
GRACE = 0.08
# Anybody can advertise for a few satoshis, and each host that is asked costs time and memory: no more of them than this.
MOST_HOSTS = 16
# Tokens asked for at a time; a tracker that is asked for everything would answer with everything.
_PAGE = 200


@dataclass(frozen=True, slots=True)
class _Said:
    """What one host answered, as far as it holds; `fault` is why it counts for nothing."""

    found: tuple[Found, ...] = ()
    fault: ReconcilerError | None = None


class Resolver:
    """The Discovery port over the Overlay and Chain ports."""

    def __init__(self, clock: Clock, overlay: Overlay, chain: Chain) -> None:
        self._clock, self._overlay, self._chain = clock, overlay, chain
        self.reputations: dict[str, reputation.Reputation] = {}
        self._serving: Remembered[tuple[str, ...]] = Remembered(clock)
        self._keeping: Remembered[tuple[tuple[str, tuple[str, ...]], ...]] = Remembered(clock)

    async def close(self) -> None:
        """End what is still being asked behind answers that were handed out."""
        await self._serving.close()
        await self._keeping.close()

    async def discover(self, directory: Directory, service: str) -> Sequence[Endpoint]:
        """The hosts that answer a lookup service, those first that answer soonest; resting ones are left out."""
        return self._ready(await self._hosts(directory, service), service, directory.declared)

    async def find(self, directory: Directory, service: str, query: Json) -> Sequence[Found]:
        """What the hosts of the service answer together, each output once and proven."""
        hosts = await self._hosts(directory, service)
        if not hosts:
            raise Unavailable("no-hosts", f"cannot ask {service}: no tracker knows a host that answers it")
        return await self._together(directory, self._ready(hosts, service, directory.declared), service, query)

    async def interested(self, directory: Directory, topics: Sequence[str]) -> Sequence[tuple[Endpoint, tuple[str, ...]]]:
        """The hosts that were not declared and advertise some of these topics, each with those it advertises."""
        if not directory.trackers or not topics:
            return ()
        key, names = (directory.chain, directory.trackers, *topics), tuple(topics)
        keepers = await self._keeping.get(key, directory.ttl, lambda: self._keepers(directory, names))
        declared = {host.url for host in directory.declared}
        served = {url: names for url, names in keepers if url not in declared}
        up, _ = reputation.ready(tuple(served), self.reputations, self._clock.now())
        return tuple((_stranger(url, directory), served[url]) for url in up[:MOST_HOSTS])

    # --- who serves what -------------------------------------------------------------------------------------------

    async def _hosts(self, directory: Directory, service: str) -> tuple[Endpoint, ...]:
        """Every host that may be asked for the service: fixed ones alone, else the declared and the discovered."""
        if service in directory.fixed:
            return tuple(_declared(url) for url in directory.fixed[service])
        if not directory.trackers:
            return directory.declared
        if service == advert.SERVICES[advert.SLAP]:
            return tuple(_declared(url) for url in directory.trackers)
        key = (directory.chain, directory.trackers, service)
        found = await self._serving.get(key, directory.ttl, lambda: self._servers(directory, service))
        declared = {host.url for host in directory.declared}
        return (*directory.declared, *(_stranger(url, directory) for url in found if url not in declared))

    async def _servers(self, directory: Directory, service: str) -> tuple[str, ...]:
        """Ask every tracker for the SLAP tokens of a service: the addresses they name."""
        named = tuple(_declared(url) for url in directory.trackers)
        trackers = self._ready(named, "the trackers", named)
        query = advert.query(advert.SLAP, names=[service], limit=_PAGE)
        tokens = await self._together(directory, trackers, advert.SERVICES[advert.SLAP], query)
        return tuple(one.domain for one in _adverts(tokens, directory) if one.name == service)

    async def _keepers(self, directory: Directory, topics: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Ask the hosts of ls_ship for the SHIP tokens of these topics: address -> topics."""
        query = advert.query(advert.SHIP, names=topics, limit=_PAGE)
        try:
            tokens = await self.find(directory, advert.SERVICES[advert.SHIP], query)
        except Unavailable as error:
            if error.code == "no-hosts":
                return ()
            raise
        said: dict[str, set[str]] = {}
        for one in _adverts(tokens, directory):
            if one.name in topics:
                said.setdefault(one.domain, set()).add(one.name)
        return tuple((url, tuple(sorted(names))) for url, names in said.items())

    def _ready(self, hosts: Sequence[Endpoint], what: str, sure: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
        """Those that may be asked now, best first; Unavailable when all of them rest. No crowd pushes out who is `sure`."""
        by_url = {host.url: host for host in hosts}
        up, again = reputation.ready(tuple(by_url), self.reputations, self._clock.now())
        if not up and again is not None:
            message = f"cannot ask {what}: {len(by_url)} of {len(by_url)} hosts failed too often and rest"
            raise Unavailable("hosts-backing-off", message, retry_at=again)
        own = {host.url for host in sure}
        crowd = {url: place for place, url in enumerate(url for url in up if url not in own)}
        return tuple(by_url[url] for url in up if crowd.get(url, 0) < MOST_HOSTS)

    # --- asking ----------------------------------------------------------------------------------------------------

    async def _together(self, directory: Directory, hosts: Sequence[Endpoint], service: str, query: Json) -> tuple[Found, ...]:
        """Ask all at once and join what holds; Unavailable when nobody gave an answer."""
        said = await _race([self._ask(directory, host, service, query) for host in hosts])
        if not any(one.fault is None for one in said):
            faults = sorted({one.fault.message for one in said if one.fault is not None})
            raise Unavailable("hosts-silent", f"cannot ask {service}: {'; '.join(faults) or 'nobody answered in time'}")
        joined = {str(token.outpoint): token for one in said for token in one.found}
        return tuple(joined.values())

    async def _ask(self, directory: Directory, host: Endpoint, service: str, query: Json) -> _Said:
        """One host, and what its answer does to its name."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(PATIENCE):
                page = await self._overlay.lookup(host, service, query)
        except TimeoutError:
            return self._failed(host, Unavailable("no-answer", f"{host.name} gave no answer within {PATIENCE:g} s"))
        except Refused as error:
            # It answered, and does not serve this: an opinion, not a failure of the host.
            return _Said(fault=error)
        except (Unavailable, Uncertain, RemoteProtocolError) as error:
            return self._failed(host, error)
        took = 1000 * (loop.time() - began)
        try:
            proven = await self._proven(page, service, directory)
        except (Unavailable, Refused) as error:  # our own headers are out of reach: nothing is known of the host
            return _Said(fault=error)
        if page and not proven:
            return self._failed(host, RemoteProtocolError(f"cannot believe {host.name}: nothing it shows can be proven"))
        self.reputations[host.url] = reputation.answered(self.reputations.get(host.url, reputation.NEW), took)
        return _Said(proven)

    def _failed(self, host: Endpoint, error: ReconcilerError) -> _Said:
        # A shut breaker is what is remembered of failures already counted.
        if error.code != "breaker-open":
            known = self.reputations.get(host.url, reputation.NEW)
            self.reputations[host.url] = reputation.failed(known, self._clock.now(), unnamed=_unnamed(error))
        return _Said(fault=error)

    async def _proven(self, page: Sequence[Found], service: str, directory: Directory) -> tuple[Found, ...]:
        """The answers whose transaction holds and whose token is what this service lists."""
        roots: dict[int, str | None] = {}
        kept = []
        for one in page:
            try:
                beef = parse_beef(one.beef)
                for height in sorted({height for height, _ in roots_needed(beef)} - set(roots)):
                    header = await self._chain.header(height, directory.headers)
                    roots[height] = None if header is None else header.merkle_root
                verify_beef(beef, lambda height, root: roots[height] == root)
                _genuine(service, beef.transaction(one.outpoint.txid).outputs[one.outpoint.vout].script, directory)
            except (RemoteProtocolError, IndexError, KeyError):
                continue
            kept.append(one)
        return tuple(kept)


async def _race(asks: Sequence[Coroutine[Any, Any, _Said]]) -> list[_Said]:
    """What was said by the time all have spoken, or a moment after the first that had something to say."""
    loop = asyncio.get_running_loop()
    pending = {asyncio.ensure_future(ask) for ask in asks}
    said: list[_Said] = []
    until: float | None = None
    try:
        while pending:
            left = None if until is None else max(0.0, until - loop.time())
            done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            said += [task.result() for task in done]
            if until is None and any(one.found for one in said):
                until = loop.time() + GRACE
        return said
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


def _genuine(service: str, script: bytes, directory: Directory) -> None:
    """RemoteProtocolError unless the output is a token that this service could list, signed by the identity it names."""
    if service in _ADVERTS:
        found = advert.parse_advert(script, plain_http=directory.chain == "devnet")
        if found.type != _ADVERTS[service]:
            raise RemoteProtocolError(f"cannot believe {service}: it lists a {found.type} token")
    elif service in _TOKENS:
        _TOKENS[service](script)


_ADVERTS: Mapping[str, str] = {service: kind for kind, service in advert.SERVICES.items()}
_TOKENS = {"ls_uhrp": uhrp.parse_uhrp_token, descriptor.SERVICE: descriptor.parse_descriptor}


def _adverts(tokens: Iterable[Found], directory: Directory) -> list[advert.Advert]:
    """The advertisements of proven tokens whose hosts an ordinary client can call, addresses without a trailing slash."""
    schemes = ("https", "http") if directory.chain == "devnet" else ("https",)
    found: dict[tuple[str, str], advert.Advert] = {}
    for token in tokens:
        script = parse_beef(token.beef).transaction(token.outpoint.txid).outputs[token.outpoint.vout].script
        said = advert.parse_advert(script, plain_http="http" in schemes)
        if urlsplit(said.domain).scheme in schemes:
            url = said.domain.rstrip("/")
            found.setdefault((url, said.name), advert.Advert(said.type, said.identity, url, said.name))
    return list(found.values())


def _declared(url: str) -> Endpoint:
    return Endpoint(host_of(url), url.rstrip("/"))


def _stranger(url: str, directory: Directory) -> Endpoint:
    """A host as somebody's token names it. On a devnet every host is on this machine, and none is kept away from it."""
    return Endpoint(host_of(url), url, stranger=directory.chain != "devnet")


def _unnamed(error: BaseException) -> bool:
    """Whether the failure is, at its root, a name that does not resolve."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return True
        cause = cause.__cause__
    return False
