"""Whether a large apply costs what many small ones do: datasets published on a devnet in process, by the real engine.

Everything is real but the wire: manifests on disk, a ledger on disk, every request through the HTTP client to an ASGI app. Time
is virtual, so waiting costs nothing; a block is mined every BLOCK datasets, as blocks come while a seller works. The devnet
runs in the same process and its work is part of the figure.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench import shop
from bench.measure import PASSPHRASE, Verdict, title
from reconciler.engine.execute import Executor
from reconciler.engine.progress import Progress
from tests.e2e.scene import IDENTITY, NETWORK, Scene, play

SIZES = (100, 1000)
BLOCK = 25


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds per dataset, on the clock and of processor."""

    wall: float
    cpu: float


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
    async with scene.open() as space:
        plan = await scene.plan(space)
        start, used = time.perf_counter(), time.process_time()
        report = await Executor(space.runner, plan).run()
        taken = Cost((time.perf_counter() - start) / count, (time.process_time() - used) / count)
        assert report.complete and len(report.results) == count, [one.why for one in report.results.values() if one.why][:3]
    return taken


def main(sizes: tuple[int, ...] = SIZES) -> list[Verdict]:
    """One run of each size; the ratio is that of the largest to the smallest, per dataset."""
    title("Apply: datasets on a devnet in process")
    os.environ["RECONCILER_PASSPHRASE"] = PASSPHRASE
    costs = {}
    for count in sizes:
        costs[count] = apply(count)
        print(
            f"  {count:>5} datasets: {costs[count].wall * 1e3:7.1f} ms wall {costs[count].cpu * 1e3:7.1f} ms cpu each", flush=True
        )
    first, last = sizes[0], sizes[-1]
    ours, peer = f"{costs[last].cpu * 1e3:.0f} ms cpu each", f"{costs[first].cpu * 1e3:.0f} ms each at {first}"
    return [Verdict(f"apply: a dataset at {last} against {first}", ours, peer, costs[last].cpu / costs[first].cpu, 1.3, True)]


if __name__ == "__main__":
    main()
