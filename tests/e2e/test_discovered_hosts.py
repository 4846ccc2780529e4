"""Tokens reach hosts that nobody declared, found through trackers; strangers can help and cannot hinder."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.compose import Workspace
from reconciler.devnet.network import Fault, Trouble
from reconciler.devnet.world import Plan as WorldPlan
from reconciler.devnet.world import World
from reconciler.kinds.network import read_net
from reconciler.model.errors import Unavailable
from reconciler.model.ref import ResourceRef
from reconciler.planner.guard import Limits
from tests.conformance.producer import Producer
from tests.e2e.scene import ADVERTISEMENT, DATASET, FULL, IDENTITY, NETWORK, PRICE, Scene, play

OWN, OTHER = "http://overlay-1.devnet", "http://overlay-2.devnet"
FOUND = NETWORK.replace("ack: all", f'ack: any\n  trackers: ["{OWN}"]\n  discovery: {{enabled: true}}')
ALONE = FOUND.replace('overlays: [{name: overlay-1, url: "http://overlay-1.devnet", region: EU}]', "overlays: []")
DESK = ResourceRef("Identity", "desk")
Visit = Callable[[Scene, Workspace], Awaitable[None]]


@pytest.fixture
def visit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A funded repository with one identity to be registered, and a second node that advertises what it keeps."""
    monkeypatch.setenv("RECONCILER_PASSPHRASE", "correct horse battery staple")
    plan = WorldPlan(seed=5, overlays=(("overlay-1", "EU"), ("overlay-2", "US")), allow_http_ads=True)

    def go(work: Visit, network: str = FOUND, keeps: tuple[str, ...] = ("tm_producer",)) -> None:
        scene = Scene(tmp_path, World(plan=plan))
        advertise(scene, *keeps)
        scene.write({"network.yaml": network, "identity.yaml": IDENTITY})

        async def main() -> None:
            await scene.fund()
            async with scene.open() as space:
                await work(scene, space)

        play(main, scene.world.clock)

    return go


def advertise(scene: Scene, *topics: str) -> None:
    """The first node lists ls_ship, and the second as a keeper of these topics."""
    who = Producer("who runs the second node", scene.world.faucet)
    node = scene.world.nodes["overlay-1"]
    node.submit(who.beef(who.pay(who.slap("ls_ship", OWN))), ["tm_slap"])
    if topics:
        node.submit(who.beef(who.pay(*(who.ship(topic, OTHER) for topic in topics))), ["tm_ship"])


def held(scene: Scene, node: str) -> int:
    return len(scene.world.nodes[node].lookup("ls_producer", {"subject": str(DESK)}))


def submitted(space: Workspace) -> Any:
    """What the hosts of the last submission said."""
    with space.ports.ledger.begin() as tx:
        said = [i.result for run in tx.runs() for i in tx.intents(run.id) if i.effect == "Submit"]
    return said[-1]


@pytest.mark.row("S-18", "P-LKP-05")
def test_a_host_that_advertises_the_topic_is_told_too(visit: Callable[..., None]) -> None:
    async def work(scene: Scene, space: Workspace) -> None:
        _, report = await scene.apply(space)
        assert report.complete
        assert (held(scene, "overlay-1"), held(scene, "overlay-2")) == (1, 1)
        said = submitted(space)
        assert said["overlay-2.devnet"]["found"] is True
        assert said["quorum"] == {"needed": 1, "got": 2}
        assert (await scene.plan(space)).empty

    visit(work)


def test_a_host_that_advertises_other_topics_is_left_alone(visit: Callable[..., None]) -> None:
    async def work(scene: Scene, space: Workspace) -> None:
        _, report = await scene.apply(space)
        assert report.complete
        assert (held(scene, "overlay-1"), held(scene, "overlay-2")) == (1, 0)
        assert "overlay-2.devnet" not in submitted(space)

    visit(work, keeps=("tm_ship", "tm_other"))


@pytest.mark.parametrize("ack", ["any", "all"])
def test_a_stranger_that_is_down_slow_or_lies_changes_nothing(visit: Callable[..., None], ack: str) -> None:
    async def work(scene: Scene, space: Workspace) -> None:
        scene.world.network.arm(Fault(Trouble.DELAY, host="overlay-2.devnet", path="/submit", seconds=40))
        _, report = await scene.apply(space)
        assert report.complete
        assert "longer than 15 s" in submitted(space)["overlay-2.devnet"]["error"]
        assert held(scene, "overlay-1") == 1
        assert (await scene.plan(space)).empty, "what a stranger lacks is no drift of ours"

    visit(work, network=FOUND.replace("ack: any", f"ack: {ack}"))


@pytest.mark.row("S-18", "P-LKP-05")
def test_without_a_host_of_its_own_a_network_lives_by_discovery(visit: Callable[..., None]) -> None:
    async def work(scene: Scene, space: Workspace) -> None:
        _, report = await scene.apply(space)
        assert report.complete
        assert (held(scene, "overlay-1"), held(scene, "overlay-2")) == (0, 1)
        assert submitted(space)["quorum"] == {"needed": 1, "got": 1}

    visit(work, network=ALONE)


@pytest.mark.parametrize("keeps", [(), ("tm_ship",)])
def test_a_topic_that_nobody_keeps_is_named_and_tried_again(visit: Callable[..., None], keeps: tuple[str, ...]) -> None:
    async def work(scene: Scene, space: Workspace) -> None:
        _, report = await scene.apply(space)
        assert not report.complete
        assert "no host keeps tm_producer" in report.results[DESK].why
        advertise(scene, "tm_producer")
        scene.world.clock.advance(301)
        await scene.apply(space)
        await scene.world.clock.sleep(1)
        _, report = await scene.apply(space)
        assert report.complete
        assert held(scene, "overlay-2") == 1

    visit(work, network=ALONE, keeps=keeps)


@pytest.mark.row("S-18")
def test_a_declared_host_without_one_of_the_topics_keeps_the_others(visit: Callable[..., None]) -> None:
    """The whole submission fails there otherwise: deployed nodes refuse all for one topic they do not host."""

    async def work(scene: Scene, space: Workspace) -> None:
        await scene.apply(space)
        del scene.world.nodes["overlay-1"].topics["tm_producer"]
        scene.write({"price.yaml": PRICE, "dataset.yaml": DATASET, "advertisement.yaml": ADVERTISEMENT})
        scene.write({"data/rates.csv": FULL["data/rates.csv"]})
        _, report = await scene.apply(space)
        assert report.complete, report
        assert len(scene.world.nodes["overlay-1"].lookup("ls_ship", {"topics": ["tm_rates"]})) == 1
        assert any(said.get("unserved") == ["tm_producer"] for said in submitted(space).values() if isinstance(said, dict))
        assert len(scene.world.nodes["overlay-2"].lookup("ls_producer", {"subject": "Advertisement/feed"})) == 1

    visit(work)


@pytest.mark.row("S-18")
def test_a_spend_is_told_to_found_hosts_too_and_settled_by_lookup(visit: Callable[..., None]) -> None:
    async def work(scene: Scene, space: Workspace) -> None:
        await scene.apply(space)
        _, report = await scene.apply(space, Limits(destroy=True, delete_percent=None))
        assert report.complete
        assert (held(scene, "overlay-1"), held(scene, "overlay-2")) == (0, 0)

    visit(work)


MAIN = {"chain": "main", "headers": {"url": "https://headers.example"}}


@pytest.mark.parametrize(
    ("spec", "trackers"),
    [
        (MAIN, 4),
        ({**MAIN, "chain": "test"}, 1),
        ({**MAIN, "trackers": ["https://t.example/"]}, 1),
        ({**MAIN, "discovery": {"enabled": False}}, 0),
        ({**MAIN, "chain": "devnet"}, 0),
        ({**MAIN, "chain": "devnet", "trackers": ["http://t.devnet"]}, 0),
        ({**MAIN, "chain": "devnet", "trackers": ["http://t.devnet"], "discovery": {"enabled": True}}, 1),
    ],
)
def test_a_network_says_whether_strangers_are_used(spec: dict[str, Any], trackers: int) -> None:
    net = read_net("n", spec)
    assert len(net.directory.trackers) == trackers
    assert (net.reach is None) is (trackers == 0)
    assert not any(url.endswith("/") for url in net.directory.trackers)


def test_a_network_without_any_host_and_discovery_still_has_a_name_for_it(visit: Callable[..., None]) -> None:
    async def work(scene: Scene, space: Workspace) -> None:
        with pytest.raises(Unavailable) as none:
            await space.ports.discovery.find(read_net("n", {"chain": "devnet"}).directory, "ls_producer", {})
        assert none.value.code == "no-hosts"

    visit(work)


PAIR = FOUND.replace(", region: EU}]\n  ack", f', region: EU}}, {{name: overlay-2, url: "{OTHER}", region: US}}]\n  ack')


@pytest.mark.row("P-AD-18")
def test_an_advertisement_for_one_region_reaches_the_hosts_there_and_no_others(visit: Callable[..., None]) -> None:
    def listed(scene: Scene) -> list[int]:
        asked = (("overlay-1", "EU"), ("overlay-2", "US"))
        return [len(scene.world.nodes[name].lookup("ls_ship", {"topics": ["tm_rates"]})) for name, _ in asked]

    def meant_for(region: str) -> dict[str, str]:
        return {"advertisement.yaml": ADVERTISEMENT + f"  hosts: {{regions: [{region}]}}\n"}

    async def work(scene: Scene, space: Workspace) -> None:
        scene.write({name: FULL[name] for name in ("price.yaml", "dataset.yaml", "data/rates.csv")} | meant_for("EU"))
        _, report = await scene.apply(space)
        assert report.complete, report
        assert listed(scene) == [1, 0]
        assert (await scene.plan(space)).empty, "what is not meant for a host is not missed there"
        scene.write(meant_for("US"))
        _, report = await scene.apply(space)
        assert report.complete, report
        assert listed(scene) == [0, 1]
        scene.write(meant_for("AP"))
        refused = await scene.plan(space)
        assert "no overlay host of Network/local stands there" in str([change.blocked for change in refused.changes])
        scene.write({"advertisement.yaml": ""})
        _, report = await scene.apply(space)
        assert listed(scene) == [0, 0]

    visit(work, network=PAIR)


def test_strangers_are_told_nothing_that_is_meant_for_one_region(visit: Callable[..., None]) -> None:
    async def work(scene: Scene, space: Workspace) -> None:
        scene.write({name: FULL[name] for name in ("price.yaml", "dataset.yaml", "data/rates.csv")})
        scene.write({"advertisement.yaml": ADVERTISEMENT + "  hosts: {regions: [EU]}\n"})
        _, report = await scene.apply(space)
        assert report.complete, report
        assert len(scene.world.nodes["overlay-2"].lookup("ls_producer", {"subject": "Dataset/rates"})) == 1
        assert scene.world.nodes["overlay-2"].lookup("ls_producer", {"subject": "Advertisement/feed"}) == []

    visit(work)
