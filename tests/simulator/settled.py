"""Grounds on which something is published already: a repository, applied by one daemon in good weather a day ago, and mined.

A first apply is a third of what a short story costs, and always the same; stories that are about what comes later begin here.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cache
from typing import Any

from tests.simulator import repository
from tests.simulator.actions import Story
from tests.simulator.ground import Ground, directory, economy, ground, keys
from tests.simulator.invariants import Witness
from tests.simulator.seed import Verdict, converge, listening, patience
from tests.simulator.stage import play

# The repositories of repository.first.
KINDS = range(3)
DAY = 86_400.0
# Far above what any one story starts, so that no process of a story draws the identifiers that are given out here.
STRAND = 1_000_000


@cache
def settled(kinds: int) -> Ground:
    """Made at first use; `kinds` as in repository.first."""
    base, verdict, made = ground(), Verdict(-1 - kinds), []
    with directory() as root, keys(), economy(), patience(), listening(verdict):

        async def tell() -> None:
            loop: Any = asyncio.get_running_loop()
            story = Story(kinds, base, loop, root)
            story.lines, story.budget, story.fleet.strand = verdict.lines, None, STRAND
            story.fleet.settings = replace(story.fleet.settings, limits=base.settings.limits)
            story.repository = repository.first(kinds)
            story.repository.checkout(story.fleet.clones / "a")
            story.fleet.start("a")
            witness = Witness(story)
            await converge(story, witness)
            await story.fleet.end()
            verdict.faults += story.fleet.faults + witness.faults
            made.append(_as_it_stands(story, kinds))

        play(tell(), base.world.clock, kinds)  # type: ignore[arg-type]
    if not verdict.good:
        raise AssertionError("\n".join([*verdict.lines, *verdict.faults]))
    return made[0]


def _as_it_stands(story: Story, kinds: int) -> Ground:
    state, world = story.disk.database.parent, story.ground.world
    left = {path.relative_to(state).as_posix(): path.read_bytes() for path in sorted(state.rglob("*")) if path.is_file()}
    ledger = left.pop(story.disk.database.name)
    assert not left.get(f"{story.disk.database.name}-wal"), "the write-ahead log was not folded back"
    return replace(
        story.ground,
        snapshot=world.snapshot(),
        ledger=ledger,
        applied=kinds,
        sent=tuple(story.sky.sent),
        blobs={path: content for path, content in left.items() if path.startswith("blobs/")},
        elapsed=world.clock.elapsed + DAY,  # type: ignore[attr-defined]
    )
