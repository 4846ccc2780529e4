"""Traps that a reviewer set: each would once have told what was not so."""

from dataclasses import replace

from reconciler.cli.outcome import document, gather, outcome_words
from reconciler.devnet.network import Fault, Trouble
from reconciler.engine.execute import Fate
from reconciler.engine.handlers import Handlers
from reconciler.engine.recover import recover
from reconciler.engine.survey import believed
from reconciler.model.change import Reason, Verb
from reconciler.model.errors import Conflict
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.ports import Lease
from tests.e2e import holes
from tests.e2e.holes import DESTROY, RATES, converged, edited, execute, purse, record, weather
from tests.e2e.scene import DATASET, PRICE, Scene, play

keys, scene = holes.keys, holes.scene


def test_a_saved_plan_applied_again_after_its_work_was_undone_is_stale(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            saved, report = await scene.apply(space)
            assert report.complete
            assert (await execute(space, saved)).complete, "applied twice in a row it has nothing left to do"
            _, report = await scene.apply(space, DESTROY)
            assert report.complete
            report = await execute(space, saved)
            assert not report.complete
            assert isinstance(report.results[ResourceRef("Network", "local")].error, Conflict)
            assert space.ports.ledger.read(space.ports.clock.now()).records == {}

    play(main, scene.world.clock)


def test_a_plan_whose_run_was_refused_does_not_blame_what_came_after(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            old = await scene.plan(space)
            scene.world.fail_next(code=461)
            assert (await execute(space, old)).results[RATES].fate is Fate.FAILED
            _, report = await scene.apply(space)
            assert report.complete
            report = await execute(space, old)
            assert isinstance(report.results[RATES].error, Conflict)
            ready = record(space).status.condition("Ready")
            assert ready is not None
            assert ready.status.value == "True"
            assert record(space).status.condition("Stalled") is None

    play(main, scene.world.clock)


def test_what_the_ledger_believes_is_no_change_of_what_it_holds(scene: Scene) -> None:
    async def main() -> None:
        ordered = DATASET + "lifecycle: {dependsOn: [{kind: PricePlan, name: other}]}\n"
        other = PRICE.replace("name: standard", "name: other")
        scene.write({"dataset.yaml": ordered, "other.yaml": other})
        await converged(scene)
        async with scene.open() as space:
            survey = await space.surveyor.survey()
            assert RATES in survey.recorded.records
            assert ResourceRef("PricePlan", "other") in survey.recorded.records[RATES].requires
            plan = space.surveyor.plan(replace(survey, desired=believed(survey.recorded, "")), space.settings.limits)
            assert plan.empty, [(str(c.ref), c.verb, c.deltas) for c in plan.changes]

    play(main, scene.world.clock)


def test_the_observed_generation_never_falls_and_what_is_unconfirmed_says_so(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            seen = []
            for number in range(3):
                edited(scene, str(number))
                if number == 1:
                    scene.world.fail_next(code=461)
                await scene.apply(space)
                status = record(space).status
                confirmed = status.condition("Confirmed")
                assert confirmed is not None
                assert confirmed.status.value == "False"
                seen.append(status.observed_generation)
            assert seen == sorted(seen)
            assert seen[-1] > seen[0]

    play(main, scene.world.clock)


def test_a_pause_holds_while_the_manifests_are_in_error(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        suspended = DATASET + "lifecycle: {suspend: {reason: vendor outage}, maxSpend: 5sat}\n"
        scene.write({"dataset.yaml": suspended})
        async with scene.open() as space:
            # The only thing that changed is the pause, so nothing is done; it is remembered all the same.
            handlers = Handlers(space.runner, space.surveyor, space.settings.limits, "auto")
            await handlers.plan(Lease("plan", 1, "test", space.ports.clock.now()))
            scene.world.evict("overlay-1", Outpoint.parse(record(space).outputs["tokens"][0]["outpoint"]))
        scene.write({"price.yaml": PRICE.replace("rate:", "rat:")})
        async with scene.open() as space:
            before = space.ports.ledger.read(space.ports.clock.now()).serial
            handlers = Handlers(space.runner, space.surveyor, space.settings.limits, "auto")
            await handlers.plan(Lease("plan", 1, "test", space.ports.clock.now()))
            assert handlers.source_fault
            assert handlers.last_plan is not None
            change = next(c for c in handlers.last_plan.changes if c.ref == RATES)
            assert (change.verb, change.reason) == (Verb.NONE, Reason.SUSPENDED)
            assert "vendor outage" in change.detail
            assert space.ports.ledger.read(space.ports.clock.now()).serial == before
            survey = await space.surveyor.survey()
            assert believed(survey.recorded, "").resources[RATES].lifecycle.max_spend == 5
        # Taken back, it is forgotten, too.
        scene.write({"price.yaml": PRICE, "dataset.yaml": DATASET})
        async with scene.open() as space:
            _, report = await scene.apply(space)
            assert report.results[RATES].fate is Fate.DONE
            survey = await space.surveyor.survey()
            assert believed(survey.recorded, "").resources[RATES].lifecycle.suspend is None

    play(main, scene.world.clock)


def test_what_was_resumed_counts_as_planned_and_as_spent(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            before = purse(space)
            with weather(scene, Fault(Trouble.LOSE, host="arc.devnet", path="/v1/tx", method="POST", times=1)):
                plan, report = await scene.apply(space)
            assert plan.funding
            assert not report.count(Fate.DONE), "the split left, and nobody knows"
        async with scene.open() as space:
            recovered = outcome_words(await recover(space.runner))
            assert list(recovered.values()) == ["done"]
            plan = await scene.plan(space)
            assert not plan.funding
            result = gather(space, plan, await execute(space, plan), recovered)
            assert before - purse(space) == result.spent == result.planned > plan.cost.satoshis
            said = document(result)
            assert said["planned"] == said["spent"] == result.spent
            # With a saved plan the split is the plan's own, and is counted once.
            assert gather(
                space, plan, result.report, {**recovered, **{one.run: "done" for one in result.moved.values()}}
            ).spent == (result.spent)

    play(main, scene.world.clock)
