"""In which order things are done: requirements before dependents, retirement the other way round."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

from reconciler.controller import Controller
from reconciler.model.change import Change, Verb
from reconciler.model.ref import ResourceRef

Edges = Mapping[ResourceRef, Set[ResourceRef]]
# Verbs that take something away.
LEAVING = frozenset({Verb.DELETE, Verb.FORGET})
# Kinds that state no stage come last: what is unknown is announced last and retired first.
_LAST_STAGE = 1_000


def topological(refs: Iterable[ResourceRef], before: Edges, rank: Callable[[ResourceRef], Any]) -> list[ResourceRef]:
    """Kahn's order of `refs`, each after those in `before[ref]`; of several that are ready the lowest rank goes first.

    Ranks are distinct. Total: in a cycle the lowest rank is let through. Edges to anything outside `refs` are dropped.
    """
    # Places in the order of rank stand for the resources: comparing them is comparing small integers.
    order = sorted(refs, key=rank)
    place = {ref: at for at, ref in enumerate(order)}
    missing = [0] * len(order)
    dependents: dict[int, list[int]] = {}
    for at, ref in enumerate(order):
        for other in before.get(ref, ()):
            there = place.get(other, at)
            if there != at:
                missing[at] += 1
                dependents.setdefault(there, []).append(at)
    ready = [at for at, count in enumerate(missing) if not count]
    done: dict[int, None] = {}
    lowest = 0
    while len(done) < len(order):
        if ready:
            at = heapq.heappop(ready)
        else:
            # Only a cycle leaves nothing ready. What is done stays done, so the search goes on where it stopped.
            lowest = next(at for at in range(lowest, len(order)) if at not in done)
            at = lowest
        done[at] = None
        for dependent in dependents.get(at, ()):
            missing[dependent] -= 1
            if not missing[dependent] and dependent not in done:
                heapq.heappush(ready, dependent)
    return [order[at] for at in done]


def rank_of(kinds: Mapping[str, Controller]) -> Callable[[ResourceRef], tuple[int, str, str]]:
    """The tie-breaker between independent resources: the stage of the kind, then the name."""
    return lambda ref: (_stage(kinds, ref.kind), ref.kind, ref.name)


def execution(
    changes: Mapping[ResourceRef, Change], waits: Edges, kinds: Mapping[str, Controller]
) -> tuple[tuple[Change, ...], dict[ResourceRef, frozenset[ResourceRef]]]:
    """All changes in the order of a plan, and for each acting one the acting ones it comes after.

    Acting changes stand first, in an order they can be executed in, retirements at the end and the last stage
    (advertisements) first among them; then what is blocked, deferred, and unchanged.
    """
    acting = [ref for ref, change in changes.items() if change.verb.acts and change.blocked is None]
    stages = {kind: _stage(kinds, kind) for kind in {ref.kind for ref in changes}}

    def rank(ref: ResourceRef) -> tuple[bool, int, str, str]:
        leaving = changes[ref].verb in LEAVING
        return (leaving, -stages[ref.kind] if leaving else stages[ref.kind], ref.kind, ref.name)

    order = topological(acting, waits, rank)
    place = {ref: position for position, ref in enumerate(order)}
    # Only what stands earlier is waited for: an edge that closes a cycle would be waited for for ever.
    after = {ref: frozenset(o for o in waits.get(ref, ()) if place.get(o, len(order)) < place[ref]) for ref in order}

    def quiet_rank(change: Change) -> tuple[int, int, ResourceRef]:
        group = 0 if change.blocked is not None else 1 if change.verb is Verb.DEFER else 2
        return group, stages[change.ref[0]], change.ref

    quiet = sorted([change for ref, change in changes.items() if ref not in place], key=quiet_rank)
    return (*(changes[ref] for ref in order), *quiet), {ref: others for ref, others in after.items() if others}


def _stage(kinds: Mapping[str, Controller], kind: str) -> int:
    controller = kinds.get(kind)
    return controller.stage if controller is not None else _LAST_STAGE
