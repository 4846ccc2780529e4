"""What was asked for at an earlier revision, as the journal of runs remembers it: the desired state of a rollback.

A rollback is an ordinary plan with an ordinary price. Nothing that is on the chain is undone; what should be there instead is
published as the next version, from the copies of content files that were kept when they were first published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reconciler.engine.moving import redirected
from reconciler.engine.survey import believed
from reconciler.kinds import controllers
from reconciler.kinds.audit import KIND as AUDIT_KIND
from reconciler.model.canonical import Json
from reconciler.model.change import Change, Verb
from reconciler.model.codec import decode
from reconciler.model.errors import Refused
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import DesiredState, Resource
from reconciler.ports import Ports

# More entries than a ledger of years has.
_ALL = 10_000_000
# What changes which resources there are, or what they ask for.
_MOVING = ("change.applied", "resource.adopted", "resource.moved")


def desired_at(ports: Ports, then: str, environment: str, *, plan: bool = False) -> DesiredState:
    """The resources as the last change applied from a revision left them, or the last of a `plan`; Refused when there is no such
    or bytes are gone.

    A revision may be cut short, and may leave out what stands before an @; so may the id of a plan. The anchor of the audit chain
    goes forward only.
    """
    now = believed(ports.ledger.read(ports.clock.now()), environment)
    full, found = _replayed(ports, then, now.resources, "plan" if plan else "revision")
    found |= {ref: want for ref, want in now.resources.items() if ref.kind == AUDIT_KIND}
    gone = sorted({(f.path, f.sha256) for want in found.values() for f in want.files if not ports.blobs.has(f.sha256)})
    if gone:
        names = ", ".join(f"{path} ({sha256[:12]}…)" for path, sha256 in gone[:5]) + (" and more" if len(gone) > 5 else "")
        hint = "put the manifests and files of that revision back, and apply"
        raise Refused("files-gone", f"cannot roll back to {full}: nobody kept {names}", hint=hint)
    return DesiredState(full, environment, dict(sorted(found.items())))


def _replayed(ports: Ports, then: str, now: Mapping[ResourceRef, Resource], what: str) -> tuple[str, dict[ResourceRef, Resource]]:
    """(its revision in full, what was recorded right after the last change of it); `what` is "revision" or "plan"."""
    with ports.ledger.begin() as tx:
        noted = [one for one in reversed(tx.history(limit=_ALL)) if one["event"] in _MOVING]
        names = {str(one["detail"].get(what) or "") for one in noted}
        full = _one_of(names - {""}, then, what)
        last = max(place for place, one in enumerate(noted) if one["detail"].get(what) == full)
        state: dict[ResourceRef, Resource] = {}
        for one in noted[: last + 1]:
            ref = ResourceRef.parse(one["ref"])
            if one["event"] == "resource.moved":
                state = _carried(state, ResourceRef.parse(one["detail"]["from"]), ref)
                continue
            run = tx.run(one["detail"]["run"]) if "run" in one["detail"] else None
            if run is None:
                # What was adopted was asked for by nobody's run: it stays as it is until one changes it.
                state |= {ref: now[ref]} if ref in now else {}
                continue
            change: Change = decode(Change, run.subject["change"])
            if change.verb in (Verb.DELETE, Verb.FORGET) or change.after is None:
                state.pop(ref, None)
            elif ref.kind != AUDIT_KIND:
                state[ref] = replace(change.after, renamed_from=None)
        return str(noted[last]["detail"].get("revision") or full), _called(state, noted[last + 1 :], now)


def _carried(state: dict[ResourceRef, Resource], old: ResourceRef, new: ResourceRef) -> dict[ResourceRef, Resource]:
    """The resources after one of them was given another name, which those that stand on it have spoken since."""
    kinds, found = controllers(), {}
    for ref, want in state.items():
        spec = redirected(want.spec, old, new, kinds[ref.kind]) if old in want.requires and ref.kind in kinds else want.spec
        name = new if ref == old else ref
        requires = frozenset(new if other == old else other for other in want.requires)
        found[name] = replace(want, ref=name, spec=spec, requires=requires)
    return found


def _called(
    state: dict[ResourceRef, Resource], since: Sequence[Mapping[str, Json]], now: Mapping[ResourceRef, Resource]
) -> dict[ResourceRef, Resource]:
    """The resources of then with the names under which what they were is recorded now: they are carried back, not made anew."""
    names = {ref: ref for ref in state}
    for one in since:
        if one["event"] == "resource.moved":
            old, new = ResourceRef.parse(one["detail"]["from"]), ResourceRef.parse(one["ref"])
            names = {then: new if name == old else name for then, name in names.items()}
    back = {then: name for then, name in names.items() if name != then and name in now and name not in state and then not in now}
    return {ref: replace(want, renamed_from=back.get(ref)) for ref, want in state.items()}


def _one_of(names: set[str], then: str, what: str) -> str:
    hits = sorted(name for name in names if name == then or name.rpartition("@")[2].startswith(then.rpartition("@")[2]))
    if then in hits:
        return then
    if len(hits) != 1:
        why = f"it may be {', '.join(hits[:3])}" if hits else "nothing was applied from it"
        raise Refused(f"no-{what}", f"cannot roll back to {then}: {why}", hint=f"reconciler history -o json names {what}s")
    return hits[0]
