"""How well a host has answered lately, and when it may be asked again: the rules the reference clients judge hosts by.

Latency is a moving average in milliseconds. Two failures in a row are free; from the third on a host rests for a second,
and twice as long after each further one, up to a minute. A name that does not resolve costs the free failures at once.
One answer clears the failures. Nothing here knows the time: whoever asks says when.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

# Weight of the latest answer in the average.
WEIGHT = 0.25
# What a host counts for that has never answered, in milliseconds.
UNKNOWN_MS = 1500.0
FREE_FAILURES = 2
FIRST_REST = timedelta(seconds=1)
LONGEST_REST = timedelta(seconds=60)
# Ranking only: each failure in a row makes a host this much slower.
FAILURE_MS = 400.0
# Doublings after which the longest rest is reached, so that no power grows without bound.
_DOUBLINGS = 6


@dataclass(frozen=True, slots=True)
class Reputation:
    """What is remembered of one host. `latency` is None until it has answered; it rests until `until`."""

    latency: float | None = None
    failures: int = 0
    until: datetime | None = None

    def rests(self, now: datetime) -> bool:
        """Whether it is left alone at this moment."""
        return self.until is not None and now < self.until

    @property
    def rank(self) -> float:
        """Milliseconds it is expected to take; failures count as slowness."""
        return (UNKNOWN_MS if self.latency is None else self.latency) + self.failures * FAILURE_MS


NEW = Reputation()


def answered(known: Reputation, ms: float) -> Reputation:
    """After an answer that took `ms`."""
    latency = ms if known.latency is None else (1 - WEIGHT) * known.latency + WEIGHT * ms
    return Reputation(latency)


def failed(known: Reputation, now: datetime, *, unnamed: bool = False) -> Reputation:
    """After a failure; `unnamed` says that the name of the host does not resolve."""
    failures = known.failures + 1
    if unnamed:
        failures = max(failures, FREE_FAILURES + 1)
    beyond = failures - FREE_FAILURES
    if beyond <= 0:
        return replace(known, failures=failures)
    rest = min(LONGEST_REST, FIRST_REST * 2 ** min(beyond - 1, _DOUBLINGS))
    return replace(known, failures=failures, until=now + rest)


def ready(hosts: Sequence[str], known: Mapping[str, Reputation], now: datetime) -> tuple[list[str], datetime | None]:
    """The hosts that may be asked, best first, and when the first of the resting ones may be; None when none rests."""
    view = {host: known.get(host, NEW) for host in hosts}
    resting = [one.until for one in view.values() if one.until is not None and now < one.until]
    up = sorted((host for host, one in view.items() if not one.rests(now)), key=lambda host: (view[host].rank, host))
    return up, min(resting, default=None)
