"""The same actions, chosen by Hypothesis, which shrinks a story that goes wrong to the few accidents it takes."""

import asyncio
import contextlib
import random
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.simulator.actions import PAUSES, WEIGHTS, Story
from tests.simulator.ground import directory, economy, ground, keys
from tests.simulator.invariants import Witness
from tests.simulator.seed import Verdict, finish_story, listening, patience
from tests.simulator.stage import Stage, sweep

MOST_ACTIONS = 8
DICE = st.integers(0, 2**16)


class Fleet(RuleBasedStateMachine):
    """Edits, time, weather, damage and death in any order; what is declared is the model."""

    def __init__(self) -> None:
        super().__init__()
        self.verdict, base = Verdict(0), ground()
        self.open = contextlib.ExitStack()
        root = self.open.enter_context(directory())
        for about in (keys(), economy(), patience(), listening(self.verdict)):
            self.open.enter_context(about)
        self.stage = Stage(base.world.clock, 0)  # type: ignore[arg-type]
        asyncio.set_event_loop(self.stage)
        self.story = Story(0, base, self.stage, root)
        self.witness = Witness(self.story)
        self.acted = 0

    def play(self, work: Any) -> None:
        """Let the stage run until this is done."""
        self.stage.run_until_complete(work)

    @initialize(dice=DICE)
    def begin(self, dice: int) -> None:
        self.story.dice = random.Random(dice)
        self.play(self._begin())

    async def _begin(self) -> None:
        self.story.begin()
        await asyncio.sleep(2.0)

    @precondition(lambda self: self.acted < MOST_ACTIONS)
    @rule(name=st.sampled_from(sorted(WEIGHTS)), dice=DICE)
    def act(self, name: str, dice: int) -> None:
        self.acted += 1
        self.story.dice = random.Random(dice)
        self.play(self.story.act(name))

    @precondition(lambda self: self.acted < MOST_ACTIONS)
    @rule(dice=DICE)
    def edit(self, dice: int) -> None:
        self.act(name="edit", dice=dice)

    @rule(seconds=st.sampled_from(PAUSES))
    def wait(self, seconds: float) -> None:
        self.play(asyncio.sleep(seconds))

    @invariant()
    def nothing_is_broken(self) -> None:
        self.witness.look()
        assert not self.witness.faults, self._tell()
        assert not self.verdict.faults, self._tell()

    def teardown(self) -> None:
        try:
            if self.acted:
                self.play(finish_story(self.story, self.witness, self.verdict))
                assert self.verdict.good, self._tell()
        finally:
            sweep(self.stage)
            self.open.close()

    def _tell(self) -> str:
        return "\n".join([*self.verdict.lines, *self.witness.faults, *self.verdict.faults])


TestFleet = Fleet.TestCase
TestFleet.settings = settings(
    max_examples=20,
    stateful_step_count=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
