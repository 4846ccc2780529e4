"""Sweeping and merging through the engine: exact money, and killed at every durable step, sent once."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.compose import Workspace
from reconciler.devnet.world import Snapshot
from reconciler.engine import payout
from reconciler.engine.payout import Offer
from reconciler.engine.receive import receive
from reconciler.model.errors import Attention, Conflict, Unavailable
from reconciler.model.ref import Outpoint
from reconciler.ports import Coin
from reconciler.wire.keys import child_secret, invoice, public_key
from reconciler.wire.script import p2pkh
from tests.e2e.crash import PROCESS, WALLET, Fuse, Killed, mortal
from tests.e2e.scene import NETWORK, Scene, play

STRANGER = p2pkh(public_key(b"\x33" * 32))
OWN = p2pkh(public_key(child_secret(WALLET, public_key(WALLET), invoice("reconciler funding", "1"))))
COINS = (5_000, 900, 800, 700, 3, 1)


@pytest.fixture
def purse(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A repository with nothing but a Network, and coins of several sizes."""
    monkeypatch.setenv("WALLET_KEY", WALLET.hex())
    scene.write({"reconciler.yaml": PROCESS})
    for path in scene.root.glob("*.yaml"):
        if path.name not in ("reconciler.yaml", "network.yaml"):
            path.unlink()

    async def fill() -> None:
        async with scene.open() as space:
            for satoshis in COINS:
                _, beef = scene.world.faucet(OWN, satoshis)
                await receive(space.ports, beef, scene.net())

    play(fill, scene.world.clock)
    return scene


def spec() -> dict[str, object]:
    import yaml

    return dict(yaml.safe_load(NETWORK)["spec"])


async def swept(space: Workspace, scene: Scene) -> tuple[Offer, list[str]]:
    """What the verb does."""
    offer = await payout.offer_sweep(space.runner, scene.net(), spec(), STRANGER)
    return offer, [await payout.carry_out(space.runner, offer, batch) for batch in offer.batches]


async def merged(space: Workspace, scene: Scene) -> tuple[Offer, list[str]]:
    offer = await payout.offer_merge(space.runner, scene.net(), spec(), 2_000, 1)
    return offer, [await payout.carry_out(space.runner, offer, batch) for batch in offer.batches]


def coins(space: Workspace, state: str = "free") -> list[Coin]:
    with space.ports.ledger.begin() as tx:
        return list(tx.coins(chain="devnet", state=state))


def paid(scene: Scene, script: bytes) -> list[int]:
    """What transactions of the purse put on a script, as the chain has it."""
    alive = [tx for txid, tx in scene.world.chain.state.txs.items() if scene.world.chain.live(txid) is not None]
    ours = [tx for tx in alive if any(_own(scene, one.txid, one.vout) for one in tx.inputs)]
    return [output.satoshis for tx in ours for output in tx.outputs if output.script == script]


def _own(scene: Scene, txid: str, vout: int) -> bool:
    source = scene.world.chain.output(Outpoint(txid, vout))
    return source is not None and source.script == OWN


def test_a_sweep_sends_all_but_what_is_not_worth_it_and_a_second_one_nothing(purse: Scene) -> None:
    async def work() -> None:
        async with purse.open() as space:
            offer, (txid,) = await swept(space, purse)
            assert (offer.left, offer.left_coins) == (4, 2)
            assert paid(purse, STRANGER) == [offer.sent] == [sum(COINS) - 4 - offer.fee]
            assert purse.world.chain.live(txid) is not None
            assert sorted(coin.satoshis for coin in coins(space)) == [1, 3]
            assert coins(space, "pending") == coins(space, "reserved") == []
            again, txids = await swept(space, purse)
            assert (again.batches, txids) == ((), [])
            with space.ports.ledger.begin() as tx:
                (note,) = [row for row in tx.history() if row["event"] == "coins.swept"]
                assert tx.booked(str(note["detail"]["run"])) == offer.fee
            assert note["detail"]["txids"] == [txid]

    play(work, purse.world.clock)


def test_a_merge_leaves_one_coin_that_can_be_spent(purse: Scene) -> None:
    async def work() -> None:
        async with purse.open() as space:
            offer, (txid,) = await merged(space, purse)
            assert sorted(coin.satoshis for coin in coins(space)) == [1, 3, 2_400 - offer.fee, 5_000]
            assert paid(purse, OWN) == [2_400 - offer.fee]
            assert {coin.outpoint.txid for coin in coins(space) if coin.satoshis == offer.sent} == {txid}
            await swept(space, purse)
            assert sorted(coin.satoshis for coin in coins(space)) == [1, 3]

    play(work, purse.world.clock)


def test_killed_at_every_step_it_is_sent_once(purse: Scene) -> None:
    before = purse.world.snapshot()
    ledger = {path: path.read_bytes() for path in (purse.root / ".state").iterdir() if path.is_file()}
    ends, step = set(), 0
    while True:
        step += 1
        fuse, killed = Fuse(step), False
        _reset(purse, before, ledger)

        async def attempt(fuse: Fuse = fuse) -> bool:
            try:
                async with mortal(purse, fuse) as space:
                    await swept(space, purse)
            except Killed:
                return True
            return False

        killed = play(attempt, purse.world.clock)

        async def after() -> None:
            async with mortal(purse, Fuse()) as space:
                await swept(space, purse)
                assert coins(space, "pending") == coins(space, "reserved") == []

        play(after, purse.world.clock)
        ends.add((tuple(paid(purse, STRANGER)), tuple(paid(purse, OWN))))
        if not killed:
            break
    assert step > 6, "so few steps would mean that the fuse sees none"
    assert len(ends) == 1
    assert [len(made) for made in next(iter(ends))] == [1, 0]


def _reset(scene: Scene, world: Snapshot, ledger: dict[Path, bytes]) -> None:
    scene.world.restore_snapshot(world)
    for path in (scene.root / ".state").iterdir():
        if path.is_file() and path not in ledger:
            path.unlink()
    for kept, content in ledger.items():
        kept.write_bytes(content)


def test_what_a_broadcaster_refused_is_made_again_of_the_same_coins(purse: Scene) -> None:
    async def work() -> None:
        async with purse.open() as space:
            purse.world.fail_next("arc", count=1)
            with pytest.raises(Exception, match="cannot broadcast"):
                await swept(space, purse)
            first = {coin.outpoint for coin in coins(space, "reserved")}
            assert first and paid(purse, STRANGER) == []
            await swept(space, purse)
            assert len(paid(purse, STRANGER)) == 1
            with space.ports.ledger.begin() as tx:
                assert {coin.outpoint for coin in tx.coins(state="spent")} >= first

    play(work, purse.world.clock)


def test_while_a_broadcaster_is_silent_nothing_else_is_begun(purse: Scene) -> None:
    async def work() -> None:
        async with purse.open() as space:
            offer = await payout.offer_sweep(space.runner, purse.net(), spec(), STRANGER)
            purse.world.drop("arc")
            with pytest.raises(Unavailable):
                await payout.carry_out(space.runner, offer, offer.batches[0])
            with pytest.raises(Unavailable, match="an earlier move is not finished"):
                await swept(space, purse)
            purse.world.restore("arc")
            await purse.world.clock.sleep(600)
            again, _ = await swept(space, purse)
            assert again.batches == () and len(paid(purse, STRANGER)) == 1

    play(work, purse.world.clock)


def test_a_coin_that_went_meanwhile_stops_it_and_one_that_a_stranger_spent_makes_the_ledger_read_only(purse: Scene) -> None:
    async def work() -> None:
        async with purse.open() as space:
            offer = await payout.offer_sweep(space.runner, purse.net(), spec(), STRANGER)
            await merged(space, purse)
            with pytest.raises(Conflict, match="meanwhile"):
                await payout.carry_out(space.runner, offer, offer.batches[0])
            assert coins(space, "reserved") == [] and paid(purse, STRANGER) == []
            # Another program with the same key spends the big coin.
            (big,) = [coin for coin in coins(space) if coin.satoshis == 5_000]
            purse.world.chain.state.spent[big.outpoint] = ("ab" * 32, 0)
            offer = await payout.offer_sweep(space.runner, purse.net(), spec(), STRANGER)
            with pytest.raises(Attention, match="does not know"):
                await payout.carry_out(space.runner, offer, offer.batches[0])
            with pytest.raises(Attention):
                await swept(space, purse)
            assert paid(purse, STRANGER) == []

    play(work, purse.world.clock)
