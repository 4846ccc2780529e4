"""`python -m tests.simulator SEED [COUNT] [-v]`: play seeds and add up what befell them; with -v, tell their stories."""

from __future__ import annotations

import sys

from tests.simulator.seed import play_seed
from tests.simulator.tally import Tally


def main(words: list[str]) -> int:
    """Play and print; 1 when some seed broke an invariant."""
    numbers = [int(word) for word in words if word.lstrip("-").isdecimal()]
    first, count = numbers[0], numbers[1] if len(numbers) > 1 else 1
    tally = Tally()
    for seed in range(first, first + count):
        verdict = play_seed(seed)
        tally.add(verdict)
        if "-v" in words:
            print("\n".join(verdict.lines))
        if not verdict.good or count == 1:
            told = f"{verdict.transactions} transactions, {verdict.rounds} rounds, {verdict.seconds:.2f} s"
            print(f"seed {seed}: {'good' if verdict.good else 'BAD'}, {told}", flush=True)
            for fault in verdict.faults:
                print(f"  {fault}", flush=True)
    if count > 1:
        print(tally.markdown())
    return int(tally.broken > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
