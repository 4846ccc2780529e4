"""What was asked for at an earlier revision, as the journal of runs remembers it: the desired state of a rollback.

A rollback is an ordinary plan with an ordinary price. Nothing that is on the chain is undone; what should be there instead is
published as the next version, from the copies of content files that were kept when they were first published.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.engine.survey import believed
from reconciler.kinds.audit import KIND as AUDIT_KIND
from reconciler.model.change import Change, Verb
from reconciler.model.codec import decode
from reconciler.model.errors import Refused
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import DesiredState, Resource
from reconciler.ports import Ports

# More entries than a ledger of years has.
_ALL = 10_000_000


def desired_at(ports: Ports, revision: str, environment: str) -> DesiredState:
    """The resources as the last change applied from `revision` left them; Refused when that is unknown or bytes are gone.

    `revision` may be cut short, and may leave out what stands before an @. The anchor of the audit chain goes forward only.
    """
    now = believed(ports.ledger.read(ports.clock.now()), environment)
    full, found = _replayed(ports, revision, now.resources)
    found |= {ref: want for ref, want in now.resources.items() if ref.kind == AUDIT_KIND}
    gone = sorted({(f.path, f.sha256) for want in found.values() for f in want.files if not ports.blobs.has(f.sha256)})
    if gone:
        names = ", ".join(f"{path} ({sha256[:12]}…)" for path, sha256 in gone[:5]) + (" and more" if len(gone) > 5 else "")
        hint = "put the manifests and files of that revision back, and apply"
        raise Refused("files-gone", f"cannot roll back to {full}: nobody kept {names}", hint=hint)
    return DesiredState(full, environment, dict(sorted(found.items())))


def _replayed(ports: Ports, revision: str, now: Mapping[ResourceRef, Resource]) -> tuple[str, dict[ResourceRef, Resource]]:
    """(the revision in full, what was recorded right after the last change from it)."""
    with ports.ledger.begin() as tx:
        noted = [one for one in reversed(tx.history(limit=_ALL)) if one["event"] in ("change.applied", "resource.adopted")]
        names = {str(one["detail"].get("revision") or "") for one in noted}
        full = _one_of(names - {""}, revision)
        last = max(place for place, one in enumerate(noted) if one["detail"].get("revision") == full)
        state: dict[ResourceRef, Resource] = {}
        for one in noted[: last + 1]:
            ref = ResourceRef.parse(one["ref"])
            run = tx.run(one["detail"]["run"]) if "run" in one["detail"] else None
            if run is None:
                # What was adopted was asked for by nobody's run: it stays as it is until one changes it.
                state |= {ref: now[ref]} if ref in now else {}
                continue
            change: Change = decode(Change, run.subject["change"])
            if change.verb in (Verb.DELETE, Verb.FORGET) or change.after is None:
                state.pop(ref, None)
            elif ref.kind != AUDIT_KIND:
                state[ref] = change.after
    return full, state


def _one_of(names: set[str], revision: str) -> str:
    hits = sorted(name for name in names if name == revision or name.rpartition("@")[2].startswith(revision.rpartition("@")[2]))
    if revision in hits:
        return revision
    if len(hits) != 1:
        what = f"it may be {', '.join(hits[:3])}" if hits else "nothing was applied from it"
        raise Refused("no-revision", f"cannot roll back to {revision}: {what}", hint="reconciler history -o json names revisions")
    return hits[0]
