"""Two daemons on one ledger: when one dies, the other goes on within a lease, and nothing is done twice."""

import asyncio

import pytest

from reconciler.adapters.sql.queue import LEASE
from tests.simulator.actions import Story
from tests.simulator.ground import directory, economy, ground, keys
from tests.simulator.invariants import Witness
from tests.simulator.seed import NAP, Verdict, finish_story, listening, owned, patience, unsettled
from tests.simulator.stage import play

# A lease, and how long the other one may be napping and then working.
WITHIN = LEASE.total_seconds() + NAP + 15.0


def killed_at(step: int) -> tuple[Verdict, float | None, str]:
    """One daemon is killed at its n-th durable step after an edit; (verdict, seconds until all was done, where it died)."""
    verdict, base = Verdict(step), ground()
    seconds: list[float] = []

    async def tell() -> None:
        story = Story(step, base, asyncio.get_running_loop(), root)  # type: ignore[arg-type]
        story.lines, story.budget = verdict.lines, None
        witness = Witness(story)
        places = ("a", "b")
        for place in places:
            story.repository.checkout(story.fleet.clones / place)
        doomed = story.fleet.start("a")
        doomed.life.fuse = step
        await asyncio.sleep(0.05)
        story.fleet.start("b")
        story.fleet.wanted.discard("a")
        began = base.world.clock.elapsed  # type: ignore[attr-defined]
        while base.world.clock.elapsed - began < WITHIN:  # type: ignore[attr-defined]
            await asyncio.sleep(1.0)
            living = [one for one in story.fleet.living if one.name.startswith("b")]
            if living and living[0].handlers is not None and living[0].handlers.last_plan is not None:
                why = await owned(story, unsettled)
                if not why or why.startswith("open [], not mined"):
                    seconds.append(base.world.clock.elapsed - began)  # type: ignore[attr-defined]
                    break
        witness.look()
        await finish_story(story, witness, verdict)

    with directory() as root, keys(), economy(), patience(), listening(verdict):
        play(tell(), base.world.clock, step)  # type: ignore[arg-type]
    died = next((line for line in verdict.lines if "is killed" in line), "")
    return verdict, seconds[0] if seconds else None, died


@pytest.mark.row("EV-257", "P-RISK-02")
@pytest.mark.parametrize("first", range(1, 61, 10))
def test_the_other_daemon_takes_over_within_the_lease(first: int) -> None:
    deaths = 0
    for step in range(first, first + 10, 2):
        verdict, seconds, died = killed_at(step)
        assert verdict.good, "\n".join([*verdict.lines, *verdict.faults])
        assert seconds is not None, f"killed at step {step}, and nobody went on: {died}"
        deaths += bool(died)
    assert deaths or first > 30
