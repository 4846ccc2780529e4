"""One line of the books: what a run really moved."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from reconciler.model.ref import ResourceRef


@dataclass(frozen=True, slots=True)
class Booking:
    """In satoshis. `ref` is None for what the purse paid to split its own coins."""

    run: str
    ref: ResourceRef | None
    moment: datetime
    fees: int
    payments: int
    locked: int

    @property
    def satoshis(self) -> int:
        """All of it."""
        return self.fees + self.payments + self.locked
