"""The exceptions of the whole program, one class per row of the error table.

Each carries a stable `code`, a sentence that begins "cannot ...", and a hint that says what to do.
They are caught only where the table is applied: `engine.worker` and `cli.main`.
"""

from __future__ import annotations

from datetime import datetime


class ReconcilerError(Exception):
    """Root of every error we raise on purpose."""

    def __init__(self, code: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


class Refused(ReconcilerError):
    """The world, or a rule, said no for good; waiting will not help."""


class LocalProtocolError(Refused):
    """We were about to send something the protocol forbids."""


class RemoteProtocolError(Refused):
    """A peer sent something the protocol forbids; the only error a decoder raises."""

    def __init__(self, message: str, *, code: str = "remote-protocol", hint: str | None = None) -> None:
        super().__init__(code, message, hint=hint)


class GuardRefused(Refused):
    """A guard (size, budget, protection, policy) stopped the plan; exit code 4."""


class Unavailable(ReconcilerError):
    """The world did not answer and nothing was sent; try again, not before `retry_at` if it is set."""

    def __init__(self, code: str, message: str, *, hint: str | None = None, retry_at: datetime | None = None) -> None:
        super().__init__(code, message, hint=hint)
        self.retry_at = retry_at


class Uncertain(ReconcilerError):
    """Something irreversible was sent and its fate is unknown; probe, then repeat the same bytes."""


class Conflict(ReconcilerError):
    """The plan is stale, the lease is lost, or the thing is not ours; drop it and look again."""


class Attention(Conflict):
    """A person has to decide before anything more is spent on it; exit code 7."""


class Locked(ReconcilerError):
    """Another process holds the lease we need; exit code 6."""


class Invariant(ReconcilerError):
    """Our own bug, including a replay that diverges from its journal; nothing is sent."""
