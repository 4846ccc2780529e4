"""System time and system entropy: the only place in the program that reads the wall clock."""

from __future__ import annotations

import os
from datetime import UTC, datetime


class SystemClock:
    """Time as the machine tells it; UTC and aware."""

    def now(self) -> datetime:
        """The wall clock, which the operator may set: compare, never count on it to be monotonic."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Yield to the event loop for at least that long; nothing for zero or less but one turn of the loop."""
        import asyncio  # what only asks for the time does not wait for its import

        await asyncio.sleep(max(0.0, seconds))


class SystemEntropy:
    """Randomness from the operating system, fit for keys."""

    def bytes(self, count: int) -> bytes:
        """`count` unpredictable bytes."""
        return os.urandom(count)
