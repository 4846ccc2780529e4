"""SIGKILL, as an operator meets it: the real program on a served devnet, killed two dozen times, doubles and loses nothing."""

from pathlib import Path

import pytest

from tests.e2e.sigkill import campaign, verdict

KILLS = 12


@pytest.mark.slow
@pytest.mark.row("P-REG-11")
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments(seed: int, tmp_path: Path) -> None:
    with campaign(tmp_path, seed) as one:
        tally = one.campaign(KILLS)
        print(verdict(tally, seed, one.outside))
    assert len(tally.kills) == KILLS
    # A test that only ever hits the start-up would prove nothing.
    assert tally.inside * 3 >= KILLS
