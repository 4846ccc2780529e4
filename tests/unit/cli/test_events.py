"""`events --follow`: the newest entries first, then each later one once, however many come between two looks."""

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reconciler.adapters.sql.ledger import open_ledger
from reconciler.cli.history import LOOK_EVERY, followed
from reconciler.devnet.clock import VirtualClock, run
from reconciler.model.ref import ResourceRef

RATES, FEED = ResourceRef("Dataset", "rates"), ResourceRef("Advertisement", "feed")


def test_what_is_noted_later_is_told_in_order_and_once(tmp_path: Path) -> None:
    clock, told = VirtualClock(datetime(2026, 1, 2, tzinfo=UTC)), list[Mapping[str, Any]]()

    async def main() -> None:
        ledger, _ = open_ledger(tmp_path / "ledger.db", clock=clock)

        def note(number: int, ref: ResourceRef = RATES) -> None:
            with ledger.begin() as tx:
                tx.note(ref, clock.now(), "change.applied", {"verb": f"step {number}"})

        def steps() -> list[str]:
            return [one["detail"]["verb"].removeprefix("step ") for one in told]

        for number in range(4):
            note(number)
        task = asyncio.ensure_future(followed(ledger, clock, RATES, 2, told.append))
        await clock.sleep(LOOK_EVERY / 2)
        assert steps() == ["2", "3"]
        # More between two looks than the limit of the first one, and one about another resource.
        for number in range(4, 9):
            note(number)
        note(9, FEED)
        await clock.sleep(LOOK_EVERY * 3)
        assert steps() == [str(number) for number in range(2, 9)]
        note(10)
        await clock.sleep(LOOK_EVERY)
        assert steps()[-1] == "10" and len(told) == 8
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        ledger.close()

    run(main(), clock=clock)


def test_of_an_empty_ledger_everything_that_comes_is_told(tmp_path: Path) -> None:
    clock, told = VirtualClock(datetime(2026, 1, 2, tzinfo=UTC)), list[Mapping[str, Any]]()

    async def main() -> None:
        ledger, _ = open_ledger(tmp_path / "ledger.db", clock=clock)
        task = asyncio.ensure_future(followed(ledger, clock, None, 1, told.append))
        await clock.sleep(LOOK_EVERY / 2)
        assert told == []
        with ledger.begin() as tx:
            for ref in (RATES, FEED, RATES):
                tx.note(ref, clock.now(), "change.applied", {})
        await clock.sleep(LOOK_EVERY)
        assert [one["ref"] for one in told] == ["Dataset/rates", "Advertisement/feed", "Dataset/rates"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        ledger.close()

    run(main(), clock=clock)
