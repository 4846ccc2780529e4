"""Traps that a reviewer set: damage that was mended for another damage's sake, or for ever and in vain."""

from reconciler.cli.outcome import gather
from reconciler.cli.planning import Wish, prepare
from reconciler.devnet.network import Fault, Trouble
from reconciler.engine.execute import Fate
from reconciler.engine.handlers import Handlers
from reconciler.engine.hiding import TRIES
from reconciler.engine.recover import recover
from reconciler.model.change import Verb
from reconciler.model.intent import RunState
from reconciler.model.ref import Outpoint
from reconciler.ports import Lease
from tests.e2e import holes
from tests.e2e.holes import RATES, converged, execute, live, purse, record, weather
from tests.e2e.scene import DATASET, NETWORK, Scene, play

keys, scene, pair = holes.keys, holes.scene, holes.pair


def test_a_second_damage_is_mended_though_the_first_was_begun(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            outputs = record(space).outputs
            scene.world.evict("overlay-1", Outpoint.parse(outputs["tokens"][0]["outpoint"]))
            with weather(scene, Fault(Trouble.STATUS, host="overlay-1.devnet", path="/submit", method="POST", status=503)):
                first, report = await scene.apply(space)
                assert report.results[RATES].fate is Fate.PENDING
            (host, copies) = next(iter(outputs["replicas"].items()))
            assert scene.world.delete(host, next(iter(copies)))
            second = await scene.plan(space)
            ids = [next(c.run_id(p.lineage) for c in p.acting if c.ref == RATES) for p in (first, second)]
            assert ids[0] != ids[1]
            assert [c.verb for p in (first, second) for c in p.acting] == [Verb.REPAIR] * 2
            assert (await execute(space, second)).complete
            plan = await scene.plan(space)
            assert plan.empty, [(str(c.ref), c.deltas) for c in plan.changes]
            with space.ports.ledger.begin() as tx:
                assert not tx.runs(state=RunState.OPEN)
            # The same damage, seen again, is the same run still.
            third = await scene.plan(space)
            assert third.id == plan.id

    play(main, scene.world.clock)


def on(manifest: str, network: str) -> str:
    """The manifest with its network named."""
    return manifest.replace("spec:\n", f"spec:\n  networkRef: {network}\n", 1)


async def moved(pair: Scene) -> None:
    """A dataset published on one network and declared on another, each with one overlay host."""
    second = NETWORK.replace("name: local", "name: second").replace("overlay-1", "overlay-2")
    pair.write(
        {
            "network.yaml": NETWORK,
            "second.yaml": second,
            "identity.yaml": on(holes.FILES["identity.yaml"], "local"),
            "dataset.yaml": on(DATASET, "local"),
        }
    )
    await converged(pair)
    pair.write({"dataset.yaml": on(DATASET, "second")})


def listed(pair: Scene, host: str) -> list[str]:
    """Every descriptor of the dataset that a host lists, spent or not."""
    held = pair.world.nodes[host].state.held.get("tm_producer", {})
    return [str(outpoint) for outpoint, one in held.items() if one.fact.subject == "Dataset/rates"]


def test_a_token_replaced_on_another_network_leaves_nothing_on_the_old_hosts(pair: Scene) -> None:
    async def main() -> None:
        await moved(pair)
        async with pair.open() as space:
            assert len(listed(pair, "overlay-1")) == 1
            plan, report = await pair.apply(space)
            (change,) = plan.acting
            assert (change.verb, change.cost.transactions, len(change.needs)) == (Verb.REPLACE, 2, 2)
            assert report.complete, report
            assert gather(space, plan, report, {}).spent == plan.cost.satoshis
            assert listed(pair, "overlay-1") == []
            assert len(listed(pair, "overlay-2")) == 1
            assert (await pair.plan(space)).empty

    play(main, pair.world.clock)


def test_an_old_host_that_is_silent_holds_nothing_up_and_is_told_when_it_is_back(pair: Scene) -> None:
    async def main() -> None:
        await moved(pair)
        async with pair.open() as space:
            plan = await pair.plan(space)
            with weather(pair, Fault(Trouble.REFUSE, host="overlay-1.devnet", path="/submit")):
                assert (await execute(space, plan)).complete
                assert len(listed(pair, "overlay-1")) == 1
                await recover(space.runner)
            assert len(listed(pair, "overlay-2")) == 1
            for _ in range(3):
                await space.ports.clock.sleep(600)
                await recover(space.runner)
            assert listed(pair, "overlay-1") == []
            with space.ports.ledger.begin() as tx:
                assert tx.get("farewells") == []

    play(main, pair.world.clock)


def test_a_host_that_hides_a_token_is_tried_ever_more_rarely_and_costs_nothing(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            before = purse(space)
            token = Outpoint.parse(record(space).outputs["tokens"][0]["outpoint"])
            scene.world.evict("overlay-1", token, remember=True)
            handlers = Handlers(space.runner, space.surveyor, space.settings.limits, "auto")
            tries, reasons = [], []
            for _ in range(96):
                await handlers.plan(Lease("plan", 1, "test", space.ports.clock.now()))
                assert handlers.last_plan is not None
                tries.append(any(c.ref == RATES for c in handlers.last_plan.acting))
                ready = record(space).status.condition("Ready")
                assert ready is not None
                reasons.append(ready.reason)
                await space.ports.clock.sleep(1800)
            assert tries[:TRIES] == [True] * TRIES, "the first times at once"
            assert reasons[TRIES - 2] == "NotAdmitted"
            assert set(reasons[TRIES - 1 :]) == {"Hidden"}
            # An hour, two, four, ... of the half hours that follow.
            assert sum(tries[TRIES:]) <= 7
            assert ready is not None
            assert "overlay-1 answers and will not list it" in ready.message
            assert "apply --recreate Dataset/rates" in ready.message
            drifted = record(space).status.condition("Drifted")
            assert drifted is not None
            assert (drifted.status.value, drifted.reason) == ("True", "Hidden")
            assert purse(space) == before
            # By order, and at a price, it is made anew; the token that was hidden is spent by the new one.
            prepared = await prepare(space, Wish(recreate=("Dataset/rates",)))
            (change,) = prepared.plan.acting
            assert (change.verb, change.cost.transactions) == (Verb.REPLACE, 1)
            assert (await execute(space, prepared.plan)).complete
            assert scene.world.chain.spender(token) is not None
            assert len(live(scene, "Dataset/rates")) == 1
            ready = record(space).status.condition("Ready")
            assert ready is not None
            assert ready.reason == "Published"
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_a_host_that_lists_it_again_is_believed(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            token = Outpoint.parse(record(space).outputs["tokens"][0]["outpoint"])
            scene.world.evict("overlay-1", token, remember=True)
            handlers = Handlers(space.runner, space.surveyor, space.settings.limits, "auto")
            for _ in range(TRIES + 1):
                await handlers.plan(Lease("plan", 1, "test", space.ports.clock.now()))
            assert (await scene.plan(space)).empty, "it is left alone for a while"
            # Whoever runs the host lets it in again.
            scene.world.evict("overlay-1", token)
            await space.ports.clock.sleep(3 * 3600)
            for _ in range(2):
                await handlers.plan(Lease("plan", 1, "test", space.ports.clock.now()))
            assert len(live(scene, "Dataset/rates")) == 1
            ready, drifted = (record(space).status.condition(name) for name in ("Ready", "Drifted"))
            assert ready is not None and drifted is not None
            assert (ready.status.value, drifted.status.value) == ("True", "False")

    play(main, scene.world.clock)
