"""Plain values to YAML text: the few forms this program writes itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from reconciler.manifest.shape import resolve
from reconciler.manifest.yaml import reads_as_itself
from reconciler.model.canonical import Json

# What may stand unquoted anywhere, in flow collections too; everything else is quoted as JSON.
_SAFE = re.compile(r"[A-Za-z0-9_./+](?:[A-Za-z0-9_./+@%-]| (?=[A-Za-z0-9_./+@%-]))*\Z")
# A list longer than this is written one entry a line.
_WIDTH = 100


def scalar(value: Json) -> str:
    """One scalar, quoted only where YAML would misread it."""
    if isinstance(value, str):
        plain = _SAFE.match(value) is not None and reads_as_itself(value) and not value.startswith("...")
        return (
            value
            if plain
            else json.dumps(value, ensure_ascii=False)
            .replace("\x7f", "\\x7f")
            .replace("\u2028", "\\L")
            .replace("\u2029", "\\P")
            .replace("\x85", "\\N")
            .replace("\ufeff", "\\uFEFF")
        )
    return json.dumps(value)


def flow(value: Json) -> str:
    """Any value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(flow(inner) for inner in value) + "]"
    return scalar(value)


def block(value: Mapping[str, Json], indent: int = 0) -> list[str]:
    """A mapping as lines: mappings nested, lists of scalars on one line while they fit, other lists as dashes."""
    lines: list[str] = []
    pad = " " * indent
    for key, inner in value.items():
        head = f"{pad}{scalar(key)}:"
        line = f"{head} {flow(inner)}"
        if isinstance(inner, Mapping) and inner:
            lines += [head, *block(inner, indent + 2)]
        elif isinstance(inner, list) and inner and (len(line) > _WIDTH or any(isinstance(item, (dict, list)) for item in inner)):
            lines += [head, *(f"{pad}  - {flow(item)}" for item in inner)]
        else:
            lines.append(line)
    return lines


def ordered(document: Json, node: Json, value: Json) -> Json:
    """The value with its keys in schema order, unknown keys last; what the schema does not describe stays as it is."""
    node = resolve(document, node)
    if isinstance(value, list) and isinstance(node.get("items"), dict):
        return [ordered(document, node["items"], item) for item in value]
    if not isinstance(value, dict):
        return value
    fields = node.get("properties", {})
    keys = sort_keys(value, fields)
    return {key: ordered(document, fields[key], value[key]) if key in fields else value[key] for key in keys}


def sort_keys(keys: Iterable[str], fields: Mapping[str, Json]) -> list[str]:
    """Keys in the order of `fields`; others keep their own order, after them."""
    rank = {name: place for place, name in enumerate(fields)}
    return sorted(keys, key=lambda key: rank.get(key, len(rank)))
