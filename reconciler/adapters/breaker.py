"""A circuit breaker per host: five failures in a row open it, one probe after a pause may close it.

While it is open, work for that host is told when to come back instead of waiting for another timeout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.model.errors import Unavailable, Uncertain
from reconciler.ports import Clock

# Fewer and one lost packet storm hides a good host; more and every key waits out its own timeouts.
FAILURES = 5
# Long enough for a restart, short enough that a healed host is found within a resync.
PAUSE = 30.0


@dataclass(slots=True)
class _Host:
    """`until` is set while open; `probing` while the one allowed request is on its way."""

    failures: int = 0
    until: datetime | None = None
    probing: bool = False


@dataclass(slots=True)
class Passage:
    """One request let through; `failed` marks an answer that counts as the host's failure."""

    bad: bool = False

    def failed(self) -> None:
        """The host answered, but only to say that it is in trouble."""
        self.bad = True


class Breaker:
    """Counts consecutive failures per host; time comes from the Clock."""

    def __init__(self, clock: Clock, failures: int = FAILURES, pause: float = PAUSE) -> None:
        self._clock, self._failures, self._pause = clock, failures, pause
        self._hosts: dict[str, _Host] = {}

    def open_until(self, host: str) -> datetime | None:
        """When a host that is shut out may be asked again; None while it may be asked now."""
        state = self._hosts.get(host)
        if state is None or state.until is None:
            return None
        return state.until if self._clock.now() < state.until else None

    def standing(self) -> dict[str, bool]:
        """Of every host that was asked: False while it is shut out."""
        return {host: self.open_until(host) is None for host in sorted(self._hosts)}

    @contextmanager
    def passage(self, host: str) -> Iterator[Passage]:
        """Let one request through and learn from it; Unavailable with `retry_at` while the host is shut out."""
        state = self._hosts.setdefault(host, _Host())
        now = self._clock.now()
        if state.until is not None:
            if now < state.until or state.probing:
                again = max(state.until, now + timedelta(seconds=1))
                raise Unavailable("breaker-open", f"cannot ask {host}: it failed {state.failures} times in a row", retry_at=again)
            state.probing = True
        passage = Passage()
        try:
            yield passage
        except (Unavailable, Uncertain):
            passage.bad = True
            raise
        except BaseException:
            # Cancelled, or an answer we did not like: neither is the host's silence.
            state.probing = False
            raise
        finally:
            if passage.bad:
                self._failed(state)
        if not passage.bad:
            state.failures, state.until, state.probing = 0, None, False

    def _failed(self, state: _Host) -> None:
        state.failures += 1
        state.probing = False
        if state.failures >= self._failures:
            state.until = self._clock.now() + timedelta(seconds=self._pause)
