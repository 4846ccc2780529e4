"""A producer's repository in a directory, on a devnet in process, under virtual time: everything real but the weather."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from reconciler.compose import Workspace, workspace
from reconciler.devnet.clock import SeededEntropy, VirtualClock, run
from reconciler.devnet.world import World
from reconciler.engine.execute import Executor, Report
from reconciler.engine.progress import Watcher, unwatched
from reconciler.engine.receive import receive
from reconciler.engine.recover import recover
from reconciler.kinds.network import Net, read_net
from reconciler.model.plan import Plan
from reconciler.planner.guard import Limits
from reconciler.settings import load

T = TypeVar("T")

NETWORK = """\
apiVersion: overlay.bsv/v1alpha1
kind: Network
metadata: {name: local}
spec:
  chain: devnet
  overlays: [{name: overlay-1, url: "http://overlay-1.devnet", region: EU}]
  ack: all
  storage:
    - {name: eu1, url: "http://eu1.devnet", region: EU, kind: uhrp}
    - {name: us1, url: "http://us1.devnet", region: US, kind: uhrp}
    - {name: ap1, url: "http://ap1.devnet", region: AP, kind: uhrp}
  broadcasters: [{name: arc, url: "http://arc.devnet"}]
  headers: {url: "http://headers.devnet"}
  gateway: {publicUrl: "https://shop.example.com"}
"""
IDENTITY = """\
apiVersion: overlay.bsv/v1alpha1
kind: Identity
metadata: {name: desk}
spec:
  roles: [producer]
  displayName: The Desk
  key: {file: .keys/desk.json, generate: ifMissing, encryption: {passphrase: {env: RECONCILER_PASSPHRASE}}}
  register: true
"""
PRICE = """\
apiVersion: overlay.bsv/v1alpha1
kind: PricePlan
metadata: {name: standard}
spec: {model: per-item, rate: 25sat}
"""
DATASET = """\
apiVersion: overlay.bsv/v1alpha1
kind: Dataset
metadata: {name: rates}
spec:
  identityRef: desk
  content: {file: data/rates.csv}
  title: Rates
  license: CC0-1.0
  pricePlanRef: standard
  replicas: 2
"""
ADVERTISEMENT = """\
apiVersion: overlay.bsv/v1alpha1
kind: Advertisement
metadata: {name: feed}
spec:
  identityRef: desk
  serviceType: data-feed
  capability: rates
  for: [{kind: Dataset, name: rates}]
  ship: [tm_rates]
  slap: [ls_rates]
  pricePlanRef: standard
"""
FULL = {
    "network.yaml": NETWORK,
    "identity.yaml": IDENTITY,
    "price.yaml": PRICE,
    "dataset.yaml": DATASET,
    "advertisement.yaml": ADVERTISEMENT,
    "data/rates.csv": "date,rate\n2024-01-01,1.10\n2024-01-02,1.11\n",
}
ANYTHING_GOES = Limits(delete_percent=None)


@dataclass(slots=True)
class Scene:
    """One repository and the world around it. Each `open` is a fresh process as far as the product can tell."""

    root: Path
    world: World = field(default_factory=World)
    entropy: SeededEntropy = field(default_factory=lambda: SeededEntropy(7))
    watch: Watcher = unwatched

    def write(self, files: dict[str, str | bytes]) -> None:
        """Write files below the repository."""
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Workspace]:
        """The workspace, as a new process would open it."""
        settings = replace(load(self.root), limits=ANYTHING_GOES)
        async with workspace(
            settings,
            transport=self.world.transport(),
            clock=self.world.clock,
            entropy=self.entropy,
            watch=self.watch,
            owner="test",
        ) as space:
            yield space

    async def fund(self, satoshis: int = 1_000_000) -> None:
        """Put a mined coin into the purse."""
        async with self.open() as space:
            space.ports.wallet.generate("wallet", {})
            _, beef = self.world.faucet(space.ports.wallet.funding_script(), satoshis)
            await receive(space.ports, beef, self.net())

    def net(self) -> Net:
        """The network of NETWORK."""
        import yaml

        return read_net("local", yaml.safe_load(NETWORK)["spec"])

    async def plan(self, space: Workspace, limits: Limits | None = None) -> Plan:
        """Survey and plan; fails on any manifest error."""
        survey = await space.surveyor.survey()
        assert survey.loaded.desired is not None, survey.loaded.errors
        return space.surveyor.plan(survey, limits or space.settings.limits)

    async def apply(self, space: Workspace, limits: Limits | None = None) -> tuple[Plan, Report]:
        """Recover, plan and execute."""
        await recover(space.runner)
        plan = await self.plan(space, limits)
        assert not plan.refusals, plan.refusals
        return plan, await Executor(space.runner, plan).run()


def play(work: Callable[[], Awaitable[T]], clock: VirtualClock) -> T:
    """Run a scene in virtual time."""

    async def main() -> T:
        return await work()

    return run(main(), clock=clock)
