"""One document judged by itself: envelope, schema, units. Nothing here knows other documents or files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from reconciler.manifest.fault import Fault, listed, near
from reconciler.manifest.link import Checked
from reconciler.manifest.normalise import Out
from reconciler.manifest.schema import API_VERSION, Schema
from reconciler.manifest.sentences import sentences
from reconciler.model.canonical import Json
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import DeletionPolicy, Lifecycle, Prune, Suspension
from reconciler.model.shared import once

_PLAIN = Lifecycle()
_UNLABELLED: Mapping[str, str] = {}


def name_of(value: Json) -> ResourceRef | None:
    """What the document says it is, if it says so legibly."""
    if not isinstance(value, dict):
        return None
    kind, metadata = value.get("kind"), value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return ResourceRef(kind, name) if isinstance(kind, str) and isinstance(name, str) and kind and name else None


def envelope(value: Json, schemas: Mapping[str, Schema]) -> list[Fault]:
    """Faults that leave no schema to judge by; empty when the kind is known."""
    if not isinstance(value, dict):
        return [Fault("E0114", "the document is not a resource", hint="a resource begins with apiVersion, kind and metadata")]
    kind, version = value.get("kind"), value.get("apiVersion")
    if "kind" not in value:
        return [Fault("E0108", 'missing field "kind"', ("kind",), hint=f"expected one of: {', '.join(schemas)}")]
    if version is not None and version != API_VERSION:
        return [Fault("E0114", f'apiVersion "{version}" is not known', ("apiVersion",), hint=f"write {API_VERSION}")]
    if not isinstance(kind, str) or kind not in schemas:
        return [_unknown_kind(kind, schemas)]
    return []


def _unknown_kind(kind: Json, schemas: Mapping[str, Schema]) -> Fault:
    if kind == "List":
        return Fault(
            "E0115", "kind List is not used", ("kind",), hint="write its items as documents of their own, with --- between"
        )
    meant = near(str(kind), schemas)
    hint = f'did you mean "{meant}"?' if meant else f"expected {listed(sorted(schemas))}"
    return Fault("E0115", f'unknown kind "{kind}"', ("kind",), hint=hint)


def judge(value: Mapping[str, Json], schema: Schema, earlier: tuple[Fault, ...] = ()) -> Checked:
    """Validate and normalise a document whose envelope names `schema`. `earlier` faults silence later ones at their place."""
    faults = list(earlier)
    if not schema.is_valid(value):
        faults += sentences(schema, cast("Json", value))
    out = Out()
    spec = schema.spec(value.get("spec"), ("spec",), out)
    block = value.get("lifecycle")
    lifecycle = schema.lifecycle(block, ("lifecycle",), out) if block else None
    silenced = {fault.path for fault in faults}
    faults += [fault for fault in out.faults if fault.path not in silenced]
    sound = not any(fault.code.startswith("E") for fault in faults)
    metadata = value.get("metadata")
    labels = metadata.get("labels", _UNLABELLED) if isinstance(metadata, dict) else _UNLABELLED
    return Checked(
        spec=spec if isinstance(spec, dict) else {},
        lifecycle=_lifecycle(lifecycle) if sound and lifecycle else _PLAIN,
        labels=labels if sound else _UNLABELLED,
        links=once(tuple(out.links)),
        faults=_first_of_each(faults),
        sound=sound,
        renamed_from=metadata.get("renamedFrom") if sound and isinstance(metadata, dict) else None,
    )


def _first_of_each(faults: list[Fault]) -> tuple[Fault, ...]:
    """A number that could not be read also has the wrong type: only the cause is told."""
    unreadable = {fault.path for fault in faults if fault.code in ("E0105", "E0106")}
    kept = [fault for fault in faults if fault.path not in unreadable or fault.code in ("E0105", "E0106")]
    return tuple(dict.fromkeys(kept))


def _lifecycle(block: Mapping[str, Json]) -> Lifecycle:
    drift, suspend = block.get("drift", {}), block.get("suspend")
    return Lifecycle(
        depends_on=tuple(ResourceRef(one["kind"], one["name"]) for one in block.get("dependsOn", ())),
        deletion_policy=DeletionPolicy(block["deletionPolicy"]),
        prune=Prune(block["prune"]),
        correct_drift=drift.get("correct", "auto") == "auto",
        ignore=tuple(drift.get("ignore", ())),
        suspend=Suspension(suspend["reason"], suspend.get("until")) if suspend else None,
        max_spend=block.get("maxSpend"),
        adopt=block["adopt"],
    )
