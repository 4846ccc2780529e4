"""What is written down, logged and believed about the place the manifests come from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from reconciler.manifest.load import Loaded
from reconciler.model.canonical import Json
from reconciler.model.codec import timestamp
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.errors import ReconcilerError
from reconciler.model.record import RecordedState
from reconciler.model.ref import Position
from reconciler.model.standing import Standing
from reconciler.ports import Ports

log = logging.getLogger("reconciler.engine")

# Of a reading that is already over when it is told of: somebody writes just now. The next try is seconds away.
MOVING = "source-moving"


def unread(error: ReconcilerError) -> Loaded:
    """A source that cannot be read, as manifests with one fault: the last good revision stays desired. Raises what will pass."""
    if error.code == MOVING:
        raise error
    fault = Diagnostic(Severity.ERROR, "E0404", error.message, Position("source", 1, 1), hint=error.hint)
    return Loaded(None, (fault,), 0, 0, {})


def emptied(loaded: Loaded, recorded: RecordedState) -> Loaded:
    """Manifests that declare nothing at all while much is recorded, as manifests with a fault: more often a wrong directory, or a
    disk that is not mounted, than a wish.
    """
    records = len(recorded.records)
    if loaded.desired is None or loaded.desired.resources or not records:
        return loaded
    count = f"{records} resource is recorded" if records == 1 else f"{records} resources are recorded"
    hint = "reconciler destroy, or apply --approve empty-source, retires everything"
    fault = Diagnostic(Severity.ERROR, "E0406", f"nothing is declared, and {count}", Position("source", 1, 1), hint=hint)
    return replace(loaded, desired=None, diagnostics=(*loaded.diagnostics, fault))


def note(ports: Ports, fault: str, revision: str) -> None:
    """Keep in the ledger how the source stands, and log what moved: SourceReady, SourceVerified and SourceReachable."""
    now, standing = timestamp(ports.clock.now()), ports.source.standing()
    with ports.ledger.begin() as tx:
        before: Mapping[str, Json] = tx.get("source") or {}
        ready = not fault
        since = before.get("since") if before.get("ready") == ready else now
        kept: dict[str, Json] = {"ready": ready, "message": fault, "revision": revision, "since": since}
        if standing.current or standing.head or standing.fault:
            kept |= _conditions(before, standing, now)
        if kept != before:
            tx.put("source", kept)
    _tell(before, standing)


def _conditions(before: Mapping[str, Json], standing: Standing, now: str) -> dict[str, Json]:
    reached = "False" if standing.fault else "True"
    verified = {"status": standing.verified.value, "reason": standing.reason, "message": standing.message}
    reachable = {"status": reached, "reason": "Unreachable" if standing.fault else "Fetched", "message": standing.fault}
    said: dict[str, Json] = {"head": standing.head, "current": standing.current, "pinned": standing.pinned}
    for name, one in (("verified", verified), ("reachable", reachable)):
        old = before.get(name) or {}
        said[name] = {**one, "since": old["since"] if old.get("status") == one["status"] else now}
    return said


def _tell(before: Mapping[str, Json], standing: Standing) -> None:
    was = before.get("verified") or {}
    if standing.held_back and (was.get("status"), before.get("head")) != ("False", standing.head):
        extra = {"revision": standing.head, "error": standing.message, "outcome": standing.reason}
        log.error("source.held", extra={**extra, "hint": f"{standing.current or 'nothing'} stays in force"})
    if standing.fault and (before.get("reachable") or {}).get("status") != "False":
        log.warning("source.unreachable", extra={"revision": standing.current, "error": standing.fault})
    if standing.current and standing.current != before.get("current"):
        log.info("source.advanced", extra={"revision": standing.current, "outcome": standing.message or None})


def notes(standing: Standing) -> tuple[str, ...]:
    """What whoever reads a plan must know about its source, one line each."""
    found = []
    if standing.held_back:
        found.append(f"HEAD {short(standing.head)} is not in force ({standing.reason}): {standing.message}")
    if standing.fault:
        found.append(f"The source was not asked: {standing.fault}")
    if standing.pinned:
        found.append(f"Pinned to {standing.pinned[:12]}; reconciler unpin lets it go")
    return tuple(found)


def short(revision: str) -> str:
    """A revision as people say it: the first twelve digits of a commit."""
    name, at, commit = revision.rpartition("@")
    return f"{name}{at}{commit[:12]}"
