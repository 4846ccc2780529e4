"""Exit codes, and which error earns which; the only place that knows."""

from __future__ import annotations

from reconciler.model.errors import (
    Attention,
    Conflict,
    GuardRefused,
    Invariant,
    Locked,
    ReconcilerError,
    Refused,
    Unavailable,
    Uncertain,
)

OK = 0
ERROR = 1
CHANGES = 2  # with --detailed-exitcode: success, changes or drift pending
PARTIAL = 3
GUARD = 4
STALE = 5
LOCKED = 6
ATTENTION = 7
USAGE = 64
INTERRUPTED = 130
TERMINATED = 143

_CODES: tuple[tuple[type[ReconcilerError], int], ...] = (
    (GuardRefused, GUARD),
    (Locked, LOCKED),
    (Attention, ATTENTION),
    (Conflict, STALE),
    (Uncertain, ATTENTION),
    (Unavailable, PARTIAL),
    (Invariant, ERROR),
    (Refused, ERROR),
)


def code_of(error: ReconcilerError) -> int:
    """The exit code of an error that ended a command."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ERROR)
