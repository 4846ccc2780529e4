"""The network between the daemons and the hosts of a world, with a schedule of faults drawn from the seed.

A request that left arrives, whatever becomes of its sender: hosts work in tasks of their own. So an answer may be lost, a request
may come twice, or arrive long after the client gave up, when others have overtaken it. Each process has its own way to each host,
so a partition may cut off one of them and not the other. Hosts that lie say what no honest host would, in well-formed answers.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import httpx

from reconciler.devnet.world import World
from reconciler.wire import arc, overlay
from reconciler.wire.beef import parse_beef
from reconciler.wire.bump import from_block
from tests.simulator.life import Life

# What asks for nothing but an answer; a kill before or after it is no step of its own.
_READS = ("/lookup", "/quote", "/verify")
# The share of each trouble among the exchanges that are struck.
TROUBLES = {"refuse": 4, "vanish": 3, "lose": 4, "delay": 3, "late": 3, "twice": 3, "503": 3, "500": 2, "429": 1}
_CODES = {"503": 503, "500": 500, "429": 429}
# Longer than any deadline of a client: such a request arrives after its sender gave up on it.
_LATEST = 90.0
_NOBODY = "02" + "00" * 31 + "01"


class Lie(Enum):
    """What a host may say against its better knowledge."""

    HIDE = "hide"  # an overlay node finds nothing of anybody
    DEAF = "deaf"  # an overlay node admits what it throws away
    FORGET = "forget"  # a broadcaster has seen what it throws away
    FABLE = "fable"  # a broadcaster proves every transaction by a path that leads nowhere
    ROT = "rot"  # a storage host serves other bytes


@dataclass(slots=True)
class Sky:
    """The weather over one world. `rate` is the share of exchanges that are struck."""

    world: World
    random: random.Random
    rate: float = 0.0
    lies: dict[str, Lie] = field(default_factory=dict)
    cut: set[tuple[str, str]] = field(default_factory=set)
    struck: dict[str, int] = field(default_factory=dict)
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    waste: list[str] = field(default_factory=list)
    misled: set[str] = field(default_factory=set)
    late: int = 0
    _tasks: set[asyncio.Task[httpx.Response]] = field(default_factory=set)
    _context: contextvars.Context = field(default_factory=contextvars.copy_context)

    def calm(self) -> None:
        """No faults, no lies, every way open."""
        self.rate = 0.0
        self.lies.clear()
        self.cut.clear()

    def draw(self) -> str:
        """What befalls the next exchange; empty for nothing."""
        if not self.rate or self.random.random() >= self.rate:
            return ""
        (trouble,) = self.random.choices(list(TROUBLES), list(TROUBLES.values()))
        self.count(trouble)
        return trouble

    def count(self, name: str) -> None:
        """Note that something struck."""
        self.struck[name] = self.struck.get(name, 0) + 1

    def deliver(self, request: httpx.Request, after: float = 0.0) -> asyncio.Task[httpx.Response]:
        """Send it on its way; it arrives though nobody may be waiting for the answer any more."""
        self._witness(request)

        async def way() -> httpx.Response:
            if after:
                self.late += 1
                await asyncio.sleep(after)
                self.late -= 1
            response = await self.world.network.handle_async_request(request)
            await response.aread()
            return response

        task = asyncio.get_running_loop().create_task(way(), context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settle(self) -> None:
        """Wait for everything that is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _witness(self, request: httpx.Request) -> None:
        """Keep what a bystander may hold against the senders: transactions, and uploads of what is held already."""
        if request.method == "POST" and request.url.path == "/v1/tx":
            beef = parse_beef(arc.parse_submit(request.headers["content-type"], request.content))
            # Unproven ancestors travel along, and a broadcaster takes them too.
            self.sent += [(txid, one.tx.raw) for txid, one in beef.txs.items() if one.tx is not None and one.bump is None]
        elif request.method == "POST" and request.url.path == "/upload" and not self.fair:
            self.misled.add(request.url.host)
        elif request.method == "PUT" and request.url.host in self.misled:
            # Room was asked for while the host may have lied; what it lied about is sent, however the weather is by then.
            self.misled.discard(request.url.host)
        elif request.method == "PUT" and self.fair:
            store = self.world.storage[request.url.host.removesuffix(".devnet")]
            sha256 = hashlib.sha256(request.content).hexdigest()
            held = store.find(sha256, "devnet")
            if held is not None and hashlib.sha256(store.vault.slice(held.id, 0, held.size)).hexdigest() == sha256:
                self.waste.append(f"{store.name} was sent {sha256[:8]}, which it held")

    @property
    def fair(self) -> bool:
        """Whether nothing is wrong between daemons and hosts, so that whoever asks gets a true answer at once."""
        return not (self.rate or self.lies or self.cut or self.late)


class Weather(httpx.AsyncBaseTransport):
    """One process's way to the hosts."""

    def __init__(self, sky: Sky, life: Life) -> None:
        self.sky, self.life = sky, life

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry one request through the weather."""
        writes = request.method in ("POST", "PUT", "DELETE") and not request.url.path.endswith(_READS)
        self.life.require()
        await request.aread()
        if writes:
            self.life.step(f"before {request.method} {request.url.host}{request.url.path}")
        response = await self._carry(request, self.sky.draw())
        if writes:
            self.life.step(f"after {request.method} {request.url.host}{request.url.path}")
        self.life.require()
        return response

    async def _carry(self, request: httpx.Request, trouble: str) -> httpx.Response:
        host = request.url.host.removesuffix(".devnet")
        if (self.life.name.partition("-")[0], host) in self.sky.cut:
            self.sky.count("partition")
            await asyncio.sleep(_patience(request, "connect"))
            raise httpx.ConnectTimeout(f"no route to {host}", request=request)
        if trouble == "refuse":
            raise httpx.ConnectError(f"connection refused: {host}", request=request)
        if trouble == "vanish":
            await asyncio.sleep(_patience(request, "read"))
            raise httpx.ReadTimeout(f"no answer from {request.url.host}", request=request)
        if trouble in _CODES:
            headers = {"retry-after": "20"} if trouble == "429" else {}
            return httpx.Response(_CODES[trouble], text="the proxy is unwell", headers=headers, request=request)
        told = self._lie(host, request)
        if told is not None:
            self.sky.count(f"lie {self.sky.lies[host].value}")
            return told if isinstance(told, httpx.Response) else await told
        return await self._through(request, trouble)

    async def _through(self, request: httpx.Request, trouble: str) -> httpx.Response:
        draw = self.sky.random.uniform
        if trouble == "twice":
            self.sky.deliver(_copy(request), draw(0.0, 20.0))
        task = self.sky.deliver(request, draw(1.0, _LATEST) if trouble == "late" else 0.0)
        response = await asyncio.shield(task)
        if trouble == "lose":
            await asyncio.sleep(_patience(request, "read"))
            raise httpx.ReadTimeout(f"no answer from {request.url.host}", request=request)
        if trouble == "delay":
            await asyncio.sleep(draw(0.1, _LATEST))
        return response

    def _lie(self, host: str, request: httpx.Request) -> httpx.Response | asyncio.Future[httpx.Response] | None:
        lie, path = self.sky.lies.get(host), request.url.path
        if lie is Lie.HIDE and path == "/lookup":
            service, query = overlay.parse_lookup_request(request.content)
            hidden = {**query, "identityKey": _NOBODY} if "identityKey" in query else {**query, "outpoint": "00" * 32 + ".0"}
            return asyncio.ensure_future(self._through(_copy(request, overlay.lookup_request(service, hidden)), ""))
        if lie is Lie.DEAF and path == "/submit":
            asked = overlay.parse_submit(request.headers, request.content)
            outputs = tuple(range(len(parse_beef(asked.beef).tx.outputs)))
            return _json(request, overlay.steak_json({topic: overlay.Admittance(outputs) for topic in asked.topics}))
        if lie is Lie.FORGET and path == "/v1/tx":
            beef = parse_beef(arc.parse_submit(request.headers["content-type"], request.content))
            return _json(request, arc.state_answer(arc.TxState(beef.subject, "SEEN_ON_NETWORK")))
        if lie is Lie.FABLE and path.startswith("/v1/tx/"):
            txid = path.rpartition("/")[2]
            tip = self.sky.world.chain.tip
            path_to_nowhere = from_block(tip.height, (tip.txids[0], txid), 1).raw
            return _json(request, arc.state_answer(arc.TxState(txid, "MINED", tip.height, tip.hash, path_to_nowhere)))
        if lie is Lie.ROT and path.startswith("/cdn/"):
            return httpx.Response(200, content=b"rotten", request=request)
        return None


def _json(request: httpx.Request, body: Mapping[str, object]) -> httpx.Response:
    return httpx.Response(200, json=body, request=request)


def _copy(request: httpx.Request, body: object = None) -> httpx.Request:
    content = request.content if body is None else json.dumps(body).encode()
    headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"content-length"]
    return httpx.Request(request.method, request.url, headers=headers, content=content, extensions=request.extensions)


def _patience(request: httpx.Request, phase: str) -> float:
    value = request.extensions.get("timeout", {}).get(phase)
    return 3600.0 if value is None else float(value)
