"""A DistributionRule decides where copies live: chosen by selectors, spread over regions, probed, healed, scaled by demand."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.compose import Workspace
from reconciler.devnet.network import Fault, Trouble
from reconciler.devnet.world import Plan as WorldPlan
from reconciler.devnet.world import World
from reconciler.engine import probes
from reconciler.engine.execute import Executor
from reconciler.model.change import Change, Reason, Verb
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from tests.e2e.crash import DESK, OPEN_KEY, PROCESS, SEALED_KEY, WALLET
from tests.e2e.scene import DATASET, IDENTITY, PRICE, Scene, play

RATES = ResourceRef("Dataset", "rates")
STORES = (("eu1", "EU"), ("eu2", "EU"), ("us1", "US"), ("us2", "US"), ("ap1", "AP"))
TAGGED = DATASET.replace("  replicas: 2\n", "  tags: [fx, daily]\n")
MINUTE = 60
CONTENT = "date,rate\n" + "2024-01-01,1.10\n" * 2000


def network(stores: Sequence[tuple[str, str]] = STORES) -> str:
    hosts = "\n".join(
        f'    - {{name: {name}, url: "http://{name}.devnet", region: {region}, kind: uhrp}}' for name, region in stores
    )
    return f"""\
apiVersion: overlay.bsv/v1alpha1
kind: Network
metadata: {{name: local}}
spec:
  chain: devnet
  overlays: [{{name: overlay-1, url: "http://overlay-1.devnet", region: EU}}]
  ack: all
  storage:
{hosts}
  broadcasters: [{{name: arc, url: "http://arc.devnet"}}]
  headers: {{url: "http://headers.devnet"}}
"""


def rule(*lines: str, name: str = "spread") -> str:
    head = f"apiVersion: overlay.bsv/v1alpha1\nkind: DistributionRule\nmetadata: {{name: {name}}}\nspec:\n"
    return head + "".join(f"  {line}\n" for line in lines)


SELECTED = "selector: {tags: [fx]}"
EVERYWHERE = (SELECTED, "replicas: {min: 2, max: 5}", "regions: {spread: all}", "probe: {every: 5m}", "repair: {after: 15m}")


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open keys: nothing here is about passphrases."""
    monkeypatch.setenv("DESK_KEY", DESK.hex())
    monkeypatch.setenv("WALLET_KEY", WALLET.hex())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """One dataset with tags, and five storage hosts in three regions."""
    made = Scene(tmp_path, World(plan=WorldPlan(storage=STORES)))
    made.write(
        {
            "network.yaml": network(),
            "identity.yaml": IDENTITY.replace(SEALED_KEY, OPEN_KEY),
            "price.yaml": PRICE,
            "dataset.yaml": TAGGED,
            "rule.yaml": rule(*EVERYWHERE),
            "data/rates.csv": CONTENT,
            "reconciler.yaml": PROCESS,
        }
    )
    return made


async def turn(scene: Scene, space: Workspace) -> Change:
    """One pass of the daemon: look, plan, write down what was seen, act; what became of the dataset."""
    survey = await space.surveyor.survey()
    assert survey.loaded.desired is not None, survey.loaded.errors
    plan = space.surveyor.plan(survey, space.settings.limits)
    probes.note(space.ports, survey.recorded, survey.observed)
    report = await Executor(space.runner, plan).run()
    assert report.complete, report
    return next(change for change in plan.changes if change.ref == RATES)


async def begun(scene: Scene, space: Workspace) -> None:
    """Funded and applied."""
    await scene.fund()
    assert (await turn(scene, space)).verb is Verb.CREATE


def record(space: Workspace) -> Record:
    return space.ports.ledger.read(space.ports.clock.now()).records[RATES]


def homes(space: Workspace) -> set[str]:
    return set(record(space).outputs["replicas"])


def regions(names: set[str]) -> set[str]:
    return {region for name, region in STORES if name in names}


def content(space: Workspace) -> str:
    return str(record(space).outputs["files"][0]["sha256"])


def holders(scene: Scene, sha256: str) -> set[str]:
    """The hosts that serve the content now, as they say."""
    return {name for name, host in scene.world.storage.items() if host.find(sha256, "devnet") is not None}


def desired(scene: Scene, space: Workspace) -> Any:
    loaded = space.surveyor.load()
    assert loaded.desired is not None, loaded.errors
    return loaded.desired.resources


# --- which datasets --------------------------------------------------------------------------------


@pytest.mark.row("P-DIST-01", "P-DIST-05", "P-DIST-06")
@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("{names: [ra*]}", True), ("{names: [other, rates]}", True), ("{names: [other]}", False),
        ("{tags: [daily, fx]}", True), ("{tags: [fx, weekly]}", False),
        ("{labels: {tier: gold}}", True), ("{labels: {tier: lead}}", False),
        ("{size: {max: 32010B}}", True), ("{size: {max: 32009B}}", False), ("{size: {min: 32010B}}", True),
        ("{size: {min: 33kB}}", False),
        ("{contentHash: HASH}", True), (f"{{contentHash: {'0' * 64}}}", False),
        ("{tags: [fx], size: {min: 1MB}}", False),
    ],
)  # fmt: skip
def test_a_selector_chooses_by_all_of_its_conditions(scene: Scene, selector: str, chosen: bool) -> None:
    import hashlib

    digest = hashlib.sha256(CONTENT.encode()).hexdigest()
    assert len(CONTENT) == 32010
    scene.write(
        {
            "rule.yaml": rule(f"selector: {selector.replace('HASH', digest)}"),
            "dataset.yaml": TAGGED.replace("{name: rates}", "{name: rates, labels: {tier: gold}}"),
        }
    )

    async def main() -> None:
        async with scene.open() as space:
            want = desired(scene, space)[RATES]
            assert (want.spec.get("distributionRuleRef") == "spread") is chosen
            assert (ResourceRef("DistributionRule", "spread") in want.requires) is chosen

    play(main, scene.world.clock)


def test_a_dataset_that_two_rules_select_is_an_error_until_it_names_one(scene: Scene) -> None:
    async def main() -> None:
        scene.write({"second.yaml": rule(SELECTED, name="other")})
        async with scene.open() as space:
            (error,) = space.surveyor.load().errors
            assert error.code == "E0405"
            assert '"other" and "spread" both select it' in error.message
            assert str(error.at).startswith("dataset.yaml:")
            scene.write({"dataset.yaml": TAGGED + "  distributionRuleRef: other\n"})
            assert desired(scene, space)[RATES].spec["distributionRuleRef"] == "other"

    play(main, scene.world.clock)


# --- where -----------------------------------------------------------------------------------------


@pytest.mark.row("P-DIST-04", "P-DIST-08", "P-DIST-11", "P-PUB-07", "P-PUB-11", "S-08")
def test_copies_stand_in_every_region_and_a_second_plan_is_empty(scene: Scene) -> None:
    async def main() -> None:
        async with scene.open() as space:
            await begun(scene, space)
            assert regions(homes(space)) == {"EU", "US", "AP"}
            assert len(homes(space)) == 3
            assert holders(scene, content(space)) == homes(space)
            assert (await scene.plan(space)).empty
            shown = {row["region"] for row in _rows(scene)}
            assert shown == {"EU", "US", "AP"}

    play(main, scene.world.clock)


@pytest.mark.row("P-DIST-08", "S-08")
def test_a_region_that_cannot_be_met_is_an_error_of_the_plan(scene: Scene) -> None:
    async def main() -> None:
        scene.write({"rule.yaml": rule(SELECTED, "replicas: {min: 2, max: 5}", "regions: {spread: [EU, SA]}")})
        await scene.fund()
        async with scene.open() as space:
            plan = await scene.plan(space)
            change = next(c for c in plan.changes if c.ref == RATES)
            assert change.blocked is not None
            assert "region SA has 0 storage hosts" in change.blocked
            assert "DistributionRule/spread" in change.blocked

    play(main, scene.world.clock)


@pytest.mark.row("P-DIST-12")
def test_the_quickest_host_of_a_region_is_chosen_and_a_change_of_pace_moves_nothing(scene: Scene) -> None:
    async def main() -> None:
        slow = [Fault(Trouble.DELAY, host=f"{name}.devnet", path="/quote", seconds=0.8) for name in ("eu1", "us1")]
        scene.world.transport().arm(*slow)
        async with scene.open() as space:
            await begun(scene, space)
            assert homes(space) == {"eu2", "us2", "ap1"}
            scene.world.transport().calm()
            scene.world.transport().arm(
                *(Fault(Trouble.DELAY, host=f"{n}.devnet", path="/quote", seconds=2) for n in ("eu2", "us2"))
            )
            assert (await turn(scene, space)).verb is Verb.NONE

    play(main, scene.world.clock)


def test_a_rule_that_changes_moves_copies_and_makes_no_transaction(scene: Scene) -> None:
    async def main() -> None:
        async with scene.open() as space:
            await begun(scene, space)
            outpoint = record(space).outputs["tokens"][0]["outpoint"]
            scene.write(
                {"rule.yaml": rule(SELECTED, "replicas: {min: 2, max: 4}", "nodes: [eu1, eu2, us1]", "regions: {spread: [EU]}")}
            )
            change = await turn(scene, space)
            assert (change.verb, change.reason, change.cost.transactions) == (Verb.UPDATE, Reason.REQUIREMENT_CHANGED, 0)
            assert homes(space) <= {"eu1", "eu2", "us1"}
            assert record(space).outputs["tokens"][0]["outpoint"] == outpoint
            assert (await scene.plan(space)).empty
            scene.write({"rule.yaml": rule("selector: {tags: [fx, daily]}", *EVERYWHERE[1:3], "nodes: [eu1, us1, ap1]")})
            await turn(scene, space)
            assert homes(space) == {"eu1", "us1", "ap1"}

    play(main, scene.world.clock)


# --- kept true -------------------------------------------------------------------------------------


@pytest.mark.row("P-DIST-07", "P-DIST-15")
def test_a_host_that_was_wiped_is_healed_after_the_delay(scene: Scene) -> None:
    async def main() -> None:
        async with scene.open() as space:
            await begun(scene, space)
            before = homes(space)
            victim = min(before)
            scene.world.wipe(victim)
            scene.world.clock.advance(6 * MINUTE)
            assert (await turn(scene, space)).verb is Verb.NONE, "it may come back by itself"
            assert record(space).status.facts["replicas"][victim]["state"] == "missing"
            scene.world.clock.advance(6 * MINUTE)
            assert (await turn(scene, space)).verb is Verb.NONE
            scene.world.clock.advance(6 * MINUTE)
            change = await turn(scene, space)
            assert (change.verb, change.reason) == (Verb.REPAIR, Reason.DRIFTED)
            assert holders(scene, content(space)) == before == homes(space)
            facts = record(space).status.facts
            assert float(facts["availability"][victim]) < 100 == float(facts["availability"][max(before)])

    play(main, scene.world.clock)


@pytest.mark.row("P-DIST-13", "P-DIST-07")
def test_a_dead_host_is_replaced_in_its_region_and_not_before_the_delay(scene: Scene) -> None:
    async def main() -> None:
        async with scene.open() as space:
            await begun(scene, space)
            (dead,) = homes(space) & {"us1", "us2"}
            (spare,) = {"us1", "us2"} - {dead}
            scene.world.drop(dead)
            scene.world.clock.advance(6 * MINUTE)
            assert (await turn(scene, space)).verb is Verb.NONE
            scene.world.clock.advance(20 * MINUTE)
            change = await turn(scene, space)
            assert {delta.path for delta in change.deltas} == {f"replicas.{dead}", f"replicas.{spare}"}
            assert homes(space) & {"us1", "us2"} == {spare}
            assert spare in holders(scene, content(space))
            scene.world.restore(dead)
            scene.world.clock.advance(20 * MINUTE)
            assert (await turn(scene, space)).verb is Verb.NONE, "the old host coming back moves nothing"

    play(main, scene.world.clock)


def test_a_region_whose_only_host_is_dead_keeps_what_it_can(scene: Scene) -> None:
    async def main() -> None:
        async with scene.open() as space:
            await begun(scene, space)
            scene.world.drop("ap1")
            scene.world.clock.advance(60 * MINUTE)
            assert (await turn(scene, space)).verb is Verb.NONE, "nobody else can stand in AP"
            scene.world.restore("ap1")
            scene.world.wipe("ap1")
            scene.world.clock.advance(60 * MINUTE)
            await turn(scene, space)
            assert "ap1" in holders(scene, content(space))

    play(main, scene.world.clock)


@pytest.mark.row("P-DIST-15", "P-DIST-17")
def test_probes_follow_their_schedule_read_samples_and_sometimes_all(scene: Scene) -> None:
    async def main() -> None:
        probing = "probe: {every: 10m, sample: 1KiB, whole: 4}"
        scene.write({"rule.yaml": rule(SELECTED, "replicas: {min: 1}", probing, "repair: {after: 0s}")})
        async with scene.open() as space:
            await begun(scene, space)
            (home,) = homes(space)
            kept = record(space).outputs["replicas"][home]
            ours = {f"/cdn/{item.id}" for item in scene.world.storage[home].state.objects.values() if item.sha256 in kept}
            reads: list[tuple[int, str]] = []
            now = [0]
            inner = scene.world.network.apps[f"{home}.devnet"]

            async def counting(scope: Any, receive: Any, send: Any) -> None:
                if scope["path"] in ours:
                    headers = dict(scope["headers"])
                    reads.append((now[0], headers.get(b"range", b"all").decode()))
                await inner(scope, receive, send)

            scene.world.network.apps[f"{home}.devnet"] = counting
            for number in range(16):
                now[0] = number
                scene.world.clock.advance(5 * MINUTE + 1)
                await turn(scene, space)
            rounds = sorted({number for number, _ in reads})
            assert rounds == [1, 3, 5, 7, 9, 11, 13, 15], "every ten minutes, though it looked every five"
            spans = {number: {span for n, span in reads if n == number} - {"all"} for number in rounds}
            # The manifest is smaller than a sample and is read whole; of four looks at the file, one reads all of it.
            assert [len(spans[number]) for number in rounds] == [1, 1, 1, 0, 1, 1, 1, 0]
            assert len(set.union(*spans.values())) == 6, "never the same place"
            assert scene.world.storage[home].state.downloads == {}, "our own looks are no demand"
            scene.world.corrupt(home, content(space))
            for _ in range(4):
                scene.world.clock.advance(10 * MINUTE + 1)
                change = await turn(scene, space)
                if change.verb is Verb.REPAIR:
                    break
            assert change.verb is Verb.REPAIR, "of four looks one sees all of it"
            assert scene.world.storage[home].find(content(space), "devnet") is not None

    play(main, scene.world.clock)


# --- demand ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.row("P-DIST-09", "S-10")
def test_copies_grow_and_shrink_with_downloads_and_do_not_swing(scene: Scene) -> None:
    scaling = "autoScale: {downloadsPerHourPerReplica: 12, cooldown: 30m}"
    scene.write({"rule.yaml": rule(SELECTED, "replicas: {min: 2, max: 4}", "probe: {every: 1h}", scaling)})

    async def hour(space: Workspace, downloads: int) -> int:
        """An hour of steady demand in six passes; how many copies there are at its end."""
        async with httpx.AsyncClient(transport=scene.world.transport()) as buyers:
            for part in range(6):
                places = [next(iter(copy.values()))["location"] for copy in record(space).outputs["replicas"].values()]
                file = [copies[content(space)]["location"] for copies in record(space).outputs["replicas"].values()]
                for number in range(downloads * part // 6, downloads * (part + 1) // 6):
                    assert (await buyers.get(file[number % len(places)])).is_success
                scene.world.clock.advance(10 * MINUTE)
                await turn(scene, space)
        return len(homes(space))

    async def main() -> None:
        async with scene.open() as space:
            await begun(scene, space)
            assert await hour(space, 12) == 2
            assert await hour(space, 30) == 3, "two copies serve 24 an hour"
            assert await hour(space, 30) == 3
            assert await hour(space, 24) == 3, "not below three quarters of what two would serve: it does not swing"
            assert await hour(space, 120) == 4, "never above the ceiling"
            moved = datetime.fromisoformat(record(space).outputs["scaledAt"])
            assert moved.tzinfo is not None
            assert await hour(space, 12) in (2, 3), "down one at a time"
            assert await hour(space, 12) == 2
            assert await hour(space, 0) == 2, "never below the floor"
            assert len([h for h in _rows(scene) if h["downloads_per_hour"] == 0]) == 2

    play(main, scene.world.clock)


def _rows(scene: Scene) -> list[dict[str, Any]]:
    import sqlite3

    (path,) = scene.root.rglob("ledger.db")
    with sqlite3.connect(path) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM content_distribution")]
