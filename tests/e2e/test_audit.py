"""History as a chain: exported, held against the anchored head, and anchored by the same plan and run as everything else."""

import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reconciler.cli import audit as cli
from reconciler.cli.main import bind
from reconciler.compose import Workspace
from reconciler.engine.confirm import confirm
from reconciler.engine.execute import Executor
from reconciler.model.canonical import canonical
from reconciler.model.change import Verb
from reconciler.model.intent import RunState
from reconciler.model.plan import Plan
from reconciler.model.ref import ResourceRef
from reconciler.wire import auditlog
from tests.e2e.scene import DATASET, Scene, play

DAY = 24 * 3600
AUDIT = ResourceRef("Audit", "default")
SETTINGS = "wallet: {key: {file: .keys/wallet.json}}\naudit: {identity: desk, anchor: 24h}\n"


@pytest.fixture
def audited(scene: Scene) -> Scene:
    """The full producer, whose settings ask for anchors."""
    scene.write({"reconciler.yaml": SETTINGS})
    return scene


def anchoring(plan: Plan) -> list[str]:
    return [change.verb.value for change in plan.acting if change.ref == AUDIT]


async def export(space: Workspace, file: Path, proof: Path | None = None) -> list[dict]:
    """What `audit export` writes, by the same code."""
    _, _, evidence = await cli._export(space, file, proof is not None)
    if proof is not None:
        proof.write_bytes(evidence)
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def verify(*words: object) -> tuple[int, dict]:
    """`verify audit` as a process would run it."""
    ran = CliRunner().invoke(bind(), ["verify", "audit", *map(str, words), "-o", "json"], standalone_mode=False)
    return (ran.return_value, json.loads(ran.stdout))


async def mined(scene: Scene, space: Workspace) -> None:
    scene.world.mine()
    await confirm(space.ports, {scene.net().chain: scene.net()})


@pytest.mark.row("S-35", "P-SEC-01")
def test_the_head_is_anchored_daily_by_a_planned_priced_and_journaled_run(audited: Scene, tmp_path: Path) -> None:
    scene = audited

    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            plan, report = await scene.apply(space)
            assert report.complete and anchoring(plan) == []
            scene.world.clock.advance(DAY - 60)
            assert anchoring(await scene.plan(space)) == []
            scene.world.clock.advance(120)
            due, same = await scene.plan(space), await scene.plan(space)
            assert due.id == same.id and anchoring(due) == ["create"]
            (change,) = [one for one in due.acting if one.ref == AUDIT]
            assert change.cost.fees > 0 and change.cost.transactions == 1
            with space.ports.ledger.begin() as tx:
                head = tx.audit_head()
            assert (change.body["spec"]["entries"], change.body["spec"]["head"]) == (head.entries, head.digest)
            before = space.ports.ledger.read(space.ports.clock.now()).purses["devnet"].total
            report = await Executor(space.runner, due).run()
            assert report.complete, report
            after = space.ports.ledger.read(space.ports.clock.now())
            assert before - after.purses["devnet"].total == due.cost.satoshis
            with space.ports.ledger.begin() as tx:
                run = tx.run(change.run_id(due.lineage))
                assert run is not None and run.state is RunState.DONE
                assert [one.effect for one in tx.intents(run.id)][-3:] == ["Sign", "Broadcast", "Submit"]
            first = after.records[AUDIT].outputs["tokens"][0]["outpoint"]
            # Its own entries are no reason to anchor again: a quiet ledger pays nothing, however long.
            scene.world.clock.advance(30 * DAY)
            assert anchoring(await scene.plan(space)) == []
            # Something happens, and a day later the next head replaces the one before in one transaction.
            scene.write({"dataset.yaml": DATASET.replace("title: Rates", "title: More rates")})
            plan, report = await scene.apply(space)
            assert report.complete and anchoring(plan) == []
            scene.world.clock.advance(DAY + 1)
            plan, report = await scene.apply(space)
            assert report.complete and anchoring(plan) == ["update"]
            record = space.ports.ledger.read(space.ports.clock.now()).records[AUDIT]
            assert record.outputs["document"]["sequence"] == 2 and record.body["spec"]["entries"] > head.entries
            found = await space.ports.overlay.lookup(scene.net().overlays[0], "ls_producer", {"subject": "Audit/default"})
            assert [str(one.outpoint) for one in found] == [record.outputs["tokens"][0]["outpoint"]] != [first]
            # Without the setting it is retired like anything that is no longer declared.
            space.surveyor.audit = None
            plan = await scene.plan(space)
            assert [one.verb for one in plan.acting if one.ref == AUDIT] == [Verb.DELETE]

    play(main, scene.world.clock)


def test_what_it_may_cost_is_limited_and_an_unknown_signer_is_a_fault(audited: Scene) -> None:
    scene = audited

    async def main() -> None:
        await scene.fund()
        scene.write({"reconciler.yaml": SETTINGS.replace("24h", "24h, maxSpend: 1sat")})
        async with scene.open() as space:
            await scene.apply(space)
            scene.world.clock.advance(DAY + 1)
            plan = await scene.plan(space)
            (change,) = [one for one in plan.changes if one.ref == AUDIT]
            assert change.verb is Verb.CREATE and change.cost.satoshis > 1
            assert change.blocked is not None and "more than its maxSpend of 1 sat" in change.blocked
            assert any("Audit/default" in guard.message for guard in plan.refusals)
        scene.write({"reconciler.yaml": SETTINGS.replace("desk", "nobody")})
        async with scene.open() as space:
            loaded = (await space.surveyor.survey()).loaded
            assert loaded.desired is None
            assert "audit.identity names Identity/nobody, which is not declared" in loaded.errors[0].message

    play(main, scene.world.clock)


@pytest.mark.row("S-35")
def test_an_export_shows_every_way_it_was_tampered_with(audited: Scene, tmp_path: Path) -> None:
    scene, log, proof, early = audited, tmp_path / "log", tmp_path / "anchor.json", tmp_path / "early"

    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            await export(space, early)
            scene.world.clock.advance(DAY + 1)
            _, report = await scene.apply(space)
            assert report.complete
            await mined(scene, space)
            await export(space, log, proof)

    play(main, scene.world.clock)
    code, told = verify(log, "--against", proof, "--against", early)
    assert code == 0 and told["holds"], told
    assert {one["name"] for one in told["checks"]} >= {"chain", "head", "anchor.json proof", "anchor.json head", "early"}
    lines = log.read_bytes().splitlines(keepends=True)
    entries = [json.loads(line) for line in lines[1:]]
    assert {one["event"] for one in entries} >= {"change.applied", "money.booked"}
    booked = [one for one in entries if one["event"] == "money.booked"]
    assert sum(one["detail"]["fees"] for one in booked) > 0
    anchored = json.loads(proof.read_bytes())["document"]
    covered = json.loads(anchored)["document"]["entries"] if isinstance(anchored, str) else anchored["document"]["entries"]

    def forged(*kept: bytes, **head: object) -> Path:
        """A file of these lines under a head that fits them, as one who cheats would write it."""
        first = {**json.loads(lines[0]), **head}
        path = tmp_path / "forged"
        path.write_bytes(canonical(first) + b"\n" + b"".join(kept))
        return path

    def failed(path: Path) -> dict[str, str]:
        code, told = verify(path, "--against", proof)
        assert code == 1
        return {one["name"]: one["detail"] for one in told["checks"] if not one["ok"]}

    body = lines[1:]
    altered = {**entries[2], "detail": {**entries[2]["detail"], "satoshis": 0, "fees": 0}}
    assert "entry 3 was altered" in failed(forged(*body[:2], canonical(altered) + b"\n", *body[3:]))["chain"]
    assert "stands where 2 belongs" in failed(forged(body[0], *body[2:]))["chain"]
    assert "stands where 1 belongs" in failed(forged(body[1], body[0], *body[2:]))["chain"]
    # Cut off, under a head that fits: only who kept the anchor can tell, and does.
    short = forged(*body[: covered - 1], entries=covered - 1, head=entries[covered - 2]["digest"])
    assert verify(short)[0] == 0
    assert "the end was cut off" in failed(short)["anchor.json head"]
    assert "was cut off" in failed(forged(*body[:-1]))["head"]
    # Rewritten from the beginning, every digest anew: the anchor knows another history.
    previous, remade = auditlog.genesis(json.loads(lines[0])["lineage"]), []
    for one in entries:
        said = {**one, "ref": "Dataset/other" if one["number"] == 1 else one["ref"], "previous": previous}
        previous = auditlog.entry_digest(*(said[name] for name in ("number", "at", "ref", "event", "detail", "previous")))
        remade.append(canonical({**said, "digest": previous}) + b"\n")
    whole = forged(*remade, head=previous)
    assert verify(whole)[0] == 0
    assert "another history" in failed(whole)["anchor.json head"]
    # A proof that was touched, and a file that is no log at all.
    proof.write_bytes(proof.read_bytes().replace(b'"height":', b'"Height":', 1))
    assert failed(log)
    assert failed(forged(b"[]\n"))["form"]


def test_an_entry_changed_in_the_database_shows_in_the_next_export(audited: Scene, tmp_path: Path) -> None:
    scene = audited

    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            await export(space, tmp_path / "before")
        with sqlite3.connect(scene.root / ".state" / "ledger.db") as other:
            other.execute("UPDATE history SET detail = replace(detail, 'change', 'chance'), event = 'x' WHERE number = 2")
            other.execute("DELETE FROM history WHERE number = 4")
        other.close()
        async with scene.open() as space:
            with space.ports.ledger.begin() as tx:
                tx.note(None, space.ports.clock.now(), "later", {})
            await export(space, tmp_path / "after")

    play(main, scene.world.clock)
    assert verify(tmp_path / "before")[0] == 0
    code, told = verify(tmp_path / "after", "--against", tmp_path / "before")
    failed = {one["name"]: one["detail"] for one in told["checks"] if not one["ok"]}
    assert code == 1 and "entry 2 was altered" in failed["chain"] and "before" in failed
