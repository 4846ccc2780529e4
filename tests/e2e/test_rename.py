"""A new name in a manifest: the record is carried over, and only what tells its name in public is published again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.cli.planning import Wish, prepare
from reconciler.cli.state import _require_renamed
from reconciler.compose import Workspace
from reconciler.engine.execute import Executor, Fate
from reconciler.engine.moving import move
from reconciler.engine.rebuild import ADOPTED
from reconciler.engine.rollback import desired_at
from reconciler.model.change import Reason, Verb
from reconciler.model.errors import Conflict, Refused
from reconciler.model.intent import Run
from reconciler.model.observation import ObservedState, Unknown
from reconciler.model.plan import Plan
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.planner.planfile import read_plan, write_plan
from reconciler.planner.render import as_text
from tests.e2e.crash import DESK, OPEN_KEY, PROCESS, SEALED_KEY, WALLET
from tests.e2e.scene import ADVERTISEMENT, DATASET, FULL, IDENTITY, NETWORK, PRICE, Scene, play
from tests.e2e.test_rebuild import lose, rebuilt

OPEN = IDENTITY.replace(SEALED_KEY, OPEN_KEY)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open keys: nothing here is about passphrases."""
    for name, secret in (("DESK", DESK), ("WALLET", WALLET)):
        monkeypatch.setenv(f"{name}_KEY", secret.hex())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path)
    made.write({**FULL, "identity.yaml": OPEN, "reconciler.yaml": PROCESS})
    return made


def renamed(text: str, old: str, new: str) -> str:
    return text.replace(f"metadata: {{name: {old}}}", f"metadata: {{name: {new}, renamedFrom: {old}}}")


def records(space: Workspace) -> dict[str, Record]:
    return {str(ref): one for ref, one in space.ports.ledger.read(space.ports.clock.now()).records.items()}


def purse(space: Workspace) -> int:
    return sum(one.total for one in space.ports.ledger.read(space.ports.clock.now()).purses.values())


def doing(plan: Plan) -> dict[str, tuple[Verb, Reason]]:
    return {str(change.ref): (change.verb, change.reason) for change in plan.changes if change.verb is not Verb.NONE}


def moves(space: Workspace) -> list[tuple[str, str]]:
    with space.ports.ledger.begin() as tx:
        return [(one["detail"]["from"], one["ref"]) for one in tx.history() if one["event"] == "resource.moved"]


async def begun(scene: Scene) -> None:
    await scene.fund()
    async with scene.open() as space:
        _, report = await scene.apply(space)
        assert report.complete, report


def test_what_tells_no_name_in_public_is_carried_over_for_nothing(scene: Scene) -> None:
    async def main() -> None:
        await begun(scene)
        sent = len(scene.world.chain.state.txs)
        scene.write(
            {
                "network.yaml": renamed(NETWORK, "local", "home"),
                "price.yaml": renamed(PRICE, "standard", "retail"),
                "dataset.yaml": DATASET.replace("standard", "retail"),
                "advertisement.yaml": ADVERTISEMENT.replace("standard", "retail"),
            }
        )
        async with scene.open() as space:
            before, held = records(space), purse(space)
            plan = await scene.plan(space)
            assert doing(plan) == {
                "Network/home": (Verb.MOVE, Reason.MOVED),
                "PricePlan/retail": (Verb.MOVE, Reason.MOVED),
            }
            assert "→ Network/home" in as_text(plan) and "moved from local in network.yaml:3" in as_text(plan)
            assert "2 to move" in as_text(plan) and plan.cost.satoshis == 0
            assert records(space) == before, "a plan moves nothing"
            # As a saved plan would have it, and then as the same plan applied once more.
            plan = read_plan(write_plan(plan))
            for _ in range(2):
                report = await Executor(space.runner, plan).run()
                assert report.complete and len(report.results) == 2, report
            after = records(space)
            assert set(after) == (set(before) - {"Network/local", "PricePlan/standard"}) | {"Network/home", "PricePlan/retail"}
            assert after["Network/home"].uid == before["Network/local"].uid
            assert after["Dataset/rates"].outputs == before["Dataset/rates"].outputs
            assert sorted(moves(space)) == [("Network/local", "Network/home"), ("PricePlan/standard", "PricePlan/retail")]
            assert (await scene.plan(space)).empty, "the renamedFrom of what was carried over has no effect"
            assert purse(space) == held and len(scene.world.chain.state.txs) == sent
        scene.write(
            {"network.yaml": NETWORK.replace("name: local}", "name: home}"), "price.yaml": PRICE.replace("standard", "retail")}
        )
        async with scene.open() as space:
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_a_dataset_is_published_again_under_its_new_name_and_spends_the_old_token(scene: Scene) -> None:
    async def main() -> None:
        await begun(scene)
        scene.write(
            {
                "dataset.yaml": renamed(DATASET, "rates", "fx"),
                "advertisement.yaml": ADVERTISEMENT.replace("name: rates}", "name: fx}"),
            }
        )
        async with scene.open() as space:
            before, held = records(space), purse(space)
            plan = await scene.plan(space)
            assert doing(plan) == {
                "Dataset/fx": (Verb.UPDATE, Reason.MOVED),
                # Its document lists what it offers, by name.
                "Advertisement/feed": (Verb.UPDATE, Reason.SPEC_CHANGED),
            }
            (fx,) = [change for change in plan.acting if change.ref.kind == "Dataset"]
            assert fx.cost.transactions == 1 and fx.cost.locked == 0 and fx.cost.uploaded == 0 and len(plan.acting) == 2
            assert "moved from rates: published again under the new name in dataset.yaml:3" in as_text(plan)
            report = await Executor(space.runner, plan).run()
            assert report.complete, report
            after = records(space)
            new, old = after["Dataset/fx"], before["Dataset/rates"]
            assert "Dataset/rates" not in after and new.uid == old.uid and new.generation == old.generation + 1
            assert new.outputs["previous"] == [old.outputs["tokens"][0]["outpoint"]]
            files = {file["sha256"] for file in new.outputs["files"]}
            kept = {host for host, held in old.outputs["replicas"].items() if files <= set(held)}
            assert set(new.outputs["replicas"]) == kept, "not a byte of content moves"
            assert held - purse(space) == plan.cost.satoshis
            topic = scene.world.nodes["overlay-1"].state.held["tm_producer"]
            assert sum(not one.spent for one in topic.values()) == 3
            assert (await scene.plan(space)).empty
        lose(scene)
        async with scene.open() as space:
            found = await rebuilt(space)
            assert {one.what for one in found.values()} == {ADOPTED}, found
            assert (await scene.plan(space)).empty
            assert records(space)["Dataset/fx"].outputs["previous"] == new.outputs["previous"]

    play(main, scene.world.clock)


def test_a_renamed_identity_keeps_its_key_and_all_that_it_signed(scene: Scene) -> None:
    async def main() -> None:
        await begun(scene)
        texts = {"dataset.yaml": DATASET, "advertisement.yaml": ADVERTISEMENT}
        scene.write({name: text.replace("identityRef: desk", "identityRef: house") for name, text in texts.items()})
        scene.write({"identity.yaml": renamed(OPEN, "desk", "house")})
        async with scene.open() as space:
            before = records(space)
            plan, report = await scene.apply(space)
            assert report.complete, report
            assert doing(plan) == {"Identity/house": (Verb.UPDATE, Reason.MOVED)}
            after = records(space)
            assert after["Identity/house"].outputs["publicKey"] == before["Identity/desk"].outputs["publicKey"]
            assert {token["owner"] for one in after.values() for token in one.outputs.get("tokens") or ()} == {"house"}
            assert (await scene.plan(space)).empty
            # And what it owns can still be spent.
            scene.write(
                {"dataset.yaml": texts["dataset.yaml"].replace("identityRef: desk", "identityRef: house\n  version: 1.0.1")}
            )
            _, report = await scene.apply(space)
            assert report.complete, report

    play(main, scene.world.clock)


def test_an_identity_whose_keys_speak_its_name_is_not_renamed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIR_KEY", (b"\x33" * 32).hex())
    second = OPEN + "  rotation: {next: {env: HEIR_KEY}, transitionPeriod: 7d}\n"

    async def main() -> None:
        for name in ("dataset.yaml", "advertisement.yaml"):
            (scene.root / name).unlink()
        await begun(scene)
        scene.write({"identity.yaml": second})
        async with scene.open() as space:
            await scene.apply(space)
            scene.write({"identity.yaml": renamed(second, "desk", "house")})
            plan = await scene.plan(space)
            assert not plan.acting
            for name in ("Identity/house", "Identity/desk"):
                (change,) = [one for one in plan.changes if str(one.ref) == name]
                assert change.blocked is not None and "identity.yaml:3" in change.blocked and "displayName" in change.blocked

    play(main, scene.world.clock)


def test_what_is_recorded_under_both_names_is_neither_moved_nor_retired(scene: Scene) -> None:
    async def main() -> None:
        await begun(scene)
        both = DATASET + "---\n" + DATASET.replace("name: rates}", "name: fx}")
        scene.write({"dataset.yaml": both})
        async with scene.open() as space:
            await scene.apply(space)
            scene.write(
                {
                    "dataset.yaml": renamed(DATASET, "rates", "fx"),
                    "advertisement.yaml": ADVERTISEMENT.replace("name: rates}", "name: fx}"),
                }
            )
            plan = await scene.plan(space)
            (old,) = [change for change in plan.changes if str(change.ref) == "Dataset/rates"]
            assert old.blocked is not None and "both Dataset/rates and Dataset/fx are recorded" in old.blocked
            assert "dataset.yaml:3" in old.blocked and "Dataset/fx" not in doing(plan)

    play(main, scene.world.clock)


def test_while_the_world_is_silent_nothing_moves_and_nothing_that_speaks_of_it_is_written(scene: Scene) -> None:
    async def main() -> None:
        await begun(scene)
        scene.write({"identity.yaml": renamed(OPEN, "desk", "house")})
        texts = {"dataset.yaml": DATASET, "advertisement.yaml": ADVERTISEMENT}
        scene.write({name: text.replace("identityRef: desk", "identityRef: house") for name, text in texts.items()})
        for host in ("eu1", "us1", "ap1"):
            scene.world.delete(host, next(iter(await _files(scene))))
        async with scene.open() as space:
            before = records(space)
            survey = await space.surveyor.survey()
            dark: ObservedState = {**survey.observed, ResourceRef("Identity", "house"): Unknown("nobody answered")}
            plan = space.surveyor.plan(replace(survey, observed=dark), space.settings.limits)
            assert doing(plan) == {
                "Identity/house": (Verb.DEFER, Reason.UNKNOWN),
                "Dataset/rates": (Verb.DEFER, Reason.MOVED),
            }
            report = await Executor(space.runner, plan).run()
            assert not report.results and records(space) == before
            plan, report = await scene.apply(space)
            assert report.complete and doing(plan)["Dataset/rates"][0] is Verb.REPAIR
            assert all(result.fate is Fate.DONE for result in report.results.values())

    play(main, scene.world.clock)


async def _files(scene: Scene) -> list[str]:
    async with scene.open() as space:
        return [file["sha256"] for file in records(space)["Dataset/rates"].outputs["files"]]


def test_a_rollback_gives_back_the_name_of_then(scene: Scene) -> None:
    async def main() -> None:
        await begun(scene)
        async with scene.open() as space:
            first = records(space)["PricePlan/standard"].revision
            scene.write({"price.yaml": renamed(PRICE, "standard", "retail")})
            for name, text in (("dataset.yaml", DATASET), ("advertisement.yaml", ADVERTISEMENT)):
                scene.write({name: text.replace("standard", "retail")})
            scene.write({"network.yaml": NETWORK.replace("region: AP", "region: AU")})
            await scene.apply(space)
            assert ResourceRef("PricePlan", "standard") in desired_at(space.ports, first, "").resources
            prepared = await prepare(space, Wish(rollback=first))
            assert doing(prepared.plan)["PricePlan/standard"] == (Verb.MOVE, Reason.MOVED)
            assert not [one for one in prepared.plan.acting if one.needs]
            report = await Executor(space.runner, prepared.plan).run()
            assert report.complete and "PricePlan/retail" not in records(space)

    play(main, scene.world.clock)


def test_a_rollback_to_after_a_rename_speaks_the_new_name(scene: Scene) -> None:
    async def main() -> None:
        await begun(scene)
        async with scene.open() as space:
            scene.write({"price.yaml": renamed(PRICE, "standard", "retail")})
            for name, text in (("dataset.yaml", DATASET), ("advertisement.yaml", ADVERTISEMENT)):
                scene.write({name: text.replace("standard", "retail")})
            plan, _ = await scene.apply(space)
            scene.write({"price.yaml": renamed(PRICE, "standard", "retail").replace("25sat", "26sat")})
            await scene.apply(space)
            prepared = await prepare(space, Wish(rollback=plan.revision))
            assert {ref: verb for ref, (verb, _) in doing(prepared.plan).items()} == {
                "PricePlan/retail": Verb.UPDATE,
                "Dataset/rates": Verb.UPDATE,
                "Advertisement/feed": Verb.UPDATE,
            }
            assert {delta.path.split(".")[-1] for change in prepared.plan.acting for delta in change.deltas} == {"rate"}

    play(main, scene.world.clock)


def test_by_hand_the_record_moves_at_once_and_is_published_by_the_next_plan(scene: Scene) -> None:
    rates, fx = ResourceRef("Dataset", "rates"), ResourceRef("Dataset", "fx")

    async def main() -> None:
        await begun(scene)
        async with scene.open() as space:
            before, now = records(space), space.ports.clock.now()

            def by_hand(old: ResourceRef, new: ResourceRef) -> None:
                known = space.ports.ledger.read(now).records
                with space.ports.ledger.begin() as tx:
                    move(tx, known, old, new, space.runner.kinds, now, {"by": "ann"})

            with pytest.raises(Refused, match=r"it is declared at dataset\.yaml:3") as told:
                _require_renamed(space, rates, fx)
            assert "renamedFrom: rates" in (told.value.hint or "")
            for old, new, error, why in (
                (fx, rates, Refused, "it is not recorded"),
                (rates, ResourceRef("PricePlan", "fx"), Refused, "a Dataset does not become a PricePlan"),
                (ResourceRef("PricePlan", "standard"), ResourceRef("PricePlan", "standard"), Conflict, "recorded already"),
            ):
                with pytest.raises(error, match=why):
                    by_hand(old, new)
            assert records(space) == before and moves(space) == []
            scene.write(
                {
                    "dataset.yaml": DATASET.replace("name: rates}", "name: fx}"),
                    "advertisement.yaml": ADVERTISEMENT.replace("name: rates}", "name: fx}"),
                }
            )
            _require_renamed(space, rates, fx)
            by_hand(rates, fx)
            assert moves(space) == [("Dataset/rates", "Dataset/fx")] and "Dataset/rates" not in records(space)
            plan, report = await scene.apply(space)
            assert report.complete and doing(plan)["Dataset/fx"] == (Verb.UPDATE, Reason.MOVED)
            assert "moved from rates" in as_text(plan)
            assert records(space)["Dataset/fx"].outputs["previous"] == [before["Dataset/rates"].outputs["tokens"][0]["outpoint"]]
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_while_a_run_is_open_nothing_it_touches_moves(scene: Scene) -> None:
    async def main() -> None:
        await begun(scene)
        async with scene.open() as space:
            now = space.ports.clock.now()
            with space.ports.ledger.begin() as tx:
                tx.open_run(Run("run_x", "ref/Dataset/rates", {"change": {}}, "0"))
            known = space.ports.ledger.read(now).records
            with pytest.raises(Conflict, match="run run_x of Dataset/rates is open"), space.ports.ledger.begin() as tx:
                move(tx, known, ResourceRef("PricePlan", "standard"), ResourceRef("PricePlan", "x"), space.runner.kinds, now, {})
            assert "PricePlan/standard" in records(space)

    play(main, scene.world.clock)


def test_who_asks_only_for_what_was_lost_is_shown_no_rename(scene: Scene) -> None:
    async def main() -> None:
        await begun(scene)
        scene.write({"price.yaml": renamed(PRICE, "standard", "retail")})
        for name, text in (("dataset.yaml", DATASET), ("advertisement.yaml", ADVERTISEMENT)):
            scene.write({name: text.replace("standard", "retail")})
        async with scene.open() as space:
            assert (await prepare(space, Wish(refresh_only=True))).plan.empty
            assert doing((await prepare(space, Wish())).plan) == {"PricePlan/retail": (Verb.MOVE, Reason.MOVED)}

    play(main, scene.world.clock)
