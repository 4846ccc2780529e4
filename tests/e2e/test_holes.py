"""Traps that a reviewer set: each would once have paid twice, or acted on doubt."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.devnet.network import Fault, Trouble
from reconciler.engine.execute import Fate
from reconciler.engine.receive import receive
from reconciler.engine.recover import recover
from reconciler.engine.stale import foreign_spends, write_off
from reconciler.model.change import Reason, Verb
from reconciler.model.errors import Conflict, Refused, Unavailable
from reconciler.model.intent import Done, Retry, RunState
from reconciler.model.ref import Outpoint, ResourceRef
from tests.e2e import holes
from tests.e2e.holes import (
    BUSY,
    DESK,
    DESK_REF,
    DESTROY,
    FEED,
    RATES,
    SECOND,
    converged,
    edited,
    execute,
    live,
    purse,
    record,
    weather,
)
from tests.e2e.scene import ADVERTISEMENT, DATASET, FULL, Scene, play

keys, pair, scene = holes.keys, holes.pair, holes.scene


def test_a_second_plan_does_not_begin_while_a_signed_run_of_another_is_open(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            scene.write({"dataset.yaml": DATASET.replace("title: Rates", "title: One")})
            first = await scene.plan(space)
            scene.write({"dataset.yaml": DATASET.replace("title: Rates", "title: Two")})
            second = await scene.plan(space)
            with weather(scene, BUSY):
                assert (await execute(space, first)).results[RATES].fate is Fate.PENDING
            # Somebody had been looking at the other plan and says yes to it only now.
            report = await execute(space, second)
            assert report.results[RATES].fate is Fate.FAILED
            assert isinstance(report.results[RATES].error, Conflict)
            with space.ports.ledger.begin() as tx:
                (open_run,) = tx.runs(state=RunState.OPEN)
                assert len(tx.runs(key=open_run.key)) == 2
            await recover(space.runner)
            assert record(space).body["spec"]["title"] == "One"
            assert len(live(scene, "Dataset/rates")) == 1

    play(main, scene.world.clock)


def test_a_plan_made_before_the_token_was_replaced_is_stale_though_the_generation_is_the_same(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            scene.write({"dataset.yaml": DATASET.replace("title: Rates", "title: One")})
            old = await scene.plan(space)
            change = next(c for c in old.acting if c.ref == RATES)
            assert change.before is not None
            moved = {**change.before.outputs, "previous": ["00" * 32 + ".0"]}
            with space.ports.ledger.begin() as tx:
                tx.put_record(replace(change.before, outputs=moved))
            with pytest.raises(Conflict, match="changed since"):
                await space.runner.change(change, old.lineage, old.revision)

    play(main, scene.world.clock)


def test_a_restored_ledger_that_missed_a_version_does_not_pay_for_another(scene: Scene, tmp_path: Path) -> None:
    async def main() -> None:
        await converged(scene)
        shutil.copytree(scene.root / ".state", tmp_path / "backup")
        edited(scene)
        async with scene.open() as space:
            _, report = await scene.apply(space)
            assert report.complete
        shutil.rmtree(scene.root / ".state")
        shutil.copytree(tmp_path / "backup", scene.root / ".state")
        (newest,) = live(scene, "Dataset/rates")
        async with scene.open() as space:
            plan = await scene.plan(space)
            change = next(c for c in plan.changes if c.ref == RATES)
            assert (change.verb, change.reason) == (Verb.DEFER, Reason.UNKNOWN)
            assert str(newest) in change.detail
            gone = next(c for c in (await scene.plan(space, DESTROY)).changes if c.ref == RATES)
            assert gone.verb is Verb.DEFER
        assert live(scene, "Dataset/rates") == [newest]

    play(main, scene.world.clock)


def test_a_restored_ledger_is_recognised_by_a_coin_that_is_spent_and_spends_nothing(scene: Scene, tmp_path: Path) -> None:
    async def main() -> None:
        await converged(scene)
        shutil.copytree(scene.root / ".state", tmp_path / "backup")
        edited(scene)
        async with scene.open() as space:
            await scene.apply(space)
        shutil.rmtree(scene.root / ".state")
        shutil.copytree(tmp_path / "backup", scene.root / ".state")
        # Nothing that is recorded shows it: only the purse does.
        scene.write({"data/rates.csv": FULL["data/rates.csv"], "more.yaml": SECOND, "data/more.csv": "a,b\n1,2\n"})
        more = ResourceRef("Dataset", "more")
        async with scene.open() as space:
            before = purse(space)
            plan = await scene.plan(space)
            assert [c.ref for c in plan.acting] == [more]
            with pytest.raises(Conflict, match="spent by") as stopped:
                await execute(space, plan)
            assert stopped.value.code == "stale-ledger"
            assert stopped.value.hint
            with pytest.raises(Conflict, match="spent by"):
                await space.runner.change(plan.acting[0], plan.lineage, plan.revision)
            with space.ports.ledger.begin() as tx:
                assert not tx.runs(state=RunState.OPEN)
            assert purse(space) == before
            assert not live(scene, "Dataset/more")
            # The way out: a person says that these coins are gone, and what is left is spent again.
            found = await foreign_spends(space.ports, "devnet", scene.net().headers)
            assert found
            write_off(space.ports, found)
            assert not await foreign_spends(space.ports, "devnet", scene.net().headers)
            assert purse(space) == before - sum(one.satoshis for one in found)

    play(main, scene.world.clock)


def test_a_silent_header_source_does_not_pass_for_unspent_coins(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            plan = await scene.plan(space)
            scene.world.drop("headers")
            with pytest.raises(Unavailable):
                await space.runner.change(next(c for c in plan.acting if c.ref == DESK_REF), plan.lineage, plan.revision)
            assert not live(scene, "Identity/desk")
            report = await execute(space, plan)
            assert {result.fate for result in report.results.values()} == {Fate.PENDING}
            with space.ports.ledger.begin() as tx:
                assert not [one for one in tx.transactions() if one.run], "not even a split is made"
            scene.world.restore("headers")
            _, report = await scene.apply(space)
            assert report.complete

    play(main, scene.world.clock)


def test_a_payment_that_was_spent_long_ago_is_no_money(scene: Scene) -> None:
    async def main() -> None:
        async with scene.open() as space:
            space.ports.wallet.generate("wallet", {})
            coin, beef = scene.world.faucet(space.ports.wallet.funding_script(), 100_000)
            await receive(space.ports, beef, scene.net())
            _, report = await scene.apply(space)
            assert report.complete
            assert [one.outpoint for one in await receive(space.ports, beef, scene.net())] == [coin], "repeating is harmless"
        shutil.rmtree(scene.root / ".state")
        async with scene.open() as space:
            with pytest.raises(Refused, match="it was spent by") as refused:
                await receive(space.ports, beef, scene.net())
            assert refused.value.code == "coin-spent"
            with space.ports.ledger.begin() as tx:
                assert not tx.coins()

    play(main, scene.world.clock)


def test_our_own_transaction_that_a_broadcaster_refused_and_a_miner_took_is_no_stale_ledger(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            before = purse(space)
            scene.world.fail_next(code=465)
            _, report = await scene.apply(space)
            assert report.results[RATES].fate is Fate.FAILED
            with space.ports.ledger.begin() as tx:
                (dead,) = tx.transactions(state="rejected")
            from reconciler.devnet.mempool import Checks, submit
            from reconciler.engine.ancestry import beef_of

            submit(scene.world.chain, beef_of(space.ports.ledger, dead.txid), Checks())
            assert await foreign_spends(space.ports, "devnet", scene.net().headers) == []
            with space.ports.ledger.begin() as tx:
                assert not tx.coins(state="reserved")
                assert {c.outpoint.txid for c in tx.coins(state="free")} >= {dead.txid}
            assert purse(space) == before - sum(o.satoshis for o in scene.world.chain.live(dead.txid).outputs[:1]) + 1 - _fee(
                scene, dead.txid
            )

    play(main, scene.world.clock)


def _fee(scene: Scene, txid: str) -> int:
    chain = scene.world.chain
    tx = chain.live(txid)
    assert tx is not None
    spent = [chain.output(one.outpoint) for one in tx.inputs]
    return sum(out.satoshis for out in spent if out) - sum(out.satoshis for out in tx.outputs)


def test_a_lost_ledger_finds_what_only_the_other_host_still_shows(pair: Scene) -> None:
    async def main() -> None:
        await converged(pair)
        shutil.rmtree(pair.root / ".state")
        pair.world.wipe("overlay-1")
        pair.world.drop("overlay-2")
        async with pair.open() as space:
            plan = await pair.plan(space)
            change = next(c for c in plan.changes if c.ref == RATES)
            assert (change.verb, change.reason) == (Verb.DEFER, Reason.UNKNOWN), "one host's denial is no proof"

    play(main, pair.world.clock)


def test_a_lost_ledger_sees_its_ship_token_though_the_descriptor_is_gone(scene: Scene) -> None:
    async def main() -> None:
        scene.write({"advertisement.yaml": ADVERTISEMENT})
        await converged(scene)
        async with scene.open() as space:
            tokens = {t["type"]: t["outpoint"] for t in record(space, FEED).outputs["tokens"]}
        shutil.rmtree(scene.root / ".state")
        scene.world.evict("overlay-1", Outpoint.parse(tokens["DESCRIPTOR"]))
        async with scene.open() as space:
            plan = await scene.plan(space)
            change = next(c for c in plan.changes if c.ref == FEED)
            assert change.blocked is not None
            assert sorted(change.seen["unrecorded"]) == sorted([tokens["SHIP"], tokens["SLAP"]])

    play(main, scene.world.clock)


def test_a_refusal_of_us_after_a_lost_answer_is_no_refusal_of_the_transaction(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            with weather(scene, Fault(Trouble.LOSE, host="arc.devnet", path="/v1/tx", method="POST")):
                _, report = await scene.apply(space)
                assert report.results[RATES].fate is Fate.PENDING
            # The network has it. Now the broadcaster wants a key we do not have.
            with weather(scene, Fault(Trouble.STATUS, host="arc.devnet", path="/v1/tx", method="POST", status=401)):
                (outcome,) = (await recover(space.runner)).values()
                assert isinstance(outcome, Retry), outcome
            (outcome,) = (await recover(space.runner)).values()
            assert isinstance(outcome, Done), outcome
            assert len(live(scene, "Dataset/rates")) == 1
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_equal_bytes_made_again_after_a_rejection_bring_their_change_back(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            before, plan = purse(space), await scene.plan(space)
            scene.world.fail_next(code=461)
            await scene.apply(space)
            _, report = await scene.apply(space)
            assert report.complete
            with space.ports.ledger.begin() as tx:
                assert not tx.coins(state="pending")
            assert purse(space) == before - plan.cost.satoshis

    play(main, scene.world.clock)


def test_a_rejection_after_a_lost_answer_is_checked_before_the_coin_is_used_again(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            with weather(scene, Fault(Trouble.LOSE, host="arc.devnet", path="/v1/tx", method="POST")):
                await scene.apply(space)
            scene.world.fail_next(code=461)
            (outcome,) = (await recover(space.runner)).values()
            assert isinstance(outcome, Done), outcome
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_a_key_that_is_not_the_one_on_record_signs_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        await converged(scene)
        scene.write({"more.yaml": SECOND, "data/more.csv": "a,b\n1,2\n"})
        monkeypatch.setenv("DESK_KEY", "33" * 32)
        async with scene.open() as space:
            before = purse(space)
            plan = await scene.plan(space)
            assert [c.ref.name for c in plan.acting] == ["more"]
            report = await execute(space, plan)
            assert report.results[ResourceRef("Dataset", "more")].fate is not Fate.DONE
            assert purse(space) == before
        monkeypatch.setenv("DESK_KEY", DESK.hex())
        async with scene.open() as space:
            _, report = await scene.apply(space)
            assert report.complete
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_money_in_flight_counts_against_the_daily_budget(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            before = space.ports.ledger.read(space.ports.clock.now()).spent_today
            with weather(scene, Fault(Trouble.STATUS, host="overlay-1.devnet", path="/submit", method="POST", status=503)):
                plan, report = await scene.apply(space)
                assert report.results[RATES].fate is Fate.PENDING
            now = space.ports.ledger.read(space.ports.clock.now()).spent_today
            assert now == before + plan.cost.satoshis > before

    play(main, scene.world.clock)
