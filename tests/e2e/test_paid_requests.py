"""A buyer and a seller of requests on one devnet: paid once, whatever happens on the way, and never less than the price."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.applications import Starlette
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reconciler.adapters.auth import Introduced
from reconciler.adapters.http import Answer, Http, Request
from reconciler.adapters.purse import Purse
from reconciler.adapters.wallet import FUNDING
from reconciler.devnet.network import Fault, Trouble
from reconciler.devnet.world import World
from reconciler.engine import till as tills
from reconciler.engine.confirm import confirm
from reconciler.engine.receive import receive
from reconciler.engine.till import Till
from reconciler.gateway.auth import Authenticated
from reconciler.gateway.payment import priced
from reconciler.kinds.network import read_net
from reconciler.model.effect import CoinOutput, Draft
from reconciler.model.errors import Refused, RemoteProtocolError, Unavailable, Uncertain
from reconciler.model.ref import Outpoint
from reconciler.ports import Coin, Ports, StoredTx
from reconciler.wire import keys, payment
from reconciler.wire.beef import parse_beef, write_beef
from reconciler.wire.tx import parse_tx
from tests.e2e.market import side
from tests.e2e.scene import NETWORK, play

PRICE = 100
FUNDS = 5_000
URL = "http://shop.devnet/paid"


@dataclass
class Market:
    """Both sides while they stand, and what the seller gave."""

    buyer: Ports
    seller: Ports
    world: World
    till: Till
    http: Http
    purse: Purse
    given: list[tuple[str, bool]] = field(default_factory=list)
    price: int = PRICE

    async def buy(self, url: str = URL, most: int = PRICE, body: bytes = b"", **terms: Any) -> Answer:
        request = Request("POST", url, {"content-type": "application/json"}, body, terms)
        return await self.http.send(request, talk=True, max_payment=most)

    def coins(self, party: Ports, state: str = "free") -> list[int]:
        with party.ledger.begin() as tx:
            return sorted(coin.satoshis for coin in tx.coins(state=state))

    def payments(self) -> list[dict[str, Any]]:
        """What the buyer ever signed to pay with, oldest first."""
        with self.buyer.ledger.begin() as tx:
            return [dict(e["detail"]) for e in reversed(tx.history()) if e["event"] == "payment.made"]

    def reopened(self) -> "Market":
        """The buyer as another process: nothing is known but the ledger."""
        http = Http(self.world.clock, transport=self.world.transport())
        http.conversation = Introduced(http, self.buyer.wallet.speaker, self.buyer.entropy, self.purse)
        return replace(self, http=http)


@contextmanager
def market(world: World, tmp_path: Path, empty: Path) -> Iterator[Market]:
    net = read_net("local", yaml.safe_load(NETWORK)["spec"])
    for name in ("buyer", "seller"):
        (tmp_path / name).mkdir()
    here, there = tmp_path / "buyer", tmp_path / "seller"
    with side(world, here, empty, "BUYER", 11) as buyer, side(world, there, empty, "SELLER", 12) as seller:
        till = Till(seller, net, seller.wallet.speaker(), "wallet")
        http = Http(world.clock, transport=world.transport())
        purse = Purse(buyer.ledger, buyer.wallet, buyer.wallet.speaker, buyer.clock, buyer.entropy)
        http.conversation = Introduced(http, buyer.wallet.speaker, buyer.entropy, purse)
        made = Market(buyer, seller, world, till, http, purse)

        async def price(request: Asked) -> int:
            return made.price

        async def serve(request: Asked) -> Response:
            receipt = request.state.receipt
            made.given.append((request.url.path, receipt.again if receipt else False))
            return JSONResponse({"secret": 42})

        routes = [Route(path, priced(serve, price, till), methods=["POST"]) for path in ("/paid", "/other")]
        door = Authenticated(Starlette(routes=routes), till.speaker, world.clock, seller.entropy)
        world.network.apps["shop.devnet"] = door
        yield made


Act = Callable[[Market], Awaitable[None]]


@pytest.fixture
def at(tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Plays a scene on a market of its own, with so many satoshis in the buyer's purse."""
    for name in ("BUYER", "SELLER"):
        monkeypatch.setenv(name, keys.sha256(name.encode()).hex())

    def act(work: Act, funds: int = FUNDS) -> None:
        world = World()

        async def main() -> None:
            with market(world, tmp_path, empty) as made:
                _, beef = world.faucet(made.buyer.wallet.funding_script(), funds)
                await receive(made.buyer, beef, made.till.net)
                await work(made)

        play(main, world.clock)

    return act


# --- what is paid ---------------------------------------------------------------------------------


def test_a_request_is_paid_for_once_and_both_ledgers_know(at: Callable[..., None]) -> None:
    async def scene(m: Market) -> None:
        answer = await m.buy(body=b'{"want": "it"}')
        assert (answer.status, answer.paid, json.loads(answer.body)) == (200, PRICE, {"secret": 42})
        assert answer.headers[payment.PAID] == str(PRICE)
        (made,) = m.payments()
        assert (m.coins(m.buyer), m.coins(m.seller)) == ([FUNDS - PRICE - made["fee"]], [PRICE])
        assert m.given == [("/paid", False)]
        with m.buyer.ledger.begin() as tx:
            assert (tx.booked(f"x{made['txid']}"), tx.spent_since(m.world.clock.start)) == (0, made["fee"])
        # The coin is the seller's to spend, under the key that only these two could derive.
        wallet, draft = m.seller.wallet, Draft("devnet", (CoinOutput(50),))
        with m.seller.ledger.begin() as tx:
            coins = tx.coins(state="free")
        signed = wallet.sign(draft, coins, {})
        m.world.mine()
        for party in (m.buyer, m.seller):
            (moved,) = await confirm(party, {"devnet": m.till.net})
            assert (moved.txid, moved.after) == (made["txid"], "mined")
        await m.seller.chain.broadcast(_beef(m.seller, signed.raw, signed.txid), signed.txid, m.till.net.broadcasters)

    at(scene)


def _beef(party: Ports, raw: bytes, txid: str) -> bytes:
    with party.ledger.begin() as tx:

        def part(wanted: str) -> tuple[bytes, bytes] | None:
            stored = tx.transaction(wanted)
            return (raw, b"") if wanted == txid else None if stored is None else (stored.raw, stored.proof)

        return write_beef(txid, part)


def test_equal_requests_are_two_purchases_one_after_the_other(at: Callable[..., None]) -> None:
    async def scene(m: Market) -> None:
        with pytest.raises(Unavailable) as caught:
            await m.buy(chain="main")
        assert caught.value.code == "insufficient-funds", "the purse holds coins of another chain"
        answers = await asyncio.gather(m.buy(), m.buy(), m.buy())
        assert [answer.paid for answer in answers] == [PRICE] * 3
        assert len({made["txid"] for made in m.payments()}) == 3
        assert m.given == [("/paid", False)] * 3 and m.coins(m.seller) == [PRICE] * 3

    at(scene)


def test_nothing_is_paid_above_the_limit_or_from_an_empty_purse(at: Callable[..., None]) -> None:
    async def scene(m: Market) -> None:
        with pytest.raises(Refused, match="more than 99 satoshis"):
            await m.buy(most=PRICE - 1)
        m.price = FUNDS
        with pytest.raises(Unavailable) as caught:
            await m.buy(most=FUNDS)
        assert caught.value.code == "insufficient-funds"
        assert (m.payments(), m.given, m.coins(m.buyer)) == ([], [], [FUNDS])
        m.price = 0
        assert (await m.buy(most=0)).paid == 0

    at(scene)


# --- what happens on the way ----------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [Trouble.LOSE, Trouble.REFUSE, Trouble.STATUS, Trouble.CORRUPT])
def test_after_a_lost_answer_the_same_payment_is_shown_again(at: Callable[..., None], trouble: Trouble) -> None:
    async def scene(m: Market) -> None:
        # The first request is asked who it is, the second what it costs, the third pays.
        m.world.network.arm(Fault(trouble, host="shop.devnet", path="/paid", skip=2, times=1))
        with pytest.raises((Uncertain, Unavailable)):
            await m.buy()
        again = m.reopened()
        answer = await again.buy()
        assert (answer.status, answer.paid) == (200, PRICE)
        assert len(m.payments()) == 1 and m.coins(m.seller) == [PRICE]
        reached = trouble in (Trouble.LOSE, Trouble.CORRUPT)
        assert m.given == ([("/paid", False), ("/paid", True)] if reached else [("/paid", False)])
        assert (await again.buy()).paid == PRICE
        assert len(m.payments()) == 2, "what was had is another purchase the next time"

    at(scene)


def test_change_of_a_payment_that_nobody_asks_for_again_is_not_lost(at: Callable[..., None]) -> None:
    async def scene(m: Market) -> None:
        m.world.network.arm(Fault(Trouble.REFUSE, host="shop.devnet", path="/paid", skip=2, times=1))
        with pytest.raises((Uncertain, Unavailable)):
            await m.buy()
        nets = {"devnet": m.till.net}
        assert await confirm(m.buyer, nets) == [] and m.coins(m.buyer) == []
        m.world.network.arm(Fault(Trouble.LOSE, host="shop.devnet", path="/paid", skip=1, times=1))
        with pytest.raises(Uncertain):
            await m.buy()
        (moved,) = await confirm(m.buyer, nets)
        (made,) = m.payments()
        assert (moved.txid, moved.before, moved.after) == (made["txid"], "signed", "seen")
        assert m.coins(m.buyer) == [FUNDS - PRICE - made["fee"]]
        assert (await m.buy()).status == 200 and len(m.payments()) == 1, "what was paid for is still ours to ask for"

    at(scene)


def test_a_request_that_arrives_twice_is_paid_for_once(at: Callable[..., None]) -> None:
    async def scene(m: Market) -> None:
        await m.buy()
        m.world.network.arm(Fault(Trouble.DUPLICATE, host="shop.devnet", path="/paid", skip=1, times=1))
        # The copy is refused as a replay, so we introduce ourselves again, and the same payment is honoured again.
        assert (await m.buy()).paid == PRICE
        assert m.given == [("/paid", False), ("/paid", False), ("/paid", True)]
        assert len(m.payments()) == 2 and m.coins(m.seller) == [PRICE, PRICE]

    at(scene)


def test_a_demand_that_ran_out_is_paid_anew_with_the_same_coin(at: Callable[..., None]) -> None:
    async def scene(m: Market) -> None:
        m.world.network.arm(Fault(Trouble.REFUSE, host="shop.devnet", path="/paid", skip=2, times=1))
        with pytest.raises((Uncertain, Unavailable)):
            await m.buy()
        m.world.clock.advance(tills.ASKED_FOR.total_seconds() + 60)
        with m.buyer.ledger.begin() as tx:
            before = tx.transactions(state="signed")
        refused = await m.buy()
        assert (refused.status, refused.json()["code"]) == (400, "ERR_INVALID_DERIVATION_PREFIX")
        assert (await m.buy()).status == 200
        assert len(m.payments()) == 2 and m.coins(m.seller) == [PRICE]
        with m.buyer.ledger.begin() as tx:
            (old,), (new,) = tx.transactions(state="rejected"), tx.transactions(state="seen")
        assert [one.txid for one in before] == [old.txid]
        assert [i.outpoint for i in parse_tx(old.raw).inputs] == [i.outpoint for i in parse_tx(new.raw).inputs]
        assert len(m.coins(m.buyer)) == 1

    at(scene)


# --- what is not accepted -------------------------------------------------------------------------


class Cheat:
    """A purse that pays as it is told to."""

    def __init__(self, purse: Purse, change: Callable[[str], str] = lambda text: text, satoshis: int | None = None) -> None:
        self.purse, self.change, self.satoshis = purse, change, satoshis
        self.shown: list[str] = []

    def pay(
        self, name: str, demand: payment.Demand, payee: bytes, limit: int, chain: str, purchase: str
    ) -> tuple[int, str] | None:
        demand = demand if self.satoshis is None else replace(demand, satoshis=self.satoshis)
        paid = self.purse.pay(name, demand, payee, limit, chain, purchase)
        assert paid is not None
        self.shown.append(paid[1])
        return paid[0], self.change(paid[1])

    def taken(self, name: str) -> None:
        self.purse.taken(name)

    def untaken(self, name: str) -> None:
        self.purse.untaken(name)


class Again:
    """A purse that shows one payment for everything."""

    def __init__(self, text: str) -> None:
        self.text = text

    def pay(self, *_: Any) -> tuple[int, str]:
        return PRICE, self.text

    def taken(self, name: str) -> None:
        """It paid nothing."""

    untaken = taken


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json()["code"]


def test_one_satoshi_does_not_pay_for_a_hundred(at: Callable[..., None]) -> None:
    async def scene(m: Market) -> None:
        m.http.conversation._purse = Cheat(m.purse, satoshis=1)
        assert code(await m.buy()) == (400, "ERR_UNDERPAID")
        assert (m.given, m.coins(m.seller)) == ([], [])

    at(scene)


def test_a_payment_buys_nothing_else_and_nothing_twice(at: Callable[..., None]) -> None:
    async def scene(m: Market) -> None:
        cheat = m.http.conversation._purse = Cheat(m.purse)
        await m.buy()
        m.http.conversation._purse = Again(cheat.shown[0])
        for url, body in ((URL + "?a=1", b""), (URL.replace("paid", "other"), b""), (URL, b'{"other":1}')):
            assert code(await m.buy(url, body=body)) == (400, "ERR_PAYMENT_REUSED")
        assert (m.given, m.coins(m.seller)) == ([("/paid", False)], [PRICE])
        m.world.clock.advance(tills.GIVEN_AGAIN_FOR.total_seconds() + 60)
        assert code(await m.buy()) == (400, "ERR_PAYMENT_REUSED")

    at(scene)


def test_somebody_elses_payment_is_not_ours(at: Callable[..., None]) -> None:
    async def scene(m: Market) -> None:
        cheat = m.http.conversation._purse = Cheat(m.purse)
        m.world.network.arm(Fault(Trouble.REFUSE, host="shop.devnet", path="/paid", skip=2, times=1))
        with pytest.raises((Uncertain, Unavailable)):
            await m.buy()
        with pytest.raises(RemoteProtocolError, match="not the payer's"):
            await m.till.take(cheat.shown[0], m.till.speaker.identity, "x", PRICE)
        assert m.coins(m.seller) == []

    at(scene)


@pytest.mark.parametrize("text", ["", "{}", "not json"])
def test_a_payment_that_is_none_is_refused(at: Callable[..., None], text: str) -> None:
    async def scene(m: Market) -> None:
        m.http.conversation._purse = Cheat(m.purse, lambda _: text or "[]")
        assert code(await m.buy()) == (400, "ERR_MALFORMED_PAYMENT")

    at(scene)


def test_a_payment_the_network_rejects_is_not_accepted(at: Callable[..., None]) -> None:
    async def scene(m: Market) -> None:
        m.world.fail_next("arc")
        assert code(await m.buy()) == (400, "ERR_UNPROVEN")
        assert (m.given, m.coins(m.seller)) == ([], [])

    at(scene)


def test_while_the_network_cannot_be_asked_nothing_is_decided(at: Callable[..., None]) -> None:
    async def scene(m: Market) -> None:
        m.world.network.down.add("arc.devnet")
        answer = await m.buy()
        assert code(answer) == (503, "ERR_PAYMENT_PENDING")
        m.world.network.down.clear()
        m.world.clock.advance(3600 - 60)
        assert (await m.buy()).status == 200
        assert len(m.payments()) == 1 and m.coins(m.seller) == [PRICE]

    at(scene)


def test_a_coin_that_does_not_exist_pays_nothing(at: Callable[..., None]) -> None:
    async def scene(m: Market) -> None:
        invented = World(seed=9)
        point, beef = invented.faucet(m.buyer.wallet.funding_script(), 400)
        found = parse_beef(beef)
        with m.buyer.ledger.begin() as tx:
            raw, proof = found.part(point.txid) or (b"", b"")
            tx.put_transaction(StoredTx(point.txid, raw, "devnet", "mined", proof, 1, "x"))
            tx.put_coin(Coin(Outpoint(point.txid, point.vout), "devnet", 400, m.buyer.wallet.funding_script(), FUNDING))
        assert code(await m.buy()) == (400, "ERR_UNPROVEN")
        assert m.given == []

    at(scene)
