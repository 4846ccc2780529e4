"""Whoever pays less than the price, twice, late or too fast: each is refused by a check of its own, named and counted."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.devnet.world import World
from reconciler.engine import till as tills
from reconciler.engine.confirm import confirm
from reconciler.engine.receive import receive
from reconciler.model.effect import Draft, PaymentOutput
from reconciler.model.errors import Unavailable
from reconciler.model.ref import Outpoint
from reconciler.ports import Coin, StoredTx
from reconciler.wire import payment
from reconciler.wire.beef import parse_beef, write_beef
from tests.e2e.market import Buyer, Market, buyer, told
from tests.e2e.scene import DATASET

RATE = 25
POLICY = """\
apiVersion: overlay.bsv/v1alpha1
kind: PaymentPolicy
metadata: {name: strict}
spec:
  limits: LIMITS
"""


class Cheat:
    """A purse that pays as it is told to, and remembers what it showed."""

    def __init__(self, purse: Any, change: Callable[[str], str] = lambda text: text, satoshis: int | None = None) -> None:
        self.purse, self.change, self.satoshis = purse, change, satoshis
        self.shown: list[str] = []

    def pay(self, name: str, demand: payment.Demand, payee: bytes, *more: Any) -> tuple[int, str] | None:
        demand = demand if self.satoshis is None else replace(demand, satoshis=self.satoshis)
        paid = self.purse.pay(name, demand, payee, *more)
        assert paid is not None
        self.shown.append(paid[1])
        return paid[0], self.change(paid[1])

    def taken(self, name: str) -> None:
        self.purse.taken(name)

    def untaken(self, name: str) -> None:
        self.purse.untaken(name)


def cheating(b: Buyer, **how: Any) -> Cheat:
    """The buyer with such a purse."""
    cheat = b.http.conversation._purse = Cheat(b.purse, **how)
    return cheat


def limited(limits: str) -> dict[str, str]:
    dataset = DATASET + "  paymentPolicyRef: strict\n"
    return {"policy.yaml": POLICY.replace("LIMITS", limits), "dataset.yaml": dataset}


def nothing_given(s: Market, check: str) -> None:
    assert (s.payments(), s.income(), s.refused) == ([], [], [check])


@pytest.mark.row("S-12", "P-PAY-19")
def test_one_satoshi_does_not_pay_for_twenty_five(selling: Callable[..., None]) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        cheating(b, satoshis=1)
        refused = await b.get("/content/rates")
        assert (told(refused), refused.json()["code"]) == ((400, "underpaid"), "ERR_UNDERPAID")
        nothing_given(s, "underpaid")

    selling(scene)


@pytest.mark.row("S-12")
def test_a_payment_for_one_thing_pays_for_no_other_and_not_twice(
    selling: Callable[..., None], tmp_path: Path, empty: Path
) -> None:
    other = DATASET.replace("name: rates", "name: more").replace("title: Rates", "title: More")

    async def scene(s: Market, b: Buyer) -> None:
        cheat = cheating(b)
        assert (await b.get("/content/rates")).status == 200
        again = cheating(b, change=lambda _: cheat.shown[0])
        refused = await b.get("/content/more")
        assert (told(refused), s.refused) == ((400, "payment-reused"), ["replayed"])
        # Somebody else shows it: the derivation was never theirs.
        async with buyer(s, tmp_path / "other", empty, "OTHER") as thief:
            cheating(thief, change=lambda _: cheat.shown[0])
            assert (await thief.get("/content/rates")).status == 400
        assert len(s.payments()) == 1 and s.income() == [RATE] and len(again.shown) == 1

    selling(scene, {"more.yaml": other})


@pytest.mark.row("S-12")
def test_a_demand_for_one_request_is_none_for_another_nor_for_anybody_else(
    selling: Callable[..., None], tmp_path: Path, empty: Path
) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        till, payer = s.shop.till, bytes.fromhex(b.key)
        demand = till.ask(RATE, payer, "this")
        _, beef = s.world.faucet(b.ports.wallet.funding_script(), 500)
        await receive(b.ports, beef, till.net)  # for a second payment beside the first
        async with buyer(s, tmp_path / "other", empty, "OTHER") as other:
            for who, request in ((b, "that"), (other, "this")):
                key = bytes.fromhex(who.key)
                _, text = who.purse.pay(request, demand, till.speaker.identity, RATE, "devnet")
                with pytest.raises(Exception, match="derivation prefix") as caught:
                    await till.take(text, key, request, RATE)
                assert caught.value.code == "ERR_INVALID_DERIVATION_PREFIX"
        _, text = b.purse.pay("late", till.ask(RATE, payer, "late"), till.speaker.identity, RATE, "devnet")
        s.world.clock.advance(tills.ASKED_FOR.total_seconds() + 60)
        with pytest.raises(Exception, match="expired"):
            await till.take(text, payer, "late", RATE)

    selling(scene)


@pytest.mark.row("S-12")
def test_a_derivation_that_is_not_ours_is_refused_and_counted(selling: Callable[..., None]) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        def forged(text: str) -> str:
            paid = payment.parse_payment(text)
            strange = b.ports.wallet.speaker().nonce(bytes(16))  # type: ignore[attr-defined]
            return payment.write_payment(replace(paid, prefix=strange))

        cheating(b, change=forged)
        assert told(await b.get("/content/rates")) == (400, "invalid-derivation-prefix")
        cheating(b, change=lambda text: payment.write_payment(replace(payment.parse_payment(text), suffix="AAAA")))
        assert told(await b.get("/content/rates")) == (400, "wrong-script")
        assert s.refused == ["derivation", "derivation"] and s.payments() == []

    selling(scene)


@pytest.mark.row("S-12")
@pytest.mark.parametrize("text", ["", "{}", "not json"])
def test_what_is_no_payment_is_refused(selling: Callable[..., None], text: str) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        cheating(b, change=lambda _: text or "[]")
        assert told(await b.get("/content/rates")) == (400, "malformed-payment")
        nothing_given(s, "malformed")

    selling(scene)


@pytest.mark.row("S-12")
def test_a_coin_that_is_spent_elsewhere_pays_nothing(selling: Callable[..., None]) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        # The buyer's coin, spent by another transaction that the network has already.
        with b.ports.ledger.begin() as tx:
            coins = tx.coins(state="free")
        rival = b.ports.wallet.sign(Draft("devnet", (PaymentOutput(10, b.ports.wallet.funding_script()),)), coins, {})

        def part(wanted: str) -> tuple[bytes, bytes] | None:
            with b.ports.ledger.begin() as tx:
                stored = tx.transaction(wanted)
            return (rival.raw, b"") if wanted == rival.txid else None if stored is None else (stored.raw, stored.proof)

        await b.ports.chain.broadcast(write_beef(rival.txid, part), rival.txid, s.shop.till.net.broadcasters)
        refused = await b.get("/content/rates")
        assert (told(refused), refused.json()["code"]) == ((400, "double-spend"), "ERR_DOUBLE_SPEND")
        nothing_given(s, "double-spend")

    selling(scene)


@pytest.mark.row("S-12")
def test_a_coin_that_does_not_exist_pays_nothing(selling: Callable[..., None]) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        script = b.ports.wallet.funding_script()
        point, beef = World(seed=9).faucet(script, 400)
        raw, proof = parse_beef(beef).part(point.txid) or (b"", b"")
        with b.ports.ledger.begin() as tx:
            lock = tx.coins(state="free")[0].lock
            tx.put_transaction(StoredTx(point.txid, raw, "devnet", "mined", proof, 1, "x"))
            tx.put_coin(Coin(Outpoint(point.txid, point.vout), "devnet", 400, script, lock))
        assert told(await b.get("/content/rates")) == (400, "unproven")
        nothing_given(s, "unproven")

    selling(scene)


@pytest.mark.row("S-12", "P-RISK-01")
def test_no_more_is_taken_unconfirmed_than_the_policy_allows(selling: Callable[..., None], tmp_path: Path, empty: Path) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        assert (await b.get("/content/rates")).paid == RATE
        async with buyer(s, tmp_path / "other", empty, "OTHER") as other:
            later = await other.get("/content/rates")
            assert (told(later), later.headers["retry-after"]) == ((503, "exposure"), "5")
            assert (s.refused, s.income()) == (["exposure"], [RATE])
            s.world.mine()
            await confirm(s.space.ports, {"devnet": s.shop.till.net})
            # The very same payment is good now.
            assert (await other.get("/content/rates")).paid == RATE and len(other.payments()) == 1
        assert s.income() == [RATE, RATE]

    selling(scene, limited(f"{{unconfirmedExposure: {2 * RATE - 1}sat}}"))


@pytest.mark.row("P-RISK-01")
def test_what_blocks_must_stand_on_is_not_paid_with_a_request(selling: Callable[..., None]) -> None:
    files = limited("{}")
    files["policy.yaml"] += "  confirmations: {below: 1}\n"

    async def scene(s: Market, b: Buyer) -> None:
        refused = await b.get("/content/rates")
        assert told(refused) == (409, "not-for-sale") and refused.json()["hint"] == "ways to pay: none"
        assert b.payments() == []

    selling(scene, files)


@pytest.mark.row("S-12")
def test_payments_that_come_at_once_are_counted_together(selling: Callable[..., None], tmp_path: Path, empty: Path) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        async with buyer(s, tmp_path / "other", empty, "OTHER") as other:
            answers = await asyncio.gather(b.get("/content/rates"), other.get("/content/rates"))
        assert sorted(one.status for one in answers) == [200, 503] and s.income() == [RATE]

    selling(scene, limited(f"{{unconfirmedExposure: {2 * RATE - 1}sat}}"))


@pytest.mark.row("S-12")
def test_nobody_buys_faster_than_the_policy_allows(selling: Callable[..., None]) -> None:
    more = DATASET.replace("name: rates", "name: more") + "  paymentPolicyRef: strict\n"

    async def scene(s: Market, b: Buyer) -> None:
        assert (await b.get("/content/rates")).status == 200
        fast = await b.get("/content/more")
        assert (told(fast), "retry-after" in fast.headers) == ((429, "too-fast"), True)
        assert (s.refused, s.income()) == (["velocity"], [RATE])
        s.world.clock.advance(60)
        assert (await b.get("/content/more")).paid == RATE
        assert len(b.payments()) == 2, "what was signed for it is what it is paid with"

    selling(scene, limited("{perIdentityPerMinute: 1}") | {"more.yaml": more})


def test_while_the_network_is_silent_nothing_is_decided(selling: Callable[..., None]) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        s.world.network.down.add("arc.devnet")
        answer = await b.get("/content/rates")
        assert (answer.status, answer.json()["code"]) == (503, "ERR_PAYMENT_PENDING")
        s.world.network.down.clear()
        s.world.clock.advance(600)
        assert (await b.get("/content/rates")).status == 200 and s.income() == [RATE] and s.refused == []

    selling(scene)


def test_a_payment_that_a_rival_beat_ends_what_it_bought(selling: Callable[..., None]) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        assert (await b.get("/content/rates")).status == 200
        (paid,) = s.payments()
        with s.space.ports.ledger.begin() as tx:
            stored = tx.transaction(paid.txid)
            assert stored is not None
            tx.put_transaction(replace(stored, state="rejected"))
        (lost,) = s.payments()
        assert lost.state == "rejected" and s.shop.right(b.key, s.shop.offers()["rates"].edition) is None
        with s.space.ports.ledger.begin() as tx:
            assert tx.consumers("Identity/desk")[0].satoshis == 0
            tx.put_transaction(stored)
        assert s.shop.right(b.key, s.shop.offers()["rates"].edition) is not None

    selling(scene)


def test_the_till_says_later_and_never_maybe(selling: Callable[..., None]) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        till, payer = s.shop.till, bytes.fromhex(b.key)
        _, text = b.purse.pay("x", till.ask(RATE, payer, "x"), till.speaker.identity, RATE, "devnet")
        first, second = await asyncio.gather(
            till.take(text, payer, "x", RATE), till.take(text, payer, "x", RATE), return_exceptions=True
        )
        assert isinstance(second, Unavailable) and second.code == "payment-in-progress"
        assert not isinstance(first, BaseException) and first.satoshis == RATE
        assert (await till.take(text, payer, "x", RATE)).again

    selling(scene)
