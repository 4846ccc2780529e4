"""Traps that a reviewer set: what was accepted once and is refused later, and what never was although it looked so."""

from dataclasses import replace

from reconciler.compose import Workspace
from reconciler.devnet.chain import ORPHAN
from reconciler.devnet.mempool import submit
from reconciler.engine.confirm import confirm
from reconciler.engine.death import DEAD_DEPTH
from reconciler.engine.demands import demands
from reconciler.engine.execute import Fate
from reconciler.engine.handlers import chain_nets
from reconciler.engine.recover import recover
from reconciler.model.change import Reason, Verb
from reconciler.model.effect import CoinOutput, Draft
from reconciler.model.errors import Uncertain
from reconciler.model.intent import Done
from reconciler.model.ref import Outpoint
from reconciler.model.status import Condition
from reconciler.ports import Coin, StoredTx
from reconciler.wire.tx import parse_tx
from tests.e2e import holes
from tests.e2e.holes import RATES, SECOND, converged, edited, live, purse, record
from tests.e2e.scene import Scene, play

keys, scene = holes.keys, holes.scene


async def looked(space: Workspace) -> list[tuple[str, str]]:
    """One look at everything that is not final, as (before, after)."""
    recorded = space.ports.ledger.read(space.ports.clock.now())
    return [(one.before, one.after) for one in await confirm(space.ports, chain_nets(recorded))]


def anchor(space: Workspace) -> StoredTx:
    """The transaction that made the dataset's token."""
    with space.ports.ledger.begin() as tx:
        stored = tx.transaction(Outpoint.parse(record(space).outputs["tokens"][0]["outpoint"]).txid)
    assert stored is not None
    return stored


def said(space: Workspace, type_: str) -> Condition:
    found = record(space).status.condition(type_)
    assert found is not None
    return found


def rival(scene: Scene, space: Workspace, stored: StoredTx) -> str:
    """What somebody else who has the wallet key makes of the coin that `stored` spent; sent, after a reorg forgot ours."""
    with space.ports.ledger.begin() as tx:
        spent = {coin.outpoint: coin for coin in tx.coins(state="spent")}
    coin: Coin = next(spent[one.outpoint] for one in parse_tx(stored.raw).inputs if one.outpoint in spent)
    signed = space.ports.wallet.sign(Draft("devnet", (CoinOutput(coin.satoshis // 2),)), [coin], {})
    submit(scene.world.chain, signed.raw)
    return signed.txid


async def lost_to_a_rival(scene: Scene, space: Workspace) -> tuple[StoredTx, str]:
    """The dataset's transaction was mined; a reorganisation forgets it, and a rival is in its place."""
    scene.world.mine()
    assert ("seen", "mined") in await looked(space)
    stored = anchor(space)
    scene.world.reorg(1, [stored.txid])
    return stored, rival(scene, space, stored)


def test_a_rejection_after_a_reorg_is_told_and_its_change_is_not_spent(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            stored, other = await lost_to_a_rival(scene, space)
            before = purse(space)
            change = next(c.satoshis for c in _made(space, stored) if c.state == "free")
            assert ("mined", "contested") in await looked(space)
            for type_, truth in (("Ready", "False"), ("Stalled", "True"), ("Confirmed", "False")):
                assert (said(space, type_).status.value, said(space, type_).reason) == (truth, "Contested")
            with space.ports.ledger.begin() as tx:
                (asked,) = demands(tx).values()
                assert next(one["event"] for one in tx.history(RATES)) == "transaction.contested"
            assert asked.txid == stored.txid
            assert purse(space) == before - change
            assert ("seen", "contested") not in await looked(space), "what is no news is not told again"
            # A block that brings the rival is not enough: it may be taken back.
            scene.world.mine()
            await looked(space)
            assert (await transaction(space, stored.txid)).state == "seen"
            # Deep enough, it is the certificate of death.
            scene.world.mine(DEAD_DEPTH)
            assert ("seen", "rejected") in await looked(space)
            assert said(space, "Ready").reason == "DoubleSpent"
            assert other in said(space, "Ready").message
            with space.ports.ledger.begin() as tx:
                assert not demands(tx)
                assert next(one["event"] for one in tx.history(RATES)) == "transaction.dead"
                assert {c.state for c in tx.coins() if c.outpoint.txid == stored.txid} == {"spent"}
                assert not tx.coins(state="reserved")
            # The next plan makes it anew, at its price, and pays with a coin that exists.
            plan = await scene.plan(space)
            (change_,) = [c for c in plan.acting if c.ref == RATES]
            assert (change_.verb, change_.reason) == (Verb.CREATE, Reason.LOST)
            _, report = await scene.apply(space)
            assert report.complete, report
            assert said(space, "Ready").status.value == "True"
            scene.world.mine()
            assert not [pair for pair in await looked(space) if pair[1] in ("contested", "rejected")]
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_what_was_built_on_a_dead_transaction_dies_with_it(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            scene.world.mine()
            await looked(space)
            first = anchor(space)
            edited(scene)
            _, report = await scene.apply(space)
            assert report.complete
            scene.world.mine()
            await looked(space)
            second = anchor(space)
            assert any(one.txid == first.txid for one in parse_tx(second.raw).inputs), "a version spends the one before"
            total = sum(c.satoshis for c in _coins(space) if c.state == "free")
            scene.world.reorg(2, [first.txid])
            rival(scene, space, first)
            scene.world.mine(DEAD_DEPTH)
            await looked(space)
            for txid in (first.txid, second.txid):
                assert (await transaction(space, txid)).state == "rejected"
            free = [c for c in _coins(space) if c.state == "free"]
            assert all(scene.world.chain.output(c.outpoint) for c in free), "every free coin exists"
            assert all(scene.world.chain.spender(c.outpoint) is None for c in free), "and is unspent"
            assert sum(c.satoshis for c in free) != total
            _, report = await scene.apply(space)
            assert report.complete, report
            assert len(live(scene, "Dataset/rates")) >= 1

    play(main, scene.world.clock)


def test_a_transaction_in_doubt_that_is_mined_after_all_stands(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            scene.world.mine()
            await looked(space)
            stored, before = anchor(space), purse(space)
            scene.world.chain.set_standing(stored.txid, "DOUBLE_SPEND_ATTEMPTED", competing=("ab" * 32,))
            with space.ports.ledger.begin() as tx:
                tx.put_transaction(_seen(stored))
            assert ("seen", "contested") in await looked(space)
            assert purse(space) < before
            block = scene.world.chain.block(stored.height)
            assert block is not None
            scene.world.chain.set_standing(stored.txid, "MINED", block=block.hash, height=stored.height)
            assert ("seen", "mined") in await looked(space)
            assert purse(space) == before
            assert said(space, "Ready").status.value == "True"
            assert record(space).status.condition("Stalled") is None
            with space.ports.ledger.begin() as tx:
                assert not demands(tx)

    play(main, scene.world.clock)


def test_an_orphan_is_not_taken_for_accepted(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        scene.write({"more.yaml": SECOND, "data/more.csv": "a,b\n1,2\n"})
        async with scene.open() as space:
            scene.world.fail_next(status=ORPHAN)
            _, report = await scene.apply(space)
            (result,) = report.results.values()
            assert result.fate is Fate.PENDING
            assert isinstance(result.error, Uncertain)
            with space.ports.ledger.begin() as tx:
                (sent,) = tx.transactions(state="signed")
                assert {c.state for c in tx.coins() if c.outpoint.txid == sent.txid} == {"pending"}, "its change is no money yet"
            (outcome,) = (await recover(space.runner)).values()
            assert isinstance(outcome, Done), outcome
            assert (await transaction(space, sent.txid)).state == "seen"
            assert len(live(scene, "Dataset/more")) == 1

    play(main, scene.world.clock)


async def transaction(space: Workspace, txid: str) -> StoredTx:
    with space.ports.ledger.begin() as tx:
        stored = tx.transaction(txid)
    assert stored is not None
    return stored


def _coins(space: Workspace) -> list[Coin]:
    with space.ports.ledger.begin() as tx:
        return list(tx.coins())


def _made(space: Workspace, stored: StoredTx) -> list[Coin]:
    return [coin for coin in _coins(space) if coin.outpoint.txid == stored.txid]


def _seen(stored: StoredTx) -> StoredTx:
    return replace(stored, state="seen", proof=b"", height=0, block="")
