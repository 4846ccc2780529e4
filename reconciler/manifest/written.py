"""A stored spec as a person would write it: units back in words, and nothing said that goes without saying."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.manifest.schema import packaged
from reconciler.manifest.shape import resolve
from reconciler.manifest.units import show
from reconciler.model.canonical import Json


def written(kind: str, spec: Mapping[str, Json]) -> dict[str, Json]:
    """The spec with durations, sizes, amounts and rates in words; fields that stand at their default are left out."""
    document = packaged().get(kind)
    if document is None:
        return dict(spec)
    fields = resolve(document, document["properties"]["spec"]).get("properties", {})
    said = {}
    for name, value in spec.items():
        node = resolve(document, fields.get(name, {}))
        text = _written(document, node, value)
        if value not in (None, [], {}) and text != node.get("default"):
            said[name] = text
    return said


def field(kind: str, path: str, value: Json) -> Json:
    """One value at a dotted path below the spec, in words where its field has a unit."""
    document = packaged().get(kind)
    node: Json = {} if document is None else resolve(document, document["properties"]["spec"])
    for part in path.split("."):
        node = resolve(document, node.get("properties", {}).get(part, {})) if document else {}
    return _written(document, node, value) if document else value


def _written(document: Json, node: Json, value: Json) -> Json:
    if "x-unit" in node and value is not None:
        try:
            return show(node["x-unit"], value)
        except (TypeError, KeyError):
            return value
    if isinstance(value, Mapping):
        fields = node.get("properties", {})
        return {name: _written(document, resolve(document, fields.get(name, {})), item) for name, item in value.items()}
    if isinstance(value, list) and isinstance(node.get("items"), dict):
        return [_written(document, resolve(document, node["items"]), item) for item in value]
    return value
