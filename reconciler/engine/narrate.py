"""What happens inside runs, as lines of the log: ends at info, single effects at debug, and never their contents."""

from __future__ import annotations

import logging

from reconciler.engine.progress import Progress

log = logging.getLogger("reconciler.run")

_LEVELS = {"run.done": logging.INFO, "run.stalled": logging.ERROR, "run.retry": logging.WARNING}


def logged(step: Progress) -> None:
    """A watcher that writes to the log; which run it is, the context says."""
    level = _LEVELS.get(step.what, logging.DEBUG)
    if not log.isEnabledFor(level):
        return
    detail = step.detail
    extra = {
        "ref": step.key.removeprefix("ref/"),
        "verb": step.verb or None,
        "effect": step.effect or None,
        "txid": detail.get("txid"),
        "error": detail.get("error"),
        "hint": detail.get("hint"),
    }
    log.log(level, step.what, extra=extra)
