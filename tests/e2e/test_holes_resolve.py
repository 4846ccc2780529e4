"""Traps that a reviewer set: what the program will not decide by itself must have a way out that a person can take."""

import pytest

from reconciler.compose import Workspace
from reconciler.devnet.mempool import submit
from reconciler.engine.ancestry import beef_of
from reconciler.engine.confirm import confirm
from reconciler.engine.death import DEAD_DEPTH
from reconciler.engine.handlers import chain_nets
from reconciler.engine.recover import recover
from reconciler.engine.resolve import ACCEPT, GIVE_UP, RETRY, Word, consider, resolve
from reconciler.model.effect import CoinOutput, Draft
from reconciler.model.errors import Attention, Refused
from reconciler.model.intent import RunState, Stalled
from reconciler.ports import StoredTx
from reconciler.wire.tx import parse_tx
from tests.e2e import holes
from tests.e2e.holes import BUSY, RATES, converged, edited, live, purse, record, weather
from tests.e2e.scene import Scene, play

keys, scene = holes.keys, holes.scene
ALICE = Word("alice", "the upgrade changed the document")


async def stuck(scene: Scene, space: Workspace, monkeypatch: pytest.MonkeyPatch) -> tuple[str, StoredTx]:
    """A run that signed, did not get through, and cannot be replayed by the program that has come since."""
    edited(scene)
    with weather(scene, BUSY):
        await scene.apply(space)
    monkeypatch.setattr("reconciler.kinds.dataset.SAID", ("title",))
    ((run_id, outcome),) = (await recover(space.runner)).items()
    assert isinstance(outcome, Stalled)
    with space.ports.ledger.begin() as tx:
        (stored,) = tx.transactions(state="signed")
    return run_id, stored


def change(space: Workspace, txid: str) -> int:
    """Satoshis of a transaction's change that may be spent."""
    with space.ports.ledger.begin() as tx:
        return sum(coin.satoshis for coin in tx.coins(state="free") if coin.outpoint.txid == txid)


def history(space: Workspace) -> dict[str, object]:
    with space.ports.ledger.begin() as tx:
        return dict(next(one for one in tx.history(RATES) if one["event"] == "run.resolved")["detail"])


def test_a_run_that_cannot_be_replayed_is_taken_for_done_by_what_it_signed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            before = purse(space)
            run_id, stored = await stuck(scene, space, monkeypatch)
            matter = await consider(space.runner, run_id)
            assert "cannot replay" in matter.why
            ways = {way.name: way for way in matter.ways}
            assert set(ways) == {RETRY, GIVE_UP, ACCEPT}
            assert ways[RETRY].satoshis == 0 and stored.txid in ways[RETRY].says
            # It may have left, so it cannot be given up; it is nowhere, so it is not done.
            with pytest.raises(Attention, match="may still be mined"):
                await resolve(space.runner, matter, GIVE_UP, ALICE)
            with pytest.raises(Attention, match="not on the network"):
                await resolve(space.runner, matter, ACCEPT, ALICE, stored.txid)
            with pytest.raises(Attention, match="it signed"):
                await resolve(space.runner, matter, ACCEPT, ALICE, "ab" * 32)
            # The same bytes again: they get through, and the run still cannot be replayed.
            with pytest.raises(Attention, match="cannot replay"):
                await resolve(space.runner, matter, RETRY, ALICE)
            matter = await consider(space.runner, run_id)
            await resolve(space.runner, matter, ACCEPT, ALICE, stored.txid)
            said = history(space)
            assert said == {"run": run_id, "choice": ACCEPT, "by": "alice", "why": ALICE.why, "txid": stored.txid} | {
                "satoshis": ways[ACCEPT].satoshis
            }
            with space.ports.ledger.begin() as tx:
                assert not tx.runs(state=RunState.OPEN)
                assert not tx.coins(state="reserved") and not tx.coins(state="pending")
            (token,) = record(space).outputs["tokens"]
            assert token["outpoint"] == f"{stored.txid}.0"
            assert [str(o) for o in live(scene, "Dataset/rates")] == [token["outpoint"]], "the hosts were shown it, too"
            assert before - purse(space) == ways[ACCEPT].satoshis
            assert record(space).status.condition("Stalled") is None
            with pytest.raises(Refused, match="nothing is in doubt"):
                await consider(space.runner, run_id)
            # What is on record is what was signed, so the program of before finds nothing to do.
            monkeypatch.undo()
            holes_keys(monkeypatch)
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def holes_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESK_KEY", holes.DESK.hex())
    monkeypatch.setenv("WALLET_KEY", holes.WALLET.hex())


def test_a_run_is_given_up_once_its_death_is_proven(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            run_id, stored = await stuck(scene, space, monkeypatch)
            with space.ports.ledger.begin() as tx:
                coin = next(one for one in tx.coins(state="spent", run=run_id))
            # A fault in the coin: somebody who has the wallet key got it mined first.
            signed = space.ports.wallet.sign(Draft("devnet", (CoinOutput(coin.satoshis // 2),)), [coin], {})
            submit(scene.world.chain, signed.raw)
            scene.world.mine()
            with pytest.raises(Attention, match="1 deep"):
                await resolve(space.runner, await consider(space.runner, run_id), GIVE_UP, ALICE)
            scene.world.mine(DEAD_DEPTH)
            await resolve(space.runner, await consider(space.runner, run_id), GIVE_UP, ALICE)
            with space.ports.ledger.begin() as tx:
                assert not tx.runs(state=RunState.OPEN)
                dead = tx.transaction(stored.txid)
                assert dead is not None and dead.state == "rejected"
                assert next(one for one in tx.coins() if one.outpoint == coin.outpoint).state == "spent"
                assert not tx.coins(state="reserved")
            _, report = await scene.apply(space)
            assert report.complete, report
            assert len(live(scene, "Dataset/rates")) == 1

    play(main, scene.world.clock)


def test_a_run_that_sent_nothing_is_given_up_at_once(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            before = purse(space)
            with space.ports.ledger.begin() as tx:
                coin = tx.coins(state="free")[-1]
            plan = await scene.plan(space)
            monkey = pytest.MonkeyPatch()
            monkey.setattr("reconciler.engine.run.vet", _silent)
            try:
                await space.runner.change(next(c for c in plan.acting if c.ref == RATES), plan.lineage, plan.revision)
            finally:
                monkey.undo()
            with space.ports.ledger.begin() as tx:
                (run,) = tx.runs(state=RunState.OPEN)
                assert tx.coins(state="reserved", run=run.id)
            matter = await consider(space.runner, run.id)
            await resolve(space.runner, matter, GIVE_UP, Word("alice", "not now"))
            assert purse(space) == before
            assert coin.outpoint
            _, report = await scene.apply(space)
            assert report.complete

    play(main, scene.world.clock)


async def _silent(*_: object, **__: object) -> None:
    from reconciler.model.errors import Unavailable

    raise Unavailable("silent", "cannot tell")


def test_a_transaction_in_doubt_is_resolved_by_sending_it_again(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            scene.world.mine()
            nets = chain_nets(space.ports.ledger.read(space.ports.clock.now()))
            await confirm(space.ports, nets)
            txid = record(space).outputs["tokens"][0]["outpoint"].split(".")[0]
            before = change(space, txid)
            assert before
            scene.world.reorg(1, [txid])
            scene.world.fail_next(code=465, count=10)
            assert "contested" in {moved.after for moved in await confirm(space.ports, nets) if moved.txid == txid}
            scene.world.broadcasters["arc"].state.provoked.clear()
            assert not change(space, txid)
            with space.ports.ledger.begin() as tx:
                stored = tx.transaction(txid)
            assert stored is not None
            matter = await consider(space.runner, stored.run)
            assert txid in matter.why
            await resolve(space.runner, matter, RETRY, Word("alice", "the broadcaster was wrong"))
            assert change(space, txid) == before
            assert scene.world.chain.live(txid) is not None
            assert record(space).status.condition("Stalled") is None
            assert parse_tx(stored.raw).txid == txid and beef_of(space.ports.ledger, txid)

    play(main, scene.world.clock)
