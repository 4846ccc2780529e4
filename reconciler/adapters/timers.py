"""Timers that say when to put a key into the queue, and never what runs.

What is due survives a restart in the queue; a timer only repeats a hint. So the schedule lives in memory, a missed
beat is made up for once, and two beats of one key never overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from reconciler.model.errors import LocalProtocolError


class Timers:
    """Calls `put(key)` on the event loop's thread, again and again, from `start` to `stop`."""

    def __init__(self, put: Callable[[str], None]) -> None:
        self._put = put
        # The library has no types.
        make: Any = AsyncIOScheduler
        self._scheduler: Any = make(timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None})

    def every(self, key: str, seconds: float, jitter: float = 0.0) -> None:
        """Put the key every so often, each beat up to `jitter` seconds early or late; an earlier timer of the key is replaced."""
        if seconds <= 0 or not 0 <= jitter < seconds:
            raise LocalProtocolError(
                "bad-timer", f"cannot beat every {seconds:g} s with jitter {jitter:g} s", hint="0 <= jitter < seconds"
            )
        make: Any = IntervalTrigger
        trigger = make(seconds=seconds, jitter=jitter or None, timezone=UTC)
        self._scheduler.add_job(self._beat, trigger, args=(key,), id=key, replace_existing=True)

    def cancel(self, key: str) -> None:
        """No more beats of the key; nothing when it has no timer."""
        if self._scheduler.get_job(key) is not None:
            self._scheduler.remove_job(key)

    def next(self, key: str) -> datetime | None:
        """When the key is put next; None without a timer, or before `start`."""
        job = self._scheduler.get_job(key)
        return None if job is None else getattr(job, "next_run_time", None)

    def start(self) -> None:
        """Begin to beat; needs a running event loop."""
        self._scheduler.start()

    def stop(self) -> None:
        """No more beats."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    async def _beat(self, key: str) -> None:
        """A coroutine, because the scheduler runs plain functions in threads, and the queue belongs to the loop's."""
        self._put(key)
