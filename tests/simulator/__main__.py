"""`python -m tests.simulator SEED [COUNT] [-v]`: play seeds; with -v, tell their stories."""

from __future__ import annotations

import sys

from tests.simulator.seed import play_seed


def main(words: list[str]) -> int:
    """Play and print; 1 when some seed broke an invariant."""
    numbers = [int(word) for word in words if word.lstrip("-").isdecimal()]
    first, count = numbers[0], numbers[1] if len(numbers) > 1 else 1
    bad = 0
    for seed in range(first, first + count):
        verdict = play_seed(seed)
        bad += not verdict.good
        if "-v" in words:
            print("\n".join(verdict.lines))
        if not verdict.good or count == 1:
            told = f"{verdict.transactions} transactions, {verdict.rounds} rounds, {verdict.seconds:.2f} s"
            print(f"seed {seed}: {'good' if verdict.good else 'BAD'}, {told}")
            for fault in verdict.faults:
                print(f"  {fault}")
    if count > 1:
        print(f"{count} seeds, {bad} bad")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
