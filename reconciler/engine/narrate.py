"""What happens inside runs, as lines of the log: ends and the progress of long uploads at info, single effects at debug, and
never their contents.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from reconciler.engine.progress import Progress
from reconciler.ports import Clock

log = logging.getLogger("reconciler.run")

_LEVELS = {"run.done": logging.INFO, "run.stalled": logging.ERROR, "run.retry": logging.WARNING}

# An upload is told of no more often than this, and so not at all when it takes less.
UPLOAD_EVERY = timedelta(seconds=10)


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


class Uploads:
    """Called while content leaves: one `upload.progressed` for each file and host every UPLOAD_EVERY of the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[tuple[str, int], datetime] = {}

    def __call__(self, host: str, sent: int, size: int) -> None:
        """`sent` bytes of `size` are with a host. What is sent whole is forgotten."""
        upload, now = (host, size), self._clock.now()
        if sent >= size:
            self._told.pop(upload, None)
        elif now - self._told.setdefault(upload, now) >= UPLOAD_EVERY:
            self._told[upload] = now
            log.info("upload.progressed", extra={"host": host, "sent": sent, "size": size})
