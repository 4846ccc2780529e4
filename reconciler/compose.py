"""Settings -> ports -> daemon. The only module that knows which adapters exist; tables of factories, no branches.

Everything heavy is imported inside the factory that needs it, because `reconciler validate` must start fast.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from reconciler.adapters import process
from reconciler.adapters.clock import SystemClock, SystemEntropy
from reconciler.adapters.files import DirectorySource
from reconciler.engine.progress import Watcher, unwatched
from reconciler.kinds import controllers
from reconciler.ports import Clock, Entropy, Ports
from reconciler.settings import Settings

if TYPE_CHECKING:
    import httpx

    from reconciler.adapters.keystore import KeyStore
    from reconciler.adapters.wallet import LocalWallet
    from reconciler.engine.run import Runner
    from reconciler.engine.survey import Surveyor
    from reconciler.telemetry import Metrics


# Keys that workers are woken by; the leases of a dead process on these go back into the queue.
WORK = ("plan", "look/", "run/", "confirm")


@dataclass(frozen=True, slots=True)
class Workspace:
    """One repository with its ledger open and its doors wired."""

    settings: Settings
    ports: Ports
    surveyor: Surveyor
    runner: Runner


@contextlib.asynccontextmanager
async def workspace(
    settings: Settings,
    *,
    watch: Watcher = unwatched,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    on_upload: Callable[[str, int, int], None] | None = None,
    owner: str | None = None,
) -> AsyncIterator[Workspace]:
    """Open everything a command or a daemon needs, and close it again. Tests replace weather, never doors."""
    from reconciler.adapters.blobs import BlobDirectory
    from reconciler.adapters.chain import ArcChain
    from reconciler.adapters.headers import HeaderSources
    from reconciler.adapters.http import Http
    from reconciler.adapters.keystore import KeyStore
    from reconciler.adapters.overlay import HttpOverlay
    from reconciler.adapters.sql.ledger import open_ledger
    from reconciler.adapters.uhrp import StorageHosts
    from reconciler.adapters.wallet import LocalWallet
    from reconciler.engine.run import Runner
    from reconciler.engine.survey import Surveyor

    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    ledger, queue = open_ledger(settings.database, clock, entropy=entropy)
    for lease in queue.holders(clock.now()):
        if process.is_dead(lease.owner):
            queue.forsake(lease.owner, clock.now(), WORK)
    http = Http(clock, transport=transport)
    wallet = LocalWallet(KeyStore(settings.keys, entropy, settings.root), settings.wallet_key)
    ports = Ports(
        clock=clock,
        entropy=entropy,
        source=DirectorySource(settings.source),
        ledger=ledger,
        queue=queue,
        blobs=BlobDirectory(settings.state_dir / "blobs"),
        wallet=wallet,
        chain=ArcChain(http, HeaderSources(http)),
        overlay=HttpOverlay(http),
        storage=StorageHosts(http, on_upload),
    )
    kinds = controllers()
    try:
        yield Workspace(
            settings,
            ports,
            Surveyor(ports, kinds, settings.environment),
            Runner(ports, kinds, owner or process.own_name(), watch, settings.source),
        )
    finally:
        await http.close()
        ledger.close()


async def serve(space: Workspace, stop: asyncio.Event, metrics: Metrics, ready: Callable[[], None] = lambda: None) -> None:
    """Run the daemon and its local listener until `stop`; `ready` is called once both stand."""
    from reconciler.adapters.timers import Timers
    from reconciler.engine.daemon import Daemon
    from reconciler.gateway.admin import Admin, listener, listening
    from reconciler.gateway.measure import Measured, watch

    settings, ports = space.settings, space.ports
    handlers = Measured(space.runner, space.surveyor, settings.limits, settings.mode, settings.parallelism, metrics=metrics)
    watch(handlers, metrics)
    started: list[Timers] = []

    def schedule(key: str, seconds: float, put: Callable[[str], None]) -> None:
        timers = Timers(put)
        timers.every(key, seconds, jitter=seconds / 5)
        timers.start()
        started.append(timers)

    due = [("plan", settings.resync), ("confirm", settings.confirm)]
    daemon = Daemon(ports, handlers, space.runner.owner, due, schedule)
    door = listening(settings.listen)
    server = listener(Admin(daemon, handlers, ports, metrics))
    serving = asyncio.ensure_future(server.serve(sockets=[door]))
    while not server.started and not serving.done():  # noqa: ASYNC110 - the server offers a flag only
        await asyncio.sleep(0)
    ready()
    try:
        await daemon.run(stop)
    finally:
        for timers in started:
            timers.stop()
        server.should_exit = True
        await serving
        door.close()


def now() -> datetime:
    """The system's time, for commands that need no workspace."""
    return SystemClock().now()


def keyring(settings: Settings) -> tuple[KeyStore, LocalWallet]:
    """Where keys live, and the wallet that uses them: for verbs that make, back up, archive or restore a key."""
    from reconciler.adapters.keystore import KeyStore
    from reconciler.adapters.wallet import LocalWallet

    store = KeyStore(settings.keys, SystemEntropy(), settings.root)
    return store, LocalWallet(store, settings.wallet_key)
