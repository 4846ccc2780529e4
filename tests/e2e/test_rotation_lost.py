"""A ledger lost after keys were replaced: the document of the identity says which there were, and both of each step signed it."""

from __future__ import annotations

import pytest

from reconciler.compose import Workspace
from reconciler.engine.rebuild import ADOPTED, LEFT, adopt
from reconciler.model.change import Reason, Verb
from reconciler.model.errors import Refused
from reconciler.model.ref import ResourceRef
from reconciler.planner.guard import Limits
from tests.e2e.scene import DATASET, Scene, play
from tests.e2e.test_rebuild import held, lose, rebuilt
from tests.e2e.test_rotation import (
    AGAIN,
    DAY,
    ME,
    OPEN,
    REVOKED,
    ROTATED,
    applied,
    begun,
    document,
    keys,
    owners,
    records,
    scene,
    shown,
)

__all__ = ["keys", "scene"]

KEPT = ("publicKey", "document", "tokens", "subkeys", "keys")
FINISHED = OPEN.replace("DESK_KEY", "HEIR_KEY")


async def rotated(scene: Scene, *manifests: str | int) -> None:
    """Apply one manifest of the identity after another; a number lets so many seconds pass, and is applied, too."""
    await begun(scene)
    async with scene.open() as space:
        for one in manifests:
            if isinstance(one, int):
                scene.world.clock.advance(one)
            else:
                scene.write({"identity.yaml": one})
            await applied(scene, space)


async def again(scene: Scene, space: Workspace) -> None:
    """A rebuilt ledger says what the lost one did, and has nothing to do."""
    found = await rebuilt(space)
    assert {one.what for one in found.values()} == {ADOPTED}, found
    plan = await scene.plan(space)
    assert plan.empty, [(str(c.ref), c.verb, c.deltas, c.blocked) for c in plan.changes if c.verb is not Verb.NONE]


WAYS: dict[str, tuple[str | int, ...]] = {
    "in the window": (ROTATED,),
    "after the window, one place named": (ROTATED, 8 * DAY, FINISHED),
    "revoked": (REVOKED,),
    "two, the second in its window": (ROTATED, 8 * DAY, AGAIN),
}


@pytest.mark.row("P-RISK-04", "P-ID-10")
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_ledger_of_a_rotated_identity_is_rebuilt_at_no_cost(scene: Scene, way: tuple[str | int, ...]) -> None:
    async def main() -> None:
        await rotated(scene, *way)
        async with scene.open() as space:
            before, purse = records(space), held(space)
        sent = len(scene.world.chain.state.txs)
        lose(scene)
        async with scene.open() as space:
            if way == (ROTATED,):
                # One transaction, two tokens of the identity: neither is chosen.
                txid = before["Identity/desk"].outputs["tokens"][0]["outpoint"][:64]
                with pytest.raises(Refused, match=f"made several tokens of it: {txid}.0 describes Identity/desk .*; {txid}.1"):
                    await adopt(space.runner, await space.surveyor.survey(), "test", {ME}, txid, dry=True)
            await again(scene, space)
            after = records(space)
            assert held(space) == purse and len(scene.world.chain.state.txs) == sent
            places = {key["name"]: key["source"] for key in before["Identity/desk"].outputs["keys"] if not key.get("retired")}
            for key in after["Identity/desk"].outputs["keys"]:
                assert key["source"] == places.get(key["name"], key["source"])
            for name in before:
                was, now = ({k: one.outputs.get(k) for k in KEPT} for one in (before[name], after[name]))
                for one in (was, now):
                    # Where a retired key was kept is nobody's business any more.
                    one["keys"] = [{**key, "source": {}} for key in one["keys"] or ()]
                    one["tokens"] = sorted(one["tokens"] or (), key=lambda token: token["outpoint"])
                assert now == was, name
                assert after[name].outputs.get("previous") == before[name].outputs.get("previous")
            # What it owns can be spent, the tokens of the old key by the old key.
            scene.write({"dataset.yaml": DATASET.replace("title: Rates", "title: New")})
            await applied(scene, space)
            scene.world.clock.advance(8 * DAY)
            await applied(scene, space)
            assert (await scene.plan(space)).empty
            own = after["Identity/desk"].outputs["publicKey"]
            assert owners(scene, space)["Identity/desk"] == {own}
            for key in after["Identity/desk"].outputs["keys"][:-1]:
                assert await shown(space, scene, key["publicKey"]) == set()

    play(main, scene.world.clock)


def test_an_old_key_that_is_gone_after_its_time_is_not_needed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        await rotated(scene, ROTATED, 8 * DAY)
        lose(scene)
        monkeypatch.delenv("DESK_KEY")
        async with scene.open() as space:
            await again(scene, space)

    play(main, scene.world.clock)


def test_a_key_that_still_owns_something_must_have_a_place(scene: Scene) -> None:
    async def main() -> None:
        await rotated(scene, ROTATED, DAY, AGAIN)
        lose(scene)
        async with scene.open() as space:
            found = await rebuilt(space)
            assert found["Identity/desk"].what == LEFT and "still honoured" in found["Identity/desk"].detail
            assert found["Dataset/rates"].what == LEFT
            assert not [change for change in (await scene.plan(space)).acting if change.needs], "nothing is bought again"

    play(main, scene.world.clock)


def test_a_rotation_that_was_half_done_is_gone_on_with(scene: Scene) -> None:
    async def main() -> None:
        await begun(scene)
        async with scene.open() as space:
            scene.write({"identity.yaml": ROTATED})
            _, report = await scene.apply(space, Limits(delete_percent=None, only=frozenset({ME})))
            assert report.complete
        lose(scene)
        async with scene.open() as space:
            found = await rebuilt(space)
            assert {one.what for one in found.values()} == {ADOPTED}, found
            old, new = (key["publicKey"] for key in records(space)["Identity/desk"].outputs["keys"])
            assert owners(scene, space) == {"Identity/desk": {old, new}, "Dataset/rates": {old}, "Advertisement/feed": {old}}
            plan, _ = await applied(scene, space)
            assert {str(one.ref): (one.verb, one.reason) for one in plan.acting} == {
                "Dataset/rates": (Verb.UPDATE, Reason.REQUIREMENT_CHANGED),
                "Advertisement/feed": (Verb.UPDATE, Reason.REQUIREMENT_CHANGED),
            }
            assert owners(scene, space)["Dataset/rates"] == {new} and (await scene.plan(space)).empty
            assert document(space, ResourceRef("Dataset", "rates"))[1] == new

    play(main, scene.world.clock)


@pytest.mark.parametrize(
    ("before", "now", "path"),
    [
        (OPEN, ROTATED, "spec.rotation"),
        (ROTATED, ROTATED.replace("7d", "9d"), "spec.rotation.transitionPeriod"),
    ],
    ids=["not applied yet", "another window"],
)
def test_what_the_manifest_says_since_is_an_edit(scene: Scene, before: str, now: str, path: str) -> None:
    async def main() -> None:
        await rotated(scene, before)
        lose(scene)
        scene.write({"identity.yaml": now})
        async with scene.open() as space:
            await rebuilt(space)
            (change,) = [one for one in (await scene.plan(space)).acting if one.ref == ME]
            assert (change.verb, [delta.path for delta in change.deltas]) == (Verb.UPDATE, [path])
            await applied(scene, space)
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_one_thing_that_was_forgotten_is_found_under_the_key_of_now(scene: Scene) -> None:
    rates = ResourceRef("Dataset", "rates")

    async def main() -> None:
        await rotated(scene, ROTATED, 8 * DAY, FINISHED)
        async with scene.open() as space:
            with space.ports.ledger.begin() as tx:
                tx.drop_record(rates)
        async with scene.open() as space:
            (change,) = [one for one in (await scene.plan(space)).changes if one.ref == rates]
            assert change.reason is Reason.UNMANAGED and change.blocked, "it is not bought a second time"
            await again(scene, space)

    play(main, scene.world.clock)
