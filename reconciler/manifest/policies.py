"""Policies as text: a JSON Schema over the plan, checked so that none can fail to speak.

A schema is a forgiving thing: a keyword it does not know is skipped, a field that does not exist is never wrong. A policy
must not be. Only keywords of a closed list are let in, and only fields that a plan has; patterns run on an engine without
backtracking; nothing refers to anything outside, so judging ends, and in linear time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jsonschema_rs

from reconciler.manifest.fault import Fault, Path, listed, near
from reconciler.model.canonical import Json

# A rule that nests deeper than this, or has more nodes, is a program.
MAX_DEPTH = 24
MAX_NODES = 2000
MAX_PATTERN = 512
# Compiled patterns may take so much memory; Unicode classes count, so this is room for a dozen of them.
_PATTERN_BYTES = 1 << 20

_SAME = ("not", "if", "then", "else")  # a schema for the same place
_EACH = ("allOf", "anyOf", "oneOf")  # several of them
_BELOW = ("items", "contains", "additionalProperties")  # a schema for what lies below
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_COUNTS = ("minItems", "maxItems", "minContains", "maxContains", "minLength", "maxLength", "minProperties", "maxProperties")
_WORDS = ("type", "const", "enum", "required", "pattern", "properties", "description")
KEYWORDS = frozenset((*_SAME, *_EACH, *_BELOW, *_NUMBERS, *_COUNTS, *_WORDS))

Matches = Callable[[Json], bool]


def compiled(when: Json) -> Matches:
    """The predicate of a rule whose `faults` are none."""
    options = jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES)
    return jsonschema_rs.Draft202012Validator(when, pattern_options=options, offline=True).is_valid


def faults(when: Json, shape: Mapping[str, Any], path: Path) -> list[Fault]:
    """All that is wrong with a rule over documents of the given shape (a JSON Schema)."""
    if not isinstance(when, dict):
        return [Fault("E0109", "when must be a mapping: a JSON Schema of the plans it means", path)]
    if _size(when) > MAX_NODES:
        return [Fault("E0111", f"when has more than {MAX_NODES} nodes", path)]
    found = list(_schema(when, shape, path, 0))
    if found:
        return found
    if not when.keys() - {"description"}:
        return [
            Fault("E0111", "when is empty, so it would mean every plan", path, hint="write `when: {type: object}` to mean that")
        ]
    try:
        compiled(when)
    except (ValueError, jsonschema_rs.ValidationError) as error:
        place = tuple(getattr(error, "instance_path", ()))
        return [Fault("E0111", f"not a rule that can be judged: {str(error).splitlines()[0]}", (*path, *place))]
    return []


def _size(value: Json) -> int:
    waiting, count = [value], 0
    while waiting and count <= MAX_NODES:
        one = waiting.pop()
        count += 1
        waiting += list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else []
    return count


def _schema(node: Json, shape: Mapping[str, Any], path: Path, depth: int) -> Iterator[Fault]:
    """One schema of the rule, beside the shape of what it judges; {} is the shape of what may be anything."""
    if isinstance(node, bool):
        return
    if not isinstance(node, dict):
        yield Fault("E0109", "must be a schema: a mapping, or true or false", path)
        return
    if depth > MAX_DEPTH:
        yield Fault("E0111", f"nested more than {MAX_DEPTH} deep", path)
        return
    for word, value in node.items():
        here = (*path, word)
        if word not in KEYWORDS:
            meant = near(word, KEYWORDS)
            hint = (
                f'did you mean "{meant}"?'
                if meant
                else f"keywords of JSON Schema that are allowed: {', '.join(sorted(KEYWORDS))}"
            )
            yield Fault("E0107", f'unknown keyword "{word}"', here, hint, on_key=True)
        elif word in _SAME:
            yield from _schema(value, shape, here, depth + 1)
        elif word in _EACH:
            for index, one in enumerate(value if isinstance(value, list) else ()):
                yield from _schema(one, shape, (*here, index), depth + 1)
        elif word == "additionalProperties":
            yield from _schema(value, _member(shape), here, depth + 1)
        elif word in _BELOW:
            yield from _listed(shape, here)
            yield from _schema(value, shape.get("items") or {}, here, depth + 1)
        elif word == "properties":
            for name, one in (value if isinstance(value, dict) else {}).items():
                yield from _named(name, shape, (*here, name))
                yield from _schema(one, _field(name, shape), (*here, name), depth + 1)
        else:
            yield from _word(word, value, shape, here)


def _member(shape: Mapping[str, Any]) -> Mapping[str, Any]:
    more = shape.get("additionalProperties")
    return more if isinstance(more, dict) else {}


def _field(name: str, shape: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = shape.get("properties", {}).get(name) or _member(shape)
    return found


def _listed(shape: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    if "type" in shape and "array" not in _types(shape):
        yield Fault("E0109", f'"{path[-1]}" speaks of a list, and this is {listed(_types(shape))}', path, on_key=True)


def _named(name: Json, shape: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    known = shape.get("properties")
    if "type" in shape and "object" not in _types(shape):
        yield Fault("E0109", f'"{name}" would be a field, and this is {listed(_types(shape))}', path, on_key=True)
    elif known and shape.get("additionalProperties") is False and name not in known:
        meant = near(str(name), known)
        hint = f'did you mean "{meant}"?' if meant else f"there are: {', '.join(known)}"
        yield Fault("E0107", f'a plan has no field "{name}" here', path, hint, on_key=True)


def _word(word: str, value: Json, shape: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    """A keyword that says something of this very place."""
    types = _types(shape)
    if word == "required":
        for index, name in enumerate(value if isinstance(value, list) else ()):
            yield from _named(name, shape, (*path, index))
    elif word in ("const", "enum"):
        for one in value if word == "enum" and isinstance(value, list) else [value]:
            yield from _possible(one, shape, path)
    elif word in _NUMBERS and types and "integer" not in types:
        yield Fault("E0109", f'"{word}" speaks of a number, and this is {listed(types)}', path, on_key=True)
    elif word == "pattern":
        if not isinstance(value, str) or len(value) > MAX_PATTERN:
            yield Fault("E0111", f"a pattern is text of {MAX_PATTERN} characters at most", path)
        if types and "string" not in types:
            yield Fault("E0109", f"a pattern speaks of text, and this is {listed(types)}", path, on_key=True)


def _possible(value: Json, shape: Mapping[str, Any], path: Path) -> Iterator[Fault]:
    """A value that this place could hold: what can never be equal would never speak."""
    choices = shape.get("enum", [shape["const"]] if "const" in shape else None)
    if choices is not None and value not in choices:
        words = [str(choice) for choice in choices if choice is not None]
        meant = near(str(value), words)
        yield Fault(
            "E0110", f"{value!r} never stands here", path, f'did you mean "{meant}"?' if meant else f"possible: {listed(words)}"
        )
    types = _types(shape)
    if types and _type_of(value) not in types:
        yield Fault("E0109", f"{value!r} never stands here: this is {listed(types)}", path)


def _types(shape: Mapping[str, Any]) -> list[str]:
    found = shape.get("type", [])
    return [found] if isinstance(found, str) else list(found)


def _type_of(value: Json) -> str:
    names = {str: "string", bool: "boolean", int: "integer", list: "array", dict: "object", type(None): "null"}
    return names.get(type(value), "number")
