"""A dataset on three kinds of store at once: UHRP host, directory, bucket. No kind and no engine knows the difference."""

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.copying import part_of
from reconciler.compose import Workspace
from reconciler.devnet.world import World
from reconciler.engine.execute import Executor
from reconciler.engine.retrieve import retrieve
from reconciler.model.change import Change, Verb
from reconciler.model.errors import Conflict, Refused
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.planner.guard import Limits
from tests.contract.objectstore import KEY_ID, SECRET, SECRET_IN, ObjectStore, object_store
from tests.e2e.crash import DESK, OPEN_KEY, PROCESS, SEALED_KEY, WALLET
from tests.e2e.scene import DATASET, IDENTITY, NETWORK, PRICE, Scene

RATES = ResourceRef("Dataset", "rates")
# Two parts of the least size that the interface allows.
CONTENT = ("date,rate\n" + "2024-01-01,1.10\n" * 400_000).encode()
SHA = hashlib.sha256(CONTENT).hexdigest()
STORES = """\
  storage:
    - {{name: eu1, url: "http://eu1.devnet", region: EU}}
    - {{name: disk, url: "{shelf}", region: US, kind: filesystem, publicUrl: "https://files.example.org/d/"}}
    - name: bucket
      url: {bucket}
      kind: s3
      s3: {{accessKeyId: {key}, secretKey: {{env: {secret}}}, prefix: sets/, partSize: 5MiB}}
"""


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("objects")) as store:
        yield store


@pytest.fixture
def scene(tmp_path: Path, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """The real time and real sockets, because the bucket is behind one; everything else is in process."""
    for name, value in (("DESK_KEY", DESK.hex()), ("WALLET_KEY", WALLET.hex()), (SECRET_IN, SECRET)):
        monkeypatch.setenv(name, value)
    (tmp_path / "shelf").mkdir()
    made = Scene(tmp_path / "repository", World(clock=SystemClock(), beyond=httpx.AsyncHTTPTransport()))
    before, rest = NETWORK.split("  storage:\n")
    stores = STORES.format(shelf=tmp_path / "shelf", bucket=objects.bucket("shop").url, key=KEY_ID, secret=SECRET_IN)
    made.write(
        {
            "network.yaml": before + stores + rest[rest.index("  broadcasters") :],
            "identity.yaml": IDENTITY.replace(SEALED_KEY, OPEN_KEY).replace("register: true", "register: false"),
            "price.yaml": PRICE,
            "dataset.yaml": DATASET.replace("replicas: 2", "replicas: 3"),
            "data/rates.csv": CONTENT,
            "reconciler.yaml": PROCESS,
        }
    )
    return made


async def turn(scene: Scene, space: Workspace, limits: Limits | None = None) -> Change | None:
    """Plan and act; what became of the dataset."""
    plan = await scene.plan(space, limits)
    report = await Executor(space.runner, plan).run()
    assert report.complete, report
    return next((change for change in plan.changes if change.ref == RATES), None)


def record(space: Workspace) -> Record:
    return space.ports.ledger.read(space.ports.clock.now()).records[RATES]


async def give_back(scene: Scene, space: Workspace, shelf: Path) -> None:
    """Every store gives the content back to whoever lost it, and a damaged copy is passed over."""
    back = scene.root.parent / "back"
    for number, host in enumerate(("eu1", "disk", "bucket")):
        folder = back / str(number)
        (one,) = await retrieve(space.ports, record(space), (), folder, host)
        assert (one.host, one.place) == (host, folder / "data" / "rates.csv")
        assert one.place.read_bytes() == CONTENT
        (one,) = await retrieve(space.ports, record(space), ("data/rates.csv",), folder)
        assert one.host == "", "it stands there already"
    one.place.write_bytes(b"mine")
    with pytest.raises(Conflict, match="is something else"):
        await retrieve(space.ports, record(space), (), folder)
    with pytest.raises(Refused, match=r"no such file"):
        await retrieve(space.ports, record(space), ("data/other.csv",), folder)
    (shelf / SHA).write_bytes(b"?")
    (one,) = await retrieve(space.ports, record(space), (), back / "again")
    assert one.host in ("eu1", "bucket"), "a damaged copy is passed over"
    with pytest.raises(Refused, match="missing or damaged"):
        await retrieve(space.ports, record(space), (), back / "never", "disk")


@pytest.mark.row("P-DIST-11", "P-DIST-15", "P-PUB-25")
def test_copies_are_made_verified_repaired_and_retired(scene: Scene, objects: ObjectStore) -> None:
    shelf, bucket = scene.root.parent / "shelf", objects.directory / "shop" / "sets"

    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            # What a killed process may have left: half a copy.
            part_of(shelf / SHA).write_bytes(CONTENT[:3_000_000])
            change = await turn(scene, space)
            assert change is not None
            assert change.verb is Verb.CREATE
            copies = record(space).outputs["replicas"]
            assert set(copies) == {"eu1", "disk", "bucket"}
            assert copies["disk"][SHA]["location"] == f"https://files.example.org/d/{SHA}"
            assert copies["bucket"][SHA]["location"] == f"{objects.url}/shop/sets/{SHA}"
            assert (shelf / SHA).read_bytes() == CONTENT == (bucket / SHA).read_bytes()
            assert not part_of(shelf / SHA).exists()
            assert objects.parts(SHA) == {1: 1, 2: 1}
            change = await turn(scene, space)
            assert change is not None
            assert change.verb is Verb.NONE

            (shelf / SHA).unlink()
            (bucket / SHA).write_bytes(b"?" * len(CONTENT))
            change = await turn(scene, space)
            assert change is not None
            found = {delta.path: delta.after for delta in change.deltas}
            assert found == {"replicas.disk.data/rates.csv": "missing", "replicas.bucket.data/rates.csv": "corrupt"}
            assert change.cost.transactions == 0
            assert (shelf / SHA).read_bytes() == CONTENT == (bucket / SHA).read_bytes()
            change = await turn(scene, space)
            assert change is not None
            assert change.verb is Verb.NONE

            await give_back(scene, space, shelf)
            for name in ("identity", "price", "dataset"):
                (scene.root / f"{name}.yaml").unlink()
            change = await turn(scene, space, Limits(destroy=True, delete_percent=None))
            assert change is not None
            assert change.verb is Verb.DELETE
            assert RATES not in space.ports.ledger.read(space.ports.clock.now()).records
            assert (shelf / SHA).exists(), "buyers may still come for what they paid for"

    asyncio.run(main())
