"""Where a reviewer sets traps: a small producer in an empty world, the weather, and what the tests look at."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.compose import Workspace
from reconciler.devnet.network import Fault, Trouble
from reconciler.devnet.world import Plan as WorldPlan
from reconciler.devnet.world import World
from reconciler.engine.execute import Executor, Report
from reconciler.model.plan import Plan
from reconciler.model.record import Record
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.planner.guard import Limits
from tests.e2e.scene import DATASET, FULL, IDENTITY, NETWORK, PRICE, Scene

DESK, WALLET = b"\x11" * 32, b"\x22" * 32
OPEN_KEY = "key: {env: DESK_KEY, generate: never}"
SEALED_KEY = "key: {file: .keys/desk.json, generate: ifMissing, encryption: {passphrase: {env: RECONCILER_PASSPHRASE}}}"
PROCESS = "state: .state\nwallet: {key: {env: WALLET_KEY}}\nmode: auto\n"
RATES, DESK_REF = ResourceRef("Dataset", "rates"), ResourceRef("Identity", "desk")
FEED = ResourceRef("Advertisement", "feed")
DESTROY = Limits(destroy=True, delete_percent=None)
FILES = {
    "network.yaml": NETWORK,
    "identity.yaml": IDENTITY.replace(SEALED_KEY, OPEN_KEY),
    "price.yaml": PRICE,
    "dataset.yaml": DATASET,
    "data/rates.csv": FULL["data/rates.csv"],
    "reconciler.yaml": PROCESS,
}
SECOND = DATASET.replace("name: rates", "name: more").replace("data/rates.csv", "data/more.csv")
BUSY = Fault(Trouble.STATUS, host="arc.devnet", path="/v1/tx", method="POST", status=503)
TWO_HOSTS = NETWORK.replace(
    "region: EU}]", 'region: EU}, {name: overlay-2, url: "http://overlay-2.devnet", region: US}]'
).replace("ack: all", "ack: any")


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open keys: nothing here is about passphrases."""
    monkeypatch.setenv("DESK_KEY", DESK.hex())
    monkeypatch.setenv("WALLET_KEY", WALLET.hex())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A small producer's repository in an empty world."""
    made = Scene(tmp_path)
    made.write(dict(FILES))
    return made


@pytest.fixture
def pair(tmp_path: Path) -> Scene:
    """The same on a network of two overlay hosts, of which any one is enough."""
    made = Scene(tmp_path, World(plan=WorldPlan(overlays=(("overlay-1", "EU"), ("overlay-2", "US")))))
    made.write({**FILES, "network.yaml": TWO_HOSTS})
    return made


@contextmanager
def weather(scene: Scene, *faults: Fault) -> Iterator[None]:
    """Faults for as long as the block runs."""
    scene.world.transport().arm(*faults)
    try:
        yield
    finally:
        scene.world.transport().calm()


async def converged(scene: Scene) -> None:
    """Funded and applied."""
    await scene.fund()
    async with scene.open() as space:
        _, report = await scene.apply(space)
        assert report.complete, report


def record(space: Workspace, ref: ResourceRef = RATES) -> Record:
    return space.ports.ledger.read(space.ports.clock.now()).records[ref]


def purse(space: Workspace) -> int:
    return space.ports.ledger.read(space.ports.clock.now()).purses["devnet"].total


def live(scene: Scene, subject: str, host: str = "overlay-1") -> list[Outpoint]:
    """Unspent descriptors of a subject, as an overlay node has them and the chain agrees."""
    held = scene.world.nodes[host].state.held.get("tm_producer", {})
    return [o for o, one in held.items() if one.fact.subject == subject and scene.world.chain.spender(o) is None]


def edited(scene: Scene, value: str = "1.5") -> None:
    scene.write({"data/rates.csv": f"date,rate\n2024-01-01,{value}\n"})


async def execute(space: Workspace, plan: Plan) -> Report:
    return await Executor(space.runner, plan).run()
