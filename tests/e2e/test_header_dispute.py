"""A network with two header sources, one of which leaves the chain: nothing is believed meanwhile, and everybody can see why."""

from pathlib import Path

import pytest

from reconciler.adapters.crosscheck import LEAD
from reconciler.compose import Workspace
from reconciler.devnet.chain import Chain
from reconciler.devnet.headers import HeaderService
from reconciler.engine.confirm import confirm
from reconciler.engine.handlers import chain_nets
from reconciler.engine.notices import _GOOD
from reconciler.model.ref import ResourceRef
from reconciler.model.status import Condition
from tests.e2e import holes
from tests.e2e.scene import FULL, NETWORK, Scene, play

keys, scene = holes.keys, holes.scene
LOCAL = ResourceRef("Network", "local")
ONE = 'headers: {url: "http://headers.devnet"}'
TWO = 'headers: [{url: "http://headers.devnet"}, {url: "http://second.devnet"}]'


def second(scene: Scene) -> Chain:
    """Another header service, with a chain of its own that so far is the same."""
    chain = Chain(scene.world.clock, seed=99)
    chain.state = scene.world.chain.state.copy()
    scene.world.network.apps["second.devnet"] = HeaderService(chain).app
    return chain


def agrees(space: Workspace) -> Condition | None:
    with space.ports.ledger.begin() as tx:
        record = tx.record(LOCAL)
        assert record is not None
        return record.status.condition("HeadersAgree")


async def looked(space: Workspace, ours: frozenset[str]) -> tuple[set[str], Condition]:
    """States of our transactions after a look, and what the sources are said to agree on."""
    await confirm(space.ports, chain_nets(space.ports.ledger.read(space.ports.clock.now())))
    said = agrees(space)
    assert said is not None
    with space.ports.ledger.begin() as tx:
        return {one.state for one in tx.transactions() if one.txid in ours}, said


@pytest.mark.usefixtures("keys")
def test_a_dispute_between_header_sources_is_seen_and_decided_by_depth(scene: Scene) -> None:
    async def story() -> None:
        scene.write({**FULL, "network.yaml": NETWORK.replace(ONE, TWO)})
        await scene.fund()
        other = second(scene)
        async with scene.open() as space:
            await scene.apply(space)
            with space.ports.ledger.begin() as tx:
                ours = frozenset(one.txid for one in tx.transactions(state="seen"))
            scene.world.mine(2)
            other.mine(2)
            states, said = await looked(space, ours)
            assert (said.status.value, said.reason) == ("False", "SourcesDisagree")
            assert "headers.devnet" in said.message
            assert "second.devnet" in said.message
            assert states == {"seen"}, "a proof in a disputed block proves nothing"
            scene.world.mine(LEAD)
            states, said = await looked(space, ours)
            assert (said.status.value, said.reason, states) == ("True", "Agreed", {"mined"})
            scene.world.network.down.add("second.devnet")
            _, said = await looked(space, ours)
            assert (said.status.value, said.reason) == ("Unknown", "SourcesSilent")

    play(story, scene.world.clock)


@pytest.mark.usefixtures("keys")
def test_one_source_has_nobody_to_agree_with(scene: Scene) -> None:
    async def story() -> None:
        scene.write(FULL)
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            await confirm(space.ports, chain_nets(space.ports.ledger.read(space.ports.clock.now())))
            assert agrees(space) is None

    play(story, scene.world.clock)


def test_agreement_is_good_news(tmp_path: Path) -> None:
    assert "HeadersAgree" in _GOOD
