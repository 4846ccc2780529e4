"""Ten thousand stories of the simulator, on every core; the table they print stands in docs/explanation/simulation.md."""

import multiprocessing
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulator.seed import Verdict, keep, play_seed

SEEDS = int(os.environ.get("RECONCILER_SOAK_SEEDS", "10000"))


def table(verdicts: list[Verdict]) -> str:
    """What happened, as rows of a page."""
    struck: Counter[str] = Counter()
    for verdict in verdicts:
        struck.update(verdict.struck)
    rounds = Counter(verdict.rounds for verdict in verdicts)
    rows = [
        ("seeds", len(verdicts)),
        ("with a broken invariant", sum(not verdict.good for verdict in verdicts)),
        ("processes started", sum(verdict.restarts for verdict in verdicts)),
        ("transactions alive in the end", sum(verdict.transactions for verdict in verdicts)),
        *((f"exchanges struck: {name}", count) for name, count in sorted(struck.items())),
        *((f"at rest after {count} rounds", number) for count, number in sorted(rounds.items())),
        ("seconds of CPU per seed", round(sum(verdict.seconds for verdict in verdicts) / len(verdicts), 3)),
    ]
    return "\n".join(["", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


@pytest.mark.slow
def test_ten_thousand_seeds() -> None:
    first = int(os.environ.get("RECONCILER_SOAK_SEED", "0"))
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        verdicts = list(pool.map(play_seed, range(first, first + SEEDS), chunksize=20))
    print(table(verdicts))
    bad = [verdict for verdict in verdicts if not verdict.good]
    for verdict in bad:
        keep(verdict)
    assert not bad, "\n".join(f"seed {verdict.seed}: {verdict.faults}" for verdict in bad)
