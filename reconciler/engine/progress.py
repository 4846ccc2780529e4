"""What the engine tells whoever watches: values, so that a terminal, a log and a test read the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reconciler.model.canonical import Json


@dataclass(frozen=True, slots=True)
class Progress:
    """One step. `what` is one of run.started, effect.started, effect.replayed, effect.done, run.done, run.stalled,
    run.retry, run.skipped.
    """

    what: str
    key: str
    verb: str = ""
    effect: str = ""
    detail: Mapping[str, Json] = field(default_factory=dict)


Watcher = Callable[[Progress], None]


def unwatched(step: Progress) -> None:
    """Nobody watches."""
