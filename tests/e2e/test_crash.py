"""Crash enumeration: dying at every durable step, once and twice, never repeats an irreversible effect.

Each scenario is first run undisturbed: that gives the number of durable steps, and what it cost. Then it is run again from
the same state once per step, killed there, restarted, and compared: same tokens, same objects on the storage hosts, same
satoshis gone, and nothing left to plan.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.compose import Workspace
from reconciler.devnet.clock import VirtualClock
from reconciler.devnet.world import Snapshot, World
from reconciler.engine.execute import Executor
from reconciler.engine.recover import recover
from reconciler.model.change import Verb
from reconciler.model.plan import Plan
from reconciler.model.ref import Outpoint
from reconciler.planner.guard import Limits
from reconciler.wire.keys import public_key
from tests.e2e.crash import Fuse, Killed, mortal
from tests.e2e.scene import DATASET, FULL, IDENTITY, NETWORK, PRICE, Scene, play

DESK, WALLET = b"\x11" * 32, b"\x22" * 32
OPEN_KEY = "key: {env: DESK_KEY, generate: never}"
SEALED_KEY = "key: {file: .keys/desk.json, generate: ifMissing, encryption: {passphrase: {env: RECONCILER_PASSPHRASE}}}"
PROCESS = "state: .state\nwallet: {key: {env: WALLET_KEY}}\nmode: auto\n"
SMALL = {"network.yaml": NETWORK, "identity.yaml": IDENTITY, "price.yaml": PRICE, "dataset.yaml": DATASET}
CSV = FULL["data/rates.csv"]

Edit = Callable[[Scene], None]


@dataclass(frozen=True, slots=True)
class Case:
    """A repository, what was done to it before (nothing, or an apply), and the edit whose apply is killed."""

    files: dict[str, str]
    applied: bool
    edit: Edit
    limits: Limits = field(default_factory=lambda: Limits(delete_percent=None))


def nothing(scene: Scene) -> None:
    """The first apply."""


def new_version(scene: Scene) -> None:
    """A dearer price and one more line of data: two documents and their tokens are replaced."""
    scene.write({"price.yaml": PRICE.replace("25sat", "30sat"), "data/rates.csv": CSV + "2024-01-03,1.12\n"})


def damage(scene: Scene) -> None:
    """An overlay node loses everything, and so does a storage host."""
    scene.world.wipe("overlay-1")
    scene.world.wipe("eu1")


CASES = {
    "create": Case({**FULL}, False, nothing),
    "update": Case({**FULL}, True, new_version),
    "repair": Case({**FULL}, True, damage),
    "destroy": Case({**FULL}, True, nothing, Limits(destroy=True, delete_percent=None)),
}
TWICE = {
    "create-identity": Case({"network.yaml": NETWORK, "identity.yaml": IDENTITY}, False, nothing),
    "update-dataset": Case({**SMALL, "data/rates.csv": CSV}, True, new_version),
}


@dataclass(slots=True)
class Stage:
    """A case brought to the moment before its apply, and able to return there."""

    case: Case
    scene: Scene
    world: Snapshot
    files: Path

    def reset(self) -> None:
        """Back to the moment before."""
        self.scene.world.restore_snapshot(self.world)
        shutil.rmtree(self.scene.root)
        shutil.copytree(self.files, self.scene.root)

    def mark(self, folder: Path) -> Stage:
        """A stage at this very moment."""
        shutil.copytree(self.scene.root, folder)
        return Stage(self.case, self.scene, self.scene.world.snapshot(), folder)

    async def attempt(self, fuse: Fuse) -> End | None:
        """One process: recover, plan, execute. None when it was killed."""
        try:
            async with mortal(self.scene, fuse) as space:
                end = await converge(space, self.case.limits)
        except BaseExceptionGroup as group:
            _, rest = group.split(Killed)
            if rest is not None:
                raise rest from None
            return None
        except Killed:
            return None
        return None if fuse.burnt else end


@dataclass(frozen=True, slots=True)
class End:
    """What a process that lived to its end leaves behind: its last plan, its purse, and coins that nothing may hold any more."""

    plan: Plan
    purse: int
    held: int


async def converge(space: Workspace, limits: Limits) -> End:
    """What `apply` does, until a plan has nothing left to do."""
    for _ in range(5):
        await recover(space.runner)
        survey = await space.surveyor.survey()
        plan = space.surveyor.plan(survey, limits)
        if not plan.acting and not any(c.verb is Verb.DEFER for c in plan.changes):
            break
        assert not plan.refusals, plan.refusals
        await Executor(space.runner, plan, parallelism=2).run()
        await asyncio.sleep(2)
    with space.ports.ledger.begin() as tx:
        held = len(tx.coins(state="reserved")) + len(tx.coins(state="pending"))
    purses = space.ports.ledger.read(space.ports.clock.now()).purses
    return End(plan, sum(purse.total for purse in purses.values()), held)


@dataclass(frozen=True, slots=True)
class Truth:
    """What the world, not our ledger, holds in the end."""

    purse: int
    tokens: dict[str, int]
    objects: dict[str, int]
    transactions: int


def truth(scene: Scene) -> Truth:
    """Count unspent value under our funding key, live tokens, objects on each storage host, and our transactions."""
    chain = scene.world.chain
    script = funding_script()
    purse = ours = 0
    for txid in chain.state.txs:
        tx = chain.live(txid)
        if tx is None:
            continue
        paying = [n for n, out in enumerate(tx.outputs) if out.script == script]
        purse += sum(tx.outputs[n].satoshis for n in paying if chain.spender(Outpoint(txid, n)) is None)
        ours += any(source_script(scene, i.txid, i.vout) == script for i in tx.inputs)
    held = scene.world.nodes["overlay-1"].state.held
    topics = ("tm_ship", "tm_slap", "tm_producer")
    tokens = {topic: sum(not one.spent for one in held.get(topic, {}).values()) for topic in topics}
    objects = {name: len(host.state.objects) for name, host in scene.world.storage.items()}
    return Truth(purse, tokens, objects, ours)


def source_script(scene: Scene, txid: str, vout: int) -> bytes:
    """The script an input spends."""
    out = scene.world.chain.output(Outpoint(txid, vout))
    return out.script if out else b""


def funding_script() -> bytes:
    """The purse's script, computed from the key alone."""
    from reconciler.wire.keys import child_secret, invoice
    from reconciler.wire.script import p2pkh

    return p2pkh(public_key(child_secret(WALLET, public_key(WALLET), invoice("reconciler funding", "1"))))


async def prepare(case: Case, folder: Path, clock: VirtualClock) -> Stage:
    """Write, fund, and apply once where the case wants that."""
    scene = Scene(folder / "repo", World(clock=clock))
    texts = {name: text.replace(SEALED_KEY, OPEN_KEY) for name, text in case.files.items()}
    scene.write({**texts, "reconciler.yaml": PROCESS})
    await scene.fund()
    if case.applied:
        async with mortal(scene, Fuse()) as space:
            await converge(space, Limits(delete_percent=None))
    case.edit(scene)
    shutil.copytree(scene.root, folder / "before")
    return Stage(case, scene, scene.world.snapshot(), folder / "before")


async def settled(stage: Stage) -> Truth:
    """After an undisturbed restart: nothing left to do, no coin held; and what the world holds."""
    end = await stage.attempt(Fuse())
    assert end is not None
    left = [(str(c.ref), c.verb, c.deltas) for c in end.plan.changes]
    assert end.plan.empty or (stage.case.limits.destroy and not end.plan.acting), left
    assert end.held == 0
    found = truth(stage.scene)
    assert end.purse == found.purse
    return found


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open keys, so that a thousand restarts do not stretch a thousand passphrases."""
    monkeypatch.setenv("DESK_KEY", DESK.hex())
    monkeypatch.setenv("WALLET_KEY", WALLET.hex())


async def undisturbed(stage: Stage) -> tuple[Truth, int]:
    """The yardstick: what the world holds when nobody dies, and how many durable steps that takes."""
    fuse = Fuse()
    assert await stage.attempt(fuse) is not None
    steps = fuse.steps
    return await settled(stage), steps


@pytest.mark.slow
@pytest.mark.row("P-REG-11", "P-DOD-03")
@pytest.mark.parametrize("name", CASES)
def test_killed_once_at_every_durable_step(name: str, tmp_path: Path) -> None:
    clock = VirtualClock()

    async def main() -> None:
        stage = await prepare(CASES[name], tmp_path, clock)
        expected, steps = await undisturbed(stage)
        assert steps > 10
        for k in range(1, steps + 1):
            stage.reset()
            assert await stage.attempt(Fuse(k)) is None, f"step {k} of {steps} was never reached"
            assert await settled(stage) == expected, f"killed at step {k} of {steps}"

    play(main, clock)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("name", TWICE)
def test_killed_twice_at_every_pair_of_durable_steps(name: str, part: int, tmp_path: Path) -> None:
    clock = VirtualClock()

    async def main() -> None:
        stage = await prepare(TWICE[name], tmp_path, clock)
        expected, steps = await undisturbed(stage)
        for k in range(1 + part, steps + 1, 4):
            stage.reset()
            assert await stage.attempt(Fuse(k)) is None
            once = stage.mark(tmp_path / f"once-{k}")
            j = 0
            while True:
                j += 1
                once.reset()
                if await once.attempt(Fuse(j)) is not None:
                    break
                assert await settled(once) == expected, f"killed at step {k}, then at step {j}"
            shutil.rmtree(once.files)

    play(main, clock)
