"""A producer with a shop, and buyers, on one devnet in process: the real application, our own client, virtual time."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import httpx

from reconciler.adapters.auth import Introduced
from reconciler.adapters.chain import ArcChain
from reconciler.adapters.headers import HeaderSources
from reconciler.adapters.http import Answer, Http, Request
from reconciler.adapters.keystore import KeyStore
from reconciler.adapters.purse import Purse
from reconciler.adapters.sql.ledger import open_ledger
from reconciler.adapters.wallet import LocalWallet
from reconciler.compose import Workspace
from reconciler.devnet.clock import SeededEntropy
from reconciler.devnet.world import World
from reconciler.engine.receive import receive
from reconciler.gateway.app import application
from reconciler.gateway.door import shop_of
from reconciler.model.sale import Payment
from reconciler.ports import Ports
from reconciler.sales.opening import openings
from reconciler.sales.paywall import Shop
from tests.e2e.scene import DATASET, IDENTITY, NETWORK, PRICE, Scene

HOST = "http://shop.devnet"
CSV = "date,rate\n2024-01-01,1.10\n2024-01-02,1.11\n2024-01-03,1.12\n"
# Keys in variables: to open an encrypted one costs more than a whole scene.
KEYS = ("BUYER", "OTHER", "PURSE", "DESK")
FILES = {
    "reconciler.yaml": "wallet: {key: {env: PURSE}}\n",
    "network.yaml": NETWORK.replace("gateway: {", 'gateway: {listen: "127.0.0.1:8402", '),
    "identity.yaml": re.sub(r"key: .*", "key: {env: DESK}", IDENTITY),
    "price.yaml": PRICE,
    "dataset.yaml": DATASET,
    "data/rates.csv": CSV,
}
FUNDS = 5_000


@contextlib.contextmanager
def side(world: World, place: Path, empty: Path, secret: str, seed: int) -> Iterator[Ports]:
    """The doors of one party: a key (from a variable of the environment), a ledger and the network."""
    entropy = SeededEntropy(seed)
    http = Http(world.clock, transport=world.transport())
    place.mkdir(exist_ok=True)
    wallet = LocalWallet(KeyStore(place, entropy), {"env": secret})
    if not (place / "ledger.db").exists():
        shutil.copy(empty, place)
    ledger, queue = open_ledger(place / "ledger.db", world.clock, entropy=entropy)
    doors: Any = dict.fromkeys(one.name for one in fields(Ports))
    doors |= {"clock": world.clock, "entropy": entropy, "ledger": ledger, "queue": queue, "wallet": wallet}
    yield Ports(**doors | {"chain": ArcChain(http, HeaderSources(http))})
    ledger.close()


@dataclass
class Buyer:
    """A purse and a client in its name."""

    ports: Ports
    http: Http
    purse: Any
    world: World

    @property
    def key(self) -> str:
        return self.ports.wallet.public_key("wallet")

    async def send(self, method: str, path: str, body: Any = None, most: int = FUNDS, **headers: str) -> Answer:
        """Under mutual authentication, paying what is asked."""
        data, said = _said(body, headers)
        return await self.http.send(Request(method, HOST + path, said, data), talk=True, max_payment=most)

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.send("GET", path, **headers)

    async def look(self, path: str, body: Any = None, method: str = "GET", **headers: str) -> Answer:
        """As a stranger."""
        data, said = _said(body, headers)
        async with httpx.AsyncClient(transport=self.world.transport()) as http:
            answer = await http.request(method, HOST + path, content=data, headers=said)
        return Answer(answer.status_code, dict(answer.headers), answer.content, HOST + path)

    async def buy(self, content: str = "rates", **more: Any) -> Answer:
        return await self.send("POST", "/purchases", {"contentId": content, **more})

    def payments(self) -> list[dict[str, Any]]:
        """What the buyer ever signed to pay with, oldest first."""
        with self.ports.ledger.begin() as tx:
            return [dict(e["detail"]) for e in reversed(tx.history()) if e["event"] == "payment.made"]

    def coins(self) -> int:
        with self.ports.ledger.begin() as tx:
            return sum(coin.satoshis for coin in tx.coins(state="free"))

    def anew(self) -> Buyer:
        """The same buyer as another process: nothing is known but the ledger."""
        return Buyer(self.ports, introduced(self.ports, self.world, self.purse), self.purse, self.world)


def _said(body: Any, headers: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is None:
        return b"", said
    return json.dumps(body).encode(), said | {"content-type": "application/json"}


def introduced(ports: Ports, world: World, purse: Any) -> Http:
    """A client that signs in the name of a party, and pays out of its purse."""
    http = Http(world.clock, transport=world.transport())
    http.conversation = Introduced(http, ports.wallet.speaker, ports.entropy, purse)  # type: ignore[attr-defined]
    return http


def told(answer: Answer) -> tuple[int, str]:
    """Status and code of a problem."""
    return answer.status, answer.json()["type"].removeprefix("urn:reconciler:problem:")


@dataclass
class Market:
    """The producer while its shop is open; `refused` are the checks that payments did not pass."""

    scene: Scene
    space: Workspace
    shop: Shop
    refused: list[str] = field(default_factory=list)

    @property
    def world(self) -> World:
        return self.scene.world

    def payments(self) -> list[Payment]:
        with self.space.ports.ledger.sales() as rows:
            return list(rows.payments())

    def income(self) -> list[int]:
        """Satoshis of every coin that a buyer's payment became."""
        with self.space.ports.ledger.begin() as tx:
            coins = [coin for coin in tx.coins() if coin.lock.protocol == "3241645161d8"]
        return sorted(coin.satoshis for coin in coins)

    async def publish(self, **files: str) -> None:
        """Edit the repository (`price_yaml`, `data__rates_csv`) and apply; the shop learns of it at its next look."""
        self.scene.write({name.replace("__", "/").replace("_", "."): text for name, text in files.items()})
        await self.scene.apply(self.space)
        self.world.clock.advance(1)


def open_shop(scene: Scene, space: Workspace, refused: list[str]) -> Shop:
    """The shop that the records declare, behind its host name."""
    records = space.ports.ledger.read(space.ports.clock.now()).records
    (opening,), faults = openings(records)
    assert not faults
    speak = space.ports.wallet.speaker  # type: ignore[attr-defined]
    shop = shop_of(space.ports, replace(opening, base=HOST), records, speak, refused.append)
    scene.world.network.apps["shop.devnet"] = application(shop)
    return shop


@contextlib.asynccontextmanager
async def market(scene: Scene) -> AsyncIterator[Market]:
    """A producer that has published, with its shop open."""
    async with scene.open() as space:
        _, beef = scene.world.faucet(space.ports.wallet.funding_script(), 1_000_000)
        await receive(space.ports, beef, scene.net())
        await scene.apply(space)
        scene.world.mine()
        refused: list[str] = []
        yield Market(scene, space, open_shop(scene, space, refused), refused)


@contextlib.asynccontextmanager
async def buyer(made: Market, place: Path, empty: Path, name: str = "BUYER", funds: int = FUNDS) -> AsyncIterator[Buyer]:
    """A buyer with a funded purse; its key is in the variable of that name."""
    world = made.world
    with side(world, place, empty, name, 100 + sum(name.encode())) as ports:
        purse = Purse(ports.ledger, ports.wallet, ports.wallet.speaker, ports.clock, ports.entropy)  # type: ignore[attr-defined, arg-type]
        _, beef = world.faucet(ports.wallet.funding_script(), funds)
        await receive(ports, beef, made.shop.till.net)
        yield Buyer(ports, introduced(ports, world, purse), purse, world)
