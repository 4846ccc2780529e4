"""A process that can be killed at any durable step: a commit, a request that leaves, an answer that comes back, a file kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


class Killed(BaseException):
    """SIGKILL: no handler, no clean-up that matters."""


@dataclass(slots=True)
class Life:
    """One process. `fuse` counts durable steps down to its death; None while nobody wants it dead."""

    name: str
    fuse: int | None = None
    alive: bool = True
    steps: int = 0
    on_death: Callable[[str], None] = field(default=lambda where: None)

    def require(self) -> None:
        """The dead do nothing."""
        if not self.alive:
            raise Killed

    def step(self, where: str) -> None:
        """A durable step is about to happen, or just did."""
        self.require()
        self.steps += 1
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                self.die(where)
                raise Killed

    def die(self, where: str) -> None:
        """From now on nothing it does reaches the world."""
        if self.alive:
            self.alive = False
            self.on_death(where)
