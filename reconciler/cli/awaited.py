"""`reconcile --wait`: stay until somebody has worked what was queued, and a plan of our own finds nothing left there.

The daemon's word for it would be that it tried. Whether the network is as declared is seen by looking, as `plan` looks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from reconciler.cli import exits, outcome, planning

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.model.change import Change
    from reconciler.model.plan import Plan

# Seconds between two looks at the queue, which is local, and the longest between two looks at the network.
_PAUSE = 0.5
_LONGEST = 15.0


@dataclass(frozen=True, slots=True)
class Awaited:
    """How the waiting ended. `plan` is what a look at the end found, None when nobody had worked the keys by then."""

    plan: Plan | None
    late: bool = False
    gone: bool = False

    @property
    def left(self) -> tuple[Change, ...]:
        """What is still to be done, or could not be judged."""
        return () if self.plan is None else (*self.plan.acting, *outcome.unfinished(self.plan))

    @property
    def code(self) -> int:
        """0: nothing is left. 4: a guard refuses what is. 3: something is left, or the time was up."""
        if self.plan is not None and self.plan.refusals:
            return exits.GUARD
        return exits.PARTIAL if self.plan is None or self.left else exits.OK


async def until_done(
    space: Workspace, keys: Sequence[str], targets: Sequence[str], patience: float, alive: Callable[[], bool]
) -> Awaited:
    """Until the keys were worked and nothing of the targets (all, without any) is left or under way; `patience` in seconds.

    Ends early when nobody is `alive` to work them. planning.Invalid when the manifests have errors.
    """
    clock, pause = space.ports.clock, _PAUSE
    until = clock.now() + timedelta(seconds=patience)
    while True:
        while (busy := _due(space, keys)) and clock.now() < until and alive():
            await clock.sleep(_PAUSE)
        if busy:
            return Awaited(None, late=clock.now() >= until, gone=not alive())
        found = Awaited((await planning.prepare(space, planning.Wish(targets=targets))).plan)
        if not found.left or not _to_come(space, keys, found):
            return found
        left = (until - clock.now()).total_seconds()
        if left <= 0 or not alive():
            return Awaited(found.plan, late=left <= 0, gone=left > 0)
        await clock.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST)


def _due(space: Workspace, keys: Sequence[str]) -> bool:
    """Whether one of the keys could be worked now, or is being worked."""
    queue, now = space.ports.queue, space.ports.clock.now()
    # In this order: what is claimed between the two questions is held by the time of the second.
    due = any((when := queue.next_due((key,))) is not None and when <= now for key in keys)
    return due or any(lease.key in keys for lease in queue.holders(now))


def _to_come(space: Workspace, keys: Sequence[str], found: Awaited) -> bool:
    """Whether what is left will be tried again by itself: a run of it or of the purse is open, or a key was put off."""
    from reconciler.model.intent import RunState

    with space.ports.ledger.begin() as tx:
        begun = {run.key for run in tx.runs(state=RunState.OPEN)}
    own = {f"ref/{change.ref}" for change in found.left}
    return any(key in own or key.startswith("funding/") for key in begun) or any(
        space.ports.queue.next_due((key,)) for key in keys
    )
