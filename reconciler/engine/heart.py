"""A pulse from inside the work: what a watchdog listens to.

A loop that turns proves nothing about a worker that waits for ever inside one pass. So each worker carries a pulse of its own,
bound to the context its work runs in, and every effect, every answer and every piece of an upload beats it. Whoever is asked
whether all is well looks for a beat of each worker, not for any beat at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Pulse:
    """How often one worker has shown that it gets on; `above` is the pulse that it beats with its own."""

    beats: int = 0
    above: Pulse | None = None


_OURS: ContextVar[Pulse | None] = ContextVar("pulse", default=None)


def beat() -> None:
    """The work of this context got on; nothing where nobody counts."""
    pulse = _OURS.get()
    while pulse is not None:
        pulse.beats += 1
        pulse = pulse.above


@contextmanager
def carrying(pulse: Pulse) -> Iterator[None]:
    """Whatever runs inside, and every task begun there, beats this pulse, and the one that was beaten before."""
    pulse.above = _OURS.get()
    token = _OURS.set(pulse)
    try:
        yield
    finally:
        _OURS.reset(token)
