"""Plans that people have to agree to, and budgets that two processes share: in process, on a devnet, under virtual time."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from reconciler.compose import Workspace, workspace
from reconciler.engine.budget import require_own
from reconciler.engine.execute import Executor, Fate
from reconciler.engine.handlers import Handlers
from reconciler.engine.survey import midnight
from reconciler.model.approval import Approval
from reconciler.model.change import Verb
from reconciler.model.codec import encode
from reconciler.model.errors import GuardRefused
from reconciler.model.intent import Run, RunState
from reconciler.model.plan import Plan
from reconciler.model.ref import ResourceRef
from reconciler.planner.guard import Limits
from reconciler.ports import Lease
from reconciler.settings import load
from reconciler.wire.approval import message, write_approval
from reconciler.wire.keys import public_key
from reconciler.wire.message import key_id_for, sign_message
from tests.e2e.scene import FULL, NETWORK, PRICE, Scene, play

ANN, BOB, EVE = (bytes.fromhex(digit * 64) for digit in "123")
SETTINGS = f"""\
mode: propose
guards: {{deletes: {{count: 0}}}}
policies:
  - name: few-copies
    action: deny
    message: a dataset wants two copies at least
    when:
      properties:
        changes:
          contains:
            required: [ref, body]
            properties:
              ref: {{pattern: ^Dataset/}}
              body: {{required: [spec], properties: {{spec: {{required: [replicas], properties: {{replicas: {{maximum: 1}}}}}}}}}}
approvals:
  required: 2
  inbox: approvals
  keys:
    - {{name: ann, publicKey: "{public_key(ANN).hex()}"}}
    - {{name: bob, publicKey: "{public_key(BOB).hex()}"}}
"""
RATES = ResourceRef("Dataset", "rates")
SECOND = FULL["dataset.yaml"].replace("rates", "more").replace("Rates", "More")


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setitem(os.environ, "DESK_KEY", "44" * 32)
    made = Scene(tmp_path)
    sealed = next(line for line in FULL["identity.yaml"].splitlines() if line.startswith("  key:"))
    made.write({**FULL, "identity.yaml": FULL["identity.yaml"].replace(sealed, "  key: {env: DESK_KEY, generate: never}")})
    made.write({"reconciler.yaml": SETTINGS})
    return made


@contextlib.asynccontextmanager
async def opened(scene: Scene, owner: str = "test") -> AsyncIterator[Workspace]:
    """The workspace under the settings as they are written."""
    world = scene.world
    async with workspace(
        load(scene.root), transport=world.transport(), clock=world.clock, entropy=scene.entropy, owner=owner
    ) as space:
        yield space


def daemon(space: Workspace) -> Handlers:
    handlers = Handlers(space.runner, space.surveyor, space.settings.limits, space.settings.mode)
    handlers.approvals = space.approvals
    return handlers


async def look(space: Workspace, handlers: Handlers) -> Plan:
    await handlers.plan(Lease("plan", 1, "test", space.ports.clock.now()))
    assert handlers.last_plan is not None
    return handlers.last_plan


def letter(plan: Plan, secret: bytes, *guards: str) -> bytes:
    made = Approval(plan.id, plan.digest, public_key(secret).hex(), guards, "somebody", "2026-01-01T00:00:00Z", "")
    return write_approval(made, sign_message(secret, message(made), key_id_for(public_key(secret), message(made))))


def events(space: Workspace) -> list[str]:
    with space.ports.ledger.begin() as tx:
        return [one["event"] for one in tx.history() if one["event"].startswith("plan.")]


def today(space: Workspace) -> datetime:
    return midnight(space.ports.clock.now())


def recorded(space: Workspace) -> set[str]:
    return {str(ref) for ref in space.ports.ledger.read(space.ports.clock.now()).records}


@pytest.mark.row("S-13", "P-CFG-16")
def test_the_daemon_carries_out_the_plan_that_enough_people_signed_and_no_other(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with opened(scene) as space:
            handlers, inbox = daemon(space), scene.root / "approvals"
            inbox.mkdir()
            plan = await look(space, handlers)
            assert [guard.message for guard in plan.refusals] == ["2 of ann, bob must sign"]
            # Strangers, other plans and half of them are not enough.
            (inbox / "eve.sig").write_bytes(letter(plan, EVE))
            (inbox / "old.sig").write_bytes(letter(replace(plan, serial=99), BOB))
            (inbox / "ann.sig").write_bytes(letter(plan, ANN))
            (inbox / "junk.sig").write_bytes(b"junk")
            assert (await look(space, handlers)).id == plan.id and recorded(space) == set()
            assert space.approvals is not None and not space.approvals.approved(plan.id)
            # The other half comes by the ledger, hours later; the plan is still the one that was signed.
            await space.ports.clock.sleep(4 * 3600)
            space.approvals.enter([("bob", letter(plan, BOB))])
            assert (await look(space, handlers)).id == plan.id
            assert len(recorded(space)) == len(plan.acting) and events(space) == ["plan.approved"]
            assert space.approvals.approved(plan.id)
            # What is edited afterwards was signed by nobody.
            scene.write({"price.yaml": PRICE.replace("25sat", "26sat")})
            later = await look(space, handlers)
            assert later.id != plan.id and [guard.name for guard in later.refusals] == ["approvals"]

    play(main, scene.world.clock)


def test_a_refusal_passes_for_the_signed_plan_alone_and_a_ban_never(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with opened(scene) as space:
            handlers = daemon(space)
            assert space.approvals is not None

            def sign(plan: Plan, *guards: str) -> None:
                assert space.approvals is not None
                space.approvals.enter([(name, letter(plan, key, *guards)) for name, key in (("ann", ANN), ("bob", BOB))])

            sign(await look(space, handlers))
            await look(space, handlers)
            (scene.root / "advertisement.yaml").unlink()
            going = await look(space, handlers)
            assert [guard.name for guard in going.refusals] == ["deletes", "approvals"]
            sign(going)
            await look(space, handlers)
            assert "Advertisement/feed" in recorded(space), "signed, but nobody named what refuses it"
            sign(going, "deletes")
            assert (await look(space, handlers)).id == going.id
            assert "Advertisement/feed" not in recorded(space)
            # And a ban stays, whoever signs.
            scene.write({"dataset.yaml": FULL["dataset.yaml"].replace("replicas: 2", "replicas: 1")})
            banned = await look(space, handlers)
            sign(banned, "policy:few-copies")
            assert [guard.name for guard in (await look(space, handlers)).refusals] == ["policy:few-copies", "approvals"]
            with space.ports.ledger.begin() as tx:
                record = tx.record(RATES)
                assert record is not None and record.body["spec"]["replicas"] == 2

    play(main, scene.world.clock)


async def shop(scene: Scene) -> int:
    """Everything but the datasets, and the price of one of two that are then declared."""
    scene.write({"reconciler.yaml": "mode: auto\n", "network.yaml": NETWORK, "data/more.csv": "a,b\n1,2\n"})
    (scene.root / "advertisement.yaml").unlink()
    await scene.fund()
    async with opened(scene) as space:
        survey = await space.surveyor.survey()
        base = Limits(exclude=frozenset({RATES}))
        await Executor(space.runner, space.surveyor.plan(survey, base)).run()
        scene.write({"more.yaml": SECOND})
        survey = await space.surveyor.survey()
        plan = space.surveyor.plan(survey, Limits())
    for _ in plan.acting:
        await scene.fund(50_000)
    return max(change.cost.satoshis for change in plan.acting)


def test_two_processes_that_fit_one_by_one_do_not_both_spend(scene: Scene) -> None:
    async def main() -> None:
        dear = await shop(scene)
        async with opened(scene, "one") as first, opened(scene, "two") as second:
            with first.ports.ledger.begin() as tx:
                spent = tx.spent_since(today(first))
            day = spent + dear + dear // 2
            plans = []
            for space, name in ((first, "rates"), (second, "more")):
                space.runner.limits = Limits(spend_day=day)
                survey = await space.surveyor.survey()
                limits = replace(space.runner.limits, only=frozenset({ResourceRef("Dataset", name)}))
                plan = space.surveyor.plan(survey, limits)
                assert plan.refusals == () and len(plan.acting) == 1, "each fits by itself"
                plans.append(Executor(space.runner, plan))
            reports = await asyncio.gather(*(one.run() for one in plans))
            fates = sorted(result.fate.value for report in reports for result in report.results.values())
            assert fates == ["done", "failed"]
            (loser,) = [r for report in reports for r in report.results.values() if r.fate is Fate.FAILED]
            assert isinstance(loser.error, GuardRefused) and loser.error.code == "spend-day"
            with first.ports.ledger.begin() as tx:
                assert tx.spent_since(today(first)) <= day and tx.reserved() == 0
                assert not tx.runs(state=RunState.OPEN), "nothing was begun for the loser"
            # The guard that was let pass for this plan lets it through.
            again = next(one for one, report in zip(plans, reports, strict=True) if loser in report.results.values())
            passing = Executor(again.runner, again.plan, passed=frozenset({"spend-day"}))
            assert (await passing.run()).complete

    play(main, scene.world.clock)


def test_a_daemon_out_of_budget_waits_for_midnight_and_goes_on_by_itself(scene: Scene) -> None:
    async def main() -> None:
        dear = await shop(scene)
        async with opened(scene) as space:
            with space.ports.ledger.begin() as tx:
                spent = tx.spent_since(today(space))
            limits = Limits(spend_kinds={"Dataset": dear + dear // 2}, spend_day=spent + 10 * dear)
            space.runner.limits = limits
            handlers = Handlers(space.runner, space.surveyor, limits, "auto")
            refused = await look(space, handlers)
            assert [guard.name for guard in refused.refusals] == ["spend-day:Dataset"]
            (scene.root / "more.yaml").unlink()
            await look(space, handlers)
            assert "Dataset/rates" in recorded(space)
            scene.write({"more.yaml": SECOND})
            await look(space, handlers)
            assert "Dataset/more" not in recorded(space)
            await space.ports.clock.sleep(24 * 3600)
            await look(space, handlers)
            assert "Dataset/more" in recorded(space)

    play(main, scene.world.clock)


def test_a_resource_spends_no_more_on_one_generation_than_its_own_limit(scene: Scene) -> None:
    async def main() -> None:
        await shop(scene)
        (scene.root / "more.yaml").unlink()
        async with opened(scene) as space:
            survey = await space.surveyor.survey()
            plan = space.surveyor.plan(survey, Limits())
            (change,) = plan.acting
            assert change.after is not None
            most = change.cost.satoshis
            tight = replace(change, after=replace(change.after, lifecycle=replace(change.after.lifecycle, max_spend=most)))
            with space.ports.ledger.begin() as tx:
                require_own(tx, tight, frozenset())
                tx.open_run(Run("run_before", f"ref/{RATES}", {"change": encode(tight)}, "0", began=space.ports.clock.now()))
                tx.book("run_before", RATES, space.ports.clock.now(), 1, 0, 0)
                with pytest.raises(GuardRefused, match="1 sat spent on generation 1") as refused:
                    require_own(tx, tight, frozenset())
                assert refused.value.code == "max-spend"
                require_own(tx, tight, frozenset({"max-spend"}))
                require_own(tx, replace(tight, generation=2), frozenset())
                tx.close_run("run_before", RunState.DONE)
            scene.write({"dataset.yaml": f"{FULL['dataset.yaml']}lifecycle: {{maxSpend: {most}}}\n"})
            survey = await space.surveyor.survey()
            plan = space.surveyor.plan(survey, Limits())
            (refused_at_plan,) = plan.refusals
            assert refused_at_plan.name == "max-spend" and plan.acting == ()
            (held,) = [one for one in plan.changes if one.ref == RATES]
            assert held.blocked == f"costs {most} sat after 1 sat spent on generation 1, more than its maxSpend of {most} sat"
            assert space.surveyor.plan(survey, Limits(approved=frozenset({"max-spend"}))).refusals == ()
            scene.write({"dataset.yaml": f"{FULL['dataset.yaml']}lifecycle: {{maxSpend: {most + 1}}}\n"})
            plan = space.surveyor.plan(await space.surveyor.survey(), Limits())
            assert plan.refusals == () and [change.ref for change in plan.acting] == [RATES]

    play(main, scene.world.clock)


@pytest.mark.row("S-13", "P-ID-10")
def test_an_identity_that_says_who_must_agree_is_not_rotated_without_them(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIR_KEY", "55" * 32)
    said = f"  approvals: {{required: 1, keys: [{public_key(EVE).hex()}]}}\n"
    identity = (scene.root / "identity.yaml").read_text()
    rotated = identity + "  rotation: {next: {env: HEIR_KEY}, transitionPeriod: 7d}\n"
    scene.write({"reconciler.yaml": "mode: auto\n", "identity.yaml": identity + said})

    def keys(space: Workspace) -> int:
        record = space.ports.ledger.read(space.ports.clock.now()).records[ResourceRef("Identity", "desk")]
        return len(record.outputs.get("keys") or [1])

    async def main() -> None:
        await scene.fund()
        async with opened(scene) as space:
            handlers = daemon(space)
            await look(space, handlers)
            assert "Identity/desk" in recorded(space), "what is new asks nobody"
            # The same commit that rotates takes the block away: what is recorded binds.
            for text in (rotated, rotated + said):
                scene.write({"identity.yaml": text})
                plan = await look(space, handlers)
                (refusal,) = plan.refusals
                assert refusal.message == f"1 of desk:{public_key(EVE).hex()[:8]} must sign for Identity/desk"
                assert keys(space) == 1
            assert space.approvals is not None
            space.approvals.enter([("x", letter(plan, ANN, "approvals"))])
            assert (await look(space, handlers)).id == plan.id and keys(space) == 1, "whoever signs must have the key"
            space.approvals.enter([("x", letter(plan, EVE))])
            await look(space, handlers)
            assert keys(space) == 2 and events(space) == ["plan.approved"]
            # When the window ends the old key is retired without asking anybody.
            scene.world.clock.advance(8 * 24 * 3600)
            plan = await look(space, handlers)
            assert [change.verb for change in plan.acting] == [Verb.REPAIR] and not plan.refusals
            scene.write({"identity.yaml": rotated + said.replace("required: 1", "required: 2")})
            (fault,) = space.surveyor.load().errors
            assert "2 of 1 keys can never agree" in fault.message

    play(main, scene.world.clock)
