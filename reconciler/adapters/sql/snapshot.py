"""What a snapshot of the ledger is made of, whoever asked the database: rows in, parts of a RecordedState out.

Reading the whole ledger is what every plan begins with, so decoded records are kept between reads. Every
write of a record draws a new version from one counter inside its transaction; a reader that sees the counter
unmoved has nothing to fetch, and otherwise fetches only the rows whose version is newer. The counter is in
the database, so this holds whichever process wrote.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

from reconciler.adapters.sql import rows
from reconciler.model.intent import RunState
from reconciler.model.record import Purse, Record
from reconciler.model.ref import ResourceRef

# How long one process waits for another's commit. A commit takes milliseconds; five seconds means it hangs.
BUSY_SECONDS = 5
# How the key of a run begins that is about a resource.
REF = "ref/"
# All that a resource's name is made of; a slash is not among it, so stripping these leaves the kind.
NAME = "abcdefghijklmnopqrstuvwxyz0123456789-"


@dataclass(frozen=True, slots=True)
class Records:
    """The decoded records as of one value of the counter `records`, in the order of their refs."""

    version: int = -1
    by_ref: Mapping[ResourceRef, Record] = field(default_factory=dict)

    def renewed(self, version: int, newer: Iterable[str], count: Callable[[], int], refs: Callable[[], Iterable[str]]) -> Records:
        """With the documents of a `newer` version read in. `count` and `refs` tell of all rows, should some have gone."""
        found = {**self.by_ref, **{record.ref: record for record in rows.records(newer)}}
        # Every stored row is now among the decoded ones, so equal counts are equal sets.
        if count() != len(found):
            left = set(refs())
            found = {ref: record for ref, record in found.items() if str(ref) in left}
        return Records(version, {ref: found[ref] for ref in sorted(found)})


@dataclass(frozen=True, slots=True)
class Runs:
    """Closed runs per resource and resources with an open one, as of one value of the counter `runs`."""

    version: int = -1
    attempts: Mapping[ResourceRef, int] = field(default_factory=dict)
    frozen: frozenset[ResourceRef] = frozenset()


def counted(version: int, told: Iterable[tuple[str, str, int]]) -> Runs:
    """Runs from how many there are by key and state."""
    attempts: dict[ResourceRef, int] = {}
    frozen: set[ResourceRef] = set()
    for key, state, count in told:
        if not key.startswith(REF):
            continue
        ref = ref_of(key)
        if state == RunState.OPEN.value:
            frozen.add(ref)
        else:
            attempts[ref] = attempts.get(ref, 0) + count
    return Runs(version, attempts, frozenset(frozen))


def purses(told: Iterable[tuple[str, int]]) -> Mapping[str, Purse]:
    """Purses from the coins that can be spent, as (chain, satoshis), chain by chain and the largest first."""
    return {chain: Purse(tuple(satoshis for _, satoshis in found)) for chain, found in groupby(told, lambda row: row[0])}


def by_kind(told: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Sums by kind, from names of resources without their own name: `Kind/`."""
    return {name.rstrip("/"): int(total) for name, total in told}


def by_resource(told: Iterable[tuple[str, int]]) -> dict[ResourceRef, int]:
    """Sums by resource, from keys of runs."""
    return {ref_of(key): int(left) for key, left in told}


def ref_of(key: str) -> ResourceRef:
    """The resource that a run with this key is about."""
    return ResourceRef.parse(key.removeprefix(REF))


def utc_text(moment: datetime) -> str:
    """A moment as SQLite keeps it: RFC 3339 in UTC, of fixed width, so that text sorts as time does."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """No garbage collection inside: none of this is garbage, and walking the growing heap takes longer than reading it."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
