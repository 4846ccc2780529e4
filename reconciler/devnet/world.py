"""A whole network in one process: one chain, and the hosts that stand before it.

The same seed builds the same world, bit for bit: keys, blocks, and which requests the weather strikes. Hosts are reached at
`http://<name>.devnet` through `transport()`; nothing listens on a socket. Names and regions are labels of the operator's.

    world = World(seed=1)
    async with httpx.AsyncClient(transport=world.transport()) as client:
        answer = await client.get("http://arc.devnet/v1/policy")
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from starlette.types import ASGIApp

from reconciler.devnet.arc import ArcState, Broadcaster, NextAnswer
from reconciler.devnet.blocks import Block
from reconciler.devnet.chain import REJECTED, Chain, ChainState
from reconciler.devnet.clock import VirtualClock
from reconciler.devnet.headers import HeaderService
from reconciler.devnet.network import Network
from reconciler.devnet.node import application
from reconciler.devnet.overlay import Node, NodeState
from reconciler.devnet.storage import HostState, StorageHost, host_secret
from reconciler.devnet.storage_http import StorageApp
from reconciler.model.change import FeeRate
from reconciler.model.errors import Refused
from reconciler.model.ref import Outpoint
from reconciler.ports import Clock
from reconciler.wire.beef import write_beef

Labelled = Sequence[tuple[str, str]]

OVERLAYS: Labelled = (("overlay-1", "EU"),)
STORAGE: Labelled = (("eu1", "EU"), ("us1", "US"), ("ap1", "AP"))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a world consists of. `fee` in satoshis per 1000 bytes; `price` in satoshis per gigabyte and 30 days."""

    seed: int = 0
    overlays: Labelled = OVERLAYS
    storage: Labelled = STORAGE
    broadcasters: Sequence[str] = ("arc",)
    fee: int = 100
    price: int = 0
    allow_http_ads: bool = False
    index_lag: float = 0.0
    directory: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every host, broadcasters first."""
        return (*self.broadcasters, "headers", *(name for name, _ in self.overlays), *(name for name, _ in self.storage))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole state of a world at one moment, time and weather excepted."""

    chain: ChainState
    broadcasters: Mapping[str, ArcState]
    nodes: Mapping[str, NodeState]
    hosts: Mapping[str, tuple[HostState, dict[str, bytes]]]


class World:
    """Apps by host, and everything that can be done to them. `urls` are what clients use; the default is in process."""

    def __init__(
        self,
        seed: int = 0,
        clock: Clock | None = None,
        *,
        plan: Plan | None = None,
        urls: Mapping[str, str] | None = None,
        beyond: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.plan = plan or Plan(seed=seed)
        if len(set(self.plan.names)) != len(self.plan.names):
            raise Refused("devnet-names", "cannot build the world: two hosts have one name", hint="give every host its own name")
        self.clock = clock or VirtualClock()
        self.urls = dict(urls or {name: f"http://{name}.devnet" for name in self.plan.names})
        self.chain = Chain(self.clock, seed=self.plan.seed, rate=FeeRate(self.plan.fee))
        self.broadcasters = {name: Broadcaster(self.chain, self._talk) for name in self.plan.broadcasters}
        self.headers = HeaderService(self.chain)
        self.nodes = {
            name: Node(name, self.chain, allow_http_ads=self.plan.allow_http_ads, index_lag=self.plan.index_lag)
            for name, _ in self.plan.overlays
        }
        self.storage = {name: self._host(name, region) for name, region in self.plan.storage}
        self.apps: dict[str, ASGIApp] = {name: caster.app for name, caster in self.broadcasters.items()}
        self.apps["headers"] = self.headers.app
        self.apps |= {name: application(node) for name, node in self.nodes.items()}
        self.apps |= {name: StorageApp(host).app for name, host in self.storage.items()}
        self.network = Network({_internal(name): app for name, app in self.apps.items()}, seed=self.plan.seed, beyond=beyond)
        self._client = httpx.AsyncClient(transport=self.network)
        for caster in self.broadcasters.values():
            caster.errands = [self.settle]

    def _host(self, name: str, region: str) -> StorageHost:
        host = StorageHost(
            name,
            region,
            self.chain,
            self._talk,
            secret=host_secret(self.plan.seed, name),
            public_url="https://" + self.urls[name].partition("://")[2],
            overlays={overlay: f"http://{_internal(overlay)}" for overlay, _ in self.plan.overlays},
            price=self.plan.price,
            directory=None if self.plan.directory is None else self.plan.directory / name,
        )
        host.state.coin = host.draw()
        return host

    def _talk(self) -> httpx.AsyncClient:
        return self._client

    def transport(self) -> Network:
        """What an httpx client is given to live in this world; the weather is armed on it."""
        return self.network

    @property
    def hosts(self) -> Mapping[str, ASGIApp]:
        """Host name of the URL -> app."""
        return self.network.apps

    async def close(self) -> None:
        """Let go of the way out."""
        await self._client.aclose()

    # --- what happens ------------------------------------------------------------------------------------------

    def mine(self, blocks: int = 1) -> tuple[Block, ...]:
        """Append blocks. Callbacks wait for `settle`."""
        return self.chain.mine(blocks)

    def reorg(self, depth: int, drop: Sequence[str] = ()) -> tuple[Block, ...]:
        """Replace the last blocks by a longer, empty branch; see Chain.reorg."""
        return self.chain.reorg(depth, drop)

    def faucet(self, script: bytes, satoshis: int) -> tuple[Outpoint, bytes]:
        """A mined coin on that script, and the BEEF that proves it."""
        coin = self.chain.faucet(script, satoshis)
        return coin, write_beef(coin.txid, self.chain.source)

    async def settle(self) -> None:
        """Do what hosts do on their own after a block: callbacks, and advertisements not yet delivered."""
        for caster in self.broadcasters.values():
            await caster.deliver()
        for host in self.storage.values():
            await host.announce()

    # --- damage ------------------------------------------------------------------------------------------------

    def drop(self, name: str) -> None:
        """Take a host down: connections are refused."""
        self.network.down.add(self._known(name))

    def partition(self, name: str) -> None:
        """Cut a host off: connections hang until the client gives up."""
        self.network.partitioned.add(self._known(name))

    def restore(self, name: str) -> None:
        """Bring a host back from either."""
        self.network.down.discard(self._known(name))
        self.network.partitioned.discard(self._known(name))

    def corrupt(self, name: str, sha256: str) -> int:
        """Flip a bit of that content on a storage host; how many objects were hit."""
        return self.storage[name].damage(sha256, self.storage[name].vault.corrupt)

    def delete(self, name: str, sha256: str) -> int:
        """Lose that content on a storage host; how many objects were hit."""
        return self.storage[name].damage(sha256, self.storage[name].vault.drop)

    def wipe(self, name: str) -> None:
        """Empty an overlay node or a storage host."""
        (self.nodes.get(name) or self.storage[name]).wipe()

    def evict(self, name: str, outpoint: Outpoint, *, remember: bool = False) -> bool:
        """Lose one output on an overlay node; see Node.evict."""
        return self.nodes[name].evict(outpoint, remember=remember)

    def fail_next(self, name: str = "arc", *, status: str = REJECTED, code: int = 0, count: int = 1) -> None:
        """What a broadcaster answers to the next submissions: a status under HTTP 200, or a problem code."""
        self.broadcasters[name].state.provoked += [NextAnswer(code, status)] * count

    def _known(self, name: str) -> str:
        if name not in self.apps:
            raise Refused("devnet-host", f"cannot find a host named {name}", hint=f"there are {', '.join(self.apps)}")
        return _internal(name)

    # --- the state as a value ----------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Everything the hosts remember; Invariant when storage hosts keep files on disk."""
        return Snapshot(
            self.chain.state.copy(),
            {name: caster.state.copy() for name, caster in self.broadcasters.items()},
            {name: node.state.copy() for name, node in self.nodes.items()},
            {name: (host.state.copy(), host.vault.snapshot()) for name, host in self.storage.items()},
        )

    def restore_snapshot(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of this world; it stays good for further returns."""
        self.chain.state = snapshot.chain.copy()
        for name, caster in self.broadcasters.items():
            caster.state = snapshot.broadcasters[name].copy()
        for name, node in self.nodes.items():
            node.state = snapshot.nodes[name].copy()
        for name, host in self.storage.items():
            state, contents = snapshot.hosts[name]
            host.state = state.copy()
            host.vault.restore(contents)

    def network_manifest(self, name: str = "devnet") -> str:
        """The Network manifest that points here, as YAML."""
        overlays = [{"name": host, "url": self.urls[host], "region": region} for host, region in self.plan.overlays]
        stores = [{"name": host, "url": self.urls[host], "region": region, "kind": "uhrp"} for host, region in self.plan.storage]
        casters = [{"name": host, "url": self.urls[host]} for host in self.plan.broadcasters]
        lines = [
            "apiVersion: overlay.bsv/v1alpha1",
            "kind: Network",
            f"metadata: {{name: {name}}}",
            "spec:",
            "  chain: devnet",
            *_block("overlays", overlays),
            *_block("storage", stores),
            *_block("broadcasters", casters),
            f"  headers: {json.dumps({'url': self.urls['headers']})}",
        ]
        return "\n".join(lines) + "\n"


def _block(key: str, items: Sequence[Mapping[str, str]]) -> list[str]:
    """A YAML list of flow mappings; JSON is YAML."""
    return [f"  {key}:", *(f"    - {json.dumps(dict(item))}" for item in items)] if items else [f"  {key}: []"]


def _internal(name: str) -> str:
    return f"{name}.devnet"
