"""Whether a daemon works on this ledger: the lease it holds for as long as it runs, and whether its process still lives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconciler.compose import Workspace

# The key of that lease, followed by the daemon's name. No handler has this prefix, so no worker is ever offered it.
DAEMON = "daemon/"


@dataclass(frozen=True, slots=True)
class Presence:
    """A daemon that lives, or none."""

    running: bool
    owner: str = ""
    fence: int = 0


def presence(space: Workspace) -> Presence:
    """The daemon that lives, if one does. Of other machines nothing is known, so a lease that runs counts there."""
    from reconciler.adapters.process import is_dead

    for lease in space.ports.queue.holders(space.ports.clock.now()):
        if lease.key.startswith(DAEMON) and not is_dead(lease.owner):
            return Presence(True, lease.owner.rpartition(":")[0], lease.fence)
    return Presence(False)
