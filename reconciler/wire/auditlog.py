"""The audit log as a file: every entry names the one before it by digest, and the last digest stands for all of them.

    lineage --SHA-256--> entry 1 --SHA-256--> entry 2 ... entry N = head --anchored by--> a signed document on the chain

Format `reconciler-audit/1`, one canonical JSON object a line:

    {"format", "lineage", "entries": N, "head": hex}
    {"number", "at", "ref": "Kind/name" | null, "event", "detail", "previous": hex, "digest": hex}    N times

An entry's digest is the SHA-256 of the canonical rest of it. `previous` of the first entry is the digest of {format, lineage},
so that entries of one ledger prove nothing about another. Removing, changing, adding or moving an entry breaks the chain at
that place; cutting off the end breaks nothing, and shows only against a head that somebody else keeps (`against`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from reconciler.model.audit import Head
from reconciler.model.canonical import Json, canonical, digest
from reconciler.model.errors import RemoteProtocolError

FORMAT = "reconciler-audit/1"
# What the anchored document says it is.
HEAD_TYPE = "AuditHead"
_MEMBERS = frozenset({"number", "at", "ref", "event", "detail", "previous", "digest"})
# An entry holds facts about one change; a longer line is no entry of ours.
MAX_LINE = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison, by name: whether it holds, and what was found."""

    name: str
    ok: bool
    detail: str


def genesis(lineage: str) -> str:
    """What the first entry of a ledger names as the one before it."""
    return digest({"format": FORMAT, "lineage": lineage})


def entry_digest(number: int, at: str, ref: str | None, event: str, detail: Json, previous: str) -> str:
    """The digest that stands for an entry and for all before it; `at` is RFC 3339 in UTC."""
    return digest({"number": number, "at": at, "ref": ref, "event": event, "detail": detail, "previous": previous})


def write(head: Head, entries: Iterable[Mapping[str, Json]]) -> Iterator[bytes]:
    """The lines of the file."""
    yield canonical({"format": FORMAT, "lineage": head.lineage, "entries": head.entries, "head": head.digest}) + b"\n"
    for entry in entries:
        yield canonical(entry) + b"\n"


@dataclass(slots=True)
class Log:
    """What reading a file found: the head it claims, the head its entries lead to, the digests by number, and the faults."""

    claimed: Head
    reached: Head
    digests: list[str]
    faults: list[str]


def read(lines: Iterable[bytes]) -> Log:
    """Walk a file; every break of the chain becomes a fault that names its place. RemoteProtocolError when it is no log."""
    walk = iter(lines)
    first = _parse(next(walk, b""), 1)
    if first.get("format") != FORMAT or not isinstance(first.get("lineage"), str) or not isinstance(first.get("entries"), int):
        raise RemoteProtocolError(f"cannot read this as an audit log: it is not {FORMAT}")
    claimed = Head(first["lineage"], first["entries"], str(first.get("head")))
    previous, number = genesis(claimed.lineage), 0
    digests: list[str] = []
    faults: list[str] = []
    for number, line in enumerate(walk, 1):
        entry = _parse(line, number + 1)
        if set(entry) != _MEMBERS:
            raise RemoteProtocolError(f"cannot read line {number + 1} of the audit log: it is no entry")
        faults += _links(entry, number, previous)
        previous = entry["digest"]
        digests.append(previous)
    return Log(claimed, Head(claimed.lineage, number, previous), digests, faults)


def _parse(line: bytes, number: int) -> dict[str, Json]:
    try:
        found = json.loads(line) if len(line) <= MAX_LINE else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RemoteProtocolError(f"cannot read line {number} of the audit log: it is no JSON object")
    return found


def _links(entry: Mapping[str, Json], number: int, previous: str) -> Iterator[str]:
    """What is wrong with an entry at its place."""
    try:
        whole = entry_digest(*(entry[name] for name in ("number", "at", "ref", "event", "detail", "previous")))
    except TypeError:
        whole = ""
    if whole != entry["digest"]:
        yield f"entry {number} was altered: its content is not what its digest says"
    if entry["number"] != number:
        yield f"entry {entry['number']} stands where {number} belongs: an entry was removed, added or moved"
    elif entry["previous"] != previous:
        yield f"entry {number} does not follow the one before it: an entry was removed, replaced or moved"


def check(log: Log) -> list[Finding]:
    """Whether the entries form one chain, and lead to the head the file claims."""
    count = log.reached.entries
    chain = Finding("chain", not log.faults, log.faults[0] if log.faults else f"{count} entries, each naming the one before it")
    if log.reached == log.claimed:
        return [chain, Finding("head", True, f"{log.claimed.digest} after {count} entries")]
    if count < log.claimed.entries:
        return [chain, Finding("head", False, f"the file ends after {count} of {log.claimed.entries} entries: it was cut off")]
    return [chain, Finding("head", False, f"the entries lead to {log.reached.digest}, the file claims {log.claimed.digest}")]


def against(log: Log, known: Head, name: str) -> Finding:
    """Whether a log holds everything up to a head that was kept elsewhere; `name` is who kept it."""
    if known.lineage != log.claimed.lineage:
        return Finding(name, False, f"it speaks of another ledger: {known.lineage}, not {log.claimed.lineage}")
    if known.entries > len(log.digests):
        return Finding(name, False, f"it knows {known.entries} entries, the file holds {len(log.digests)}: the end was cut off")
    found = log.digests[known.entries - 1] if known.entries else genesis(known.lineage)
    if found != known.digest:
        return Finding(name, False, f"it knows another history: entry {known.entries} was {known.digest}, and is {found}")
    return Finding(name, True, f"entry {known.entries} of {len(log.digests)} is the one it knows")


def head_of(document: Mapping[str, Json]) -> Head:
    """The head that an anchored document states; RemoteProtocolError when it is another kind of document."""
    if document.get("type") != HEAD_TYPE:
        raise RemoteProtocolError(f"cannot compare with this document: it is no {HEAD_TYPE}")
    lineage, entries, head = document.get("lineage"), document.get("entries"), document.get("head")
    if not isinstance(lineage, str) or not isinstance(entries, int) or not isinstance(head, str):
        raise RemoteProtocolError(f"cannot read the {HEAD_TYPE}: it lacks lineage, entries or head")
    return Head(lineage, entries, head)
