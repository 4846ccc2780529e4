"""A repository that is followed: a commit is a deployment, a bad one changes nothing, and its authors are told either way."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reconciler.cli import exits, saved_plan
from reconciler.compose import Workspace
from reconciler.engine.daemon import Daemon
from reconciler.engine.execute import Executor
from reconciler.engine.handlers import Handlers
from reconciler.engine.review import status_of
from reconciler.model.errors import Conflict
from reconciler.model.plan import Plan
from reconciler.model.review import State
from reconciler.model.standing import Standing
from reconciler.model.status import Truth
from reconciler.planner.planfile import read_plan
from reconciler.wire.message import verify_message
from tests.e2e.remote import Remote, ssh_key
from tests.e2e.scene import FULL, Scene, play

TOKEN = "tok-statuses-very-secret"
SETTINGS = """\
mode: {mode}
source:
  git:
    url: {url}
    path: producers
    poll: 1m
    {verify}
review:
  context: reconciler/test
  statuses: {{url: "https://api.devnet/repos/desk/shop", token: {{env: STATUS_TOKEN}}, comments: "https://api.devnet/comments/{{commit}}"}}
  webhook: {{url: "https://hook.devnet/plans", secret: {{env: HOOK_SECRET}}}}
  directory: review
"""
MANIFESTS: dict[str, str | bytes | None] = {f"producers/{name}": text for name, text in FULL.items()}


class Reviewer:
    """The host of the repository, as far as it takes statuses, comments and webhooks."""

    def __init__(self) -> None:
        self.statuses: list[tuple[str, str, str]] = []
        self.comments: list[tuple[str, str]] = []
        self.hooks: list[dict[str, Any]] = []
        self.broken = False

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/repos/desk/shop/statuses/{commit}", self.status, methods=["POST"]),
                Route("/comments/{commit}", self.comment, methods=["POST"]),
                Route("/plans", self.hook, methods=["POST"]),
            ]
        )

    async def status(self, request: Request) -> Response:
        if self.broken:
            return JSONResponse({"message": "down for repairs"}, status_code=500)
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        body = await request.json()
        assert body["context"] == "reconciler/test" and len(body["description"]) <= 140
        self.statuses.append((request.path_params["commit"], body["state"], body["description"]))
        return JSONResponse({}, status_code=201)

    async def comment(self, request: Request) -> Response:
        self.comments.append((request.path_params["commit"], (await request.json())["body"]))
        return JSONResponse({}, status_code=201)

    async def hook(self, request: Request) -> Response:
        assert request.headers["webhook-signature"].startswith("v1,")
        self.hooks.append(await request.json())
        return JSONResponse({})


@pytest.fixture
def origin(tmp_path: Path) -> Remote:
    return Remote(tmp_path / "origin")


@pytest.fixture
def reviewer() -> Reviewer:
    return Reviewer()


@pytest.fixture
def desk(tmp_path: Path, origin: Remote, reviewer: Reviewer, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("STATUS_TOKEN", TOKEN)
    monkeypatch.setenv("HOOK_SECRET", "a secret of two")
    made = Scene(tmp_path / "desk")
    made.world.network.apps |= {"api.devnet": reviewer.app(), "hook.devnet": reviewer.app()}
    configure(made, origin)
    return made


def configure(desk: Scene, origin: Remote, mode: str = "auto", verify: str = "") -> None:
    desk.write({"reconciler.yaml": SETTINGS.format(mode=mode, url=origin.url, verify=verify)})


def acting(space: Workspace) -> Handlers:
    """The daemon's own handlers."""
    made = Handlers(space.runner, space.surveyor, space.settings.limits, space.settings.mode)
    assert space.review is not None
    made.tell, made.approvals = space.review, space.approvals
    return made


async def passed(handlers: Handlers) -> Plan:
    """One pass over everything."""
    async with handlers.runner.lease("plan") as lease:
        await handlers.plan(lease)
    assert handlers.last_plan is not None
    return handlers.last_plan


async def once(desk: Scene) -> Plan:
    """One pass in a process of its own."""
    async with desk.open() as space:
        return await passed(acting(space))


def noted(space: Workspace, name: str = "source") -> Any:
    with space.ports.ledger.begin() as tx:
        return tx.get(name)


def revisions(space: Workspace) -> dict[str, tuple[str, int]]:
    """Revision and generation of everything recorded."""
    from reconciler.engine.survey import midnight

    records = space.ports.ledger.read(midnight(space.ports.clock.now())).records
    return {str(ref): (record.revision, record.generation) for ref, record in records.items()}


@pytest.mark.row("P-CFG-16")
def test_a_commit_is_a_deployment_and_a_bad_one_keeps_the_last_good(
    desk: Scene, origin: Remote, reviewer: Reviewer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "reconciler")
    first = origin.push(MANIFESTS)

    async def scene() -> None:
        await desk.fund()
        async with desk.open() as space:
            handlers, stop = acting(space), asyncio.Event()
            daemon = Daemon(space.ports, handlers, "test", [], lambda key, seconds, put: None)
            running = asyncio.ensure_future(daemon.run(stop))

            async def until(true: Callable[[], object], patience: float = 600) -> None:
                deadline = desk.world.clock.elapsed + patience
                while not true():
                    assert desk.world.clock.elapsed < deadline, (handlers.source_fault, noted(space), caplog.text[-2000:])
                    await desk.world.clock.sleep(1)

            await until(lambda: len(revisions(space)) == 5)
            assert {revision for revision, _ in revisions(space).values()} == {f"main@{first}"}
            blobs = [
                path for path in desk.root.rglob("*") if path.is_file() and path.read_bytes() == FULL["data/rates.csv"].encode()
            ]
            assert len(blobs) == 1 and "blobs" in blobs[0].parts, "content came by id, into the blob store and nowhere else"
            # The price moves with a commit, found by the poll.
            second = origin.push({"producers/price.yaml": FULL["price.yaml"].replace("25sat", "30sat")})
            await until(lambda: revisions(space)["PricePlan/standard"] == (f"main@{second}", 2))
            # A commit that does not read changes nothing, and says where it is wrong.
            third = origin.push({"producers/price.yaml": FULL["price.yaml"].replace("rate:", "rat:")})
            await until(lambda: not noted(space)["ready"])
            assert noted(space)["message"].startswith("price.yaml:")
            assert revisions(space)["PricePlan/standard"] == (f"main@{second}", 2)
            await until(lambda: reviewer.statuses[-1][:2] == (third, "failure"))
            fourth = origin.push({"producers/price.yaml": FULL["price.yaml"]})
            await until(lambda: revisions(space)["PricePlan/standard"] == (f"main@{fourth}", 3))
            await until(lambda: reviewer.statuses[-1][:2] == (fourth, "success"))
            stop.set()
            await running
            states = [(commit, state) for commit, state, _ in reviewer.statuses]
            assert (first, "success") in states and (second, "success") in states
            assert "price.yaml:" in next(text for commit, state, text in reviewer.statuses if state == "failure")
            assert TOKEN not in caplog.text

    play(scene, desk.world.clock)


def test_a_saved_plan_of_an_older_head_is_stale(desk: Scene, origin: Remote, tmp_path: Path) -> None:
    origin.push(MANIFESTS)
    file = tmp_path / "plan.json"

    def refused(space: Workspace) -> str:
        """What the verb that applies a saved plan says of it; empty when it would be carried out."""
        try:
            saved_plan.check(space, saved_plan.read(file), None, frozenset())
        except Conflict as error:
            return f"{error.code}: {error.message}"
        return ""

    async def scene() -> None:
        await desk.fund()
        async with desk.open() as space:
            plan = await desk.plan(space)
            saved_plan.save(plan, file)
            assert refused(space) == ""
        newer = origin.push({"producers/price.yaml": FULL["price.yaml"].replace("25sat", "30sat")})
        async with desk.open() as space:
            await space.ports.source.refresh()
            assert (
                refused(space) == f"stale: cannot apply this plan: it was made for {plan.revision}, and main@{newer} is in force"
            )
            assert exits.code_of(Conflict("stale", "")) == exits.STALE == 5
        async with desk.open() as space:
            saved_plan.save(await desk.plan(space), file)
            assert refused(space) == "", "the plan of the new head passes"

    play(scene, desk.world.clock)


def test_an_unsigned_head_stays_out_of_force_and_everybody_is_told(
    desk: Scene, origin: Remote, reviewer: Reviewer, tmp_path: Path
) -> None:
    alice = ssh_key(tmp_path / "keys", "alice")
    configure(desk, origin, verify=f"verify: {{ssh: ['{alice.allowed('alice@example.org')}']}}")
    origin.sign = alice.signing
    good = origin.push(MANIFESTS)

    async def scene() -> None:
        await desk.fund()
        await once(desk)
        async with desk.open() as space:
            assert noted(space)["verified"] | {"since": ""} == {
                "status": "True", "reason": "Verified", "message": "signed by alice@example.org", "since": "",
            }  # fmt: skip
        origin.sign = ()
        bad = origin.push({"producers/price.yaml": FULL["price.yaml"].replace("25sat", "1sat")})
        for _ in range(2):  # as two processes, for what is told is told once
            plan = await once(desk)
            assert plan.revision == f"main@{good}" and not plan.acting
        async with desk.open() as space:
            source = noted(space)
            assert (source["verified"]["status"], source["verified"]["reason"]) == ("False", "Unsigned")
            assert (source["head"], source["current"], source["ready"]) == (f"main@{bad}", f"main@{good}", True)
            survey = await space.surveyor.survey()
            assert any(note.startswith(f"HEAD main@{bad[:12]} is not in force (Unsigned)") for note in survey.notes)
        told = [one for one in reviewer.statuses if one[0] == bad]
        assert [one[1] for one in told] == ["failure"] and "not in force" in told[0][2]
        assert json.loads((desk.root / "review/status.json").read_text())["revision"] == f"main@{bad}"

    play(scene, desk.world.clock)


def test_with_the_remote_down_a_new_process_keeps_what_was_declared(desk: Scene, origin: Remote) -> None:
    good = origin.push(MANIFESTS)

    async def scene() -> None:
        await desk.fund()
        await once(desk)
        shutil.move(origin.bare, origin.root / "away.git")
        async with desk.open() as space:
            dataset = next(r for r in revisions(space) if r.startswith("Dataset/"))
            handlers = acting(space)
            plan = await passed(handlers)
            assert plan.revision == f"main@{good}" and not handlers.source_fault and not plan.acting
            assert noted(space)["reachable"]["status"] == "False"
        # Even with the mirror gone nothing is retired: the ledger's word stands.
        shutil.rmtree(desk.root / ".state/git")
        async with desk.open() as space:
            handlers = acting(space)
            plan = await passed(handlers)
            assert handlers.source_fault and not plan.acting and dataset in {str(c.ref) for c in plan.changes}
        shutil.move(origin.root / "away.git", origin.bare)
        async with desk.open() as space:
            plan = await passed(acting(space))
            assert plan.revision == f"main@{good}" and noted(space)["ready"] and noted(space)["reachable"]["status"] == "True"

    play(scene, desk.world.clock)


def test_a_reviewer_that_is_down_blocks_nothing_and_is_told_later(desk: Scene, origin: Remote, reviewer: Reviewer) -> None:
    head = origin.push(MANIFESTS)
    reviewer.broken = True

    async def scene() -> None:
        await desk.fund()
        plan = await once(desk)
        assert len(plan.acting) == 5
        async with desk.open() as space:
            assert len(revisions(space)) == 5
        assert reviewer.statuses == [] and reviewer.hooks[-1]["state"] == "success"
        reviewer.broken = False
        count = len(reviewer.hooks)
        desk.world.clock.advance(60)
        await once(desk)
        assert [one[:2] for one in reviewer.statuses] == [(head, "success")]
        await once(desk)
        assert len(reviewer.statuses) == 1, "told twice"
        assert len(reviewer.hooks) - count <= 1

    play(scene, desk.world.clock)


def test_propose_puts_a_signed_plan_where_reviewers_find_it_and_waits(desk: Scene, origin: Remote, reviewer: Reviewer) -> None:
    configure(desk, origin, mode="propose")
    head = origin.push(MANIFESTS)

    async def scene() -> None:
        await desk.fund()
        plan = await once(desk)
        assert len(plan.acting) == 5
        again = await once(desk)
        assert again.id == plan.id, "another plan each time could never be approved"
        async with desk.open() as space:
            assert revisions(space) == {}, "it acted without approval"
            folder = desk.root / "review"
            file, signature = (folder / f"{plan.id}.json").read_bytes(), json.loads((folder / f"{plan.id}.json.sig").read_text())
            assert verify_message(base64.b64decode(signature["value"]), file).hex() == signature["signer"]
            assert signature["signer"] == space.ports.wallet.public_key("wallet")
            markdown = (folder / f"{plan.id}.md").read_text()
            assert f"`{plan.id}`" in markdown and "Dataset/rates" in markdown
            assert reviewer.comments == [(head, markdown)]
            (proposed,) = [one for one in reviewer.hooks if one["type"] == "plan.proposed"]
            assert proposed["file"].encode() == file and proposed["signature"] == signature
            assert [one[:2] for one in reviewer.statuses] == [(head, "pending")]
            assert plan.id in reviewer.statuses[0][2] and "waits for approval" in reviewer.statuses[0][2]
            # What was proposed is what a person can carry out.
            report = await Executor(space.runner, read_plan(file)).run()
            assert report.complete
        plan = await once(desk)
        assert not plan.acting and reviewer.statuses[-1][:2] == (head, "success")

    play(scene, desk.world.clock)


# --- the words of a status -----------------------------------------------------------------------


HEAD = Standing("main@" + "a" * 40, "main@" + "a" * 40)


def test_a_source_without_commits_has_no_status() -> None:
    assert status_of(Standing(), "", "auto", None, None) is None
    assert status_of(HEAD, "", "auto", None, None) is None


def test_a_head_that_is_held_back_is_the_one_that_is_told_about() -> None:
    held = Standing("main@" + "a" * 40, "main@" + "b" * 40, Truth.FALSE, "Unsigned", "bears no\x1b[31m signature " + "x" * 200)
    status = status_of(held, "", "auto", None, None)
    assert status is not None and status.commit == "b" * 40 and status.state is State.FAILURE
    assert len(status.summary) <= 140 and "\x1b" not in status.summary
