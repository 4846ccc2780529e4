"""What every benchmark is made of: processes that are weighed, and verdicts that are printed."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PASSPHRASE = "a bench is no vault"


@dataclass(frozen=True, slots=True)
class Weight:
    """What a process took: seconds on the clock, seconds of processor, and its peak memory in MiB."""

    wall: float
    cpu: float
    memory: float

    def __str__(self) -> str:
        return f"{self.wall:7.3f} s wall {self.cpu:7.3f} s cpu {self.memory:6.0f} MiB"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One comparison. `ratio` is ours against the peer's as `goal` reads it: at least that much, or with `at_most` no more."""

    what: str
    ours: str
    peer: str
    ratio: float
    goal: float | None = None
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where none was set."""
        if self.goal is None:
            return None
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal

    def line(self) -> str:
        """The verdict as a row."""
        goal = "" if self.goal is None else f"{'<=' if self.at_most else '>='} {self.goal:g}x"
        word = {True: "met", False: "MISSED", None: ""}[self.met]
        return f"{self.what:<44}{self.ours:>20}{self.peer:>28}{self.ratio:>9.2f}x  {goal:>9}  {word}"

    def json(self) -> dict[str, Any]:
        """The verdict as data."""
        return {**asdict(self), "met": self.met}


def weigh(words: Sequence[str], expect: int = 0) -> Weight:
    """Run a process with its output thrown away; its exit code must be `expect`."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RECONCILER_PASSPHRASE": PASSPHRASE}
    launch = [sys.executable, "-I", "-S", str(ROOT / "bench/launch.py"), *words]
    told = json.loads(subprocess.run(launch, check=True, capture_output=True, cwd=ROOT, env=env).stdout)
    if told.pop("code") != expect:
        raise SystemExit(f"cannot measure {' '.join(words)}: it failed; run it by hand to see why")
    return Weight(**told)


def alternately(rounds: int, *processes: Callable[[], Weight]) -> list[Weight]:
    """The median weight of each process. They take turns, so that a busy moment of the machine falls on all."""
    taken: list[list[Weight]] = [[] for _ in processes]
    for _ in range(rounds):
        for weights, process in zip(taken, processes, strict=True):
            weights.append(process())
    return [median(weights) for weights in taken]


def median(weights: Sequence[Weight]) -> Weight:
    """The median of each figure by itself."""
    return Weight(*(statistics.median(getattr(one, name) for one in weights) for name in ("wall", "cpu", "memory")))


def python(*words: str | Path) -> list[str]:
    """The command line of this interpreter with these words."""
    return [sys.executable, *map(str, words)]


def title(text: str) -> None:
    """A heading on the screen."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)
