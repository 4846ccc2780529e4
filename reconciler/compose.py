"""Settings -> ports -> daemon. The only module that knows which adapters exist; tables of factories, no branches.

Everything heavy is imported inside the factory that needs it, because `reconciler validate` must start fast.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from reconciler.adapters import inbox, process
from reconciler.adapters.clock import SystemClock, SystemEntropy
from reconciler.adapters.files import DirectorySource
from reconciler.doors import callback, callbacks, pushes
from reconciler.engine.progress import Watcher, unwatched
from reconciler.kinds import bounded
from reconciler.planner.approval import Panel
from reconciler.ports import Clock, Entropy, Ledger, Ports, Queue, Source
from reconciler.settings import Settings

if TYPE_CHECKING:
    import httpx

    from reconciler.adapters.http import Conversation, Http
    from reconciler.adapters.keystore import KeyStore
    from reconciler.adapters.paydoor import PayDoor
    from reconciler.adapters.sql.news import News
    from reconciler.adapters.timers import Timers
    from reconciler.adapters.wallet import LocalWallet
    from reconciler.consumer.client import Client
    from reconciler.engine.approve import Approvals
    from reconciler.engine.daemon import Daemon
    from reconciler.engine.dispatch import Dispatcher
    from reconciler.engine.handlers import Handlers
    from reconciler.engine.review import Review
    from reconciler.engine.run import Runner
    from reconciler.engine.survey import Surveyor
    from reconciler.gateway.door import Door
    from reconciler.model.canonical import Json
    from reconciler.sales.settle import Settler
    from reconciler.telemetry import Metrics
    from reconciler.wire.speaker import Speaker


# Keys that workers are woken by; the leases of a dead process on these go back into the queue.
WORK = ("plan", "look/", "run/", "confirm", "notify", "settle")
# Seconds between two looks for what parties of sales are owed.
SETTLE = 60.0

# Settings that a running daemon takes over when it is told to read them again; the others need a new process.
LIVE = frozenset({"mode", "resync", "confirm", "parallelism", "limits", "notify", "audit"})


@dataclass(frozen=True, slots=True)
class Outlets:
    """What an operator hears through: the two ends of the outbox, and of every host whether it is being asked still."""

    news: News
    dispatcher: Dispatcher
    hosts: Callable[[], Mapping[str, bool]]


@dataclass(frozen=True, slots=True)
class Workspace:
    """One repository with its ledger open and its doors wired; `outlets` are there where the doors are the real ones."""

    settings: Settings
    ports: Ports
    surveyor: Surveyor
    runner: Runner
    outlets: Outlets | None = None
    approvals: Approvals | None = None
    review: Review | None = None
    paydoor: PayDoor | None = None


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
    conversation: Conversation | None = None,
) -> AsyncIterator[Workspace]:
    """Open everything a command or a daemon needs, and close it again. Tests replace weather, never doors."""
    from reconciler.adapters.blobs import BlobDirectory
    from reconciler.adapters.keystore import KeyStore
    from reconciler.adapters.sinks import Sinks
    from reconciler.adapters.sql.plain import open_store
    from reconciler.adapters.wallet import LocalWallet
    from reconciler.engine.approve import Approvals
    from reconciler.engine.dispatch import Dispatcher
    from reconciler.engine.notices import Herald
    from reconciler.engine.run import Runner
    from reconciler.engine.survey import Surveyor
    from reconciler.kinds.audit import AUDIT

    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    ledger, queue = open_store(settings.database, clock, entropy)
    _forsake(queue, clock.now())
    wallet = LocalWallet(KeyStore(settings.keys, entropy, settings.root, settings.signers), settings.wallet_key)
    http = _http(clock, transport, conversation, ledger, wallet, entropy)
    http.patience = settings.request_timeout
    paydoor = _paydoor(clock, transport, wallet, entropy)
    ports = Ports(
        clock=clock,
        entropy=entropy,
        source=_source(settings, ledger, clock, entropy),
        ledger=ledger,
        queue=queue,
        blobs=BlobDirectory(settings.state_dir / "blobs"),
        wallet=wallet,
        **_outside(settings, http, on_upload),
    )
    sinks = Sinks(http, clock, settings.root, f"urn:reconciler:{settings.environment or 'default'}")
    dispatcher = Dispatcher(clock, ledger.outbox, sinks, settings.notify)
    kinds = {**bounded(settings.revenue_splits), AUDIT.kind: AUDIT}
    try:
        surveyor = Surveyor(ports, kinds, settings.environment, settings.audit)
        ledger.news.herald = Herald(settings.notify, settings.environment, surveyor.labels)
        runner = Runner(ports, kinds, owner or process.own_name(), watch, settings.content, limits=settings.limits)
        approvals = Approvals(ledger, settings.limits.panel or Panel(), partial(inbox.letters, settings.inbox))
        outlets = Outlets(ledger.news, dispatcher, http.breaker.standing)
        reviews = _review(settings, ports, http)
        yield Workspace(settings, ports, surveyor, runner, outlets, approvals, reviews, paydoor)
    finally:
        await paydoor.close()
        await ports.discovery.close()
        await http.close()
        ledger.close()


def _outside(settings: Settings, http: Http, on_upload: Callable[[str, int, int], None] | None) -> dict[str, Any]:
    """The doors to the network, by their names among the ports."""
    from reconciler.adapters.chain import ArcChain
    from reconciler.adapters.discovery import Resolver
    from reconciler.adapters.headers import HeaderSources
    from reconciler.adapters.overlay import HttpOverlay
    from reconciler.adapters.storage import StorageHosts
    from reconciler.engine.narrate import Uploads

    chain, overlay = ArcChain(http, HeaderSources(http), callback(settings)), HttpOverlay(http)
    found = Resolver(http.clock, overlay, chain)
    stores = StorageHosts(http, on_upload or Uploads(http.clock))
    return {"chain": chain, "overlay": overlay, "storage": stores, "discovery": found}


@contextlib.asynccontextmanager
async def client(settings: Settings | Path, identity: str = "", network: str = "", **doors: Any) -> AsyncIterator[Client]:
    """A buyer over the repository of these settings, or in this directory; `doors` are those of `workspace`."""
    from reconciler.adapters.buying import buyer
    from reconciler.adapters.http import Http
    from reconciler.engine.observe import networks
    from reconciler.engine.survey import midnight
    from reconciler.settings import load

    chosen = load(settings) if isinstance(settings, Path) else settings
    async with workspace(chosen, **doors) as space:
        desired = space.surveyor.load().desired
        declared = desired.resources if desired is not None else {}
        known = networks(declared, space.ports.ledger.read(midnight(space.ports.clock.now())).records)
        http = Http(space.ports.clock, transport=doors.get("transport"))
        http.patience = chosen.request_timeout
        try:
            wallet = cast("LocalWallet", space.ports.wallet)
            yield buyer(space.ports, wallet, http, declared, known, identity, network)
        finally:
            await http.close()


def _http(
    clock: Clock,
    transport: httpx.AsyncBaseTransport | None,
    conversation: Conversation | None,
    ledger: Ledger,
    wallet: LocalWallet,
    entropy: Entropy,
) -> Http:
    """The client behind every URL. It talks to hosts, and pays them, with the key of the purse; without that, to nobody."""
    from reconciler.adapters.auth import Introduced
    from reconciler.adapters.certificates import Certificates
    from reconciler.adapters.http import Http
    from reconciler.adapters.purse import Purse
    from reconciler.adapters.wallet import WALLET

    def speak() -> Speaker | None:
        return wallet.speaker() if wallet.exists(WALLET) else None

    http, purse = Http(clock, transport=transport), Purse(ledger, wallet, speak, clock, entropy)
    http.conversation = conversation or Introduced(http, speak, entropy, purse, Certificates(wallet.certificates, entropy))
    return http


def _paydoor(clock: Clock, transport: httpx.AsyncBaseTransport | None, wallet: LocalWallet, entropy: Entropy) -> PayDoor:
    """A client that asks for prices in the name of the purse, and has no purse."""
    from reconciler.adapters.http import Http
    from reconciler.adapters.paydoor import PayDoor
    from reconciler.adapters.wallet import WALLET

    return PayDoor(Http(clock, transport=transport), lambda: wallet.speaker() if wallet.exists(WALLET) else None, entropy)


def revision_of(space: Workspace, revision: str) -> tuple[Source, str]:
    """The source at another revision, and why that could not come into force; empty when it could."""
    from reconciler.adapters.blobs import BlobDirectory
    from reconciler.adapters.git_local import local
    from reconciler.adapters.git_source import GitSource

    source = space.ports.source
    if not isinstance(source, GitSource):
        return local(space.settings.source, revision, BlobDirectory(space.settings.state_dir / "blobs")), ""
    commit, verdict = source.commit(revision)
    return source.at(commit, revision), "" if verdict.ok else verdict.message


def _forsake(queue: Queue, moment: datetime) -> None:
    """What processes held that are dead is free again."""
    for lease in queue.holders(moment):
        if process.is_dead(lease.owner):
            queue.forsake(lease.owner, moment, WORK)


def _source(settings: Settings, ledger: Ledger, clock: Clock, entropy: Entropy) -> Source:
    """A directory, or a repository that is followed."""
    if settings.git is None:
        return DirectorySource(settings.source)
    from reconciler.adapters.blobs import BlobDirectory
    from reconciler.adapters.git_source import follow

    blobs = BlobDirectory(settings.state_dir / "blobs")
    return follow(settings.git, settings.root, settings.state_dir, ledger, blobs, clock, entropy)


def _review(settings: Settings, ports: Ports, http: Http) -> Review | None:
    """Whoever is told how a revision fares; proposals are signed with the key of the purse."""
    if not any(settings.review.get(name) for name in ("statuses", "webhook", "directory")):
        return None
    from reconciler.adapters.review import reviewers
    from reconciler.engine.review import Review

    def sign(file: bytes) -> tuple[str, bytes]:
        return ports.wallet.public_key("wallet"), ports.wallet.attest("wallet", file)

    return Review(ports, reviewers(http, ports.clock, settings.root, settings.review), sign)


def settler(space: Workspace) -> Settler:
    """What pays out what parties of sales are owed."""
    from reconciler.sales.settle import Settler

    return Settler(space.runner, cast("LocalWallet", space.ports.wallet).speaker)


def _door(space: Workspace, metrics: Metrics) -> Door:
    """What keeps the shop open where a Network declares a gateway."""
    from reconciler.adapters.notify import handed_over
    from reconciler.gateway.door import Door

    wallet = cast("LocalWallet", space.ports.wallet)
    return Door(space.ports, wallet.speaker, lambda check: metrics.payments_refused.labels(check).inc(), handed_over())


async def vend(space: Workspace, stop: asyncio.Event, metrics: Metrics, ready: Callable[[str], None]) -> None:
    """Run the shop alone until `stop`; `ready` is told every address at which it opens."""
    door = _door(space, metrics)
    await door.keep(stop, lambda shop: ready(shop.base))


@dataclass(frozen=True, slots=True)
class Service:
    """A running daemon as its signals see it: what may change while it runs, and what it thinks of itself."""

    space: Workspace
    outlets: Outlets
    handlers: Handlers
    daemon: Daemon
    timers: Timers

    def adopt(self, before: Settings, fresh: Settings) -> tuple[list[str], list[str]]:
        """Take over what can be taken over; the names of the settings that were, and of those that wait for a restart."""
        from reconciler.engine.notices import Herald

        changed = sorted(one.name for one in fields(Settings) if getattr(fresh, one.name) != getattr(before, one.name))
        self.handlers.mode, self.handlers.limits, self.handlers.parallelism = fresh.mode, fresh.limits, fresh.parallelism
        self.space.runner.limits = fresh.limits
        if self.space.approvals is not None:
            self.space.approvals.panel = fresh.limits.panel or Panel()
        self.space.surveyor.audit = fresh.audit
        self.outlets.dispatcher.adopt(fresh.notify)
        self.outlets.news.herald = Herald(fresh.notify, self.space.settings.environment, self.space.surveyor.labels)
        for key, seconds in rhythm(fresh):
            self.timers.every(key, seconds, jitter=seconds / 5)
        if changed:
            self.daemon.put("plan")
        return [name for name in changed if name in LIVE], [name for name in changed if name not in LIVE]

    def dump(self) -> dict[str, Json]:
        """Everything one asks first when it does not do what one expects. No secrets."""
        from reconciler.engine.dump import dump

        waiting = self.outlets.dispatcher.outbox.pending()
        return {**dump(self.daemon, self.handlers), "notices": dict(waiting), "hosts": dict(self.outlets.hosts())}


def rhythm(settings: Settings) -> list[tuple[str, float]]:
    """The keys that come round by themselves, and how often in seconds."""
    return [("plan", settings.resync), ("confirm", settings.confirm), ("settle", SETTLE)]


async def serve(
    space: Workspace, stop: asyncio.Event, metrics: Metrics, ready: Callable[[Service], None] = lambda service: None
) -> None:
    """Run the daemon and its local listener until `stop`; `ready` is called once both stand."""
    from reconciler.adapters.notify import handed_over
    from reconciler.adapters.timers import Timers
    from reconciler.engine.daemon import Daemon
    from reconciler.gateway.admin import Admin, listener, listening
    from reconciler.gateway.measure import Measured, refresher, watch
    from reconciler.sales.payouts import Payouts

    settings, ports, outlets = space.settings, space.ports, space.outlets
    assert outlets is not None, "a daemon has the real doors"
    handlers = Measured(space.runner, space.surveyor, settings.limits, settings.mode, settings.parallelism, metrics=metrics)
    payouts = Payouts(settler(space), lambda: handlers.mode == "auto")
    handlers.beside = {"notify": outlets.dispatcher.handle, "settle": payouts.handle}
    handlers.approvals = space.approvals
    handlers.tell = space.review or handlers.tell
    metrics.source_verified.set_function(lambda: 0 if ports.source.standing().held_back else 1)
    watch(handlers, metrics)
    outlets.dispatcher.told = lambda sink, result: metrics.notices.labels(sink, result).inc()
    timers = Timers(lambda key: daemon.put(key))
    daemon = Daemon(
        ports,
        handlers,
        space.runner.owner,
        rhythm(settings),
        lambda key, seconds, put: timers.every(key, seconds, jitter=seconds / 5),
    )
    door = handed_over().get("admin") or listening(settings.listen)
    refresh = refresher(metrics, handlers, outlets.dispatcher.outbox, outlets.hosts)
    server = listener(Admin(daemon, handlers, ports, metrics, refresh))
    serving = asyncio.ensure_future(server.serve(sockets=[door]))
    while not server.started and not serving.done():  # noqa: ASYNC110 - the server offers a flag only
        await asyncio.sleep(0)
    timers.start()
    ready(Service(space, outlets, handlers, daemon, timers))
    selling = asyncio.create_task(_door(space, metrics).keep(stop))
    try:
        async with pushes(settings, ports.source, metrics), callbacks(settings, ports, metrics):
            await daemon.run(stop)
    finally:
        stop.set()
        await selling
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

    store = KeyStore(settings.keys, SystemEntropy(), settings.root, settings.signers)
    return store, LocalWallet(store, settings.wallet_key)
