"""Virtual time: an event loop on which an hour of waiting costs nothing and every run of a seed is the same run.

The loop owns no socket and no thread. When no callback is ready, time jumps to the next timer; when there is no
timer either, nothing can ever happen again and the run fails as a deadlock instead of hanging. Timers that fall
on the same instant fire in an order drawn from the seed, so that different seeds try different schedules.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
# Timers nearer than this count as simultaneous; datetime cannot tell them apart either.
_TICK = 1e-6
# Below half a tick, so rounding the loop's time to ticks removes it again.
_JITTER = 4e-7


class Deadlock(RuntimeError):
    """Every task waits for something that no timer and no callback will bring about."""


class LeakedTasks(RuntimeError):
    """The coroutine returned while tasks it had started were still running."""


class VirtualClock:
    """ports.Clock whose hands move only when the loop has nothing else to do.

    The clock outlives a loop: a second `run` on the same clock continues where the first one ended, which is how
    a test restarts a crashed process in a world that has gone on.
    """

    def __init__(self, start: datetime = EPOCH) -> None:
        self.start = start
        self.elapsed = 0.0

    def now(self) -> datetime:
        """UTC, aware, in whole microseconds."""
        return self.start + timedelta(seconds=self.elapsed)

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(seconds)

    def advance(self, seconds: float) -> None:
        """Move the hands between two runs."""
        self.elapsed = round(self.elapsed + seconds, 6)


class SeededEntropy:
    """ports.Entropy that yields the same bytes for the same seed. Never for keys that hold real value."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - reproducibility is the purpose

    def bytes(self, count: int) -> bytes:
        """The next `count` bytes of the seed's stream."""
        return self._random.randbytes(count)


class _Jump:
    """What the loop takes for a selector: waiting means moving the clock."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock("cannot go on: every task waits and no timer is set")
        if timeout > 0:
            self._clock.advance(timeout)
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop over a VirtualClock. Work meant for an executor runs inline."""

    def __init__(self, clock: VirtualClock, seed: int = 0) -> None:
        super().__init__()
        self._clock = clock
        self._order = random.Random(seed)  # noqa: S311 - reproducibility is the purpose
        self._clock_resolution = _TICK
        self._selector = _Jump(clock)

    def time(self) -> float:
        """Seconds since the clock's start."""
        return self._clock.elapsed

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Schedule, with the seed deciding among timers of one instant."""
        return super().call_at(when + self._order.random() * _JITTER, callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run `func` here and now: a thread would make the run depend on the scheduler of the machine."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _process_events(self, event_list: list[Any]) -> None:
        """No selector, no events."""

    def _write_to_self(self) -> None:
        """No thread could be waiting in a selector."""


def run(coro: Coroutine[Any, Any, T], *, seed: int = 0, clock: VirtualClock | None = None) -> T:
    """Run `coro` to its end in virtual time on a fresh loop; LeakedTasks when tasks are left over, Deadlock when stuck.

    `seed` orders simultaneous timers. An error of the coroutine is raised in preference to a leak.
    """
    loop = VirtualLoop(clock or VirtualClock(), seed)
    asyncio.set_event_loop(loop)
    try:
        result = loop.run_until_complete(coro)
        left = sorted(task.get_name() for task in asyncio.all_tasks(loop))
        if left:
            raise LeakedTasks(f"cannot end the run: still running: {', '.join(left)}")
        return result
    finally:
        _cancel_all(loop)
        loop.run_until_complete(loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()


def _cancel_all(loop: VirtualLoop) -> None:
    """Cancel what is left and let it unwind, so that nothing warns from the garbage collector later."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
