"""A bug in one kind costs that one resource its turn: it is named, told in the log, and the others go on.

What is caught is an Exception: cancellation and Ctrl-C pass through, and what the journal holds stays as it is, so that a run
that was broken off after it signed is resumed from there once the bug is mended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from reconciler.model.errors import Invariant, ReconcilerError

log = logging.getLogger("reconciler.engine")

T = TypeVar("T")
# The code of the error that a bug becomes.
CODE = "kind-failed"


def guarded(step: Callable[[], T]) -> T:
    """Take one step of a kind's own code; a bug in it is raised as Invariant, what it means to raise passes."""
    try:
        return step()
    except (StopIteration, ReconcilerError):
        raise
    except Exception as bug:
        raise fault(bug) from bug


def fault(bug: Exception) -> Invariant:
    """The error that names a bug."""
    named = f"{type(bug).__name__}: {bug}" if str(bug) else type(bug).__name__
    hint = "a fault of the program, not of the manifest; the log has the traceback at level debug"
    return Invariant(CODE, f"cannot go on: its kind failed with {named}", hint=hint)


def tell(ref: str, error: ReconcilerError, bug: BaseException | None) -> None:
    """Log it: the name for everybody, the traceback for whoever asks for details."""
    log.error("kind.failed", extra={"ref": ref, "error": error.message, "hint": error.hint})
    if bug is not None:
        log.debug("kind.traceback", extra={"ref": ref}, exc_info=bug)
