"""Reading a JSON Schema document: local references written out, and a walk over every field."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.manifest.fault import Path
from reconciler.model.canonical import Json


def resolve(document: Json, node: Json) -> Json:
    """The schema node with its local $ref written out; what stands beside the $ref wins."""
    while "$ref" in node:
        target = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    return node


def walk(document: Json, node: Json | None = None, path: Path = ()) -> Iterator[tuple[Path, Json]]:
    """Every field of a schema as (path, resolved node); list items stand under `[]`, map values under `*`."""
    node = resolve(document, document if node is None else node)
    yield path, node
    for name, inner in node.get("properties", {}).items():
        yield from walk(document, inner, (*path, name))
    if isinstance(node.get("items"), dict):
        yield from walk(document, node["items"], (*path, "[]"))
    if isinstance(node.get("additionalProperties"), dict):
        yield from walk(document, node["additionalProperties"], (*path, "*"))
