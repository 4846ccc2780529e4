"""Nothing is retired because a reading of the manifests was empty, partial or unverified, and the condition says which it was."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.planning import Invalid, Wish, prepare
from reconciler.compose import Workspace
from reconciler.engine.handlers import Handlers
from reconciler.engine.notices import named
from reconciler.engine.source import MOVING
from reconciler.engine.worker import Worker
from reconciler.model.change import Verb
from reconciler.model.errors import Unavailable
from reconciler.ports import Lease
from tests.e2e.crash import DESK, OPEN_KEY, PROCESS, SEALED_KEY, WALLET
from tests.e2e.remote import Remote, ssh_key
from tests.e2e.scene import DATASET, FULL, IDENTITY, NETWORK, Scene, play

# The daemon may delete all of it by itself: only what it reads keeps it from that.
PRUNED = {
    name: text.replace("spec:", "lifecycle: {prune: auto}\nspec:", 1)
    for name, text in {
        "network.yaml": NETWORK,
        "identity.yaml": IDENTITY.replace(SEALED_KEY, OPEN_KEY).replace("  register: true\n", ""),
        "dataset.yaml": DATASET.replace("  pricePlanRef: standard\n", "  price: 5sat\n"),
    }.items()
}
GIT = """\
wallet: {{key: {{env: WALLET_KEY}}}}
mode: auto
guards: {{deletes: {{percent: 100}}}}
source: {{git: {{url: {url}, path: producers, poll: 1m, {verify}}}}}
"""


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open keys: nothing here is about passphrases."""
    for name, secret in (("DESK", DESK), ("WALLET", WALLET)):
        monkeypatch.setenv(f"{name}_KEY", secret.hex())


def daemon(space: Workspace) -> Handlers:
    """What a daemon would do, in mode auto."""
    return Handlers(space.runner, space.surveyor, space.settings.limits, "auto")


async def passed(handlers: Handlers, attempts: int = 0) -> None:
    async with handlers.runner.lease("plan") as lease:
        await handlers.plan(Lease(lease.key, lease.fence, lease.owner, lease.until, attempts))


def source(space: Workspace) -> Any:
    with space.ports.ledger.begin() as tx:
        return tx.get("source")


def refs(space: Workspace) -> set[str]:
    return {str(ref) for ref in space.ports.ledger.read(space.ports.clock.now()).records}


async def begun(scene: Scene) -> set[str]:
    for name in FULL:
        (scene.root / name).unlink()
    scene.write({**PRUNED, "data/rates.csv": FULL["data/rates.csv"], "reconciler.yaml": PROCESS})
    await scene.fund()
    async with scene.open() as space:
        await passed(daemon(space))
        assert len(refs(space)) == 3 and source(space)["ready"]
        return refs(space)


def empty(root: Path) -> None:
    for file in root.glob("*.yaml"):
        if file.name != "reconciler.yaml":
            file.unlink()


def unmounted(root: Path) -> None:
    """The directory is there, and what was mounted on it is not."""
    empty(root)
    shutil.rmtree(root / "data")


def unreadable(root: Path) -> None:
    """Permissions do not stop the superuser; a link to nowhere cannot be read by anybody."""
    (root / "dataset.yaml").unlink()
    (root / "dataset.yaml").symlink_to(root / "nowhere.yaml")


def content_gone(root: Path) -> None:
    (root / "data/rates.csv").unlink()


def content_unreadable(root: Path) -> None:
    (root / "data/rates.csv").unlink()
    (root / "data/rates.csv").symlink_to("rates.csv")


def broken(root: Path) -> None:
    """Half a file, as after a torn write."""
    (root / "dataset.yaml").write_text(PRUNED["dataset.yaml"][:60])


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (empty, "nothing is declared, and 3 resources are recorded"),
    "not mounted": (unmounted, "nothing is declared, and 3 resources are recorded"),
    "a file unreadable": (unreadable, "dataset.yaml: No such file or directory"),
    "a content file gone": (content_gone, 'no file matches "data/rates.csv"'),
    "a content file unreadable": (content_unreadable, "data/rates.csv: it leads nowhere"),
    "half a file": (broken, "dataset.yaml:"),
}


@pytest.mark.row("P-CFG-16", "P-RISK-02")
@pytest.mark.parametrize(("damage", "why"), DAMAGES.values(), ids=DAMAGES)
def test_the_daemon_retires_nothing_on_a_bad_read_and_says_why(scene: Scene, damage: Callable[[Path], None], why: str) -> None:
    async def main() -> None:
        before = await begun(scene)
        sent = len(scene.world.chain.state.txs)
        damage(scene.root)
        for _ in range(2):  # as two processes: the second has no last good manifests but the ledger's
            async with scene.open() as space:
                handlers = daemon(space)
                await passed(handlers)
                assert handlers.last_plan is not None
                assert not [c for c in handlers.last_plan.changes if c.verb in (Verb.DELETE, Verb.FORGET)]
                assert refs(space) == before and len(scene.world.chain.state.txs) == sent
                said = source(space)
                assert not said["ready"] and why in said["message"], said
        # Whoever is told of conditions is told of this one.
        (told,) = named("source", {"ready": True}, said, space.ports.clock.now())
        assert told.type == "SourceReady" and why in told.message
        for file in ("dataset.yaml", "data/rates.csv"):
            (scene.root / file).unlink(missing_ok=True)
        scene.write({**PRUNED, "data/rates.csv": FULL["data/rates.csv"]})
        async with scene.open() as space:
            await passed(daemon(space))
            assert source(space)["ready"] and refs(space) == before

    play(main, scene.world.clock)


@pytest.mark.row("P-CFG-16")
@pytest.mark.parametrize("damage", [empty, unreadable, content_gone], ids=["empty", "a file unreadable", "content gone"])
def test_plan_and_apply_retire_nothing_on_a_bad_read(scene: Scene, damage: Callable[[Path], None]) -> None:
    async def main() -> None:
        await begun(scene)
        damage(scene.root)
        async with scene.open() as space:
            if damage is empty:
                plan = (await prepare(space, Wish())).plan
                assert [guard.name for guard in plan.refusals] == ["empty-source"] and not plan.acting
                assert {change.blocked for change in plan.changes} == {"the source declares nothing at all"}
                meant = (await prepare(space, Wish(approved=frozenset({"empty-source"})))).plan
                assert len(meant.acting) == 3 and not meant.refusals
            else:
                with pytest.raises(Unavailable if damage is unreadable else Invalid):
                    await prepare(space, Wish())

    play(main, scene.world.clock)


def test_a_file_that_is_being_written_is_waited_for_and_told_of_when_that_lasts(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        before = await begun(scene)
        async with scene.open() as space:
            handlers = daemon(space)

            def moving(surveyor: object) -> None:
                raise Unavailable(MOVING, "cannot read dataset.yaml: it is being written")

            monkeypatch.setattr(type(space.surveyor), "load", moving)
            with pytest.raises(Unavailable):
                await passed(handlers)
            assert source(space)["ready"], "once is nothing"
            with pytest.raises(Unavailable):
                await passed(handlers, attempts=1)
            assert not source(space)["ready"] and "being written" in source(space)["message"]
            assert refs(space) == before
            # The worker comes back to it by itself.
            space.ports.queue.put("plan", space.ports.clock.now())
            lease = space.ports.queue.claim("w", space.ports.clock.now())
            assert lease is not None
            await Worker(space.ports, handlers.table(), "w").handle(lease)
            assert space.ports.queue.next_due() is not None

    play(main, scene.world.clock)


@pytest.mark.row("P-CFG-16")
@pytest.mark.parametrize("damage", ["unsigned", "path gone", "rewound"])
def test_a_head_that_cannot_be_believed_retires_nothing(tmp_path: Path, damage: str) -> None:
    origin = Remote(tmp_path / "origin")
    alice = ssh_key(tmp_path / "keys", "alice")
    (tmp_path / "desk").mkdir()
    desk = Scene(tmp_path / "desk")
    desk.write(
        {"reconciler.yaml": GIT.format(url=origin.url, verify=f"verify: {{ssh: ['{alice.allowed('alice@example.org')}']}}")}
    )
    origin.sign = alice.signing
    manifests: dict[str, str | bytes | None] = {f"producers/{name}": text for name, text in PRUNED.items()}
    manifests["producers/data/rates.csv"] = FULL["data/rates.csv"]
    old = origin.push(manifests)
    good = origin.push({"producers/dataset.yaml": PRUNED["dataset.yaml"].replace("title: Rates", "title: Good")})
    gone: dict[str, str | bytes | None] = {"producers/dataset.yaml": None}
    reasons = {"unsigned": "Unsigned", "path gone": "Unreadable", "rewound": "Rewound"}

    async def main() -> None:
        await desk.fund()
        async with desk.open() as space:
            await passed(daemon(space))
            before = refs(space)
            assert len(before) == 3
        if damage == "unsigned":
            origin.sign = ()
            origin.push(gone)
        elif damage == "path gone":
            origin.push({**dict.fromkeys(manifests), "elsewhere/readme.md": "moved"})
        else:
            origin.call("reset", "--quiet", "--hard", old)
            origin.push(gone)
        for _ in range(2):
            async with desk.open() as space:
                handlers = daemon(space)
                await passed(handlers)
                plan = handlers.last_plan
                assert plan is not None and plan.revision == f"main@{good}" and not plan.acting
                assert refs(space) == before
                said = source(space)["verified"]
                assert (said["status"], said["reason"]) == ("False", reasons[damage]), said
                assert (await prepare(space, Wish())).plan.empty

    play(main, desk.world.clock)


def test_a_daemon_that_fell_behind_retires_nothing_on_the_word_of_an_older_revision(scene: Scene) -> None:
    """It read the manifests before a dataset was added, which another daemon published; what came then it cannot read."""

    async def main() -> None:
        before = await begun(scene)
        published = (scene.root / "dataset.yaml").read_text()
        async with scene.open() as space:
            behind = daemon(space)
            (scene.root / "dataset.yaml").unlink()
            behind.last_good = space.surveyor.load().desired
            scene.write({"dataset.yaml": published, "network.yaml": "kind: ["})
            await passed(behind)
            assert refs(space) == before
            assert not source(space)["ready"]
            scene.write({"network.yaml": PRUNED["network.yaml"]})
            (scene.root / "dataset.yaml").unlink()
            await passed(behind)
            assert refs(space) == before - {"Dataset/rates"}, "what can be read, counts"

    play(main, scene.world.clock)
