"""Stories of bad luck, and every story that ever went wrong. RECONCILER_SEEDS says how many; `make soak` plays ten thousand."""

import json
import os
from pathlib import Path

import pytest

from tests.simulator.seed import ACTIONS, CASES, keep, play_seed

SEEDS, CHUNK = int(os.environ.get("RECONCILER_SEEDS", "30")), 10


def told(seed: int, actions: int = ACTIONS) -> list[str]:
    """What was wrong with a seed, which is then written down."""
    verdict = play_seed(seed, actions)
    if verdict.good:
        return []
    keep(verdict)
    return [f"seed {seed}: {fault}" for fault in verdict.faults]


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_invariants_hold_whatever_happens(first: int) -> None:
    faults = [line for seed in range(first, first + CHUNK) for line in told(seed)]
    assert not faults, "\n".join(faults)


# Without any, there is no such test, rather than one that is skipped.
if KNOWN := sorted(CASES.glob("*.json")):

    @pytest.mark.parametrize("case", KNOWN, ids=lambda path: path.stem)
    def test_a_seed_that_once_went_wrong_goes_well(case: Path) -> None:
        known = json.loads(case.read_text())
        verdict = play_seed(known["seed"], known["actions"])
        assert verdict.good, "\n".join(verdict.faults)


def test_a_seed_tells_the_same_story_twice() -> None:
    one, other = play_seed(3), play_seed(3)
    assert one.lines == other.lines
    assert one.transactions == other.transactions > 0
