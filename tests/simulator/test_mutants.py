"""The simulator notices: each planted bug breaks an invariant in the story of a seed in which the real engine breaks none."""

import pytest

from tests.simulator.mutants import MUTANTS, planted
from tests.simulator.seed import LONG, play_seed

# The engine changes and with it what a seed tells; a bug that its own seed no longer brings out must be caught by one of these.
OTHERS = range(40)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_caught(name: str) -> None:
    mutant = MUTANTS[name]
    for seed in dict.fromkeys((mutant.seed, *OTHERS)):
        with planted(name):
            caught = not play_seed(seed, LONG, mutant.more).good
        # A story that goes wrong without the bug proves nothing about it.
        if caught and play_seed(seed, LONG, mutant.more).good:
            return
    pytest.fail(f"nobody noticed that {mutant.says}")


def test_there_are_at_least_twelve_of_them() -> None:
    assert len(MUTANTS) >= 12
