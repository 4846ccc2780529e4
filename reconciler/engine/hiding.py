"""Hosts that take a token and will not list it: tried again ever more rarely, and said so, but never paid for again.

A host that answers both the submission and the lookup, and still does not list the token, may have had it evicted by whoever
runs it. Sending the same bytes is free and may help, so it is done at once the first times; from `TRIES` on the pauses double,
from an hour to a day. To make the token anew costs money and may end the same way, so that is left to a person
(`apply --recreate`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from reconciler.model.canonical import Json
from reconciler.model.change import Change, Verb
from reconciler.model.codec import timestamp
from reconciler.model.observation import Absent, Observation, ObservedState, Present
from reconciler.model.ref import ResourceRef

# Tries after which a host is said to hide a token.
TRIES = 5
# Pause after that many tries; it doubles with each further one.
FIRST_PAUSE = timedelta(hours=1)
LONGEST_PAUSE = timedelta(days=1)


def counted(change: Change, outputs: Mapping[str, Json], submits: Iterable[Mapping[str, Json]], now: datetime) -> dict[str, Json]:
    """The status fact "hiding" after a run: {host: {"outpoints", "tries", "next"}}; `submits` are the results of its Submits.

    A host counts when it answered and does not list what it was given. A new token begins a new count.
    """
    old = (change.before.status.facts.get("hiding") or {}) if change.before and change.verb is Verb.REPAIR else {}
    found = dict(old)
    for result in submits:
        for host, answer in result.items():
            if host in ("quorum", "late") or answer is None or answer.get("retry") or answer.get("found"):
                continue
            found.pop(host, None)
            if not answer.get("confirmed"):
                outpoints, known = _lacking(change, outputs, host), old.get(host) or {}
                tries = 1 + (known.get("tries", 0) if known.get("outpoints") == outpoints else 0)
                found[host] = {"outpoints": outpoints, "tries": tries, "next": timestamp(now + _pause(tries))}
    return found


def hidden(facts: Mapping[str, Json]) -> list[str]:
    """The hosts that have been tried often enough to be named."""
    return sorted(host for host, one in (facts.get("hiding") or {}).items() if one["tries"] >= TRIES)


def seen(observed: Observation | None) -> list[str]:
    """The hosts that an observation leaves alone because they hide a token."""
    views = (getattr(observed, "attributes", {}).get("tokens") or {}).values()
    return sorted({host for view in views for host, state in view["hosts"].items() if state == "hidden"})


def told(hosts: Sequence[str], ref: ResourceRef) -> str:
    """Why the resource is not listed everywhere, and what a person can do."""
    return (
        f"{', '.join(hosts)} answers and will not list it, however often it is sent ({TRIES} times and more); it is tried ever "
        f"more rarely, and made anew, for its price, only by: reconciler apply --recreate {ref}"
    )


def given_up(observed: ObservedState, refs: Collection[ResourceRef]) -> ObservedState:
    """The observations with these resources taken for lost by a person's order: what is there of them is spent and made anew."""

    def lost(seen: Observation) -> Observation:
        return Absent("made anew by order", {**seen.attributes, "recreate": True}) if isinstance(seen, Present) else seen

    return {ref: lost(seen) if ref in refs else seen for ref, seen in observed.items()}


def _pause(tries: int) -> timedelta:
    return timedelta(0) if tries < TRIES else min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tries - TRIES, 10))


def _lacking(change: Change, outputs: Mapping[str, Json], host: str) -> list[str]:
    """The tokens the host was given: those it was seen to lack, or all that were made."""
    views = change.seen.get("tokens") or {} if change.verb is Verb.REPAIR else {}
    lost = sorted(outpoint for outpoint, view in views.items() if view["hosts"].get(host) == "missing")
    return lost or sorted(token["outpoint"] for token in outputs.get("tokens") or ())
