"""Stories of bad luck, and every story that ever went wrong. RECONCILER_SEEDS says how many; `make soak` plays ten thousand."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulator.seed import CASES, keep, play_seed
from tests.simulator.tally import Tally

SEEDS, CHUNK = int(os.environ.get("RECONCILER_SEEDS", "500")), 250
# How often each sort of trouble must at least have struck in a whole chunk. Most strike a hundred times; none may go missing.
LEAST = 1


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_invariants_hold_whatever_happens(first: int, record_property: Callable[[str, object], None]) -> None:
    tally, faults = Tally(), []
    for seed in range(first, min(first + CHUNK, SEEDS)):
        verdict = play_seed(seed)
        tally.add(verdict)
        if not verdict.good:
            keep(verdict)
            faults += [f"seed {seed}: {fault}" for fault in verdict.faults]
    record_property("tally", tally.text())
    assert not faults, "\n".join(faults)
    if tally.seeds == CHUNK:
        assert not tally.missing(LEAST), "what did not strike proves nothing"


# Without any, there is no such test, rather than one that is skipped.
if KNOWN := sorted(CASES.glob("*.json")):

    @pytest.mark.parametrize("case", KNOWN, ids=lambda path: path.stem)
    def test_a_story_that_once_went_wrong_goes_well(case: Path) -> None:
        known = json.loads(case.read_text())
        verdict = play_seed(known["seed"], known.get("actions"), known.get("more"))
        assert verdict.good, "\n".join(verdict.faults)


def test_a_seed_tells_the_same_story_twice() -> None:
    one, other = play_seed(3), play_seed(3)
    assert one.lines == other.lines
    assert one.transactions == other.transactions > 0
