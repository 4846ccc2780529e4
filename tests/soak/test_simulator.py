"""Ten thousand stories of the simulator, on every core; the table they print stands in docs/explanation/soak.md."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulator.seed import keep, play_seed
from tests.simulator.tally import tallied

SEEDS = int(os.environ.get("RECONCILER_SOAK_SEEDS", "10000"))


@pytest.mark.slow
def test_ten_thousand_seeds() -> None:
    first = int(os.environ.get("RECONCILER_SOAK_SEED", "0"))
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        verdicts = list(pool.map(play_seed, range(first, first + SEEDS), chunksize=20))
    print(f"\n{tallied(verdicts).markdown()}")
    bad = [verdict for verdict in verdicts if not verdict.good]
    for verdict in bad:
        keep(verdict)
    assert not bad, "\n".join(f"seed {verdict.seed}: {verdict.faults}" for verdict in bad)
