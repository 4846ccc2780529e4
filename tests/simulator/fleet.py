"""Daemons on one shared ledger: started, fed with revisions, killed, frozen, restarted when they end by themselves.

Each is the product's own composition (`compose.workspace`, `engine.daemon.Daemon`) under a name of its own; only its doors to the
outside are in other hands: time may run ahead or behind, requests go through the weather, commits are steps of a life.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from reconciler.adapters.files import DirectorySource
from reconciler.compose import Workspace, workspace
from reconciler.devnet.clock import SeededEntropy, VirtualClock
from reconciler.engine.daemon import Daemon
from reconciler.engine.execute import Fate, Report
from reconciler.engine.handlers import Handlers
from reconciler.engine.progress import unwatched
from reconciler.engine.run import Runner
from reconciler.engine.survey import Surveyor
from reconciler.model.errors import ReconcilerError
from reconciler.model.plan import Plan
from reconciler.settings import Settings
from tests.simulator.disk import Disk, MortalBlobs, database_of, mortal
from tests.simulator.life import Killed, Life
from tests.simulator.stage import WHO, Stage
from tests.simulator.weather import Sky, Weather

# Seconds between passes that nobody asked for, and until a supervisor starts a process again.
RESYNC, CONFIRM, RESTART = 300.0, 90.0, 5.0


class SkewedClock:
    """Time as one machine sees it: `ahead` seconds before the world's, or behind when negative."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.ahead = clock, 0.0

    def now(self) -> datetime:
        """The world's time, and what this machine adds to it."""
        return self.clock.now() + timedelta(seconds=self.ahead)

    async def sleep(self, seconds: float) -> None:
        """Let time pass; that much is the same everywhere."""
        await asyncio.sleep(seconds)


class Clone(DirectorySource):
    """A checkout of the repository; it is told when it was fetched, instead of watching the disk."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.fetched = asyncio.Event()

    async def revisions(self) -> AsyncIterator[None]:
        """A hint after each fetch."""
        while True:
            await self.fetched.wait()
            self.fetched.clear()
            yield None


@dataclass(slots=True)
class Replica:
    """One process, from its start to its end. `ended` says how: "" while it lives, "stopped", "killed" or an error."""

    name: str
    life: Life
    clock: SkewedClock
    source: Clone
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    space: Workspace | None = None
    handlers: Handlers | None = None
    daemon: Daemon | None = None
    task: asyncio.Task[None] | None = None
    ended: str = ""


@dataclass(slots=True)
class Fleet:
    """The daemons of one story. `settings` are common; every place ("a", "b") has its own checkout and incarnations in turn."""

    stage: Stage
    clock: VirtualClock
    sky: Sky
    disk: Disk
    settings: Settings
    clones: Path
    tell: Callable[[str], None]
    faults: list[str] = field(default_factory=list)
    replicas: dict[str, Replica] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    born: int = 0
    killed: int = 0
    # Whose dice the processes have: two fleets on one ledger must not draw the same identifiers.
    strand: int = 0
    workers: int = 1

    def start(self, place: str) -> Replica:
        """A fresh process at this place."""
        self.wanted.add(place)
        self.born += 1
        name = f"{place}-{self.born}"
        root = self.clones / place
        root.mkdir(parents=True, exist_ok=True)
        life = Life(name, on_death=lambda where: self._died(place, where))
        replica = self.replicas[place] = Replica(name, life, SkewedClock(self.clock), Clone(root))
        context = contextvars.copy_context()
        context.run(WHO.set, name)
        replica.task = self.stage.create_task(self._live(replica), context=context)
        replica.task.add_done_callback(lambda task: self._ended(place, replica, task))
        return replica

    async def _live(self, replica: Replica) -> None:
        settings = replace(self.settings, source=replica.source.root)
        transport = Weather(self.sky, replica.life)
        entropy = SeededEntropy(self.strand + self.born)
        async with workspace(settings, transport=transport, clock=replica.clock, entropy=entropy, owner=replica.name) as opened:
            mortal(database_of(opened.ports.ledger), replica.life, self.disk)
            blobs = MortalBlobs(settings.state_dir / "blobs", replica.life, self.disk)
            ports = replace(opened.ports, source=replica.source, blobs=blobs)
            runner = Runner(ports, opened.runner.kinds, replica.name, unwatched, replica.source.root)
            replica.space = Workspace(settings, ports, Surveyor(ports, runner.kinds, settings.environment), runner)
            replica.handlers = Handlers(
                runner, replica.space.surveyor, settings.limits, settings.mode, 2, on_plan=self._report(replica.name)
            )
            timers = [("plan", RESYNC), ("confirm", CONFIRM)]
            beats: list[asyncio.Task[None]] = []

            def schedule(key: str, seconds: float, put: Callable[[str], None]) -> None:
                beats.append(asyncio.ensure_future(_beat(key, seconds, put)))

            replica.daemon = Daemon(ports, replica.handlers, replica.name, timers, schedule, self.workers)
            try:
                await replica.daemon.run(replica.stop)
            finally:
                for beat in beats:
                    beat.cancel()

    def _report(self, name: str) -> Callable[[Plan, Report | None], None]:
        def report(plan: Plan, done: Report | None) -> None:
            for ref, result in (done.results if done else {}).items():
                if result.fate is not Fate.DONE:
                    self.tell(f"{name} {ref}: {result.fate.value}, {result.why}")
            for refusal in plan.refusals:
                self.tell(f"{name} may not: {refusal.message}")

        return report

    def _died(self, place: str, where: str) -> None:
        replica = self.replicas[place]
        self.killed += 1
        self.tell(f"{replica.name} is killed {where}")
        self.stage.create_task(self.stage.reap(replica.name), context=contextvars.Context())

    def power_cut(self) -> None:
        """The machine is gone: every process ends where it stands, and the disk is what reached it."""
        self.tell("the power is cut in the middle of a commit")
        for replica in self.replicas.values():
            replica.life.alive = False
        names = [replica.name for replica in self.replicas.values()]

        async def dark() -> None:
            for name in names:
                await self.stage.reap(name)
            self.disk.restore()

        self.stage.create_task(dark(), context=contextvars.Context())

    def _ended(self, place: str, replica: Replica, task: asyncio.Task[None]) -> None:
        """How it ended; a supervisor starts what was not stopped on purpose."""
        error = None if task.cancelled() else task.exception()
        if not replica.life.alive or isinstance(error, Killed):
            replica.ended = "killed"
        elif error is None:
            replica.ended = "stopped"
        else:
            replica.ended = f"{type(error).__name__}: {error}"
            self.tell(f"{replica.name} ends with {replica.ended}")
            if not isinstance(error, ReconcilerError):
                self.faults.append(f"{replica.name} ended with {replica.ended}")
        replica.life.alive = False
        if place in self.wanted and self.replicas[place] is replica:
            self.stage.call_later(RESTART, lambda: self._again(place, replica), context=contextvars.Context())

    def _again(self, place: str, replica: Replica) -> None:
        if place in self.wanted and self.replicas[place] is replica:
            self.tell(f"{place} is started again")
            self.start(place)

    async def kill(self, place: str, *, restart: bool = True) -> None:
        """SIGKILL, now."""
        if not restart:
            self.wanted.discard(place)
        replica = self.replicas[place]
        replica.life.alive = False
        self.killed += restart
        await self.stage.reap(replica.name)

    async def end(self) -> None:
        """Every process is killed and stays dead."""
        for place in list(self.wanted):
            await self.kill(place, restart=False)

    async def drain(self, place: str) -> None:
        """SIGTERM, and wait."""
        self.wanted.discard(place)
        replica = self.replicas[place]
        self.stage.thaw(replica.name)
        replica.stop.set()
        if replica.task is not None:
            await asyncio.wait({replica.task}, timeout=120)
        await self.stage.reap(replica.name)

    def freeze(self, place: str) -> None:
        """SIGSTOP."""
        self.stage.freeze(self.replicas[place].name)

    def thaw(self, place: str) -> None:
        """SIGCONT."""
        self.stage.thaw(self.replicas[place].name)

    def fetched(self, place: str) -> None:
        """The checkout of this place has moved."""
        replica = self.replicas.get(place)
        if replica is not None:
            replica.source.fetched.set()

    @property
    def living(self) -> list[Replica]:
        """The processes that run."""
        return [one for place, one in sorted(self.replicas.items()) if one.life.alive and one.daemon is not None]


async def _beat(key: str, seconds: float, put: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        with contextlib.suppress(ReconcilerError):
            put(key)
