"""What a rule says about readers has an effect: counted at the storage hosts themselves, and a dead one is passed over."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from reconciler.compose import Workspace
from reconciler.devnet.network import Fault, Trouble
from reconciler.devnet.world import Plan as WorldPlan
from reconciler.devnet.world import World
from reconciler.engine.retrieve import retrieve
from reconciler.engine.spread import Reader, replicas_for
from tests.e2e.crash import DESK, OPEN_KEY, PROCESS, SEALED_KEY, WALLET
from tests.e2e.scene import IDENTITY, PRICE, Scene, play
from tests.e2e.test_distribution import SELECTED, TAGGED, begun, content, network, record, rule, turn

STORES = (("eu1", "EU"), ("us1", "US"), ("ap1", "AP"))
READS = 90


@dataclass
class Counted(httpx.AsyncBaseTransport):
    """The devnet, and how often each host handed out a file."""

    inner: httpx.AsyncBaseTransport
    served: Counter[str] = field(default_factory=Counter)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self.inner.handle_async_request(request)
        self.served[request.url.host.removesuffix(".devnet")] += (
            request.url.path.startswith("/cdn/") and answer.status_code == 200
        )
        return answer


@pytest.fixture
def served(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What the hosts have handed out so far."""
    counted = Counted(scene.world.transport())
    monkeypatch.setattr(type(scene.world), "transport", lambda self: counted)
    return counted.served


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """One dataset on three hosts, of which the one in AP is the quickest and the one in the US the slowest."""
    monkeypatch.setenv("DESK_KEY", DESK.hex())
    monkeypatch.setenv("WALLET_KEY", WALLET.hex())
    made = Scene(tmp_path / "shop", World(plan=WorldPlan(storage=STORES)))
    made.world.transport().arm(
        *(Fault(Trouble.DELAY, host=f"{name}.devnet", seconds=s) for name, s in (("us1", 0.3), ("eu1", 0.1)))
    )
    files = {
        "network.yaml": network(STORES),
        "identity.yaml": IDENTITY.replace(SEALED_KEY, OPEN_KEY),
        "price.yaml": PRICE,
        "dataset.yaml": TAGGED,
        "data/rates.csv": "date,rate\n2024-01-01,1.10\n",
        "reconciler.yaml": PROCESS,
    }
    made.write(files)
    balanced(made, "even")
    return made


def balanced(scene: Scene, how: str) -> None:
    said = (f"balance: {how}",) if how else ()
    scene.write({"rule.yaml": rule(SELECTED, "replicas: {min: 3}", *said)})


async def read(scene: Scene, space: Workspace, served: Counter[str], count: int, region: str = "") -> Counter[str]:
    """How often each host served the file to so many readers; every reader gets it whole."""
    before, place = served.copy(), scene.root.parent / "reader"
    for _ in range(count):
        (one,) = await retrieve(space.ports, record(space), (), place, region=region)
        assert one.host
        one.place.unlink()
    return served - before


@pytest.mark.row("P-DIST-14")
def test_reads_are_spread_evenly_and_a_dead_host_is_passed_over(scene: Scene, served: Counter[str]) -> None:
    async def main() -> None:
        async with scene.open() as space:
            await begun(scene, space)
            counts = await read(scene, space, served, READS)
            assert sum(counts.values()) == READS, "every reader asked one host"
            share = READS / len(STORES)
            # Pearson's statistic, two degrees of freedom: above 13.8 once in a thousand times.
            assert sum((counts[name] - share) ** 2 / share for name, _ in STORES) < 13.8, counts
            scene.world.drop("eu1")
            counts = await read(scene, space, served, 24)
            assert counts["eu1"] == 0 and sum(counts.values()) == 24 and min(counts["us1"], counts["ap1"]) > 3

    play(main, scene.world.clock)


@pytest.mark.row("P-DIST-14")
def test_readers_begin_where_they_are_or_where_it_is_quickest_and_a_change_of_the_rule_costs_nothing(
    scene: Scene, served: Counter[str]
) -> None:
    async def main() -> None:
        async with scene.open() as space:
            await begun(scene, space)
            purse = space.ports.ledger.read(space.ports.clock.now()).purses
            for how, region, first in (
                ("region", "US", "us1"),
                ("region", "SA", "ap1"),
                ("latency", "US", "ap1"),
                ("", "US", "ap1"),
            ):
                balanced(scene, how)
                await turn(scene, space)
                assert await read(scene, space, served, 3, region) == {first: 3}, how
                urls = replicas_for(record(space), content(space), Reader("any", region))
                assert len(urls) == 3 and urls[0].startswith(f"http://{first}.devnet/")
            assert space.ports.ledger.read(space.ports.clock.now()).purses == purse
            assert replicas_for(record(space), "00" * 32, Reader("any")) == ()

    play(main, scene.world.clock)
