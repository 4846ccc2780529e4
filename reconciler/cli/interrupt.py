"""SIGINT and SIGTERM while money moves: the first one stops politely, the second at once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from reconciler.cli import exits
from reconciler.cli.watching import Display, short


@dataclass(slots=True)
class Signals:
    """SIGINT and SIGTERM while money moves: the first stops politely, the second at once. `code` is the exit code due."""

    display: Display
    stop: Callable[[], None] | None = None
    code: int = 0
    _task: asyncio.Task[object] | None = field(default=None)

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Listen inside this block."""
        loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        for number, code in ((signal.SIGINT, exits.INTERRUPTED), (signal.SIGTERM, exits.TERMINATED)):
            loop.add_signal_handler(number, self._hear, code)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _hear(self, code: int) -> None:
        again, self.code = bool(self.code), code
        if again or self.stop is None:
            if self._task is not None:
                self._task.cancel()
            return
        flying = list(self.display.flying.values())
        told = ""
        if flying:
            names = ", ".join(short(txid) for txid in flying)
            told = f"; {len(flying)} transaction{'s' * (len(flying) != 1)} in flight ({names}), journalled"
        self.display.say(f"      stopping: no new actions{told}; once more to abort")
        self.stop()
