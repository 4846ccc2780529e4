"""What parties are owed of many small payments: paid in one transaction, once, wherever the process dies."""

import re
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.compose import Workspace
from reconciler.devnet.clock import SeededEntropy
from reconciler.engine.confirm import confirm
from reconciler.engine.receive import verified
from reconciler.gateway.door import shop_of
from reconciler.model.errors import Conflict, Refused
from reconciler.model.ref import ResourceRef
from reconciler.model.sale import Due, Payment, PaymentState
from reconciler.sales import settle
from reconciler.sales.opening import openings
from reconciler.sales.paywall import Purchase, Shop
from reconciler.sales.refund import EVENT as REFUNDED
from reconciler.sales.refund import Refunder
from reconciler.sales.settle import EVENT, Pot, Settler, derivation, pots, waits
from reconciler.wire import keys
from reconciler.wire.payment import Income, secret_from
from reconciler.wire.script import p2pkh
from reconciler.wire.tx import parse_tx
from tests.e2e.crash import Fuse, Killed, mortal
from tests.e2e.scene import DATASET, FULL, IDENTITY, NETWORK, Scene, play

AGENT = keys.sha256(b"the agent")
POLICY: dict[str, Any] = {
    "splits": {"producer": "0.85", "agent": "0.05", "overlay": "0.1"},
    "parties": {"agent": {"identityKey": keys.public_key(AGENT).hex()}, "overlay": {"script": "51"}},
    "settle": {"every": "10m", "min": "100sat"},
}
# Of these the agent is owed 5% and the overlay 10%, in whole satoshis of the sum.
PAYMENTS = (25,) * 30 + (1, 3, 7)


@pytest.fixture
def shop_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A dataset on sale under a policy with three parties, and a purse."""
    for name in ("DESK", "PURSE"):
        monkeypatch.setenv(name, keys.sha256(name.encode()).hex())
    scene = Scene(tmp_path / "seller", entropy=SeededEntropy(3))
    head = {"apiVersion": "overlay.bsv/v1alpha1", "kind": "PaymentPolicy", "metadata": {"name": "shared"}, "spec": POLICY}
    scene.write(
        {
            "reconciler.yaml": "wallet: {key: {env: PURSE}}\nmode: auto\n",
            "network.yaml": NETWORK.replace("gateway: {", 'gateway: {listen: "127.0.0.1:0", '),
            "identity.yaml": re.sub(r"key: .*", "key: {env: DESK}", IDENTITY),
            "dataset.yaml": DATASET.replace("pricePlanRef: standard", "price: 25\n  paymentPolicyRef: shared"),
            "policy.yaml": yaml.safe_dump(head),
            "data/rates.csv": FULL["data/rates.csv"],
        }
    )

    async def work() -> None:
        await scene.fund(20_000)
        async with scene.open() as space:
            _, report = await scene.apply(space)
            assert report.complete, report
            for number, satoshis in enumerate(PAYMENTS):
                await bought(scene, shop(space), number, satoshis)
            scene.world.mine()
            await confirm(space.ports, {"devnet": scene.net()})

    play(work, scene.world.clock)
    return scene


def shop(space: Workspace) -> Shop:
    records = space.ports.ledger.read(space.ports.clock.now()).records
    (opening,), _ = openings(records)
    return shop_of(space.ports, opening, records, space.ports.wallet.speaker)  # type: ignore[attr-defined]


async def bought(scene: Scene, here: Shop, number: int, satoshis: int) -> None:
    """A sale by a mined payment, entered as the till enters one."""
    buyer = keys.public_key(keys.sha256(b"buyer %d" % number))
    goods = here.goods("rates")
    terms = replace(here.terms(goods, buyer.hex(), here.admitted(goods, buyer.hex())), satoshis=satoshis)
    prefix, suffix = f"{number}", "x"
    script = here.till.speaker.script_from(buyer, prefix, suffix)
    coin, beef = scene.world.faucet(script, satoshis)
    await verified(here.ports, beef, here.till.net)
    income = Income(coin.txid, coin.vout, satoshis, script, buyer, prefix, suffix)
    sale = Purchase(here, goods, terms, buyer.hex())
    await here.till.enter(f"income/{number}", beef, income, {"price": satoshis}, sale)
    sale.leave()


def settler(space: Workspace) -> Settler:
    return Settler(space.runner, space.ports.wallet.speaker)  # type: ignore[attr-defined]


def sent(scene: Scene) -> list[dict[bytes, int]]:
    """What each live transaction put on scripts of the parties."""
    found = []
    for txid, tx in scene.world.chain.state.txs.items():
        outputs = {out.script: out.satoshis for out in tx.outputs if out.script == b"\x51" or out.satoshis == 38}
        if b"\x51" in outputs and scene.world.chain.live(txid) is not None:
            found.append(outputs)
    return found


def owed(party: str) -> int:
    share = Fraction(POLICY["splits"][party]) * sum(PAYMENTS)
    return share.numerator // share.denominator


@pytest.mark.row("P-PAY-06", "P-PAY-17", "P-PAY-22")
def test_many_small_payments_are_settled_by_one_transaction(shop_front: Scene) -> None:
    async def work() -> None:
        async with shop_front.open() as space:
            here = settler(space)
            (pot,) = await here.owed()
            assert (pot.identity, pot.network, pot.policy, len(pot.dues)) == ("desk", "local", "shared", len(pot.dues))
            assert pot.satoshis == owed("agent") + owed("overlay")
            (done,) = await here.settle(forced=False)
            assert (done.satoshis, done.why) == (pot.satoshis, "")
            with space.ports.ledger.begin() as tx:
                stored = tx.transaction(done.txid)
                assert stored is not None and tx.dues() == []
                assert {due.run is not None and due.settled is not None for due in tx.dues(open_only=False)} == {True}
                detail = next(one["detail"] for one in tx.history() if one["event"] == EVENT)
            made = parse_tx(stored.raw)
            got = {one["party"]: made.outputs[one["vout"]] for one in detail["parties"]}
            assert {party: out.satoshis for party, out in got.items()} == {"agent": owed("agent"), "overlay": owed("overlay")}
            # The history tells the agent all that it needs to find its key.
            secret = secret_from(AGENT, bytes.fromhex(detail["sender"]), detail["derivationPrefix"], detail["derivationSuffix"])
            assert got["agent"].script == p2pkh(keys.public_key(secret)) and got["overlay"].script == b"\x51"
            assert await here.settle() == [] and await here.owed() == ()

    play(work, shop_front.world.clock)


def killed_everywhere(scene: Scene, work: Callable[[Workspace], Awaitable[None]]) -> Iterator[None]:
    """The world after each way to be killed at work and to do it again; last, after none."""
    world, state = scene.world.snapshot(), scene.root / ".state"
    shutil.copytree(state, kept := scene.root.parent / "kept")
    step, killed = 0, True
    while killed:
        step += 1
        scene.world.restore_snapshot(world)
        shutil.rmtree(state)
        shutil.copytree(kept, state)

        async def attempt(fuse: Fuse) -> bool:
            try:
                async with mortal(scene, fuse) as space:
                    await work(space)
            except Killed:
                return True
            return fuse.burnt

        killed = play(partial(attempt, Fuse(step)), scene.world.clock)
        if killed:
            play(partial(attempt, Fuse()), scene.world.clock)
        yield
    assert step > 6, "so few steps would mean that the fuse sees none"


@pytest.mark.slow
@pytest.mark.row("P-PAY-17", "P-PAY-30")
def test_killed_at_every_step_everybody_is_paid_once(shop_front: Scene) -> None:
    async def work(space: Workspace) -> None:
        for done in await settler(space).settle():
            assert not done.failed, done.why

    for _ in killed_everywhere(shop_front, work):
        assert [sum(outputs.values()) for outputs in sent(shop_front)] == [owed("agent") + owed("overlay")]


def given_back(scene: Scene, payment: Payment) -> list[int]:
    """Satoshis that live transactions put on keys that only the buyer of a payment has."""
    secret = keys.sha256(b"buyer 0")
    assert keys.public_key(secret).hex() == payment.consumer
    found = []
    with_history: Any = {}

    async def read() -> None:
        async with scene.open() as space:
            with space.ports.ledger.begin() as tx:
                with_history["notes"] = [one["detail"] for one in tx.history() if one["event"] == REFUNDED]

    play(read, scene.world.clock)
    for note in with_history["notes"]:
        own = secret_from(secret, bytes.fromhex(note["sender"]), note["derivationPrefix"], note["derivationSuffix"])
        for txid, tx in scene.world.chain.state.txs.items():
            if scene.world.chain.live(txid) is not None:
                found += [out.satoshis for out in tx.outputs if out.script == p2pkh(keys.public_key(own))]
    return found


@pytest.mark.slow
@pytest.mark.row("P-PAY-25", "P-PAY-30")
def test_killed_at_every_step_a_refund_arrives_once(shop_front: Scene) -> None:
    last: dict[str, Payment] = {}

    async def work(space: Workspace) -> None:
        with space.ports.ledger.begin() as tx:
            first = next(one for one in tx.payments() if one.consumer == keys.public_key(keys.sha256(b"buyer 0")).hex())
        try:
            last["paid"] = await Refunder(space.runner, space.ports.wallet.speaker).refund(first.id, "wrong file")  # type: ignore[attr-defined]
        except Refused as error:
            assert error.code == "not-refundable", "it was given back before"
        with space.ports.ledger.begin() as tx:
            last["paid"] = tx.payment(first.id) or first
            right = tx.entitlement(first.id)
        assert last["paid"].state is PaymentState.REFUNDED and right is not None and right.revoked is not None
        assert all(due.payment != first.id for pot in await settler(space).owed() for due in pot.dues)

    for _ in killed_everywhere(shop_front, work):
        assert last["paid"].refund is not None
        assert given_back(shop_front, last["paid"]) == [last["paid"].satoshis]


@pytest.mark.row("P-PAY-25")
def test_a_refund_that_is_refused_leaves_everything_as_it_was(shop_front: Scene) -> None:
    async def work() -> None:
        async with shop_front.open() as space:
            refunder = Refunder(space.runner, space.ports.wallet.speaker)  # type: ignore[attr-defined]
            with space.ports.ledger.begin() as tx:
                before = tx.payments()[0]
            shop_front.world.fail_next("arc", count=1)
            with pytest.raises(Refused):
                await refunder.refund(before.id, "")
            with space.ports.ledger.begin() as tx:
                right = tx.entitlement(before.id)
                assert tx.payment(before.id) == before and right is not None and right.revoked is None
            with pytest.raises(Refused, match="there is no such payment"):
                await refunder.refund("nothing", "")
            assert (await refunder.refund(before.id, "")).state is PaymentState.REFUNDED

    play(work, shop_front.world.clock)


def test_a_settlement_that_was_refused_is_made_again_of_the_same_coins(shop_front: Scene) -> None:
    async def work() -> None:
        async with shop_front.open() as space:
            here = settler(space)
            shop_front.world.fail_next("arc", count=1)
            (lost,) = await here.settle()
            assert lost.failed and lost.txid == "" and sent(shop_front) == []
            (done,) = await here.settle()
            assert done.txid and len(sent(shop_front)) == 1
            with space.ports.ledger.begin() as tx:
                runs = [run for run in tx.runs() if run.id.startswith("settle-")]
                spent = [{coin.outpoint for coin in tx.coins(run=run.id, state="spent")} for run in runs]
            assert len(runs) == 2 and spent[-1]

    play(work, shop_front.world.clock)


def test_only_what_is_in_a_block_is_shared(shop_front: Scene) -> None:
    async def work() -> None:
        async with shop_front.open() as space:
            with space.ports.ledger.begin() as tx:
                payments = tx.payments()
                lost = replace(payments[0], state=PaymentState.REFUNDING)
                tx.put_payment(lost)
                stored = tx.transaction(payments[1].txid)
                assert stored is not None
                tx.put_transaction(replace(stored, state="seen", proof=b"", height=0, block=""))
            gone = {lost.id, payments[1].id}
            (pot,) = await settler(space).owed()
            assert gone.isdisjoint(due.payment for due in pot.dues)
            # What is claimed by two settlements is paid by one of them.
            pot_again = replace(pot, dues=(*pot.dues, Due(lost.id, "agent", 1, lost.created, POLICY["parties"]["agent"])))
            with pytest.raises(Conflict, match="some of it was settled or refunded meanwhile"):
                await settler(space)._paid(pot_again)

    play(work, shop_front.world.clock)


@pytest.mark.row("P-PAY-17")
def test_what_is_too_much_for_one_transaction_takes_several(shop_front: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "PAGE", 7)
    monkeypatch.setattr(settle, "MOST_DUES", 20)

    async def work() -> None:
        async with shop_front.open() as space:
            (pot,) = await settler(space).owed()
            done = await settler(space).settle(forced=False)
            # What is left is less than is worth a transaction, and not due so soon.
            assert pot.full and len(done) == len(pot.dues) // 20 and all(one.txid for one in done)
            done += await settler(space).settle()
            assert sum(one.satoshis for one in done) == pot.satoshis == owed("agent") + owed("overlay")

    play(work, shop_front.world.clock)


@pytest.mark.row("P-PAY-06")
def test_a_pot_waits_until_it_is_worth_a_transaction_and_until_it_is_due() -> None:
    now = yaml.safe_load("2026-03-01T12:00:00Z")
    terms = {"auto": True, "every": 600_000, "min": 100}

    def pot(satoshis: int, **more: Any) -> Pot:
        return Pot("desk", "local", "shared", {**terms, **more}, (Due("r", "agent", satoshis, now),))

    assert waits(pot(99), None, now) == "less than 100 sat are owed" and waits(pot(100), None, now) == ""
    assert waits(pot(100), now, now + timedelta(minutes=10)) == ""
    assert waits(pot(100), now, now + timedelta(minutes=9, seconds=59)).startswith("not before 2026-03-01T12:10:00")
    assert waits(pot(100, auto=False), None, now) == "settle.auto is false"


def test_a_pot_outlives_its_dataset() -> None:
    now = yaml.safe_load("2026-03-01T12:00:00Z")
    payment: Any = Payment("r", "Identity/desk", "02" * 33, 10, "brc105", now, content="gone")  # type: ignore[arg-type]
    records: Any = {ResourceRef("Network", "local"): None}
    (pot,) = pots([(Due("r", "agent", 1, now), payment)], records)
    assert (pot.identity, pot.network, pot.policy, pot.terms["min"]) == ("desk", "local", "", 500)
    assert derivation("settle-1") == derivation("settle-1") != derivation("settle-2")
