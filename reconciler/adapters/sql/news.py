"""Who hears of what a commit changes; how it is written down is the outbox's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from reconciler.engine.notices import Herald, Transition
from reconciler.ports import Clock

if TYPE_CHECKING:
    from sqlalchemy import Connection


class News:
    """What a transaction calls with the transitions it makes; `herald` may be replaced while the program runs."""

    def __init__(self, clock: Clock, herald: Herald) -> None:
        self._clock, self.herald = clock, herald

    @property
    def wanted(self) -> bool:
        """Whether anybody listens at all; if not, nothing is compared and nothing written."""
        return bool(self.herald.sinks)

    def write(self, sql: Connection, found: Iterable[Transition]) -> None:
        """Enter the notices, and the key that delivers them, in the caller's commit."""
        from reconciler.adapters.sql.outbox import enter  # imported by then: the caller has a connection

        enter(sql, self.herald.tell(found), self._clock.now())
