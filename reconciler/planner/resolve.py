"""What a resource asks for, in full: its spec, its files, and what the resources it requires export.

Exports that exist only once a requirement has been applied stand as markers, {"$after": "Kind/name"}. A plan may be
priced and shown with markers in it; a run may not start with them, so `settle` puts the recorded exports in their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from reconciler.controller import Controller
from reconciler.model.canonical import Json
from reconciler.model.change import Change, Reason, Verb
from reconciler.model.errors import Conflict
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import FileFact, Resource
from reconciler.planner.diff import AFTER, is_marker, same

# Verbs after which the outputs of a resource are others than those recorded.
RENEWING = frozenset({Verb.CREATE, Verb.UPDATE, Verb.REPLACE})
# A file fact holds plain JSON, so its fields are its JSON: what the codec would write, ten times faster.
_FILE_FIELDS = tuple(f.name for f in fields(FileFact))


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a change that builds on another resource must not be made now: deferred for `reason`, or blocked without one."""

    text: str
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """What a resource holds out to its dependents in this plan.

    `exports` is a marker while it is known only after apply. `hold` is set when this plan cannot bring the resource to
    where its dependents need it: nothing may be spent on top of it.
    """

    exports: Json
    hold: Hold | None = None


def request(want: Resource, controller: Controller, offers: Mapping[ResourceRef, Offer]) -> dict[str, Json]:
    """The body of a resource. Requirements named only in dependsOn order the work and are no part of it."""
    needed = want.requires
    if want.lifecycle.depends_on:
        named = {ResourceRef(kind, name) for _, kind, name in controller.references(want.spec)}
        needed = needed - (frozenset(want.lifecycle.depends_on) - named)
    return {
        "spec": want.spec,
        "files": [{name: getattr(fact, name) for name in _FILE_FIELDS} for fact in want.files],
        "using": {str(ref): offers[ref].exports if ref in offers else marker(ref) for ref in sorted(needed)},
    }


def marker(ref: ResourceRef) -> dict[str, str]:
    """The symbol for exports that exist only after `ref` has been applied."""
    return {AFTER: str(ref)}


def renews(change: Change) -> bool:
    """Whether carrying out the change gives the resource new outputs."""
    return change.blocked is None and change.verb in RENEWING


def exported(ref: ResourceRef, controller: Controller, change: Change | None, record: Record | None) -> Json:
    """What dependents of `ref` build on, given what this plan does to it; a marker where nobody can know yet.

    An update leaves the exports a kind names in `lasting` as they are (an identity's public key outlives a new display
    name); otherwise every update of a requirement would re-publish, and pay for, all that stands on it.
    """
    known: Mapping[str, Json] | None = None
    if change is not None and renews(change):
        known = controller.exports(change.body, None)
        if known is None and change.verb is Verb.UPDATE and record is not None:
            stale = controller.exports(change.body, record.outputs)
            known = stale if stale is not None and all(name in controller.lasting for name in stale) else None
    elif record is not None:
        known = controller.exports(record.body, record.outputs)
    return marker(ref) if known is None else known


def settle(body: Mapping[str, Json], exports: Mapping[str, Json]) -> dict[str, Json]:
    """The body with every marker replaced by the recorded export of that resource, keyed `Kind/name`.

    Conflict when an export is missing, or when one that the plan knew has changed since: what was approved no longer
    describes what would be done.
    """
    settled = {}
    for name, planned in body.get("using", {}).items():
        actual = exports.get(name)
        if actual is None or is_marker(actual):
            raise Conflict("requirement-missing", f"cannot start: {name} exports nothing yet", hint="plan again")
        if not is_marker(planned) and not same(planned, actual):
            raise Conflict("requirement-moved", f"cannot start: {name} has changed since the plan was made", hint="plan again")
        settled[name] = actual
    return {**body, "using": settled}


def network(body: Mapping[str, Json]) -> str | None:
    """The name of the Network a body works on: its networkRef, else the only Network it uses."""
    spec = body.get("spec")
    named = spec.get("networkRef") if isinstance(spec, Mapping) else None
    if isinstance(named, str):
        return named
    used = [ref.removeprefix("Network/") for ref in body.get("using", {}) if ref.startswith("Network/")]
    return used[0] if len(used) == 1 else None


def chain(body: Mapping[str, Json]) -> str | None:
    """The chain (main, test, devnet) whose coins pay for a body; None when it uses no Network that says so."""
    export = body.get("using", {}).get(f"Network/{network(body)}")
    name = export.get("chain") if isinstance(export, Mapping) else None
    return name if isinstance(name, str) else None


def paid_on(change: Change) -> Mapping[str, Json]:
    """The body whose Network a change pays on: its own, or while it uses none, the one it leaves."""
    before = change.before.body if change.before is not None else {}
    return change.body if chain(change.body) is not None or chain(before) is None else before
