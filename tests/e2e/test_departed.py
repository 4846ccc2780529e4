"""A host that leaves the Network and comes back lists what stands now, and nothing of what was spent while it was away."""

from __future__ import annotations

import pytest

from reconciler.devnet.network import Fault, Trouble
from reconciler.engine.recover import recover
from tests.e2e import holes
from tests.e2e.holes import TWO_HOSTS, Scene, converged, edited, live, purse, weather
from tests.e2e.scene import NETWORK, play

keys, pair = holes.keys, holes.pair
ONE_HOST = NETWORK.replace("ack: all", "ack: any")


async def applied(pair: Scene, network: str, *edits: str) -> None:
    """The network as given, and after each edit of the dataset a plan carried out; one plan without any."""
    pair.write({"network.yaml": network})
    for edit in edits or (None,):
        if edit is not None:
            edited(pair, edit)
        async with pair.open() as space:
            _, report = await pair.apply(space)
            assert report.complete, report


def listed(pair: Scene, host: str) -> list[str]:
    """Every descriptor of the dataset that a host finds, spent or not; it may keep more, and shows those."""
    node = pair.world.nodes[host].state
    held = node.held.get("tm_producer", {})
    return [str(at) for at in node.index.get("ls_producer", {}) if held[at].fact.subject == "Dataset/rates"]


@pytest.mark.parametrize("back", [(), ("3",)], ids=["as it was", "with an edit"])
def test_it_is_told_every_version_it_missed_in_order(pair: Scene, back: tuple[str, ...]) -> None:
    async def main() -> None:
        await converged(pair)
        await applied(pair, ONE_HOST)
        await applied(pair, ONE_HOST, "1", "2")
        (stale,) = listed(pair, "overlay-2")
        assert stale not in listed(pair, "overlay-1")
        await applied(pair, TWO_HOSTS, *back)
        async with pair.open() as space:
            for _ in range(3):
                await pair.apply(space)
                await space.ports.clock.sleep(60)
            assert (await pair.plan(space)).empty
            assert len(listed(pair, "overlay-2")) == 1
            assert listed(pair, "overlay-2") == listed(pair, "overlay-1") == [str(at) for at in live(pair, "Dataset/rates")]

    play(main, pair.world.clock)


@pytest.mark.parametrize("silent", [False, True], ids=["it answers", "it is silent at first"])
def test_it_is_told_of_what_was_retired(pair: Scene, silent: bool) -> None:
    async def main() -> None:
        await converged(pair)
        await applied(pair, ONE_HOST)
        (pair.root / "dataset.yaml").unlink()
        await applied(pair, ONE_HOST)
        assert listed(pair, "overlay-1") == [] != listed(pair, "overlay-2"), "nobody speaks with a host that was left"
        faults = [Fault(Trouble.REFUSE, host="overlay-2.devnet", path="/submit")] if silent else []
        with weather(pair, *faults):
            await applied(pair, TWO_HOSTS)
        assert len(listed(pair, "overlay-2")) == int(silent)
        async with pair.open() as space:
            before = purse(space)
            for _ in range(4):
                await space.ports.clock.sleep(600)
                await recover(space.runner)
            assert listed(pair, "overlay-2") == []
            with space.ports.ledger.begin() as tx:
                assert not tx.get("farewells") and not tx.get("departed")
            assert purse(space) == before, "it costs nothing"

    play(main, pair.world.clock)


def test_a_host_that_stays_away_too_long_is_written_off(pair: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.engine.departed.MOST", 2)

    async def main() -> None:
        await converged(pair)
        await applied(pair, ONE_HOST)
        for edit in ("1", "2", "3"):
            async with pair.open() as space:
                with space.ports.ledger.begin() as tx:
                    assert list(tx.get("departed")) == ["local http://overlay-2.devnet"]
            await applied(pair, ONE_HOST, edit)
        async with pair.open() as space:
            with space.ports.ledger.begin() as tx:
                assert not tx.get("departed")

    play(main, pair.world.clock)
