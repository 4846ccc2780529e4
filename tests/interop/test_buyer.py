"""Our buyer at a paid server that others wrote: its key is remembered, its price is paid and booked, and no more than that."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from reconciler.adapters.wallet import FUNDING
from reconciler.compose import client
from reconciler.consumer.client import Client
from reconciler.devnet.world import World
from reconciler.model.errors import GuardRefused
from reconciler.ports import Coin, StoredTx
from reconciler.settings import load
from reconciler.wire.beef import parse_beef
from tests.e2e.fair import BUYER, KEYS
from tests.e2e.scene import NETWORK
from tests.interop.lab import launched

PRICE = 100
COIN = 2_000


@pytest.fixture(scope="module")
def shop() -> Iterator[tuple[str, str]]:
    """Their server: address and identity key."""
    with launched("start-paid", "--port", "0", "--price", str(PRICE)) as (ready, _):
        yield ready["url"], ready["identityKey"]


@asynccontextmanager
async def buying(root: Path) -> AsyncIterator[Client]:
    """A buyer in that directory, with a purse of devnet coins; their server takes any chain's proofs."""
    async with client(load(root)) as buyer:
        ports = buyer.till.ports
        with ports.ledger.begin() as tx:
            empty = not tx.coins()
        if empty:
            world = World(seed=5)
            for _ in range(3):
                point, beef = world.faucet(ports.wallet.funding_script(), COIN)
                raw, proof = parse_beef(beef).part(point.txid) or (b"", b"")
                with ports.ledger.begin() as tx:
                    tx.put_transaction(StoredTx(point.txid, raw, "devnet", "mined", proof, 1, "x"))
                    tx.put_coin(Coin(point, "devnet", COIN, ports.wallet.funding_script(), FUNDING))
        yield buyer


def received(url: str, who: str) -> list[int]:
    """What their wallet took of us, in satoshis."""
    with httpx.Client(trust_env=False) as plain:
        return [one["satoshis"] for one in plain.get(url + "/_lab/received").json() if one["sender"] == who]


@pytest.mark.row("C-21", "C-30", "C-17")
def test_our_buyer_buys_from_their_server(shop: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in KEYS.items():
        monkeypatch.setenv(name, secret)
    (tmp_path / "reconciler.yaml").write_text("wallet: {key: {env: FAIR_BUYER}}\n")
    url, key = shop
    (tmp_path / "network.yaml").write_text(NETWORK)
    (tmp_path / "me.yaml").write_text(BUYER + f"  consumer: {{budget: {{perProducer: {2 * PRICE}sat}}}}\n")

    async def scene() -> None:
        async with buying(tmp_path) as buyer:
            with pytest.raises(GuardRefused):
                await buyer.get(f"{url}/paid", PRICE - 1)
            assert received(url, buyer.key) == []
            reply = await buyer.get(f"{url}/paid", PRICE)
            assert (json.loads(reply.body)["secret"], reply.paid, reply.peer) == ("forty-two", PRICE, key)
            assert buyer.till.pinned(url) == key
        async with buying(tmp_path) as buyer:
            assert (await buyer.get(f"{url}/paid", PRICE)).paid == PRICE
            with pytest.raises(GuardRefused) as caught:
                await buyer.get(f"{url}/paid", PRICE)
            assert caught.value.code == "budget-perProducer"
            assert received(url, buyer.key) == [PRICE, PRICE]
            lines = buyer.receipts()
            assert [(one.producer, one.satoshis) for one in lines] == [(key, PRICE)] * 2
            with buyer.till.ports.ledger.begin() as tx:
                left = sum(coin.satoshis for coin in tx.coins(state="free"))
            assert 3 * COIN - left == sum(one.satoshis + one.fee for one in lines)

    asyncio.run(scene())
