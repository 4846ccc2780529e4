"""Answers that are good for a while: stale ones are handed out once more while a fresh one is fetched behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from reconciler.model.errors import ReconcilerError
from reconciler.ports import Clock

T = TypeVar("T")

# Entries kept; the oldest goes first.
MOST = 128


class Remembered(Generic[T]):
    """A bounded cache in front of a question. Whoever asks while it is being asked waits for the same answer."""

    def __init__(self, clock: Clock, most: int = MOST) -> None:
        self._clock, self._most = clock, most
        self._kept: dict[Hashable, tuple[T, datetime]] = {}
        self._asking: dict[Hashable, asyncio.Task[T]] = {}

    async def get(self, key: Hashable, seconds: float, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer, at most `seconds` old, or older when a new one is on its way; errors are not remembered."""
        known = self._kept.get(key)
        if known is not None and self._clock.now() < known[1]:
            return known[0]
        task = self._asking.get(key)
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            task = self._asking[key] = asyncio.ensure_future(self._refresh(key, seconds, ask))
            task.add_done_callback(lambda done: self._asked(key, done))
        if known is not None:
            return known[0]
        # A caller that gives up must not take the answer from the others.
        return await asyncio.shield(task)

    async def _refresh(self, key: Hashable, seconds: float, ask: Callable[[], Awaitable[T]]) -> T:
        answer = await ask()
        if key not in self._kept and len(self._kept) >= self._most:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = (answer, self._clock.now() + timedelta(seconds=seconds))
        return answer

    def _asked(self, key: Hashable, task: asyncio.Task[T]) -> None:
        if self._asking.get(key) is task:
            del self._asking[key]
        if not task.cancelled():
            error = task.exception()  # seen here, so that a refresh which nobody waited for does not warn
            if error is not None and not isinstance(error, ReconcilerError):
                raise error

    async def close(self) -> None:
        """End what is still being asked."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
