"""What befell a number of seeds, added up: so that it is seen that every sort of trouble really struck, and how often."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields

from tests.simulator.seed import Verdict

# Every sort of trouble that a story may meet, as people name it, and under which names a verdict counts it.
SORTS: Mapping[str, tuple[str, ...]] = {
    "requests lost": ("vanish",),
    "connections refused": ("refuse",),
    "answers lost": ("lose",),
    "requests that came twice": ("twice",),
    "requests overtaken by later ones": ("late",),
    "answers delayed": ("delay",),
    "answers 429, 500 and 503": ("429", "500", "503"),
    "requests cut off by a partition": ("partition",),
    "lies of overlay nodes": ("lie hide", "lie deaf"),
    "lies of broadcasters": ("lie forget", "lie fable"),
    "lies of storage hosts": ("lie rot",),
    "losses and damage on hosts": ("action: damage",),
    "submissions refused or doubted": ("action: reject",),
    "reorgs of depth 1 and 2": ("action: reorg of depth 1", "action: reorg of depth 2"),
    "reorgs of depth 3 and 4": ("action: reorg of depth 3", "action: reorg of depth 4"),
    "reorgs of depth 5 and 6": ("action: reorg of depth 5", "action: reorg of depth 6"),
    "changes of the fee": ("action: fee",),
    "clocks that jumped": ("action: jump",),
    "writes that found the disk full": ("disk full",),
    "commits torn by a power cut": ("torn commit",),
    "processes killed": ("killed",),
    "processes frozen": ("action: freeze",),
    "stories with two daemons": ("two daemons",),
}


@dataclass(slots=True)
class Tally:
    """Sums over verdicts."""

    seeds: int = 0
    broken: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    rounds: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, verdict: Verdict) -> None:
        """One more."""
        self.seeds += 1
        self.broken += not verdict.good
        self.counts["processes started"] += verdict.restarts
        self.counts["crashes"] += verdict.crashes
        self.counts["effects in the journal"] += verdict.effects
        self.counts["transactions alive in the end"] += verdict.transactions
        self.struck.update(verdict.struck)
        self.rounds[verdict.rounds] += 1
        self.seconds += verdict.seconds

    def merge(self, other: Tally) -> None:
        """Those of another."""
        self.seeds, self.broken, self.seconds = self.seeds + other.seeds, self.broken + other.broken, self.seconds + other.seconds
        self.counts.update(other.counts)
        self.struck.update(other.struck)
        self.rounds.update(other.rounds)

    def text(self) -> str:
        """All of it as JSON, as it goes from one process to another."""
        return json.dumps({one.name: getattr(self, one.name) for one in fields(self)})

    @classmethod
    def parse(cls, text: str) -> Tally:
        """The inverse of `text`; JSON makes text of the numbers that were keys."""
        value = json.loads(text)
        rounds = Counter({int(count): number for count, number in value.pop("rounds").items()})
        sums = {name: Counter(value.pop(name)) for name in ("counts", "struck")}
        return cls(**value, **sums, rounds=rounds)

    def of(self, sort: str) -> int:
        """How often a sort of trouble struck."""
        return sum(self.struck[name] for name in SORTS[sort])

    def missing(self, least: int) -> list[str]:
        """The sorts that struck less often than `least` times, and how often they did."""
        return [f"{sort}: {self.of(sort)}" for sort in SORTS if self.of(sort) < least]

    def rows(self) -> list[tuple[str, str]]:
        """A table."""
        return [
            ("seeds", f"{self.seeds:,}"),
            ("with a broken invariant", f"{self.broken:,}"),
            *((name, f"{count:,}") for name, count in self.counts.items()),
            *((sort, f"{self.of(sort):,}") for sort in SORTS),
            *((f"at rest after {count} rounds", f"{number:,}") for count, number in sorted(self.rounds.items())),
            ("seconds of CPU per seed", f"{self.seconds / max(1, self.seeds):.3f}"),
        ]

    def markdown(self) -> str:
        """The table, as it stands in a page."""
        return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in self.rows())])


def tallied(verdicts: Iterable[Verdict]) -> Tally:
    """The sums over some verdicts."""
    made = Tally()
    for verdict in verdicts:
        made.add(verdict)
    return made
