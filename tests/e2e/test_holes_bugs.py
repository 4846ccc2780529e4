"""Traps that a reviewer set: a bug in one kind must cost that one resource its turn, and nothing else."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from reconciler.compose import Workspace
from reconciler.controller import Steps
from reconciler.engine.demands import demands
from reconciler.engine.execute import Fate
from reconciler.engine.handlers import Handlers
from reconciler.engine.recover import recover
from reconciler.kinds.dataset import DatasetController
from reconciler.model.change import Change, Reason, Verb
from reconciler.model.effect import Broadcast, Sign
from reconciler.model.errors import Invariant
from reconciler.model.intent import Done, RunState, Stalled
from reconciler.model.ref import ResourceRef
from reconciler.ports import Lease
from tests.e2e import holes
from tests.e2e.holes import RATES, SECOND, converged, edited, live, purse, record
from tests.e2e.scene import DATASET, Scene, play

keys, scene = holes.keys, holes.scene
MORE = ResourceRef("Dataset", "more")
APPLY = DatasetController.apply


def broken_at(effect: type, bug: BaseException) -> Callable[[DatasetController, Change], Steps[Any]]:
    """A kind that fails when it is about to ask for such an effect for the dataset `rates`."""

    def apply(self: DatasetController, change: Change) -> Steps[Any]:
        steps, result = APPLY(self, change), None
        while True:
            try:
                asked = steps.send(result)
            except StopIteration as stop:
                return stop.value
            if isinstance(asked, effect) and change.ref == RATES:
                raise bug
            result = yield asked

    return apply


def condition(space: Workspace) -> tuple[str, str]:
    found = record(space).status.condition("Stalled")
    assert found is not None
    return found.reason, found.message


async def edited_and_more(scene: Scene) -> None:
    await converged(scene)
    edited(scene)
    scene.write({"more.yaml": SECOND, "data/more.csv": "a,b\n1,2\n"})


def test_a_kind_that_breaks_before_it_signs_stops_one_resource(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        await edited_and_more(scene)
        async with scene.open() as space:
            monkeypatch.setattr(DatasetController, "apply", broken_at(Sign, KeyError("colour")))
            with caplog.at_level(logging.DEBUG, logger="reconciler.engine"):
                _, report = await scene.apply(space)
            assert report.results[MORE].fate is Fate.DONE
            failed = report.results[RATES]
            assert failed.fate is Fate.FAILED
            assert "KeyError: 'colour'" in failed.why
            assert condition(space) == ("kind-failed", failed.why)
            told = {one.message: one for one in caplog.records}
            assert "Traceback" not in told["kind.failed"].getMessage()
            assert told["kind.failed"].levelno == logging.ERROR
            assert told["kind.traceback"].levelno == logging.DEBUG
            assert told["kind.traceback"].exc_info is not None
            with space.ports.ledger.begin() as tx:
                assert not tx.runs(state=RunState.OPEN)
                assert not tx.coins(state="reserved")
            # The daemon leaves it until it is edited or asked for, and goes on with the rest.
            handlers = Handlers(space.runner, space.surveyor, space.settings.limits, "auto")
            for _ in range(2):
                await handlers.plan(Lease("plan", 1, "test", space.ports.clock.now()))
            with space.ports.ledger.begin() as tx:
                assert len(tx.runs(state=RunState.STALLED, key="ref/Dataset/rates")) == 2
            monkeypatch.setattr(DatasetController, "apply", APPLY)
            _, report = await scene.apply(space)
            assert report.complete
            assert record(space).status.condition("Stalled") is None

    play(main, scene.world.clock)


def test_a_kind_that_breaks_after_it_signed_leaves_its_run_to_be_finished(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        await edited_and_more(scene)
        async with scene.open() as space:
            monkeypatch.setattr(DatasetController, "apply", broken_at(Broadcast, ZeroDivisionError()))
            plan, report = await scene.apply(space)
            assert report.results[MORE].fate is Fate.DONE
            assert report.results[RATES].fate is Fate.FAILED
            assert isinstance(report.results[RATES].error, Invariant)
            assert condition(space)[0] == "kind-failed"
            with space.ports.ledger.begin() as tx:
                (run,) = tx.runs(state=RunState.OPEN)
                assert list(demands(tx)) == [run.id]
                (signed,) = tx.transactions(state="signed")
            (outcome,) = (await recover(space.runner)).values()
            assert isinstance(outcome, Stalled)
            assert (next(c for c in (await scene.plan(space)).changes if c.ref == RATES)).reason is Reason.FROZEN
            # Mended, it goes on from the very bytes it had signed.
            monkeypatch.setattr(DatasetController, "apply", APPLY)
            (outcome,) = (await recover(space.runner)).values()
            assert isinstance(outcome, Done), outcome
            assert [str(o.txid) for o in live(scene, "Dataset/rates")] == [signed.txid]
            with space.ports.ledger.begin() as tx:
                assert not demands(tx)
            assert (await scene.plan(space)).empty
            assert plan.cost.satoshis > 0

    play(main, scene.world.clock)


def test_a_kind_that_cannot_look_leaves_its_resource_alone(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        await converged(scene)
        scene.write(
            {"dataset.yaml": DATASET.replace("title: Rates", "title: One"), "price.yaml": holes.PRICE.replace("25", "26")}
        )

        async def broken(*_: object) -> None:
            raise RuntimeError("no such field")

        async with scene.open() as space:
            monkeypatch.setattr(DatasetController, "observe", broken)
            plan, report = await scene.apply(space)
            change = next(c for c in plan.changes if c.ref == RATES)
            assert (change.verb, change.reason) == (Verb.DEFER, Reason.UNKNOWN)
            assert "RuntimeError: no such field" in change.detail
            assert report.results[ResourceRef("PricePlan", "standard")].fate is Fate.DONE

    play(main, scene.world.clock)


@pytest.mark.parametrize("stop", [asyncio.CancelledError, KeyboardInterrupt])
def test_being_told_to_stop_is_no_bug(scene: Scene, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            before = purse(space)
            monkeypatch.setattr(DatasetController, "apply", broken_at(Sign, stop()))
            plan = await scene.plan(space)
            change = next(c for c in plan.acting if c.ref == RATES)
            try:
                await space.runner.change(change, plan.lineage, plan.revision)
            except BaseException as raised:
                assert isinstance(raised, stop)
            else:
                raise AssertionError("it was swallowed")
            with space.ports.ledger.begin() as tx:
                assert tx.runs(state=RunState.OPEN), "the run stands as it was left"
            monkeypatch.setattr(DatasetController, "apply", APPLY)
            await recover(space.runner)
            assert (await scene.plan(space)).empty
            assert purse(space) == before - plan.cost.satoshis

    play(main, scene.world.clock)
