"""Bad weather at every irreversible step: what the world refuses, loses or doubts never costs twice."""

import shutil
from collections.abc import Sequence

import pytest

from reconciler.compose import Workspace
from reconciler.devnet.chain import CONTESTED
from reconciler.devnet.network import Fault, Trouble
from reconciler.engine.drive import drive
from reconciler.engine.execute import Executor, Fate
from reconciler.engine.finish import remember
from reconciler.engine.journal import Budget, Journal
from reconciler.engine.recover import recover
from reconciler.kinds.dataset import CONTROLLER as DATASETS
from reconciler.model.canonical import Json
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import GuardRefused, Invariant, Unavailable, Uncertain
from reconciler.model.intent import Retry, RunState, Stalled
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.planner.guard import Limits
from reconciler.ports import Found
from tests.e2e.scene import ANYTHING_GOES, FULL, Scene, play

DATASET = ResourceRef("Dataset", "rates")


def spends(scene: Scene, space: Workspace) -> int:
    """Transactions of the purse that the network lives with."""
    chain, script = scene.world.chain, space.ports.wallet.funding_script()

    def ours(txid: str) -> bool:
        tx = chain.live(txid)
        sources = [chain.output(Outpoint(i.txid, i.vout)) for i in tx.inputs] if tx else []
        return any(source is not None and source.script == script for source in sources)

    return sum(map(ours, list(chain.state.txs)))


def is_contested(scene: Scene, txid: str) -> bool:
    """Whether the network doubts it."""
    standing = scene.world.chain.standing(txid)
    return standing is not None and standing.status == CONTESTED


def purse(space: Workspace) -> int:
    """Satoshis that can be spent."""
    return space.ports.ledger.read(space.ports.clock.now()).purses["devnet"].total


async def prepared(scene: Scene) -> None:
    """Everything but the dataset's next version applied."""
    await scene.fund()
    async with scene.open() as space:
        _, report = await scene.apply(space)
        assert report.complete
    scene.write({"data/rates.csv": "date,rate\n2024-01-01,1.5\n"})


def test_a_rejected_transaction_is_replaced_by_one_that_spends_the_same_coin(scene: Scene) -> None:
    async def main() -> None:
        await prepared(scene)
        async with scene.open() as space:
            scene.world.fail_next(code=461)
            _, report = await scene.apply(space)
            assert report.results[DATASET].fate is Fate.FAILED
            with space.ports.ledger.begin() as tx:
                (stalled,) = tx.runs(state=RunState.STALLED)
                (dead,) = [t for t in tx.transactions() if t.run == stalled.id]
                assert dead.state == "rejected"
                held = {c.outpoint for c in tx.coins(state="reserved")}
                assert len(held) == 1
            _, report = await scene.apply(space)
            assert report.complete
            with space.ports.ledger.begin() as tx:
                again = tx.runs(key=stalled.key)[-1]
                assert again.state is RunState.DONE
                assert held == {c.outpoint for c in tx.coins(state="spent", run=again.id)}
                assert not tx.coins(state="reserved")
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_what_was_set_aside_for_an_edit_that_was_refused_and_undone_is_free_again(scene: Scene) -> None:
    async def main() -> None:
        before = (scene.root / "data/rates.csv").read_text()
        await prepared(scene)
        async with scene.open() as space:
            scene.world.fail_next(code=465)
            _, report = await scene.apply(space)
            assert report.results[DATASET].fate is Fate.FAILED
            scene.write({"data/rates.csv": before})
            survey = await space.surveyor.survey()
            plan = space.surveyor.plan(survey, ANYTHING_GOES)
            assert plan.empty and survey.loaded.desired is not None
            remember(space.ports, survey.loaded.desired, survey.recorded, plan)
            with space.ports.ledger.begin() as tx:
                assert not tx.coins(state="reserved")

    play(main, scene.world.clock)


@pytest.mark.row("P-PUB-21")
def test_a_lost_answer_is_settled_by_the_same_bytes(scene: Scene) -> None:
    async def main() -> None:
        await prepared(scene)
        async with scene.open() as space:
            before = purse(space)
            scene.world.transport().arm(Fault(Trouble.LOSE, host="arc.devnet", path="/v1/tx", method="POST", times=1))
            plan, report = await scene.apply(space)
            result = report.results[DATASET]
            assert result.fate is Fate.PENDING
            assert isinstance(result.error, Uncertain)
            assert space.ports.ledger.read(space.ports.clock.now()).frozen == {DATASET}
            with space.ports.ledger.begin() as tx:
                signed = {t.txid for t in tx.transactions()}
            (outcome,) = (await recover(space.runner)).values()
            assert not isinstance(outcome, (Retry, Stalled)), outcome
            with space.ports.ledger.begin() as tx:
                assert {t.txid for t in tx.transactions()} == signed
            assert purse(space) == before - plan.cost.satoshis
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


@pytest.mark.row("P-PUB-21")
def test_a_broadcaster_that_is_down_delays_ever_longer_and_one_transaction_is_made(scene: Scene) -> None:
    async def main() -> None:
        await prepared(scene)
        async with scene.open() as space:
            plan = await scene.plan(space)
            scene.world.transport().arm(
                Fault(Trouble.STATUS, host="arc.devnet", path="/v1/tx", method="POST", status=503, times=3)
            )
            change = next(c for c in plan.acting if c.ref == DATASET)
            waits = []
            outcome = await space.runner.change(change, plan.lineage, plan.revision)
            for attempt in range(1, 4):
                assert isinstance(outcome, Retry)
                waits.append((outcome.at - space.ports.clock.now()).total_seconds())
                await space.ports.clock.sleep(waits[-1])
                lease = space.ports.queue.take("ref/Dataset/rates", "test", space.ports.clock.now())
                assert lease is not None
                with space.ports.ledger.begin() as tx:
                    run = tx.run(change.run_id(plan.lineage))
                assert run is not None
                journal = Journal(space.ports.ledger, run, lease)
                outcome = await drive(journal, DATASETS.apply(change), space.ports, Budget(change.cost.satoshis), attempt=attempt)
            assert not isinstance(outcome, (Retry, Stalled)), outcome
            assert all(0.8 * 2**n <= wait <= 1.2 * 2**n for n, wait in enumerate(waits)), waits
            with space.ports.ledger.begin() as tx:
                assert len([t for t in tx.transactions() if t.run == run.id]) == 1

    play(main, scene.world.clock)


def test_a_double_spend_in_doubt_freezes_the_resource_and_makes_no_second_transaction(scene: Scene) -> None:
    async def main() -> None:
        await prepared(scene)
        async with scene.open() as space:
            scene.world.fail_next(status=CONTESTED)
            _, report = await scene.apply(space)
            assert report.results[DATASET].fate is Fate.PENDING
            with space.ports.ledger.begin() as tx:
                before = {t.txid for t in tx.transactions()}
            plan = await scene.plan(space)
            assert not plan.acting
            await recover(space.runner)
            with space.ports.ledger.begin() as tx:
                assert {t.txid for t in tx.transactions()} == before
            # The rival is gone; the network knows nothing against the same bytes any more.
            scene.world.chain._forget([t.txid for t in scene.world.chain.state.txs.values() if is_contested(scene, t.txid)])
            (outcome,) = (await recover(space.runner)).values()
            assert not isinstance(outcome, (Retry, Stalled)), outcome
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_a_host_that_says_no_to_what_was_paid_is_recorded_not_paid_again(scene: Scene) -> None:
    async def main() -> None:
        await prepared(scene)
        async with scene.open() as space:
            fault = Fault(Trouble.STATUS, host="overlay-1.devnet", path="/submit", method="POST", status=400)
            scene.world.transport().arm(fault)
            _, report = await scene.apply(space)
            scene.world.transport().calm()
            assert report.results[DATASET].fate is Fate.FAILED
            record = space.ports.ledger.read(space.ports.clock.now()).records[DATASET]
            ready = record.status.condition("Ready")
            assert ready is not None
            assert (ready.status.value, ready.reason) == ("False", "NotAdmitted")
            before = purse(space)
            plan, report = await scene.apply(space)
            assert {c.verb.value for c in plan.acting} == {"repair"}
            assert report.complete
            assert purse(space) == before
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_a_run_may_not_move_more_than_was_approved(scene: Scene) -> None:
    async def main() -> None:
        from dataclasses import replace

        await prepared(scene)
        async with scene.open() as space:
            plan = await scene.plan(space)
            change = next(c for c in plan.acting if c.ref == DATASET)
            cheap = replace(change, cost=replace(change.cost, fees=change.cost.fees - 1))
            before = spends(scene, space)
            outcome = await space.runner.change(cheap, plan.lineage, plan.revision)
            assert isinstance(outcome, Stalled)
            assert isinstance(outcome.error, GuardRefused)
            assert spends(scene, space) == before
            with space.ports.ledger.begin() as tx:
                assert not tx.coins(state="reserved")

    play(main, scene.world.clock)


def test_a_replay_that_meets_another_effect_stops_and_sends_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        await prepared(scene)
        async with scene.open() as space:
            scene.world.drop("arc")
            plan = await scene.plan(space)
            scene.world.restore("arc")
            plan = await scene.plan(space)
            scene.world.transport().arm(Fault(Trouble.REFUSE, host="arc.devnet", path="/v1/tx", method="POST"))
            await Executor(space.runner, plan).run()
            scene.world.transport().calm()
            before = spends(scene, space)
            monkeypatch.setattr("reconciler.kinds.dataset.SAID", ("title",))
            (outcome,) = (await recover(space.runner)).values()
            assert isinstance(outcome, Stalled)
            assert isinstance(outcome.error, Invariant)
            assert "cannot replay" in outcome.error.message
            with space.ports.ledger.begin() as tx:
                assert tx.runs(state=RunState.OPEN), "its fate is for a person to settle"
            assert spends(scene, space) == before

    play(main, scene.world.clock)


def test_an_empty_purse_waits_for_funding_and_journals_nothing_final(scene: Scene) -> None:
    async def main() -> None:
        async with scene.open() as space:
            space.ports.wallet.generate("wallet", {})
            plan = await scene.plan(space)
            assert [g.name for g in plan.refusals] == ["funds"]
            report = await Executor(space.runner, plan).run()
            (pending,) = [r for r in report.results.values() if r.fate is Fate.PENDING]
            assert isinstance(pending.error, Unavailable)
            assert pending.error.code == "insufficient-funds"
        await scene.fund()
        async with scene.open() as space:
            await recover(space.runner)
            _, report = await scene.apply(space)
            assert report.complete
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_a_host_that_hides_what_it_took_is_named_and_freezes_nothing(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            record = space.ports.ledger.read(space.ports.clock.now()).records[DATASET]
            scene.world.evict("overlay-1", Outpoint.parse(record.outputs["tokens"][0]["outpoint"]), remember=True)
            before = purse(space)
            plan, report = await scene.apply(space)
            assert {str(c.ref): c.verb.value for c in plan.acting} == {"Dataset/rates": "repair"}
            assert report.results[DATASET].fate is Fate.FAILED
            assert "overlay-1" in report.results[DATASET].why
            assert purse(space) == before
            assert not space.ports.ledger.read(space.ports.clock.now()).frozen
            _, report = await scene.apply(space, Limits(destroy=True, delete_percent=None))
            assert report.complete

    play(main, scene.world.clock)


def test_a_lost_ledger_finds_its_tokens_on_the_network_and_does_not_pay_again(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
        shutil.rmtree(scene.root / ".state")
        await scene.fund()
        async with scene.open() as space:
            plan = await scene.plan(space)
            held = {str(c.ref): c.blocked for c in plan.changes if c.blocked}
            assert set(held) == {"Identity/desk", "Dataset/rates", "Advertisement/feed"}
            assert all(change.ref.kind in ("Network", "PricePlan") for change in plan.acting)
            assert plan.cost.transactions == 0

    play(main, scene.world.clock)


def test_a_host_that_answers_with_somebody_elses_tokens_blocks_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
        other = Scene(scene.root.parent / "other", scene.world, scene.entropy)
        other.write({**FULL, "advertisement.yaml": FULL["advertisement.yaml"].replace("_rates", "_other")})
        await other.fund()
        async with other.open() as space:
            lookup = space.ports.overlay.lookup

            async def careless(host: Endpoint, service: str, query: Json) -> Sequence[Found]:
                return await lookup(host, service, {"limit": 1000} if service == "ls_producer" else query)

            monkeypatch.setattr(space.ports.overlay, "lookup", careless)
            plan = await other.plan(space)
            assert not [c.ref for c in plan.changes if c.blocked], plan.changes

    play(main, scene.world.clock)
