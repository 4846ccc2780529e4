"""A person's word that a resource is left alone: durable, with a reason and an end, honoured by whoever plans."""

from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.adapters.sql import backup as copies
from reconciler.cli.books import read
from reconciler.cli.inspect import _status_text
from reconciler.engine import pause
from reconciler.engine.forget import forget
from reconciler.engine.handlers import Handlers
from reconciler.engine.rebuild import adopt
from reconciler.engine.stale import agrees
from reconciler.model.change import Reason, Verb
from reconciler.model.errors import Conflict, Refused
from reconciler.model.ref import ResourceRef
from reconciler.ports import Lease
from tests.e2e.scene import DATASET, FULL, Scene, play

RATES = ResourceRef("Dataset", "rates")
FEED = ResourceRef("Advertisement", "feed")


def test_a_suspended_resource_is_left_alone_by_everybody_until_it_ends(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            now = space.ports.clock.now()
            with space.ports.ledger.begin() as tx:
                pause.suspend(tx, RATES, pause.Pause("talks with the source", "ann", now, now + timedelta(hours=2)))
        scene.write({"dataset.yaml": DATASET.replace("title: Rates", "title: Other")})
        # A fresh process, and the daemon, both leave it.
        async with scene.open() as space:
            (change,) = [c for c in (await scene.plan(space)).changes if c.ref == RATES]
            assert (change.verb, change.reason) == (Verb.NONE, Reason.SUSPENDED)
            assert change.detail.startswith("talks with the source until ")
            sent = len(scene.world.chain.state.txs)
            handlers = Handlers(space.runner, space.surveyor, space.settings.limits, "auto")
            await handlers.plan(Lease("plan", 1, "test", now + timedelta(hours=1)))
            assert len(scene.world.chain.state.txs) == sent
            told = _status_text(await read(space), None, wide=False)
            assert "suspended by ann: talks with the source (until " in told and told.endswith(", 1 suspended")
            with space.ports.ledger.begin() as tx:
                (noted,) = [one for one in tx.history(RATES) if one["event"] == "resource.suspended"]
            assert noted["detail"]["by"] == "ann"
            await space.ports.clock.sleep(2 * 3600 + 1)
            (change,) = [c for c in (await scene.plan(space)).changes if c.ref == RATES]
            assert change.verb is Verb.UPDATE
            assert "suspended" not in _status_text(await read(space), None, wide=False)

    play(main, scene.world.clock)


def test_resume_ends_it_and_a_manifest_that_went_does_not_pull_it_away(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            now = space.ports.clock.now()
            with space.ports.ledger.begin() as tx:
                pause.suspend(tx, FEED, pause.Pause("moving house", "ann", now))
            (scene.root / "advertisement.yaml").unlink()
            (change,) = [c for c in (await scene.plan(space)).changes if c.ref == FEED]
            assert (change.verb, change.reason) == (Verb.NONE, Reason.SUSPENDED)
            # What a plan remembered of the pause for bad days goes with it.
            await Handlers(space.runner, space.surveyor, space.settings.limits, "auto").plan(Lease("plan", 1, "test", now))
            with space.ports.ledger.begin() as tx:
                pause.resume(tx, FEED, "bob", now)
            (change,) = [c for c in (await scene.plan(space)).changes if c.ref == FEED]
            assert change.verb is Verb.DELETE
            with space.ports.ledger.begin() as tx, pytest.raises(Refused, match="nobody suspended"):
                pause.resume(tx, FEED, "bob", now)

    play(main, scene.world.clock)


def test_the_pause_of_a_manifest_ends_with_its_moment(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            until = f"{space.ports.clock.now() + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
            said = f'lifecycle: {{suspend: {{reason: later, until: "{until}"}}}}\nspec:'
            scene.write({"dataset.yaml": DATASET.replace("spec:", said, 1)})
            (change,) = [c for c in (await scene.plan(space)).changes if c.ref == RATES]
            assert change.reason is Reason.SUSPENDED
            await space.ports.clock.sleep(3601)
            (change,) = [c for c in (await scene.plan(space)).changes if c.ref == RATES]
            assert change.verb is Verb.CREATE

    play(main, scene.world.clock)


def test_what_is_forgotten_stays_on_the_network_and_can_be_adopted_again(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            now, sent = space.ports.clock.now(), len(scene.world.chain.state.txs)
            before = space.ports.ledger.read(now).records
            with space.ports.ledger.begin() as tx:
                with pytest.raises(Refused, match="stands on it"):
                    forget(tx, before[RATES], [FEED], "ann", now)
                forget(tx, before[FEED], [], "ann", now)
            (change,) = [c for c in (await scene.plan(space)).changes if c.ref == FEED]
            assert change.reason is Reason.UNMANAGED and "reconciler adopt Advertisement/feed" in (change.blocked or "")
            await adopt(space.runner, await space.surveyor.survey(), "ann", {FEED})
            assert (await scene.plan(space)).empty
            assert space.ports.ledger.read(now).records[FEED].outputs["tokens"] == before[FEED].outputs["tokens"]
            assert len(scene.world.chain.state.txs) == sent

    play(main, scene.world.clock)


def test_a_copy_is_whole_and_one_that_is_behind_is_known_by_its_coins(scene: Scene, tmp_path: Path) -> None:
    file = tmp_path / "copies" / "ledger.db"
    file.parent.mkdir()

    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            copies.backup(space.settings.database, file)
            assert await agrees(space.ports, "devnet", scene.net().headers) == []
            serial = space.ports.ledger.read(space.ports.clock.now()).serial
            scene.write({"data/rates.csv": FULL["data/rates.csv"] + "2024-01-09,1.9\n"})
            await scene.apply(space)
            database = space.settings.database
        copies.require_whole(file)
        kept = copies.put_back(file, database, "before.db")
        assert kept is not None and kept.exists()
        async with scene.open() as space:
            assert space.ports.ledger.read(space.ports.clock.now()).serial == serial
            found = await agrees(space.ports, "devnet", scene.net().headers)
            assert found and all(one.txid for one in found)
        with file.open("r+b") as stream:
            stream.seek(4096)
            stream.write(b"\0" * 64)
        with pytest.raises(Conflict, match="digest"):
            copies.require_whole(file)

    play(main, scene.world.clock)
