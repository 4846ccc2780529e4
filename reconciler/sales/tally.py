"""What was served, added up in memory and entered every now and then: nobody waits for a disk because somebody downloads."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from reconciler.ports import Clock, Ledger


@dataclass(slots=True)
class Tally:
    """Bytes and downloads by producer, consumer and content. What a crash takes is a few seconds of counting, and no money."""

    ledger: Ledger
    clock: Clock
    _served: dict[tuple[str, str, str], tuple[int, int, datetime]] = field(default_factory=dict)

    def add(self, producer: str, consumer: str, content: str, count: int, downloads: int) -> None:
        """So many bytes were served; `downloads` is 1 where the first of a file was among them."""
        before = self._served.get((producer, consumer, content), (0, 0, None))
        self._served[producer, consumer, content] = (before[0] + count, before[1] + downloads, self.clock.now())

    def enter(self) -> None:
        """Enter what came together, in one commit."""
        if not self._served:
            return
        with self.ledger.begin() as tx:
            for (producer, consumer, content), (count, downloads, moment) in self._served.items():
                tx.served(producer, consumer, content, count, downloads, moment)
        self._served.clear()
