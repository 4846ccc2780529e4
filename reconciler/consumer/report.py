"""What was bought, summed: by producer and in all, with what is left of the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.consumer.budget import Budget, Spent, overview
from reconciler.consumer.purchases import Line
from reconciler.model.canonical import Json


@dataclass(frozen=True, slots=True)
class Sums:
    """Purchases, how many led to a receipt, satoshis paid for them, fees to miners, and bytes bought."""

    purchases: int = 0
    receipts: int = 0
    satoshis: int = 0
    fees: int = 0
    bytes: int = 0

    def plus(self, line: Line) -> Sums:
        """With one more."""
        one = line.purchase
        size = sum(int(file["size"]) for file in one.files) if one is not None else 0
        had = one is not None and bool(one.receipt_id)
        return Sums(
            self.purchases + 1, self.receipts + had, self.satoshis + line.satoshis, self.fees + line.fee, self.bytes + size
        )

    def json(self) -> dict[str, Json]:
        """As a document."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Report:
    """The lines of a span of time, their sums, and the windows of the budget."""

    lines: tuple[Line, ...]
    producers: Mapping[str, Sums]
    total: Sums
    budget: Mapping[str, Mapping[str, int | None]]


def summed(lines: Sequence[Line], budget: Budget, known: Spent) -> Report:
    """The report of these lines; the sums are those of the books."""
    producers: dict[str, Sums] = {}
    total = Sums()
    for line in lines:
        producers[line.producer] = producers.get(line.producer, Sums()).plus(line)
        total = total.plus(line)
    return Report(tuple(lines), producers, total, overview(budget, known))
