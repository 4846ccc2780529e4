"""Traps that a reviewer set: coins that went without this ledger, and a ledger that is not the newest."""

import logging
import shutil
from pathlib import Path

import pytest

from reconciler.cli.books import read
from reconciler.cli.inspect import _status_text
from reconciler.compose import Workspace
from reconciler.devnet.mempool import submit
from reconciler.engine.handlers import Handlers
from reconciler.engine.readonly import behind
from reconciler.engine.receive import receive
from reconciler.engine.recover import recover
from reconciler.engine.stale import ASKED, foreign_spends, write_off
from reconciler.gateway.admin import Admin
from reconciler.model.effect import CoinOutput, Draft
from reconciler.model.errors import Attention
from reconciler.model.intent import Retry, RunState
from reconciler.model.ref import ResourceRef
from reconciler.ports import Coin, Lease
from reconciler.telemetry import Metrics
from tests.e2e import holes
from tests.e2e.holes import RATES, SECOND, converged, edited, execute, live, purse, record
from tests.e2e.scene import FULL, Scene, play

keys, scene = holes.keys, holes.scene
MORE = ResourceRef("Dataset", "more")


def spent_elsewhere(scene: Scene, space: Workspace, coin: Coin) -> str:
    """What a second owner of the wallet key does with a coin, behind our ledger's back; the txid."""
    signed = space.ports.wallet.sign(Draft("devnet", (CoinOutput(coin.satoshis // 2),)), [coin], {})
    submit(scene.world.chain, signed.raw)
    return signed.txid


async def restored(scene: Scene, backup: Path) -> None:
    """A converged shop whose ledger is put back to before its last version; only the purse shows it."""
    await converged(scene)
    shutil.copytree(scene.root / ".state", backup)
    edited(scene)
    async with scene.open() as space:
        await scene.apply(space)
    shutil.rmtree(scene.root / ".state")
    shutil.copytree(backup, scene.root / ".state")
    scene.write({"data/rates.csv": FULL["data/rates.csv"], "more.yaml": SECOND, "data/more.csv": "a,b\n1,2\n"})


def test_a_ledger_that_is_behind_only_looks_until_a_person_has_decided(
    scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        await restored(scene, tmp_path / "backup")
        async with scene.open() as space:
            before = purse(space)
            handlers = Handlers(space.runner, space.surveyor, space.settings.limits, "auto")
            with caplog.at_level(logging.ERROR, logger="reconciler.engine"):
                await handlers.plan(Lease("plan", 1, "test", space.ports.clock.now()))
            assert [one.message for one in caplog.records] == ["ledger.behind"]
            assert handlers.last_plan is not None
            assert [c.ref for c in handlers.last_plan.acting] == [MORE], "it still plans"
            assert purse(space) == before
            assert not live(scene, "Dataset/more")
        # The next process knows, though nobody answers it.
        scene.world.drop("headers")
        async with scene.open() as space:
            with pytest.raises(Attention, match="spent by") as refused:
                await scene.apply(space)
            assert "journal resolve coins/devnet" in (refused.value.hint or "")
            plan = await scene.plan(space)
            assert plan.notes
            assert plan.notes[0].startswith("READ ONLY: coin")
            said = record(space, ResourceRef("Network", "local")).status.condition("ReadOnly")
            assert said is not None
            assert (said.status.value, said.reason) == ("True", "CoinSpentElsewhere")
            assert "READ ONLY" in _status_text(await read(space), None, wide=False)
            metrics = Metrics()
            handlers = Handlers(space.runner, space.surveyor, space.settings.limits)
            await Admin(None, handlers, space.ports, metrics).exposition(None)  # type: ignore[arg-type]
            assert b"reconciler_ledger_behind 1.0" in metrics.exposition()
            # The way out: a person says that what the coins paid for is not missed.
            with space.ports.ledger.begin() as tx:
                found = behind(tx)
            assert found is not None
            write_off(space.ports, found.coins, by="alice", why="the second version is not needed")
        scene.world.restore("headers")
        async with scene.open() as space:
            _, report = await scene.apply(space)
            assert report.complete, report
            assert len(live(scene, "Dataset/more")) == 1
            said = record(space, ResourceRef("Network", "local")).status.condition("ReadOnly")
            assert said is not None
            assert said.status.value == "False"

    play(main, scene.world.clock)


def test_a_begun_run_does_not_go_on_while_the_ledger_is_behind(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            with holes.weather(scene, holes.BUSY):
                await scene.apply(space)
            with space.ports.ledger.begin() as tx:
                coin = tx.coins(state="free")[0]
            spent_elsewhere(scene, space, coin)
            with pytest.raises(Attention):
                await space.runner.require_newest(scene.net())
                space.runner.checked.clear()
                await space.runner.require_newest(scene.net())
            (outcome,) = (await recover(space.runner)).values()
            assert isinstance(outcome, Retry)
            assert isinstance(outcome.error, Attention)

    play(main, scene.world.clock)


def test_every_coin_is_asked_about_in_time(scene: Scene) -> None:
    async def main() -> None:
        async with scene.open() as space:
            space.ports.wallet.generate("wallet", {})
            for number in range(2 * ASKED + 5):
                _, beef = scene.world.faucet(space.ports.wallet.funding_script(), 1000 + number)
                await receive(space.ports, beef, scene.net())
            with space.ports.ledger.begin() as tx:
                coins = sorted(tx.coins(state="free"), key=lambda coin: str(coin.outpoint))
            # Neither the first batch nor the second holds it, nor is it large or small.
            txid = spent_elsewhere(scene, space, coins[-1])
            headers = scene.net().headers
            asked = [await foreign_spends(space.ports, "devnet", headers) for _ in range(3)]
            assert [len(found) for found in asked] == [0, 0, 1]
            assert [one.txid for one in asked[2]] == [txid]
        async with scene.open() as space:
            # Where the passes had got to is in the ledger: a process that lives for one pass only does its share.
            assert await foreign_spends(space.ports, "devnet", headers)

    play(main, scene.world.clock)


def test_all_lost_coins_are_shown_as_soon_as_one_is(scene: Scene) -> None:
    async def main() -> None:
        async with scene.open() as space:
            space.ports.wallet.generate("wallet", {})
            for number in range(2 * ASKED):
                _, beef = scene.world.faucet(space.ports.wallet.funding_script(), 1000 + number)
                await receive(space.ports, beef, scene.net())
            with space.ports.ledger.begin() as tx:
                coins = sorted(tx.coins(state="free"), key=lambda coin: str(coin.outpoint))
            for coin in (coins[0], coins[-1]):
                spent_elsewhere(scene, space, coin)
            found = await foreign_spends(space.ports, "devnet", scene.net().headers)
            assert {one.outpoint for one in found} == {coins[0].outpoint, coins[-1].outpoint}

    play(main, scene.world.clock)


def test_a_coin_is_asked_about_right_before_it_is_spent(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            plan = await scene.plan(space)
            await space.runner.require_newest(scene.net())
            change = next(c for c in plan.acting if c.ref == RATES)
            with space.ports.ledger.begin() as tx:
                coin = min((c for c in tx.coins(state="free") if c.satoshis >= change.needs[0]), key=lambda c: c.satoshis)
                before = len(tx.transactions())
            # All was well a moment ago, and the chain is not asked as a whole again for a while.
            spent_elsewhere(scene, space, coin)
            report = await execute(space, plan)
            assert isinstance(report.results[RATES].error, Attention)
            with space.ports.ledger.begin() as tx:
                assert len(tx.transactions()) == before, "nothing was signed"
                found = behind(tx)
            assert found is not None
            assert [one.outpoint for one in found.coins] == [coin.outpoint]
            write_off(space.ports, found.coins)
            await recover(space.runner)
            with space.ports.ledger.begin() as tx:
                assert not tx.runs(state=RunState.OPEN)
            assert (await scene.plan(space)).empty
            assert len(live(scene, "Dataset/rates")) == 1

    play(main, scene.world.clock)


def test_a_split_asks_about_its_coins_right_before_it_spends_them(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            plan = await scene.plan(space)
            assert plan.funding
            await space.runner.require_newest(scene.net())
            with space.ports.ledger.begin() as tx:
                (coin,) = tx.coins(state="free")
            spent_elsewhere(scene, space, coin)
            with pytest.raises(Attention):
                await execute(space, plan)
            with space.ports.ledger.begin() as tx:
                assert not [one for one in tx.transactions() if one.run]

    play(main, scene.world.clock)
