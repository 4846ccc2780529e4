"""The loop a story is played on: it knows whose code it runs, so that one process of several can be stopped in mid-sentence.

Every task carries the name of the process it belongs to. A frozen process (SIGSTOP, a long pause of the machine) gets nothing
to run: its callbacks and timers are kept back, and run when it thaws, as if no time had passed for it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from reconciler.devnet.clock import VirtualClock, VirtualLoop

T = TypeVar("T")

# The process that a piece of code belongs to; empty for the world and for whoever tells the story.
WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="")


class Stage(VirtualLoop):
    """A virtual loop whose tasks have owners."""

    def __init__(self, clock: VirtualClock, seed: int) -> None:
        super().__init__(clock, seed)
        self.kept: dict[str, list[asyncio.Handle]] = {}
        self.owned: dict[str, set[asyncio.Task[Any]]] = {}
        self.set_task_factory(self._own)  # type: ignore[arg-type]
        # A process that was killed leaves tasks with errors that nobody will ever ask for.
        self.set_exception_handler(lambda loop, context: None)

    def _own(self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], context: Any = None) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=loop, context=context)
        who = context.get(WHO, "") if context is not None else WHO.get()
        if who:
            mine = self.owned.setdefault(who, set())
            mine.add(task)
            task.add_done_callback(mine.discard)
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """As ever, unless the process is frozen."""
        if self.kept:
            context = context or contextvars.copy_context()
            kept = self.kept.get(context.get(WHO, ""))
            if kept is not None:
                handle = asyncio.Handle(callback, args, self, context)
                kept.append(handle)
                return handle
        return super().call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """As ever; a timer of a frozen process goes off when it thaws."""
        who = (context or contextvars.copy_context()).get(WHO, "")
        if not who:
            return super().call_at(when, callback, *args, context=context)

        def due() -> None:
            kept = self.kept.get(who)
            if kept is None:
                callback(*args)
            else:
                # It may still be called off by what the process does first when it thaws.
                late = lambda: None if handle.cancelled() else callback(*args)  # noqa: E731
                kept.append(asyncio.Handle(late, (), self, contextvars.copy_context()))

        handle = super().call_at(when, due, context=context)
        return handle

    def freeze(self, who: str) -> None:
        """Run nothing of this process from now on."""
        self.kept.setdefault(who, [])

    def thaw(self, who: str) -> None:
        """Let it go on where it was."""
        for handle in self.kept.pop(who, []):
            if not handle.cancelled():
                self._ready.append(handle)  # type: ignore[attr-defined]

    async def reap(self, who: str) -> None:
        """Take a dead process off the stage: every task of it is cancelled until none is left."""
        self.thaw(who)
        for _ in range(100):
            left = [task for task in self.owned.get(who, ()) if not task.done()]
            if not left:
                return
            for task in left:
                task.cancel()
            await asyncio.wait(left)
        raise AssertionError(f"{who} cannot be ended: {left}")


def play(story: Coroutine[Any, Any, T], clock: VirtualClock, seed: int) -> T:
    """Run a story to its end; whatever its processes left behind is swept away."""
    loop = Stage(clock, seed)
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(story)
    finally:
        sweep(loop)


def sweep(loop: Stage) -> None:
    """Cancel what is left on a stage and close it."""
    for who in list(loop.kept):
        loop.thaw(who)
    while tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    asyncio.set_event_loop(None)
    loop.close()
