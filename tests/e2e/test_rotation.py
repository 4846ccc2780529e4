"""One key follows another: announced by both, rolled over without a gap, the old one retired by the clock or at once."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.rotation import key_check, periods_of
from reconciler.compose import Workspace
from reconciler.engine import evidence
from reconciler.engine.confirm import confirm
from reconciler.engine.execute import Report
from reconciler.engine.handlers import Handlers
from reconciler.engine.notices import Severity, moved
from reconciler.engine.worker import Worker
from reconciler.kinds import identity_keys
from reconciler.model.change import Cause, Reason, Verb
from reconciler.model.errors import RemoteProtocolError
from reconciler.model.plan import Plan
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.model.status import Truth
from reconciler.planner.guard import Limits
from reconciler.planner.render import as_text
from reconciler.wire import succession
from reconciler.wire.document import open_envelope
from tests.e2e.crash import DESK, OPEN_KEY, PROCESS, SEALED_KEY, WALLET, End, Fuse, Killed, converge, mortal
from tests.e2e.scene import FULL, IDENTITY, Scene, play

DAY = 24 * 3600
HEIR, THIRD = b"\x33" * 32, b"\x44" * 32
ME = ResourceRef("Identity", "desk")
OPEN = IDENTITY.replace(SEALED_KEY, OPEN_KEY)
ROTATED = OPEN + "  rotation: {next: {env: HEIR_KEY}, transitionPeriod: 7d}\n"
AGAIN = OPEN.replace("DESK_KEY", "HEIR_KEY") + "  rotation: {next: {env: THIRD_KEY}, transitionPeriod: 7d}\n"
REVOKED = OPEN + "  rotation: {next: {env: HEIR_KEY}, transitionPeriod: 7d, revoke: {reason: laptop stolen}}\n"
# Every step at which a process is killed, or every so many-th: all of them take minutes.
EVERY = {"rotate": 5, "revoke": 4, "end": 1}
FILES = {**FULL, "identity.yaml": OPEN, "reconciler.yaml": PROCESS}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open keys: nothing here is about passphrases."""
    for name, secret in (("DESK", DESK), ("WALLET", WALLET), ("HEIR", HEIR), ("THIRD", THIRD)):
        monkeypatch.setenv(f"{name}_KEY", secret.hex())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path)
    made.write(dict(FILES))
    return made


async def applied(scene: Scene, space: Workspace) -> tuple[Plan, Report]:
    plan, report = await scene.apply(space)
    assert report.complete, report
    return plan, report


async def begun(scene: Scene) -> None:
    await scene.fund()
    async with scene.open() as space:
        await applied(scene, space)


def records(space: Workspace) -> dict[str, Record]:
    return {str(ref): record for ref, record in space.ports.ledger.read(space.ports.clock.now()).records.items()}


def owners(scene: Scene, space: Workspace) -> dict[str, set[str]]:
    """Identity keys of the live descriptors that the overlay host shows, by subject."""
    found: dict[str, set[str]] = {}
    for record in records(space).values():
        for token in record.outputs.get("tokens") or ():
            found.setdefault(str(record.ref), set()).add(token["identity"])
    return found


async def shown(space: Workspace, scene: Scene, key: str) -> set[str]:
    """What `ls_producer` lists for an identity key."""
    net = scene.net()
    answers = await space.ports.overlay.lookup(net.overlays[0], "ls_producer", {"identityKey": key})
    return {str(one.outpoint) for one in answers}


def document(space: Workspace, ref: ResourceRef = ME) -> tuple[Any, str]:
    return open_envelope(space.ports.blobs.get(records(space)[str(ref)].outputs["document"]["digest"]))


@pytest.mark.row("P-ID-10", "P-ID-11", "P-ID-12", "P-RISK-04")
def test_a_rotation_rolls_everything_over_and_the_clock_ends_it(scene: Scene) -> None:
    async def main() -> None:
        await begun(scene)
        async with scene.open() as space:
            old = records(space)["Identity/desk"].outputs["publicKey"]
            scene.write({"identity.yaml": ROTATED})
            before = sum(p.total for p in space.ports.ledger.read(space.ports.clock.now()).purses.values())
            plan, _ = await applied(scene, space)
            verbs = [(str(c.ref), c.verb, c.reason) for c in plan.acting]
            assert verbs == [
                ("Identity/desk", Verb.UPDATE, Reason.SPEC_CHANGED),
                ("Dataset/rates", Verb.UPDATE, Reason.REQUIREMENT_CHANGED),
                ("Advertisement/feed", Verb.UPDATE, Reason.REQUIREMENT_CHANGED),
            ]
            after = sum(p.total for p in space.ports.ledger.read(space.ports.clock.now()).purses.values())
            assert before - after == plan.cost.satoshis, "the plan's price is what it cost"
            new = records(space)["Identity/desk"].outputs["publicKey"]
            assert new != old
            assert owners(scene, space) == {"Identity/desk": {old, new}, "Dataset/rates": {new}, "Advertisement/feed": {new}}
            # In the window the old key leads to the same document, which both keys vouch for.
            assert len(await shown(space, scene, old)) == 1
            assert len(await shown(space, scene, new)) == 3
            said, signer = document(space)
            chain = succession.periods(said, signer)
            assert [period.key for period in chain] == [old, new]
            assert document(space, ResourceRef("Dataset", "rates"))[1] == new
            assert (await scene.plan(space)).empty
            rotating = records(space)["Identity/desk"].status.condition("Rotating")
            assert rotating is not None and rotating.status is Truth.TRUE
            # One second before its end the window still stands.
            end = chain[0].ends
            assert end is not None
            scene.world.clock.advance((end - space.ports.clock.now()).total_seconds() - 60)
            assert (await scene.plan(space)).empty
            assert succession.refusal(chain, old, end - timedelta(seconds=1)) is None
            assert succession.refusal(chain, old, end) is not None
            assert succession.refusal(chain, old, None) is not None
            scene.world.clock.advance(60)
            plan, _ = await applied(scene, space)
            (change,) = plan.acting
            assert (change.ref, change.verb, change.reason) == (ME, Verb.REPAIR, Reason.EXPIRING)
            assert {delta.cause for delta in change.deltas} == {Cause.TIME}
            assert change.cost.transactions == 1
            assert "retired" in as_text(plan)
            assert await shown(space, scene, old) == set()
            assert len(await shown(space, scene, new)) == 3
            assert (await scene.plan(space)).empty
            rotating = records(space)["Identity/desk"].status.condition("Rotating")
            assert rotating is not None and rotating.status is Truth.FALSE
            # A clock that is set back does not bring the old key back.
            kept = records(space)["Identity/desk"].outputs["keys"]
            assert identity_keys.honoured(kept, ()) == []
            assert identity_keys.over({"keys": kept}, end - timedelta(days=3)) == []
            scene.write({"identity.yaml": OPEN.replace("DESK_KEY", "HEIR_KEY")})
            plan, _ = await applied(scene, space)
            assert plan.cost.satoshis == 0, "the next key's place becomes the key's, and nothing is paid"
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


@pytest.mark.row("P-ID-10", "P-ID-11")
def test_two_rotations_in_a_row_keep_the_whole_chain(scene: Scene) -> None:
    async def main() -> None:
        await begun(scene)
        async with scene.open() as space:
            scene.write({"identity.yaml": ROTATED})
            await applied(scene, space)
            scene.world.clock.advance(3 * DAY)
            scene.write({"identity.yaml": AGAIN})
            await applied(scene, space)
            chain = succession.periods(*document(space))
            assert len(chain) == 3
            assert owners(scene, space)["Identity/desk"] == {period.key for period in chain}
            assert owners(scene, space)["Dataset/rates"] == {chain[-1].key}
            for _ in range(2):
                scene.world.clock.advance(4 * DAY + 600)
                await applied(scene, space)
                assert (await scene.plan(space)).empty
            assert owners(scene, space)["Identity/desk"] == {chain[-1].key}
            assert succession.periods(*document(space)) == chain

    play(main, scene.world.clock)


@pytest.mark.row("P-RISK-04")
@pytest.mark.parametrize("announced", [False, True], ids=["at once", "within the window"])
def test_revoking_retires_everything_of_the_old_key_at_once(scene: Scene, announced: bool) -> None:
    async def main() -> None:
        await begun(scene)
        async with scene.open() as space:
            old = records(space)["Identity/desk"].outputs["publicKey"]
            if announced:
                scene.write({"identity.yaml": ROTATED})
                await applied(scene, space)
                scene.world.clock.advance(DAY)
            scene.write({"identity.yaml": REVOKED})
            await applied(scene, space)
            assert await shown(space, scene, old) == set()
            assert all(old not in held for held in owners(scene, space).values())
            chain = succession.periods(*document(space))
            assert chain[0].compromised == "laptop stolen"
            ends = chain[0].ends
            assert ends is not None and ends <= space.ports.clock.now()
            assert "revoked" in (succession.refusal(chain, old, space.ports.clock.now()) or "")
            told = records(space)["Identity/desk"].status.condition("Compromised")
            assert told is not None and (told.status, told.message) == (Truth.TRUE, "laptop stolen")
            assert (await scene.plan(space)).empty
            scene.world.clock.advance(30 * DAY)
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


@pytest.mark.row("P-ID-10")
def test_a_key_that_was_replaced_does_not_come_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        await begun(scene)
        async with scene.open() as space:
            scene.write({"identity.yaml": ROTATED})
            await applied(scene, space)
            for back in (OPEN, ROTATED.replace("HEIR_KEY", "X").replace("DESK_KEY", "HEIR_KEY").replace("X", "DESK_KEY")):
                scene.write({"identity.yaml": back})
                (change,) = [c for c in (await scene.plan(space)).changes if c.ref == ME]
                assert change.blocked is not None and "does not come back" not in change.blocked
                assert "a key that was replaced" in change.blocked
            # The same secret in another place is found out before anything is signed.
            monkeypatch.setenv("THIRD_KEY", DESK.hex())
            scene.write({"identity.yaml": AGAIN})
            _, report = await scene.apply(space)
            assert not report.complete
            assert len(succession.periods(*document(space))) == 2

    play(main, scene.world.clock)


def test_a_lost_new_key_is_waited_for_and_never_replaced_by_another(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        await begun(scene)
        async with scene.open() as space:
            scene.write({"identity.yaml": ROTATED})
            await applied(scene, space)
        monkeypatch.delenv("HEIR_KEY")
        async with scene.open() as space:
            plan = await scene.plan(space)
            assert not plan.acting
            (change,) = [c for c in plan.changes if c.ref == ME]
            assert change.verb is Verb.DEFER and "restore it" in change.detail
        monkeypatch.setenv("HEIR_KEY", HEIR.hex())
        async with scene.open() as space:
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_a_statement_needs_both_signatures_and_an_unbroken_chain(scene: Scene) -> None:
    async def main() -> None:
        await begun(scene)
        async with scene.open() as space:
            scene.write({"identity.yaml": ROTATED})
            await applied(scene, space)
            said, signer = document(space)
            (link,) = said["successions"]
            old, new = link["signatures"]
            for broken in (
                {**link, "signatures": [new]},
                {**link, "signatures": [new, old]},
                {**link, "signatures": [old, old]},
                {**link, "statement": {**link["statement"], "until": "2999-01-01T00:00:00Z"}},
            ):
                with pytest.raises(RemoteProtocolError):
                    succession.periods({**said, "successions": [broken]}, signer)
            with pytest.raises(RemoteProtocolError):
                succession.periods({**said, "name": "another"}, signer)
            with pytest.raises(RemoteProtocolError):
                succession.periods(said, link["statement"]["from"])

    play(main, scene.world.clock)


@pytest.mark.row("P-ID-12", "P-RISK-04")
def test_a_proof_counts_by_the_time_of_its_block(scene: Scene) -> None:
    async def main() -> None:
        await begun(scene)
        async with scene.open() as space:

            async def proof(name: str) -> bytes:
                scene.world.mine()
                await confirm(space.ports, {"devnet": scene.net()})
                return await evidence.assemble(space.ports, records(space)[name])

            early = await proof("Dataset/rates")
            scene.world.clock.advance(DAY)
            scene.write({"identity.yaml": ROTATED})
            await applied(scene, space)
            late, me = await proof("Dataset/rates"), await proof("Identity/desk")
            assert key_check(early, me).ok, "made while the old key was honoured"
            assert key_check(late, me).ok, "signed by the new key"
            assert periods_of(me) == succession.periods(*document(space))
            # Who signs with a key that was compromised before the block is refused, although every link of the proof holds.
            since = (space.ports.clock.now() - timedelta(days=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
            scene.write({"identity.yaml": REVOKED.replace("stolen}", f'stolen, since: "{since}"}}')})
            await applied(scene, space)
            me = await proof("Identity/desk")
            refused = key_check(early, me)
            assert refused.ok is False and "was revoked (laptop stolen)" in refused.detail
            assert key_check(late, me).ok

    play(main, scene.world.clock)


@pytest.mark.row("P-ID-12")
def test_the_daemon_retires_the_old_key_by_itself(scene: Scene) -> None:
    async def main() -> None:
        await begun(scene)
        scene.write({"identity.yaml": ROTATED})
        async with scene.open() as space:
            handlers = Handlers(space.runner, space.surveyor, space.settings.limits, mode="auto")
            worker = Worker(space.ports, handlers.table(), "test/0")
            for pause, honoured in ((0, 2), (6 * DAY, 2), (DAY + 60, 1)):
                scene.world.clock.advance(pause)
                space.ports.queue.put("plan", space.ports.clock.now())
                lease = space.ports.queue.claim("test/0", space.ports.clock.now(), ("plan",))
                assert lease is not None
                await worker.handle(lease)
                assert len(owners(scene, space)["Identity/desk"]) == honoured

    play(main, scene.world.clock)


@pytest.mark.row("P-RISK-04")
def test_a_ledger_lost_after_a_rotation_pays_for_nothing_twice(scene: Scene) -> None:
    async def main() -> None:
        await begun(scene)
        scene.write({"identity.yaml": ROTATED})
        async with scene.open() as space:
            await applied(scene, space)
            scene.world.clock.advance(8 * DAY)
            await applied(scene, space)
        shutil.rmtree(scene.root / ".state")
        async with scene.open() as space:
            plan = await scene.plan(space)
            found = {
                str(change.ref): change for change in plan.changes if change.ref.kind in ("Identity", "Dataset", "Advertisement")
            }
            assert len(found) == 3
            assert all(change.blocked is not None or not change.verb.acts for change in found.values())

    play(main, scene.world.clock)


def test_operators_are_told_of_a_rotation_and_alarmed_by_a_compromise(scene: Scene) -> None:
    async def main() -> None:
        await begun(scene)
        async with scene.open() as space:

            async def told() -> dict[str, tuple[Truth, Severity]]:
                before = records(space)["Identity/desk"]
                await applied(scene, space)
                found = moved(before, records(space)["Identity/desk"], space.ports.clock.now())
                return {one.type: (one.after, one.severity) for one in found}

            scene.write({"identity.yaml": ROTATED})
            assert (await told())["Rotating"] == (Truth.TRUE, Severity.WARNING)
            scene.write({"identity.yaml": REVOKED})
            after = await told()
            assert after["Rotating"] == (Truth.FALSE, Severity.INFO)
            assert after["Compromised"] == (Truth.TRUE, Severity.ERROR)

    play(main, scene.world.clock)


async def lived(scene: Scene, fuse: Fuse) -> End | None:
    """One process that does whatever is to be done; None when it was killed."""
    try:
        async with mortal(scene, fuse) as space:
            end = await converge(space, Limits(delete_percent=None))
    except BaseExceptionGroup as group:
        _, rest = group.split(Killed)
        if rest is not None:
            raise rest from None
        return None
    except Killed:
        return None
    return None if fuse.burnt else end


@pytest.mark.slow
@pytest.mark.row("P-RISK-04", "P-ID-10")
@pytest.mark.parametrize("moment", ["rotate", "end", "revoke"])
def test_killed_at_any_step_of_a_rotation_it_converges_and_pays_once(scene: Scene, tmp_path: Path, moment: str) -> None:
    async def main() -> None:
        await begun(scene)
        if moment != "rotate":
            scene.write({"identity.yaml": ROTATED})
            async with scene.open() as space:
                await applied(scene, space)
        if moment == "end":
            scene.world.clock.advance(8 * DAY)
        else:
            scene.write({"identity.yaml": ROTATED if moment == "rotate" else REVOKED})
        world, files = scene.world.snapshot(), tmp_path.with_name(tmp_path.name + "-files")
        shutil.copytree(tmp_path, files)
        steps, whole, purses = 0, False, set()
        while not whole:
            steps += EVERY[moment]
            scene.world.restore_snapshot(world)
            shutil.rmtree(tmp_path)
            shutil.copytree(files, tmp_path)
            whole = await lived(scene, Fuse(at=steps)) is not None
            end = await lived(scene, Fuse())
            assert end is not None and end.plan.empty, f"killed at step {steps}"
            purses.add(end.purse)
            async with scene.open() as space:
                chain = succession.periods(*document(space))
                old, new = (period.key for period in chain)
                held = owners(scene, space)
                assert held["Identity/desk"] == ({old, new} if moment == "rotate" else {new}), f"killed at step {steps}"
                assert held["Dataset/rates"] == held["Advertisement/feed"] == {new}
                assert len(await shown(space, scene, old)) == (1 if moment == "rotate" else 0)
                assert len(await shown(space, scene, new)) == 3
        assert steps > 10
        assert len(purses) == 1, "however it was killed, it cost the same"

    play(main, scene.world.clock)
