"""Notices leave the outbox: at least once each, later and later while a sink fails, and not for ever.

One key of the queue stands for all of it, so that of many processes one delivers at a time. What was delivered is struck
off after the sink has said so; a crash in between delivers it again, under the same id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from reconciler.engine.notices import Notice, Sink
from reconciler.model.errors import ReconcilerError, Unavailable, Uncertain
from reconciler.ports import Clock, Lease

log = logging.getLogger("reconciler.notices")

# The key under which delivery is queued.
KEY = "notify"
# First pause after a failure, doubled each time up to an hour: a pager that is down for a night is asked nine times, not 900.
FIRST = timedelta(seconds=5)
LONGEST = timedelta(hours=1)
# After this nobody wants to know any more, and the log says what was given up.
PATIENCE = timedelta(days=3)
# Notices taken out at a time, so that a flood does not hold the lease for long.
BATCH = 100


class Outbox(Protocol):
    """What is still to be delivered."""

    def due(self, now: datetime, limit: int) -> Sequence[Notice]: ...
    def delivered(self, notice: Notice) -> None: ...
    def drop(self, notice: Notice) -> None: ...
    def postpone(self, notice: Notice, until: datetime, error: str, *, whole_sink: bool) -> None:
        """Not before `until`; with `whole_sink` everything else for it neither."""
        ...

    def next_due(self) -> datetime | None: ...
    def pending(self) -> Mapping[str, int]:
        """How many wait, by sink."""
        ...


class Deliver(Protocol):
    """Hands one notice to one sink: returns when the sink has it."""

    async def __call__(self, sink: Sink, notice: Notice) -> None: ...


class Dispatcher:
    """The handler of KEY. `told` hears of every attempt: sink name, and delivered, failed or expired."""

    def __init__(self, clock: Clock, outbox: Outbox, deliver: Deliver, sinks: Sequence[Sink]) -> None:
        self.clock, self.outbox, self.deliver = clock, outbox, deliver
        self.sinks: Mapping[str, Sink] = {sink.name: sink for sink in sinks}
        self.told: Callable[[str, str], None] = lambda sink, result: None

    def adopt(self, sinks: Sequence[Sink]) -> None:
        """Other sinks from now on; what waits for one that is gone is dropped at the next pass."""
        self.sinks = {sink.name: sink for sink in sinks}

    async def handle(self, lease: Lease) -> datetime | None:
        """Deliver what is due; when the next one is, if any is left."""
        await self.flush()
        return self.outbox.next_due()

    async def flush(self) -> int:
        """Deliver what is due now; returns how many got through."""
        through, silent = 0, set()
        while batch := [n for n in self.outbox.due(self.clock.now(), BATCH) if n.sink not in silent]:
            for notice in batch:
                if notice.sink in silent:
                    continue
                result = await self._one(notice)
                through += result == "delivered"
                if result == "silent":
                    silent.add(notice.sink)
        return through

    async def _one(self, notice: Notice) -> str:
        sink, now = self.sinks.get(notice.sink), self.clock.now()
        if sink is None or now - notice.at > PATIENCE:
            why = "its sink is no longer in the settings" if sink is None else "it could not be delivered for three days"
            log.error("notice.dropped", extra={"sink": notice.sink, "ref": notice.body["resource"], "error": why})
            self.outbox.drop(notice)
            self.told(notice.sink, "dropped")
            return "dropped"
        try:
            await self.deliver(sink, notice)
        except (ReconcilerError, OSError) as error:
            silent = isinstance(error, (Unavailable, Uncertain))
            message = error.message if isinstance(error, ReconcilerError) else str(error)
            again = now + min(LONGEST, FIRST * 2 ** min(notice.attempts, 20))
            self.outbox.postpone(notice, again, message, whole_sink=silent)
            log.warning("notice.postponed", extra={"sink": notice.sink, "ref": notice.body["resource"], "error": message})
            self.told(notice.sink, "failed")
            return "silent" if silent else "failed"
        self.outbox.delivered(notice)
        self.told(notice.sink, "delivered")
        return "delivered"
