"""Tokens that hosts went on listing: what they refused while our proofs were out of date, and what nobody told them again."""

from pathlib import Path

import pytest

from reconciler.adapters.sql.ledger import open_ledger
from reconciler.devnet.network import Fault, Trouble
from reconciler.engine.ancestry import beef_of
from reconciler.engine.recover import recover
from reconciler.model.errors import Invariant, Unavailable
from reconciler.model.intent import RunState
from reconciler.ports import StoredTx
from reconciler.wire.bump import from_block
from reconciler.wire.tx import Tx, TxIn, TxOut
from tests.e2e import holes
from tests.e2e.holes import RATES, converged, execute, weather
from tests.e2e.scene import FULL, Scene, play

keys, scene = holes.keys, holes.scene

# What a node answers to a proof whose block is not on the chain any more.
STALE = Fault(Trouble.STATUS, host="overlay-1.devnet", path="/submit", method="POST", status=400)


def listed(scene: Scene) -> list[str]:
    """The descriptors of the dataset that the host lists."""
    state = scene.world.nodes["overlay-1"].state
    held, index = state.held.get("tm_producer", {}), state.index.get("ls_producer", {})
    return [str(outpoint) for outpoint in index if held[outpoint].fact.subject == "Dataset/rates"]


async def told_again(scene: Scene) -> list[str]:
    """What the host lists after the pauses between two tries."""
    async with scene.open() as space:
        for _ in range(3):
            await space.ports.clock.sleep(600)
            await recover(space.runner)
        with space.ports.ledger.begin() as tx:
            assert tx.get("farewells") in (None, [])
            assert not tx.runs(state=RunState.OPEN)
    return listed(scene)


def test_a_payment_whose_proof_a_reorg_took_back_is_waited_for(tmp_path: Path) -> None:
    payment = Tx((TxIn("11" * 32, 0),), (TxOut(500, b""),))
    child = Tx((TxIn(payment.txid, 0),), (TxOut(400, b""),))
    ledger, _ = open_ledger(tmp_path / "ledger.db")
    with ledger.begin() as tx:
        tx.put_transaction(StoredTx(payment.txid, payment.raw, "devnet", state="seen"))
        tx.put_transaction(StoredTx(child.txid, child.raw, "devnet", state="sent"))
    with pytest.raises(Unavailable, match="is unknown") as waiting:
        beef_of(ledger, child.txid)
    assert waiting.value.code == "unproven-ancestor"
    proof = from_block(7, (payment.txid,), 0).raw
    with ledger.begin() as tx:
        tx.put_transaction(StoredTx(payment.txid, payment.raw, "devnet", state="mined", proof=proof, height=7, block="ab"))
    assert child.raw in beef_of(ledger, child.txid)
    with pytest.raises(Invariant, match="not in the ledger"):
        beef_of(ledger, "22" * 32)
    ledger.close()


def test_a_host_that_refuses_a_retirement_is_told_again(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        (scene.root / "dataset.yaml").unlink()
        async with scene.open() as space:
            with weather(scene, STALE):
                assert (await execute(space, await scene.plan(space))).complete
            assert RATES not in space.ports.ledger.read(space.ports.clock.now()).records
            assert len(listed(scene)) == 1
        assert await told_again(scene) == []

    play(main, scene.world.clock)


def test_a_host_that_missed_a_version_is_shown_it_before_what_retires_it(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        first = listed(scene)
        scene.write({"dataset.yaml": FULL["dataset.yaml"].replace("Rates", "Rates anew")})
        async with scene.open() as space:
            with weather(scene, STALE):
                await execute(space, await scene.plan(space))
        assert listed(scene) == first
        (scene.root / "dataset.yaml").unlink()
        async with scene.open() as space:
            assert (await execute(space, await scene.plan(space))).complete
        assert listed(scene) == []

    play(main, scene.world.clock)
