"""Going back to an earlier revision: planned from the journal, priced, published as the next version."""

import pytest

from reconciler.cli.planning import Wish, prepare
from reconciler.compose import Workspace
from reconciler.engine.execute import Executor
from reconciler.engine.rollback import desired_at
from reconciler.model.change import Verb
from reconciler.model.errors import Refused
from reconciler.model.ref import ResourceRef
from reconciler.planner.guard import Limits
from tests.e2e.scene import ADVERTISEMENT, DATASET, FULL, Scene, play

RATES, FEED = ResourceRef("Dataset", "rates"), ResourceRef("Advertisement", "feed")


async def rolled_back(space: Workspace, revision: str) -> dict[ResourceRef, Verb]:
    prepared = await prepare(space, Wish(rollback=revision))
    report = await Executor(space.runner, prepared.plan).run()
    assert report.complete, report
    return {change.ref: change.verb for change in prepared.plan.acting}


def test_what_an_earlier_revision_asked_for_is_published_again(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        (scene.root / "advertisement.yaml").unlink()
        async with scene.open() as space:
            await scene.apply(space)
            first = space.ports.ledger.read(space.ports.clock.now()).records[RATES]
            scene.write({"dataset.yaml": DATASET.replace("title: Rates", "title: Wrong"), "advertisement.yaml": ADVERTISEMENT})
            scene.write({"data/rates.csv": "date,rate\n1999-01-01,9\n"})
            await scene.apply(space)
            # The manifests, and the bytes of then, are gone from the repository; the ledger and the blobs have both.
            verbs = await rolled_back(space, first.revision.rpartition("@")[2][:8])
            assert verbs == {RATES: Verb.UPDATE, FEED: Verb.DELETE}
            after = space.ports.ledger.read(space.ports.clock.now()).records
            assert FEED not in after
            assert after[RATES].body == first.body and after[RATES].outputs["files"] == first.outputs["files"]
            assert after[RATES].outputs["document"]["sequence"] == 3
            assert after[RATES].revision == first.revision
            assert not (await prepare(space, Wish(rollback=first.revision))).plan.acting

    play(main, scene.world.clock)


def test_bytes_that_nobody_kept_and_revisions_that_never_were_are_refused(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            record = space.ports.ledger.read(space.ports.clock.now()).records[RATES]
            more = FULL["data/rates.csv"] + "2024-01-05,1.2\n"
            scene.write({"dataset.yaml": DATASET.replace("title: Rates", "title: More"), "data/rates.csv": more})
            await scene.apply(space)
            with pytest.raises(Refused, match="nothing was applied from it"):
                desired_at(space.ports, "ffffffff", "")
            space.ports.blobs.path(record.outputs["files"][0]["sha256"]).unlink()
            with pytest.raises(Refused, match=r"nobody kept data/rates\.csv"):
                desired_at(space.ports, record.revision, "")

    play(main, scene.world.clock)


def test_a_plan_is_as_good_as_a_revision_and_finer(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            first, _ = await scene.apply(space)
            # Two plans of one revision: the first of them left something out.
            scene.write({"dataset.yaml": DATASET.replace("title: Rates", "title: New")})
            scene.write({"advertisement.yaml": ADVERTISEMENT.replace("capability: rates", "capability: more")})
            only = frozenset({RATES})
            second, _ = await scene.apply(space, Limits(delete_percent=None, only=only))
            third, _ = await scene.apply(space)
            assert second.revision == third.revision and [change.ref for change in third.acting] == [FEED]
            feed = space.ports.ledger.read(space.ports.clock.now()).records[FEED]
            prepared = await prepare(space, Wish(to_plan=second.id[:8]))
            assert {change.ref: change.verb for change in prepared.plan.acting} == {FEED: Verb.UPDATE}
            assert prepared.plan.revision == second.revision
            prepared = await prepare(space, Wish(to_plan=first.id))
            assert {change.ref for change in prepared.plan.acting} == {*only, FEED}
            report = await Executor(space.runner, prepared.plan).run()
            assert report.complete, report
            after = space.ports.ledger.read(space.ports.clock.now()).records
            assert after[RATES].body["spec"]["title"] == "Rates" and after[FEED].body != feed.body
            with pytest.raises(Refused, match="nothing was applied from it") as told:
                await prepare(space, Wish(to_plan="pl_0000000000"))
            assert "names plans" in (told.value.hint or "")

    play(main, scene.world.clock)
