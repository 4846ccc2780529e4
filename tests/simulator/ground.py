"""What every story begins with: one devnet, a funded ledger and settings, made once a process and put back for each seed.

Most stories begin where something has been published already (settled.py); those are grounds too.
"""

from __future__ import annotations

import atexit
import gc
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import httpx
from sqlalchemy import URL, Engine

from reconciler.adapters.sql import dialect
from reconciler.adapters.sql.dialect import Database
from reconciler.compose import workspace
from reconciler.devnet.clock import SeededEntropy, VirtualClock, run
from reconciler.devnet.world import Plan, Snapshot, World
from reconciler.engine.receive import receive
from reconciler.kinds.network import read_net
from reconciler.model.change import FeeRate
from reconciler.model.ref import Outpoint
from reconciler.planner.guard import Limits
from reconciler.settings import Settings, load
from tests.simulator.shortcut import kept_open, shortcut

OVERLAYS, STORES, CASTERS = ("overlay-1", "overlay-2"), ("eu1", "us1"), ("arc", "arc2")
FEE = 100
# Coins of the purse at the start, in satoshis: some plans find one for each transaction, others have to split.
PURSE = (2_500, 1_500, 700)
SECRETS = {name: hashlib.sha256(f"simulator {name}".encode()).digest() for name in ("wallet", "desk")}
VARIABLES = {f"SIMULATOR_{name.upper()}": secret.hex() for name, secret in SECRETS.items()}
SETTINGS = "wallet: {key: {env: SIMULATOR_WALLET}}\nmode: auto\n"
# A tenth of a second of every story would be the fsyncs of a real disk; what a disk does wrong is played by disk.py.
MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Ground:
    """The world before a story. `ledger` are the bytes of a funded database, `blobs` the files beside it by relative path.

    `applied` is the repository that is published already (see repository.first), `sent` the transactions that did it; None
    when nothing has happened yet. The story begins `elapsed` seconds after the clock's start.
    """

    world: World
    snapshot: Snapshot
    ledger: bytes
    settings: Settings
    script: bytes
    coins: tuple[Outpoint, ...]
    applied: int | None = None
    sent: tuple[tuple[str, bytes], ...] = ()
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    elapsed: float = 3600.0

    def reset(self) -> None:
        """The world as it was."""
        assert isinstance(self.world.clock, VirtualClock)
        self.world.clock.elapsed = self.elapsed
        self.world.restore_snapshot(self.snapshot)
        self.world.network.calm()
        self.world.network.exchanges.clear()
        self.world.chain.rate = FeeRate(FEE)


@contextmanager
def directory() -> Iterator[Path]:
    """A directory for one story."""
    root = _place() / "story"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(mode=0o700)
    yield root
    shutil.rmtree(root, ignore_errors=True)


@cache
def _place() -> Path:
    """One place a process, so that its connections can be used again."""
    made = Path(tempfile.mkdtemp(prefix="simulator-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@cache
def _engine_of(url: str, make: Callable[[Database], Engine], database: _Address) -> Engine:
    return make(database)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Address:
    url: URL
    name: str = "sqlite"


@contextmanager
def economy() -> Iterator[None]:
    """What a story would otherwise spend most of its time on: compiling SQL anew for every process, and looking for trio."""
    real, trio, proxies = dialect._engine, sys.modules.get("sniffio"), httpx._client.get_environment_proxies
    httpx._client.get_environment_proxies = dict
    # The product lets nobody set one, and these hosts do not try.
    cookies, httpx.Cookies.extract_cookies = httpx.Cookies.extract_cookies, lambda self, response: None  # type: ignore[method-assign]
    dialect._engine = lambda database: _engine_of(str(database.url), real, _Address(database.url))
    if trio is None:
        sys.modules["sniffio"] = None  # type: ignore[assignment]
    gc.disable()
    try:
        with shortcut(), kept_open():
            yield
    finally:
        gc.enable()
        dialect._engine = real
        httpx._client.get_environment_proxies = proxies
        httpx.Cookies.extract_cookies = cookies  # type: ignore[method-assign]
        if trio is None:
            del sys.modules["sniffio"]


@contextmanager
def keys() -> Iterator[None]:
    """The environment the daemons find their keys in."""
    before = {name: os.environ.get(name) for name in VARIABLES}
    os.environ.update(VARIABLES)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def network(overlays: int = 2, casters: int = 2) -> dict[str, object]:
    """The spec of the Network that points into the world."""
    return {
        "chain": "devnet",
        "overlays": [{"name": name, "url": f"http://{name}.devnet", "region": "EU"} for name in OVERLAYS[:overlays]],
        "ack": "all",
        "storage": [{"name": name, "url": f"http://{name}.devnet", "region": "EU", "kind": "uhrp"} for name in STORES],
        "broadcasters": [{"name": name, "url": f"http://{name}.devnet"} for name in CASTERS[:casters]],
        "headers": {"url": "http://headers.devnet"},
        "gateway": {"publicUrl": "https://shop.example.com"},
    }


@cache
def ground() -> Ground:
    """Made at first use."""
    clock = VirtualClock()
    plan = Plan(
        seed=1,
        overlays=[(name, "EU") for name in OVERLAYS],
        storage=[(name, "EU") for name in STORES],
        broadcasters=CASTERS,
        fee=FEE,
    )
    world = World(clock=clock, plan=plan)
    for host in world.storage.values():
        # Nobody in these stories looks for copies by their UHRP tokens, and telling the nodes is a tenth of a story.
        host.overlays = {}
    with directory() as root, keys():
        (root / "reconciler.yaml").write_text(SETTINGS)
        settings = replace(load(root), limits=Limits(delete_percent=None))

        async def fund() -> tuple[bytes, tuple[Outpoint, ...]]:
            entropy = SeededEntropy(1)
            async with workspace(settings, transport=world.network, clock=clock, entropy=entropy, owner="ground") as space:
                script, coins = space.ports.wallet.funding_script(), []
                for satoshis in PURSE:
                    coin, beef = world.faucet(script, satoshis)
                    await receive(space.ports, beef, read_net("local", network()))
                    coins.append(coin)
                return script, tuple(coins)

        script, coins = run(fund(), clock=clock)
        ledger = Path(settings.database).read_bytes()
    return Ground(world, world.snapshot(), ledger, settings, script, coins)
