"""A producer with an open gateway and a buyer, on one devnet in process: both real, only the weather is made."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from reconciler.compose import Workspace, client
from reconciler.consumer.client import Client
from reconciler.devnet.network import Fault, Trouble
from reconciler.devnet.world import Snapshot
from reconciler.engine.receive import receive
from reconciler.gateway.app import application
from reconciler.gateway.door import shop_of
from reconciler.sales.opening import openings
from reconciler.settings import load
from reconciler.wire.keys import sha256
from tests.e2e.scene import FULL, NETWORK, Scene, play

# Keys out of the environment: to unseal a key file costs more than a scene.
KEYS = {name: sha256(name.encode()).hex() for name in ("FAIR_DESK", "FAIR_SELLER", "FAIR_ME", "FAIR_BUYER")}
IN_FILE = "key: {file: .keys/desk.json, generate: ifMissing, encryption: {passphrase: {env: RECONCILER_PASSPHRASE}}}"
HOST = "shop.example.com"
URL = f"https://{HOST}"
PRICE = 25
FUNDS = 200_000
SHOP = {
    **FULL,
    "network.yaml": NETWORK.replace("gateway: {publicUrl", 'gateway: {listen: "127.0.0.1:0", publicUrl'),
    "identity.yaml": FULL["identity.yaml"].replace(IN_FILE, "key: {env: FAIR_DESK}"),
    "reconciler.yaml": "wallet: {key: {env: FAIR_SELLER}}\n",
    "dataset.yaml": FULL["dataset.yaml"] + "  tags: [fx, daily]\n  description: Euro rates by the day\n",
}
BUYER = """\
apiVersion: overlay.bsv/v1alpha1
kind: Identity
metadata: {name: me}
spec:
  roles: [consumer]
  key: {env: FAIR_ME}
"""


@dataclass(slots=True)
class Fair:
    """Both sides as they stand on disk, and the network between them."""

    seller: Scene
    buyer: Scene
    hits: list[str] = field(default_factory=list)

    @property
    def world(self):  # type: ignore[no-untyped-def]
        return self.seller.world

    @contextlib.asynccontextmanager
    async def shop(self, host: str = HOST) -> AsyncIterator[Workspace]:
        """The gateway, open while the block runs."""
        async with self.seller.open() as space:
            records = space.ports.ledger.read(self.world.clock.now()).records
            (opening,), _ = openings(records)
            app = application(shop_of(space.ports, opening, records, space.ports.wallet.speaker))

            async def counted(scope, receive_, send):  # type: ignore[no-untyped-def]
                self.hits.append(f"{scope['method']} {scope['path']}")
                await app(scope, receive_, send)

            self.world.network.apps[host] = counted
            try:
                yield space
            finally:
                del self.world.network.apps[host]

    @contextlib.asynccontextmanager
    async def buying(self) -> AsyncIterator[Client]:
        """The buyer, as a new process would open it."""
        settings = load(self.buyer.root)
        doors = {"transport": self.world.transport(), "clock": self.world.clock, "entropy": self.buyer.entropy, "owner": "buyer"}
        async with client(settings, **doors) as opened:
            yield opened

    def budget(self, consumer: str) -> None:
        """Write the buyer's `consumer` block."""
        self.buyer.write({"identity.yaml": BUYER + f"  consumer: {consumer}\n"})

    def lose(self, path: str, skip: int, trouble: Trouble = Trouble.LOSE, times: int = 1) -> None:
        """Let answers of the shop be lost."""
        self.world.network.arm(Fault(trouble, host=HOST, path=path, skip=skip, times=times))


def coins(space: Workspace | Client, state: str = "free") -> list[int]:
    """The satoshis of a purse, coin by coin."""
    ports = space.ports if isinstance(space, Workspace) else space.till.ports
    with ports.ledger.begin() as tx:
        return sorted(coin.satoshis for coin in tx.coins(state=state))


def payments(buyer: Client) -> list[int]:
    """What the buyer ever signed to pay, oldest first."""
    with buyer.till.ports.ledger.begin() as tx:
        return [int(e["detail"]["satoshis"]) for e in reversed(tx.history()) if e["event"] == "payment.made"]


@dataclass(frozen=True, slots=True)
class Ground:
    """A fair made once: published, mined, funded. `fair` is a copy of it."""

    root: Path
    made: Fair
    snapshot: Snapshot

    def fair(self, into: Path) -> Fair:
        """The same state again, in directories of its own."""
        self.made.world.network.calm()
        self.made.world.restore_snapshot(self.snapshot)
        for name in ("seller", "buyer"):
            shutil.copytree(self.root / name, into / name)
        return Fair(replace(self.made.seller, root=into / "seller"), replace(self.made.buyer, root=into / "buyer"))


def ground(root: Path) -> Ground:
    """Publish a dataset, and put coins into a buyer's purse."""
    seller = Scene(root / "seller")
    buyer = Scene(root / "buyer", seller.world)
    buyer.entropy = type(buyer.entropy)(23)
    seller.write(SHOP)
    buyer.write({"network.yaml": NETWORK, "identity.yaml": BUYER, "reconciler.yaml": "wallet: {key: {env: FAIR_BUYER}}\n"})

    async def main() -> None:
        await seller.fund()
        async with seller.open() as space:
            _, report = await seller.apply(space)
            assert report.complete, report
        async with buyer.open() as space:
            space.ports.wallet.generate("wallet", {})
            for _ in range(4):
                _, beef = seller.world.faucet(space.ports.wallet.funding_script(), FUNDS // 4)
                await receive(space.ports, beef, buyer.net())
            await buyer.apply(space)
        seller.world.mine()
        await seller.world.settle()

    play(main, seller.world.clock)
    made = Fair(seller, buyer)
    return Ground(root, made, seller.world.snapshot())


def scene(fair: Fair, work: Callable[[Workspace, Client], Awaitable[None]]) -> None:
    """Play it with the shop open and one buyer at work."""

    async def main() -> None:
        async with fair.shop() as shop, fair.buying() as buyer:
            await work(shop, buyer)

    play(main, fair.world.clock)
