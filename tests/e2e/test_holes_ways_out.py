"""Traps that a reviewer set: each would once have stood still for ever."""

import shutil

import pytest

from reconciler.devnet.network import Fault, Trouble
from reconciler.engine.execute import Fate
from reconciler.engine.handlers import Handlers
from reconciler.engine.recover import recover
from reconciler.model.change import Verb
from reconciler.model.errors import Conflict
from reconciler.model.intent import Done, Retry, RunState, Stalled
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.ports import Lease
from tests.e2e import holes
from tests.e2e.holes import (
    BUSY,
    DESK_REF,
    DESTROY,
    FILES,
    RATES,
    SECOND,
    converged,
    edited,
    execute,
    live,
    record,
    weather,
)
from tests.e2e.scene import NETWORK, Scene, play

keys, pair, scene = holes.keys, holes.pair, holes.scene


def test_a_file_edited_between_plan_and_apply_leaves_no_run_behind(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            plan = await scene.plan(space)
            edited(scene)
            report = await execute(space, plan)
            assert report.results[RATES].fate is Fate.FAILED
            assert isinstance(report.results[RATES].error, Conflict)
            with space.ports.ledger.begin() as tx:
                assert not tx.runs(state=RunState.OPEN)
            _, report = await scene.apply(space)
            assert report.complete
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_a_run_whose_bytes_are_gone_ends_and_the_next_plan_goes_on(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            down = [Fault(Trouble.REFUSE, host=f"{name}.devnet", path="/upload") for name in ("eu1", "us1", "ap1")]
            with weather(scene, *down):
                _, report = await scene.apply(space)
                assert Fate.PENDING in {result.fate for result in report.results.values()}
            plan = await scene.plan(space)
            with weather(scene, Fault(Trouble.REFUSE, host="arc.devnet", path="/v1/tx", method="POST")):
                await scene.apply(space)
            shutil.rmtree(scene.root / ".state" / "blobs")
            edited(scene)
            await scene.apply(space)
            _, report = await scene.apply(space)
            plan = await scene.plan(space)
            assert plan.empty, [(str(c.ref), c.verb, c.detail, c.blocked) for c in plan.changes]

    play(main, scene.world.clock)


def test_one_run_that_cannot_be_replayed_stops_its_resource_and_nothing_else(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            with weather(scene, BUSY):
                await scene.apply(space)
            scene.write({"identity.yaml": FILES["identity.yaml"].replace("The Desk", "Another Desk")})
            monkeypatch.setattr("reconciler.kinds.dataset.SAID", ("title",))
            (outcome,) = (await recover(space.runner)).values()
            assert isinstance(outcome, Stalled)
            assert outcome.error.code == "replay-divergence"
            condition = record(space).status.condition("Stalled")
            assert condition is not None
            assert condition.reason == "replay-divergence"
            _, report = await scene.apply(space)
            assert report.results[DESK_REF].fate is Fate.DONE
            assert RATES not in report.results
            # The daemon goes on as well.
            handlers = Handlers(space.runner, space.surveyor, space.settings.limits, "auto")
            assert await handlers.plan(Lease("plan", 1, "test", space.ports.clock.now())) is None

    play(main, scene.world.clock)


def test_a_run_in_other_hands_does_not_hold_up_the_rest(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            with weather(scene, BUSY):
                await scene.apply(space)
            assert space.ports.queue.take("ref/Dataset/rates", "somebody else", space.ports.clock.now()) is not None
            (outcome,) = (await recover(space.runner)).values()
            assert isinstance(outcome, Retry)
            scene.write({"identity.yaml": FILES["identity.yaml"].replace("The Desk", "Another Desk")})
            _, report = await scene.apply(space)
            assert report.results[DESK_REF].fate is Fate.DONE

    play(main, scene.world.clock)


def test_a_rejected_split_is_planned_and_made_again(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            plan = await scene.plan(space)
            assert plan.funding
            scene.world.fail_next(code=461)
            report = await execute(space, plan)
            assert {result.fate for result in report.results.values()} == {Fate.PENDING}
            # The same plan again is not taken for funded.
            report = await execute(space, plan)
            assert {result.fate for result in report.results.values()} == {Fate.PENDING}
            with space.ports.ledger.begin() as tx:
                assert not tx.runs(state=RunState.OPEN)
            _, report = await scene.apply(space)
            assert report.complete
            with space.ports.ledger.begin() as tx:
                assert not tx.coins(state="reserved")

    play(main, scene.world.clock)


def test_a_split_takes_what_a_rejected_one_left_and_as_many_more_as_it_needs(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund(400)
        async with scene.open() as space:
            from reconciler.model.change import Cost, FeeRate
            from reconciler.model.plan import Funding

            one = Funding("devnet", (50,), 1, FeeRate(100), Cost(1, fees=23))
            scene.world.fail_next(code=461)
            assert isinstance(await space.runner.funding(one, "pl_one", scene.net().broadcasters), Stalled)
        await scene.fund(300)
        async with scene.open() as space:
            two = Funding("devnet", (450, 60), 2, FeeRate(100), Cost(1, fees=41))
            outcome = await space.runner.funding(two, "pl_two", scene.net().broadcasters)
            assert isinstance(outcome, Done), outcome
            with space.ports.ledger.begin() as tx:
                assert not tx.coins(state="reserved")

    play(main, scene.world.clock)


def test_a_split_that_the_purse_no_longer_carries_is_closed(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund(5000)
        async with scene.open() as space:
            from reconciler.model.change import Cost, FeeRate
            from reconciler.model.plan import Funding

            big = Funding("devnet", (9000,), 1, FeeRate(100), Cost(1, fees=23))
            assert isinstance(await space.runner.funding(big, "pl_big", scene.net().broadcasters), Stalled)
            with space.ports.ledger.begin() as tx:
                assert not tx.runs(state=RunState.OPEN)
                assert not tx.coins(state="reserved")

    play(main, scene.world.clock)


def test_the_coin_of_a_refused_run_is_free_again_when_its_manifest_is_gone(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        scene.write({"more.yaml": SECOND, "data/more.csv": "a,b\n1,2\n"})
        async with scene.open() as space:
            scene.world.fail_next(code=461)
            _, report = await scene.apply(space)
            assert report.results[ResourceRef("Dataset", "more")].fate is Fate.FAILED
            with space.ports.ledger.begin() as tx:
                assert tx.coins(state="reserved")
            (scene.root / "more.yaml").unlink()
            edited(scene)
            handlers = Handlers(space.runner, space.surveyor, space.settings.limits, "auto")
            await handlers.plan(Lease("plan", 1, "test", space.ports.clock.now()))
            with space.ports.ledger.begin() as tx:
                assert not tx.coins(state="reserved")
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_a_repair_that_a_host_does_not_take_does_not_freeze_the_resource(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            token = Outpoint.parse(record(space).outputs["tokens"][0]["outpoint"])
            scene.world.evict("overlay-1", token)
            with weather(scene, Fault(Trouble.STATUS, host="overlay-1.devnet", path="/submit", method="POST", status=503)):
                plan, report = await scene.apply(space)
                assert {c.verb for c in plan.acting} == {Verb.REPAIR}
                assert report.results[RATES].fate is Fate.PENDING
            edited(scene)
            plan = await scene.plan(space)
            assert {c.verb for c in plan.acting} == {Verb.UPDATE}
            assert (await execute(space, plan)).complete
            with space.ports.ledger.begin() as tx:
                assert not tx.runs(state=RunState.OPEN)
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_an_open_run_follows_its_network_to_new_hosts(pair: Scene) -> None:
    async def main() -> None:
        pair.write({"network.yaml": NETWORK})
        await converged(pair)
        edited(pair)
        async with pair.open() as space:
            pair.world.drop("overlay-1")
            plan = await pair.plan(space)
            pair.world.restore("overlay-1")
            plan = await pair.plan(space)
            with weather(pair, Fault(Trouble.REFUSE, host="overlay-1.devnet", path="/submit")):
                report = await execute(space, plan)
            assert report.results[RATES].fate is Fate.PENDING
            # The host is gone for good; the manifest says where its successor is.
            pair.world.drop("overlay-1")
            pair.write({"network.yaml": NETWORK.replace("overlay-1", "overlay-2")})
            await pair.apply(space)
            await recover(space.runner)
            with space.ports.ledger.begin() as tx:
                assert not [run for run in tx.runs(state=RunState.OPEN) if run.key == "ref/Dataset/rates"]
            assert len(live(pair, "Dataset/rates", "overlay-2")) == 1

    play(main, pair.world.clock)


def test_a_disk_that_cannot_be_written_delays_one_resource_and_not_the_process(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        blobs = scene.root / ".state" / "blobs"
        shutil.rmtree(blobs, ignore_errors=True)
        blobs.write_text("not a directory")
        async with scene.open() as space:
            _, report = await scene.apply(space)
            assert report.results[RATES].fate in (Fate.PENDING, Fate.SKIPPED)
            assert Fate.PENDING in {r.fate for r in report.results.values()}
            blobs.unlink()
            for _ in range(3):
                await scene.apply(space)
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_a_host_that_refuses_a_revocation_does_not_hold_up_the_retirement(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            with weather(scene, Fault(Trouble.STATUS, host="overlay-1.devnet", path="/submit", method="POST", status=400)):
                _, report = await scene.apply(space, DESTROY)
            assert report.complete, report
            assert space.ports.ledger.read(space.ports.clock.now()).records == {}
            with space.ports.ledger.begin() as tx:
                (told,) = [n for n in tx.history(RATES) if n["detail"].get("verb") == "delete"]
            assert "overlay-1" in told["detail"]["refused"]

    play(main, scene.world.clock)


def test_a_token_that_a_slow_host_still_lists_does_not_block_its_successor(pair: Scene) -> None:
    async def main() -> None:
        await converged(pair)
        async with pair.open() as space:
            with weather(pair, Fault(Trouble.REFUSE, host="overlay-2.devnet", path="/submit")):
                _, report = await pair.apply(space, DESTROY)
            assert report.complete, report
            assert pair.world.nodes["overlay-2"].state.held["tm_producer"]
            plan, report = await pair.apply(space)
            assert report.complete, [(str(c.ref), c.blocked) for c in plan.changes]

    play(main, pair.world.clock)


def test_registration_can_be_taken_back_and_given_again(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            scene.write({"identity.yaml": FILES["identity.yaml"].replace("register: true", "register: false")})
            plan, report = await scene.apply(space)
            change = next(c for c in plan.changes if c.ref == DESK_REF)
            assert (change.verb, change.blocked) == (Verb.UPDATE, None)
            assert report.complete
            assert not live(scene, "Identity/desk")
            assert (await scene.plan(space)).empty
            scene.write({"identity.yaml": FILES["identity.yaml"]})
            _, report = await scene.apply(space)
            assert report.complete
            assert len(live(scene, "Identity/desk")) == 1
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_a_resource_does_not_follow_its_network_to_another_chain(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            scene.write({"network.yaml": NETWORK.replace("chain: devnet", "chain: test").replace("http://", "https://")})
            plan = await scene.plan(space)
            for ref in (RATES, DESK_REF):
                change = next(c for c in plan.changes if c.ref == ref)
                assert change.blocked is not None
                assert "from chain devnet to test" in change.blocked or change.blocked == f"requires {DESK_REF}, which is blocked"
            gone = await scene.plan(space, DESTROY)
            assert {c.ref for c in gone.acting} >= {RATES, DESK_REF}

    play(main, scene.world.clock)


def test_a_run_that_waits_is_tried_ever_more_rarely(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            from reconciler.engine.worker import Worker

            handlers = Handlers(space.runner, space.surveyor, space.settings.limits, "auto")
            worker = Worker(space.ports, handlers.table(), "test")
            scene.world.transport().arm(BUSY)
            await scene.apply(space)
            with space.ports.ledger.begin() as tx:
                (run,) = tx.runs(state=RunState.OPEN)
            space.ports.queue.put(f"run/{run.id}", space.ports.clock.now())
            waits = []
            for _ in range(6):
                lease = space.ports.queue.claim("test", space.ports.clock.now(), ("run/",))
                assert lease is not None
                await worker.handle(lease)
                due = space.ports.queue.next_due()
                assert due is not None
                waits.append((due - space.ports.clock.now()).total_seconds())
                await space.ports.clock.sleep(waits[-1])
            assert waits[0] < 4, waits
            assert waits[5] > 16, waits

    play(main, scene.world.clock)
