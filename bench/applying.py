"""Whether a large apply costs what many small ones do: datasets published on a devnet in process, by the real engine.

Everything is real but the wire: manifests on disk, a ledger on disk, every request through the HTTP client to an ASGI app. Time
is virtual, so waiting costs nothing; a block is mined every BLOCK datasets, as blocks come while a seller works. The devnet
runs in the same process and its work is part of the figure; how much of it is told besides.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from bench import shop
from bench.measure import PASSPHRASE, Verdict, title
from reconciler.engine.execute import Executor
from reconciler.engine.progress import Progress
from tests.e2e.scene import IDENTITY, NETWORK, Scene, play

SIZES = (100, 1000)
BLOCK = 25


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds per dataset: on the clock, of processor, and how much of that the hosts of the devnet took."""

    wall: float
    cpu: float
    hosts: float


@dataclass(slots=True)
class Meter:
    """Processor seconds spent inside the applications of a devnet, each counted once however they call each other."""

    seconds: float = 0.0
    inside: bool = False

    def over(self, apps: Mapping[str, ASGIApp]) -> dict[str, ASGIApp]:
        """The same applications, metered."""
        return {name: self._metered(app) for name, app in apps.items()}

    def _metered(self, app: ASGIApp) -> ASGIApp:
        async def metered(scope: Scope, receive: Receive, send: Send) -> None:
            await _Steps(app(scope, receive, send), self)

        return metered


@dataclass(frozen=True, slots=True)
class _Steps:
    """An awaitable whose every step, from one wait to the next, is timed: what other tasks do meanwhile is not."""

    work: Any
    meter: Meter

    def __await__(self) -> Generator[Any, Any, Any]:
        resume, value = self.work.send, None
        while True:
            outermost, self.meter.inside, began = not self.meter.inside, True, time.process_time()
            try:
                waits = resume(value)
            except StopIteration as done:
                return done.value
            finally:
                if outermost:
                    self.meter.inside = False
                    self.meter.seconds += time.process_time() - began
            try:
                resume, value = self.work.send, (yield waits)
            except BaseException as raised:
                resume, value = self.work.throw, raised


def apply(count: int) -> Cost:
    """Publish `count` datasets from nothing."""
    with tempfile.TemporaryDirectory() as directory:
        scene = Scene(Path(directory))
        done = 0

        def watch(progress: Progress) -> None:
            nonlocal done
            done += progress.what == "run.done"
            if progress.what == "run.done" and done % BLOCK == 0:
                scene.world.mine()

        scene.watch = watch
        return play(lambda: _publish(scene, count), scene.world.clock)


async def _publish(scene: Scene, count: int) -> Cost:
    scene.write({"network.yaml": NETWORK, "identity.yaml": IDENTITY})
    await scene.fund(100_000_000)
    async with scene.open() as space:
        await scene.apply(space)
    shop.declare(scene.root, count)
    shop.content(scene.root, count)
    meter = Meter()
    scene.world.network.apps = meter.over(scene.world.network.apps)
    async with scene.open() as space:
        plan = await scene.plan(space)
        meter.seconds = 0.0
        start, used = time.perf_counter(), time.process_time()
        report = await Executor(space.runner, plan).run()
        taken = [time.perf_counter() - start, time.process_time() - used, meter.seconds]
        assert report.complete and len(report.results) == count, [one.why for one in report.results.values() if one.why][:3]
    return Cost(*(seconds / count for seconds in taken))


def main(sizes: tuple[int, ...] = SIZES) -> list[Verdict]:
    """One run of each size; the ratio is that of the largest to the smallest, per dataset."""
    title("Apply: datasets on a devnet in process")
    os.environ["RECONCILER_PASSPHRASE"] = PASSPHRASE
    costs = {}
    for count in sizes:
        costs[count] = apply(count)
        wall, cpu, hosts = (seconds * 1e3 for seconds in (costs[count].wall, costs[count].cpu, costs[count].hosts))
        print(f"  {count:>5} datasets: {wall:7.1f} ms wall {cpu:7.1f} ms cpu each, {hosts:.1f} of it the devnet's", flush=True)
    first, last = sizes[0], sizes[-1]
    ours, peer = f"{costs[last].cpu * 1e3:.0f} ms cpu each", f"{costs[first].cpu * 1e3:.0f} ms each at {first}"
    return [Verdict(f"apply: a dataset at {last} against {first}", ours, peer, costs[last].cpu / costs[first].cpu, 1.3, True)]


if __name__ == "__main__":
    main()
