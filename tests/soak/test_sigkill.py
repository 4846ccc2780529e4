"""The kill test of tests/e2e at length: two hundred kills, one ledger; its figures are in docs/explanation/crash-safety.md."""

import os
from pathlib import Path

import pytest

from tests.e2e.sigkill import campaign, verdict

KILLS = 200


@pytest.mark.slow
def test_killed_two_hundred_times(tmp_path: Path) -> None:
    seed = int(os.environ.get("RECONCILER_SOAK_SEED", "0"))
    with campaign(tmp_path, seed) as one:
        tally = one.campaign(KILLS)
        print(verdict(tally, seed, one.outside))
    assert len(tally.kills) == KILLS
    assert tally.inside * 3 >= KILLS
