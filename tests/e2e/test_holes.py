"""Traps that a reviewer set: each would once have paid twice, stood still for ever, acted on doubt, or told what was not so."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.compose import Workspace
from reconciler.devnet.network import Fault, Trouble
from reconciler.devnet.world import Plan as WorldPlan
from reconciler.devnet.world import World
from reconciler.engine.execute import Executor, Fate, Report
from reconciler.engine.handlers import Handlers
from reconciler.engine.receive import receive
from reconciler.engine.recover import recover
from reconciler.engine.stale import foreign_spends, write_off
from reconciler.engine.survey import believed
from reconciler.model.change import Reason, Verb
from reconciler.model.errors import Conflict, Refused, Unavailable
from reconciler.model.intent import Done, Retry, RunState, Stalled
from reconciler.model.plan import Plan
from reconciler.model.record import Record
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.planner.guard import Limits
from reconciler.ports import Lease
from tests.e2e.scene import ADVERTISEMENT, DATASET, FULL, IDENTITY, NETWORK, PRICE, Scene, play
from tests.e2e.test_crash import DESK, OPEN_KEY, PROCESS, SEALED_KEY, WALLET

RATES, DESK_REF = ResourceRef("Dataset", "rates"), ResourceRef("Identity", "desk")
FEED = ResourceRef("Advertisement", "feed")
DESTROY = Limits(destroy=True, delete_percent=None)
FILES = {
    "network.yaml": NETWORK,
    "identity.yaml": IDENTITY.replace(SEALED_KEY, OPEN_KEY),
    "price.yaml": PRICE,
    "dataset.yaml": DATASET,
    "data/rates.csv": FULL["data/rates.csv"],
    "reconciler.yaml": PROCESS,
}
SECOND = DATASET.replace("name: rates", "name: more").replace("data/rates.csv", "data/more.csv")
BUSY = Fault(Trouble.STATUS, host="arc.devnet", path="/v1/tx", method="POST", status=503)
TWO_HOSTS = NETWORK.replace(
    "region: EU}]", 'region: EU}, {name: overlay-2, url: "http://overlay-2.devnet", region: US}]'
).replace("ack: all", "ack: any")


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open keys: nothing here is about passphrases."""
    monkeypatch.setenv("DESK_KEY", DESK.hex())
    monkeypatch.setenv("WALLET_KEY", WALLET.hex())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A small producer's repository in an empty world."""
    made = Scene(tmp_path)
    made.write(dict(FILES))
    return made


@pytest.fixture
def pair(tmp_path: Path) -> Scene:
    """The same on a network of two overlay hosts, of which any one is enough."""
    made = Scene(tmp_path, World(plan=WorldPlan(overlays=(("overlay-1", "EU"), ("overlay-2", "US")))))
    made.write({**FILES, "network.yaml": TWO_HOSTS})
    return made


@contextmanager
def weather(scene: Scene, *faults: Fault) -> Iterator[None]:
    """Faults for as long as the block runs."""
    scene.world.transport().arm(*faults)
    try:
        yield
    finally:
        scene.world.transport().calm()


async def converged(scene: Scene) -> None:
    """Funded and applied."""
    await scene.fund()
    async with scene.open() as space:
        _, report = await scene.apply(space)
        assert report.complete, report


def record(space: Workspace, ref: ResourceRef = RATES) -> Record:
    return space.ports.ledger.read(space.ports.clock.now()).records[ref]


def purse(space: Workspace) -> int:
    return space.ports.ledger.read(space.ports.clock.now()).purses["devnet"].total


def live(scene: Scene, subject: str, host: str = "overlay-1") -> list[Outpoint]:
    """Unspent descriptors of a subject, as an overlay node has them and the chain agrees."""
    held = scene.world.nodes[host].state.held.get("tm_producer", {})
    return [o for o, one in held.items() if one.fact.subject == subject and scene.world.chain.spender(o) is None]


def edited(scene: Scene, value: str = "1.5") -> None:
    scene.write({"data/rates.csv": f"date,rate\n2024-01-01,{value}\n"})


async def execute(space: Workspace, plan: Plan) -> Report:
    return await Executor(space.runner, plan).run()


# --- never twice ---------------------------------------------------------------------------------


def test_a_second_plan_does_not_begin_while_a_signed_run_of_another_is_open(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            scene.write({"dataset.yaml": DATASET.replace("title: Rates", "title: One")})
            first = await scene.plan(space)
            scene.write({"dataset.yaml": DATASET.replace("title: Rates", "title: Two")})
            second = await scene.plan(space)
            with weather(scene, BUSY):
                assert (await execute(space, first)).results[RATES].fate is Fate.PENDING
            # Somebody had been looking at the other plan and says yes to it only now.
            report = await execute(space, second)
            assert report.results[RATES].fate is Fate.FAILED
            assert isinstance(report.results[RATES].error, Conflict)
            with space.ports.ledger.begin() as tx:
                (open_run,) = tx.runs(state=RunState.OPEN)
                assert len(tx.runs(key=open_run.key)) == 2
            await recover(space.runner)
            assert record(space).body["spec"]["title"] == "One"
            assert len(live(scene, "Dataset/rates")) == 1

    play(main, scene.world.clock)


def test_a_plan_made_before_the_token_was_replaced_is_stale_though_the_generation_is_the_same(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            scene.write({"dataset.yaml": DATASET.replace("title: Rates", "title: One")})
            old = await scene.plan(space)
            change = next(c for c in old.acting if c.ref == RATES)
            assert change.before is not None
            moved = {**change.before.outputs, "previous": ["00" * 32 + ".0"]}
            with space.ports.ledger.begin() as tx:
                tx.put_record(replace(change.before, outputs=moved))
            with pytest.raises(Conflict, match="changed since"):
                await space.runner.change(change, old.lineage, old.revision)

    play(main, scene.world.clock)


def test_a_restored_ledger_that_missed_a_version_does_not_pay_for_another(scene: Scene, tmp_path: Path) -> None:
    async def main() -> None:
        await converged(scene)
        shutil.copytree(scene.root / ".state", tmp_path / "backup")
        edited(scene)
        async with scene.open() as space:
            _, report = await scene.apply(space)
            assert report.complete
        shutil.rmtree(scene.root / ".state")
        shutil.copytree(tmp_path / "backup", scene.root / ".state")
        (newest,) = live(scene, "Dataset/rates")
        async with scene.open() as space:
            plan = await scene.plan(space)
            change = next(c for c in plan.changes if c.ref == RATES)
            assert (change.verb, change.reason) == (Verb.DEFER, Reason.UNKNOWN)
            assert str(newest) in change.detail
            gone = next(c for c in (await scene.plan(space, DESTROY)).changes if c.ref == RATES)
            assert gone.verb is Verb.DEFER
        assert live(scene, "Dataset/rates") == [newest]

    play(main, scene.world.clock)


def test_a_restored_ledger_is_recognised_by_a_coin_that_is_spent_and_spends_nothing(scene: Scene, tmp_path: Path) -> None:
    async def main() -> None:
        await converged(scene)
        shutil.copytree(scene.root / ".state", tmp_path / "backup")
        edited(scene)
        async with scene.open() as space:
            await scene.apply(space)
        shutil.rmtree(scene.root / ".state")
        shutil.copytree(tmp_path / "backup", scene.root / ".state")
        # Nothing that is recorded shows it: only the purse does.
        scene.write({"data/rates.csv": FULL["data/rates.csv"], "more.yaml": SECOND, "data/more.csv": "a,b\n1,2\n"})
        more = ResourceRef("Dataset", "more")
        async with scene.open() as space:
            before = purse(space)
            plan = await scene.plan(space)
            assert [c.ref for c in plan.acting] == [more]
            with pytest.raises(Conflict, match="spent by") as stopped:
                await execute(space, plan)
            assert stopped.value.code == "stale-ledger"
            assert stopped.value.hint
            with pytest.raises(Conflict, match="spent by"):
                await space.runner.change(plan.acting[0], plan.lineage, plan.revision)
            with space.ports.ledger.begin() as tx:
                assert not tx.runs(state=RunState.OPEN)
            assert purse(space) == before
            assert not live(scene, "Dataset/more")
            # The way out: a person says that these coins are gone, and what is left is spent again.
            found = await foreign_spends(space.ports, "devnet", scene.net().headers)
            assert found
            write_off(space.ports, found)
            assert not await foreign_spends(space.ports, "devnet", scene.net().headers)
            assert purse(space) == before - sum(one.satoshis for one in found)

    play(main, scene.world.clock)


def test_a_silent_header_source_does_not_pass_for_unspent_coins(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            plan = await scene.plan(space)
            scene.world.drop("headers")
            with pytest.raises(Unavailable):
                await space.runner.change(next(c for c in plan.acting if c.ref == DESK_REF), plan.lineage, plan.revision)
            assert not live(scene, "Identity/desk")
            report = await execute(space, plan)
            assert {result.fate for result in report.results.values()} == {Fate.PENDING}
            with space.ports.ledger.begin() as tx:
                assert not [one for one in tx.transactions() if one.run], "not even a split is made"
            scene.world.restore("headers")
            _, report = await scene.apply(space)
            assert report.complete

    play(main, scene.world.clock)


def test_a_payment_that_was_spent_long_ago_is_no_money(scene: Scene) -> None:
    async def main() -> None:
        async with scene.open() as space:
            space.ports.wallet.generate("wallet", {})
            coin, beef = scene.world.faucet(space.ports.wallet.funding_script(), 100_000)
            await receive(space.ports, beef, scene.net())
            _, report = await scene.apply(space)
            assert report.complete
            assert [one.outpoint for one in await receive(space.ports, beef, scene.net())] == [coin], "repeating is harmless"
        shutil.rmtree(scene.root / ".state")
        async with scene.open() as space:
            with pytest.raises(Refused, match="it was spent by") as refused:
                await receive(space.ports, beef, scene.net())
            assert refused.value.code == "coin-spent"
            with space.ports.ledger.begin() as tx:
                assert not tx.coins()

    play(main, scene.world.clock)


def test_our_own_transaction_that_a_broadcaster_refused_and_a_miner_took_is_no_stale_ledger(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            before = purse(space)
            scene.world.fail_next(code=465)
            _, report = await scene.apply(space)
            assert report.results[RATES].fate is Fate.FAILED
            with space.ports.ledger.begin() as tx:
                (dead,) = tx.transactions(state="rejected")
            from reconciler.devnet.mempool import Checks, submit
            from reconciler.engine.ancestry import beef_of

            submit(scene.world.chain, beef_of(space.ports.ledger, dead.txid), Checks())
            assert await foreign_spends(space.ports, "devnet", scene.net().headers) == []
            with space.ports.ledger.begin() as tx:
                assert not tx.coins(state="reserved")
                assert {c.outpoint.txid for c in tx.coins(state="free")} >= {dead.txid}
            assert purse(space) == before - sum(o.satoshis for o in scene.world.chain.live(dead.txid).outputs[:1]) + 1 - _fee(
                scene, dead.txid
            )

    play(main, scene.world.clock)


def _fee(scene: Scene, txid: str) -> int:
    chain = scene.world.chain
    tx = chain.live(txid)
    assert tx is not None
    spent = [chain.output(one.outpoint) for one in tx.inputs]
    return sum(out.satoshis for out in spent if out) - sum(out.satoshis for out in tx.outputs)


def test_a_lost_ledger_finds_what_only_the_other_host_still_shows(pair: Scene) -> None:
    async def main() -> None:
        await converged(pair)
        shutil.rmtree(pair.root / ".state")
        pair.world.wipe("overlay-1")
        pair.world.drop("overlay-2")
        async with pair.open() as space:
            plan = await pair.plan(space)
            change = next(c for c in plan.changes if c.ref == RATES)
            assert (change.verb, change.reason) == (Verb.DEFER, Reason.UNKNOWN), "one host's denial is no proof"

    play(main, pair.world.clock)


def test_a_lost_ledger_sees_its_ship_token_though_the_descriptor_is_gone(scene: Scene) -> None:
    async def main() -> None:
        scene.write({"advertisement.yaml": ADVERTISEMENT})
        await converged(scene)
        async with scene.open() as space:
            tokens = {t["type"]: t["outpoint"] for t in record(space, FEED).outputs["tokens"]}
        shutil.rmtree(scene.root / ".state")
        scene.world.evict("overlay-1", Outpoint.parse(tokens["DESCRIPTOR"]))
        async with scene.open() as space:
            plan = await scene.plan(space)
            change = next(c for c in plan.changes if c.ref == FEED)
            assert change.blocked is not None
            assert sorted(change.seen["unrecorded"]) == sorted([tokens["SHIP"], tokens["SLAP"]])

    play(main, scene.world.clock)


def test_a_refusal_of_us_after_a_lost_answer_is_no_refusal_of_the_transaction(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            with weather(scene, Fault(Trouble.LOSE, host="arc.devnet", path="/v1/tx", method="POST")):
                _, report = await scene.apply(space)
                assert report.results[RATES].fate is Fate.PENDING
            # The network has it. Now the broadcaster wants a key we do not have.
            with weather(scene, Fault(Trouble.STATUS, host="arc.devnet", path="/v1/tx", method="POST", status=401)):
                (outcome,) = (await recover(space.runner)).values()
                assert isinstance(outcome, Retry), outcome
            (outcome,) = (await recover(space.runner)).values()
            assert isinstance(outcome, Done), outcome
            assert len(live(scene, "Dataset/rates")) == 1
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_equal_bytes_made_again_after_a_rejection_bring_their_change_back(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            before, plan = purse(space), await scene.plan(space)
            scene.world.fail_next(code=461)
            await scene.apply(space)
            _, report = await scene.apply(space)
            assert report.complete
            with space.ports.ledger.begin() as tx:
                assert not tx.coins(state="pending")
            assert purse(space) == before - plan.cost.satoshis

    play(main, scene.world.clock)


def test_a_rejection_after_a_lost_answer_is_checked_before_the_coin_is_used_again(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            with weather(scene, Fault(Trouble.LOSE, host="arc.devnet", path="/v1/tx", method="POST")):
                await scene.apply(space)
            scene.world.fail_next(code=461)
            (outcome,) = (await recover(space.runner)).values()
            assert isinstance(outcome, Done), outcome
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_a_key_that_is_not_the_one_on_record_signs_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        await converged(scene)
        scene.write({"more.yaml": SECOND, "data/more.csv": "a,b\n1,2\n"})
        monkeypatch.setenv("DESK_KEY", "33" * 32)
        async with scene.open() as space:
            before = purse(space)
            plan = await scene.plan(space)
            assert [c.ref.name for c in plan.acting] == ["more"]
            report = await execute(space, plan)
            assert report.results[ResourceRef("Dataset", "more")].fate is not Fate.DONE
            assert purse(space) == before
        monkeypatch.setenv("DESK_KEY", DESK.hex())
        async with scene.open() as space:
            _, report = await scene.apply(space)
            assert report.complete
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_money_in_flight_counts_against_the_daily_budget(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            before = space.ports.ledger.read(space.ports.clock.now()).spent_today
            with weather(scene, Fault(Trouble.STATUS, host="overlay-1.devnet", path="/submit", method="POST", status=503)):
                plan, report = await scene.apply(space)
                assert report.results[RATES].fate is Fate.PENDING
            now = space.ports.ledger.read(space.ports.clock.now()).spent_today
            assert now == before + plan.cost.satoshis > before

    play(main, scene.world.clock)


# --- always a way out ----------------------------------------------------------------------------


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
            scene.write({"network.yaml": NETWORK.replace("chain: devnet", "chain: test")})
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


# --- nothing is told that was not seen -----------------------------------------------------------


def test_a_saved_plan_applied_again_after_its_work_was_undone_is_stale(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            saved, report = await scene.apply(space)
            assert report.complete
            assert (await execute(space, saved)).complete, "applied twice in a row it has nothing left to do"
            _, report = await scene.apply(space, DESTROY)
            assert report.complete
            report = await execute(space, saved)
            assert not report.complete
            assert isinstance(report.results[ResourceRef("Network", "local")].error, Conflict)
            assert space.ports.ledger.read(space.ports.clock.now()).records == {}

    play(main, scene.world.clock)


def test_a_plan_whose_run_was_refused_does_not_blame_what_came_after(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        edited(scene)
        async with scene.open() as space:
            old = await scene.plan(space)
            scene.world.fail_next(code=461)
            assert (await execute(space, old)).results[RATES].fate is Fate.FAILED
            _, report = await scene.apply(space)
            assert report.complete
            report = await execute(space, old)
            assert isinstance(report.results[RATES].error, Conflict)
            ready = record(space).status.condition("Ready")
            assert ready is not None
            assert ready.status.value == "True"
            assert record(space).status.condition("Stalled") is None

    play(main, scene.world.clock)


def test_what_the_ledger_believes_is_no_change_of_what_it_holds(scene: Scene) -> None:
    async def main() -> None:
        ordered = DATASET + "lifecycle: {dependsOn: [{kind: PricePlan, name: other}]}\n"
        other = PRICE.replace("name: standard", "name: other")
        scene.write({"dataset.yaml": ordered, "other.yaml": other})
        await converged(scene)
        async with scene.open() as space:
            survey = await space.surveyor.survey()
            assert RATES in survey.recorded.records
            assert ResourceRef("PricePlan", "other") in survey.recorded.records[RATES].requires
            plan = space.surveyor.plan(replace(survey, desired=believed(survey.recorded, "")), space.settings.limits)
            assert plan.empty, [(str(c.ref), c.verb, c.deltas) for c in plan.changes]

    play(main, scene.world.clock)


def test_the_observed_generation_never_falls_and_what_is_unconfirmed_says_so(scene: Scene) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            seen = []
            for number in range(3):
                edited(scene, str(number))
                if number == 1:
                    scene.world.fail_next(code=461)
                await scene.apply(space)
                status = record(space).status
                confirmed = status.condition("Confirmed")
                assert confirmed is not None
                assert confirmed.status.value == "False"
                seen.append(status.observed_generation)
            assert seen == sorted(seen)
            assert seen[-1] > seen[0]

    play(main, scene.world.clock)
