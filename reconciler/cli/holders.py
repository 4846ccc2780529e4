"""Who works on what: the leases of the ledger, and whether the processes that hold them still live.

A process that was killed leaves leases that run for up to a minute. On the machine where it ran, its process id tells at once
that nobody will come back for them. Even a wrong guess costs no money: a holder that lives on is fenced off at its next
write to the ledger, before it can sign anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.ports import Lease

# A daemon holds a lease on this key, followed by its owner name, for as long as it runs.
DAEMON = "daemon/"
# Keys a worker is woken by: putting them back keeps the wake-up that the dead holder had consumed.
_WORK = ("plan", "look/", "run/", "confirm")


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether a daemon works on this ledger, and under which lease."""

    running: bool
    owner: str = ""
    fence: int = 0


def presence(space: Workspace) -> Presence:
    """The daemon that lives, if one does."""
    for lease in space.ports.queue.holders(space.ports.clock.now()):
        if lease.key.startswith(DAEMON) and not is_dead(lease):
            return Presence(True, lease.owner, lease.fence)
    return Presence(False)


def is_dead(lease: Lease) -> bool:
    """Whether the holder ran on this machine and is gone. Of other machines nothing is known."""
    from reconciler.adapters import process

    return process.is_dead(lease.owner)


def release_dead(space: Workspace) -> list[str]:
    """Give back what dead processes of this machine hold; the keys that were freed."""
    ports, freed = space.ports, []
    for held in ports.queue.holders(ports.clock.now()):
        if not is_dead(held):
            continue
        lease = ports.queue.take(held.key, held.owner, ports.clock.now())
        if lease is None:
            continue
        if held.key.startswith(_WORK):
            ports.queue.later(lease, ports.clock.now(), failed=False)
        else:
            ports.queue.done(lease)
        freed.append(held.key)
    return freed
