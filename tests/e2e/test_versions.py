"""How many earlier versions of a dataset keep their copies: those stay whole, the others go, and never the present one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconciler.compose import Workspace
from reconciler.model.change import Verb
from reconciler.model.errors import Unavailable
from reconciler.model.plan import Plan
from reconciler.model.ref import ResourceRef
from reconciler.planner.render import as_text
from tests.e2e.crash import DESK, OPEN_KEY, PROCESS, SEALED_KEY, WALLET
from tests.e2e.scene import DATASET, IDENTITY, NETWORK, Scene, play

RATES = ResourceRef("Dataset", "rates")
QUIET = IDENTITY.replace(SEALED_KEY, OPEN_KEY).replace("  register: true\n", "")
PRICED = DATASET.replace("  pricePlanRef: standard\n", "  price: 5sat\n")


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in (("DESK", DESK), ("WALLET", WALLET)):
        monkeypatch.setenv(f"{name}_KEY", secret.hex())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A dataset on one host that keeps for a while and on a directory that keeps for ever and can remove."""
    (tmp_path / "shelf").mkdir()
    made = Scene(tmp_path / "desk")
    hosts = NETWORK[NETWORK.index("    - {name: us1") : NETWORK.index("  broadcasters")]
    network = NETWORK.replace(hosts, f'    - {{name: shelf, url: "{tmp_path / "shelf"}", region: US, kind: filesystem}}\n')
    made.write({"network.yaml": network, "identity.yaml": QUIET, "reconciler.yaml": PROCESS})
    return made


def version(scene: Scene, number: int, keep: int | None, spec: str = PRICED) -> None:
    """Write the manifest and the content of one version."""
    kept = "" if keep is None else f"  keepVersions: {keep}\n"
    scene.write({"dataset.yaml": spec + kept, "data/rates.csv": f"date,rate\n2024-01-0{number},1\n"})


def outputs(space: Workspace) -> dict[str, Any]:
    return dict(space.ports.ledger.read(space.ports.clock.now()).records[RATES].outputs)


def shelf(scene: Scene) -> set[str]:
    return {path.name for path in (scene.root.parent / "shelf").rglob("*") if path.is_file()}


def whole(one: dict[str, Any]) -> set[str]:
    return {one["digest"], *(file["sha256"] for file in one["files"])}


def present(found: dict[str, Any]) -> set[str]:
    return {found["document"]["digest"], *(file["sha256"] for file in found["files"])}


async def applied(scene: Scene, space: Workspace) -> Plan:
    plan, report = await scene.apply(space)
    assert report.complete, report
    assert (await scene.plan(space)).empty
    return plan


@pytest.mark.row("P-DIST-18", "P-PUB-27")
def test_so_many_earlier_versions_are_kept_and_the_others_let_go(scene: Scene) -> None:
    async def main() -> None:
        version(scene, 1, 2)
        await scene.fund()
        async with scene.open() as space:
            found = []
            for number in range(1, 5):
                version(scene, number, 2)
                plan = await applied(scene, space)
                found.append(outputs(space))
            # The plan of the fourth says what it takes away.
            assert "versions.1" in as_text(plan) and "kept → let go" in as_text(plan)
            assert [one["sequence"] for one in found[-1]["versions"]] == [3, 2]
            assert len(found[-1]["previous"]) == 3, "on the chain all of them are there still"
            needed = present(found[-1]) | present(found[2]) | present(found[1])
            for held in found[-1]["replicas"].values():
                assert set(held) == needed
            assert shelf(scene) == needed
            eu1 = scene.world.storage["eu1"].state.objects.values()
            assert present(found[0]) <= {one.sha256 for one in eu1}, "what was paid for a while lapses by itself"
            # A kept one is put back like the present one.
            lost = found[1]["files"][0]["sha256"]
            next(path for path in (scene.root.parent / "shelf").rglob(lost)).unlink()
            plan = await scene.plan(space)
            assert [delta.path for change in plan.acting for delta in change.deltas] == ["replicas.shelf.v2.data/rates.csv"]
            plan = await applied(scene, space)
            assert [change.verb for change in plan.acting] == [Verb.REPAIR] and plan.cost.transactions == 0
            assert shelf(scene) == needed
            # Fewer are asked for: that costs nothing, and takes the rest.
            version(scene, 4, 0)
            plan = await applied(scene, space)
            assert plan.cost.satoshis == 0 and "versions.3" in as_text(plan)
            assert shelf(scene) == present(outputs(space)) == present(found[-1]) and "versions" not in outputs(space)

    play(main, scene.world.clock)


def test_without_a_word_nothing_is_kept_and_nothing_taken_away(scene: Scene) -> None:
    async def main() -> None:
        version(scene, 1, None)
        await scene.fund()
        async with scene.open() as space:
            await applied(scene, space)
            first = present(outputs(space))
            version(scene, 2, None)
            await applied(scene, space)
            assert "versions" not in outputs(space) and shelf(scene) == first | present(outputs(space))

    play(main, scene.world.clock)


def test_kept_versions_are_paid_for_before_their_end_and_others_are_not(scene: Scene) -> None:
    async def main() -> None:
        monthly = PRICED + "  retention: 30d\n"
        version(scene, 1, 1, monthly)
        await scene.fund()
        async with scene.open() as space:
            for number in (1, 2, 3):
                version(scene, number, 1, monthly)
                await applied(scene, space)
            found = outputs(space)
            scene.world.clock.advance(26 * 24 * 3600)
            plan = await scene.plan(space)
            (change,) = [one for one in plan.acting if one.ref == RATES]
            due = {delta.path for delta in change.deltas if delta.path.startswith("replicas.eu1.")}
            assert due == {
                f"replicas.eu1.{name}.expires" for name in ("manifest", "data/rates.csv", "v2.manifest", "v2.data/rates.csv")
            }
            await applied(scene, space)
            scene.world.clock.advance(10 * 24 * 3600)
            assert set(scene.world.storage["eu1"].state.objects) and (await scene.plan(space)).empty
            assert {one["sequence"] for one in outputs(space)["versions"]} == {2} == {found["versions"][0]["sequence"]}

    play(main, scene.world.clock)


def test_bytes_that_another_dataset_shows_stay(scene: Scene) -> None:
    async def main() -> None:
        version(scene, 1, 0)
        other = PRICED.replace("name: rates}", "name: other}").replace("data/rates.csv", "data/other.csv")
        scene.write({"other.yaml": other, "data/other.csv": (scene.root / "data/rates.csv").read_bytes()})
        await scene.fund()
        async with scene.open() as space:
            await applied(scene, space)
            shared, gone = outputs(space)["files"][0]["sha256"], outputs(space)["document"]["digest"]
            version(scene, 2, 0)
            await applied(scene, space)
            assert shared in shelf(scene) and gone not in shelf(scene)

    play(main, scene.world.clock)


def test_a_host_that_is_silent_is_asked_again_with_the_next_change(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        version(scene, 1, 0)
        await scene.fund()
        async with scene.open() as space:
            await applied(scene, space)
            first = present(outputs(space))
            storage = type(space.ports.storage)
            asked, real = [], storage.release

            async def silent(self: Any, host: Any, sha256: str) -> None:
                asked.append(host.name)
                raise Unavailable("host-silent", "cannot reach it")

            monkeypatch.setattr(storage, "release", silent)
            version(scene, 2, 0)
            await applied(scene, space)
            assert set(asked) == {"eu1", "shelf"} and set(outputs(space)["leaving"]["shelf"]) == first
            monkeypatch.setattr(storage, "release", real)
            version(scene, 3, 0)
            await applied(scene, space)
            assert "leaving" not in outputs(space) and shelf(scene) == present(outputs(space))

    play(main, scene.world.clock)
