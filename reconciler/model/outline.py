"""The JSON Schema of what the codec writes: read from the dataclasses, so that it can never say anything else."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any

from reconciler.model.canonical import Json
from reconciler.model.codec import encode
from reconciler.model.ref import Outpoint, ResourceRef

_PLAIN: Mapping[Any, Json] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    bytes: {"type": "string"},
    type(None): {"type": "null"},
    ResourceRef: {"type": "string"},
    Outpoint: {"type": "string"},
    datetime: {"type": "string"},
}


def outline(kind: Any) -> dict[str, Any]:
    """The schema of `encode(value)` for a value of the annotated type; {} where anything may stand."""
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    if dataclasses.is_dataclass(kind):
        return _object(kind)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _either([outline(member) for member in inner])
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return {"type": "object", "additionalProperties": outline(inner[1])}
    if origin in (tuple, list, frozenset, Sequence) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return {"type": "array", "items": outline(inner[0])}
    return {}


def _object(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    return {
        "type": "object",
        "properties": {name: outline(hints[name]) for name in names},
        "required": names,
        "additionalProperties": False,
    }


def _either(members: list[dict[str, Any]]) -> dict[str, Any]:
    """One schema for a value that may be missing: what it is otherwise, or null."""
    real = [member for member in members if member != {"type": "null"}]
    if len(real) != 1 or not real[0]:
        return {}
    one = real[0]
    if "enum" in one:
        return {"enum": [*one["enum"], encode(None)]}
    return {**one, "type": [one["type"], "null"]} if len(real) < len(members) else one
