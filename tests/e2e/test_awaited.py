"""`reconcile --wait` beside a daemon: it stays until the daemon has done what was asked, and its exit code says what is left."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.cli.awaited import Awaited, until_done
from reconciler.cli.daemon import USER
from reconciler.compose import Workspace
from reconciler.engine.handlers import Handlers
from reconciler.engine.worker import Worker
from tests.e2e.scene import ANYTHING_GOES, DATASET, FULL, IDENTITY, NETWORK, PRICE, Scene, play

FILES = {"network.yaml": NETWORK, "identity.yaml": IDENTITY, "price.yaml": PRICE, "dataset.yaml": DATASET}
RATES = "Dataset/rates"


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("RECONCILER_PASSPHRASE", "correct horse battery staple")
    made = Scene(tmp_path)
    made.write(dict(FILES) | {"data/rates.csv": FULL["data/rates.csv"]})
    return made


@contextlib.asynccontextmanager
async def daemon(space: Workspace, mode: str = "auto") -> AsyncIterator[None]:
    """The worker of a daemon on the same ledger."""
    worker = Worker(space.ports, Handlers(space.runner, space.surveyor, ANYTHING_GOES, mode).table(), "daemon")
    task = asyncio.ensure_future(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await task


def waited(scene: Scene, work: Callable[[Workspace], Awaitable[Awaited]]) -> Awaited:
    async def main() -> Awaited:
        await scene.fund()
        async with scene.open() as space:
            return await work(space)

    return play(main, scene.world.clock)


def test_it_returns_when_the_network_is_as_declared(scene: Scene) -> None:
    async def work(space: Workspace) -> Awaited:
        async with daemon(space):
            space.ports.queue.put("plan", space.ports.clock.now(), USER)
            return await until_done(space, ["plan"], [], 600, lambda: True)

    found = waited(scene, work)
    assert (found.code, found.left, found.late, found.gone) == (0, (), False, False)
    assert found.plan is not None and RATES in {str(change.ref) for change in found.plan.changes}


def test_what_waits_for_a_host_is_waited_for(scene: Scene) -> None:
    async def work(space: Workspace) -> Awaited:
        clock, down = space.ports.clock, scene.world.network.down
        async with daemon(space):
            down.add("arc.devnet")
            space.ports.queue.put("plan", clock.now(), USER)
            began = clock.now()
            task = asyncio.ensure_future(until_done(space, ["plan"], [], 3600, lambda: True))
            await clock.sleep(90)
            assert not task.done()
            down.clear()
            found = await task
            assert clock.now() - began > timedelta(seconds=90)
            return found

    assert waited(scene, work).code == 0


def test_what_the_daemon_leaves_is_named_and_no_success(scene: Scene) -> None:
    async def work(space: Workspace) -> Awaited:
        async with daemon(space, "observe"):
            key = f"look/{RATES}"
            space.ports.queue.put(key, space.ports.clock.now(), USER)
            return await until_done(space, [key], [RATES], 600, lambda: True)

    found = waited(scene, work)
    assert found.code == 3 and not found.late
    assert RATES in {str(change.ref) for change in found.left}


def test_nobody_there_and_nobody_in_time_are_told_apart(scene: Scene) -> None:
    async def work(space: Workspace) -> Awaited:
        clock = space.ports.clock
        space.ports.queue.put("plan", clock.now(), USER)
        gone = await until_done(space, ["plan"], [], 600, lambda: False)
        assert (gone.code, gone.gone, gone.plan) == (3, True, None)
        began = clock.now()
        late = await until_done(space, ["plan"], [], 60, lambda: True)
        assert clock.now() - began >= timedelta(seconds=60)
        return late

    late = waited(scene, work)
    assert (late.code, late.late, late.gone, late.plan) == (3, True, False, None)
