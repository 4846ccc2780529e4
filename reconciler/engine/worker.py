"""Claim a key, handle it, settle the lease: the same loop for one process and for many."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from reconciler.engine import heart
from reconciler.engine.backoff import retry_at
from reconciler.model.errors import Conflict, Locked, ReconcilerError, Unavailable, Uncertain
from reconciler.ports import Lease, Ports
from reconciler.telemetry import bound

log = logging.getLogger("reconciler.worker")

# Longest nap of an idle worker, in seconds: another process may have put a key, and wake-ups are only hints.
NAP = 1.0
# Returns when the key should be handled again, or None when it is done.
Handler = Callable[[Lease], Awaitable[datetime | None]]


class Worker:
    """Takes due keys by prefix. `stop` finishes the key in hand and claims no more."""

    def __init__(self, ports: Ports, handlers: Mapping[str, Handler], owner: str) -> None:
        self.ports = ports
        self.handlers = handlers
        self.owner = owner
        self.pulse = heart.Pulse()
        self._wake = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """A key was put; look now."""
        self._wake.set()

    def stop(self) -> None:
        """Claim nothing more."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Until stopped."""
        with heart.carrying(self.pulse):
            while not self._stopping:
                heart.beat()
                lease = self.ports.queue.claim(self.owner, self.ports.clock.now(), tuple(self.handlers))
                if lease is None:
                    await self._nap()
                else:
                    with bound(key=lease.key, fence=str(lease.fence)):
                        await self.handle(lease)

    async def handle(self, lease: Lease) -> None:
        """One key, once; whatever it raises is logged here and nowhere else."""
        handler = next(h for prefix, h in self.handlers.items() if lease.key.startswith(prefix))
        again: datetime | None = None
        failed = False
        try:
            again = await handler(lease)
        except Locked:
            again = retry_at(self.ports.clock.now(), 0, self.ports.entropy)
        except (Unavailable, Uncertain) as error:
            not_before = error.retry_at if isinstance(error, Unavailable) else None
            failed, again = True, retry_at(self.ports.clock.now(), lease.attempts, self.ports.entropy, not_before)
            log.warning("key.postponed", extra={"ref": lease.key, "error": error.message, "hint": error.hint})
        except ReconcilerError as error:
            failed, again = True, retry_at(self.ports.clock.now(), lease.attempts, self.ports.entropy)
            log.error("key.failed", extra={"ref": lease.key, "error": error.message, "hint": error.hint})
        try:
            if again is None:
                self.ports.queue.done(lease)
            else:
                self.ports.queue.later(lease, again, failed)
        except Conflict:
            log.warning("lease.lost", extra={"ref": lease.key, "fence": lease.fence})

    async def _nap(self) -> None:
        # Of its own keys only: what others left behind (the lease of a dead process on a resource) would keep it awake.
        due = self.ports.queue.next_due(tuple(self.handlers))
        left = NAP if due is None else max(0.0, (due - self.ports.clock.now()).total_seconds())
        self._wake.clear()
        nap = asyncio.ensure_future(self.ports.clock.sleep(min(NAP, left) or 0.01))
        waker = asyncio.ensure_future(self._wake.wait())
        await asyncio.wait({nap, waker}, return_when=asyncio.FIRST_COMPLETED)
        for task in (nap, waker):
            task.cancel()
        await asyncio.gather(nap, waker, return_exceptions=True)
