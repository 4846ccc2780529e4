"""The whole loop: the source and the timers put keys, workers take them, stopping drains."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from reconciler.engine.handlers import Handlers
from reconciler.engine.worker import Worker
from reconciler.ports import Ports

log = logging.getLogger("reconciler.daemon")

# Seconds that a stop waits for work in flight before the lease is simply left to expire.
DRAIN = 25.0
# A key and its interval in seconds.
Timer = tuple[str, float]


class Daemon:
    """One process's share of the work. `schedule` makes the timers tick; it is given (key, seconds, put)."""

    def __init__(
        self,
        ports: Ports,
        handlers: Handlers,
        owner: str,
        timers: Sequence[Timer],
        schedule: Callable[[str, float, Callable[[str], None]], None],
        workers: int = 2,
    ) -> None:
        self.ports = ports
        self.handlers = handlers
        self.timers = timers
        self.schedule = schedule
        self.workers = [Worker(ports, handlers.table(), f"{owner}/{index}") for index in range(workers)]
        self._working: list[asyncio.Task[None]] = []
        self._heard = (0,) * workers

    def put(self, key: str) -> None:
        """Ask for a pass over a key; a hint, harmless to repeat."""
        self.ports.queue.put(key, self.ports.clock.now())
        for worker in self.workers:
            worker.wake()

    @property
    def heartbeat(self) -> int:
        """Grows while workers turn."""
        return sum(worker.pulse.beats for worker in self.workers)

    def alive(self) -> bool:
        """Whether every worker got on since this was last true: what a watchdog asks. One that hangs is enough to be not."""
        beats = tuple(worker.pulse.beats for worker in self.workers)
        for now, then, task in zip(beats, self._heard, self._working, strict=False):
            if now == then and not task.done():
                return False
        self._heard = beats
        return True

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then claim nothing more, let what is in flight finish, and return."""
        log.info("daemon.started", extra={"outcome": self.handlers.mode})
        self.put("plan")
        self.put("confirm")
        for key, seconds in self.timers:
            self.schedule(key, seconds, self.put)
        watching = asyncio.ensure_future(self._watch())
        working = self._working = [asyncio.create_task(worker.run()) for worker in self.workers]
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({stopping, watching, *working}, return_when=asyncio.FIRST_COMPLETED)
        for worker in self.workers:
            worker.stop()
        self.handlers.stop()
        watching.cancel()
        stopping.cancel()
        _, late = await asyncio.wait(working, timeout=DRAIN)
        for task in late:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        await asyncio.gather(*working, stopping, return_exceptions=True)
        log.info("daemon.stopped", extra={"outcome": "late" if late else "drained"})
        for task in working:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _watch(self) -> None:
        async for _hint in self.ports.source.revisions():
            self.put("plan")
