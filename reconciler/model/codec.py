"""Model values to JSON and back, so that a plan file, a journal row and a record are the same text.

The shape follows the dataclasses: a value reads back only as the type that wrote it. Unions of
dataclasses carry the class name under "is".
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from reconciler.model.canonical import Json
from reconciler.model.errors import Invariant
from reconciler.model.ref import Outpoint, ResourceRef

T = TypeVar("T")


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with seconds, or microseconds where there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def encode(value: Any) -> Json:
    """JSON for any model value; sets become sorted lists, bytes become hex."""
    # Plain JSON first, by its exact type: it is most of what passes here, and the tests below are many.
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is dict:
        return {str(key): encode(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [encode(item) for item in value]
    if isinstance(value, (str, int)):
        return value
    if isinstance(value, (ResourceRef, Outpoint)):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return timestamp(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        out = {name: encode(getattr(value, name)) for name in _names(type(value))}
        for name in _sparse(type(value)):
            if not out[name]:
                del out[name]
        return {"is": kind.__name__, **out} if kind.__name__ in _TAGGED else out
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(encode(item) for item in value)
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    raise Invariant("codec", f"cannot write a {type(value).__name__}")


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind))


@cache
def _sparse(kind: Any) -> tuple[str, ...]:
    """Fields that are left out while empty, so that a field which came later does not change what was written before it."""
    return tuple(f.name for f in dataclasses.fields(kind) if f.metadata.get("sparse"))


# Classes that occur as members of a union, registered by `tagged`.
_TAGGED: dict[str, type] = {}


def tagged(cls: type[T]) -> type[T]:
    """Mark a dataclass as a union member: its JSON says which class it is."""
    _TAGGED[cls.__name__] = cls
    return cls


def decode(kind: Any, value: Json) -> Any:
    """The inverse of `encode` for the annotated type `kind`; Invariant when the text does not fit."""
    origin = typing.get_origin(kind)
    if kind is Any or kind is object:
        return value
    if origin in (typing.Union, types.UnionType):
        return _decode_union(typing.get_args(kind), value)
    if origin in (tuple, frozenset, list):
        inner = typing.get_args(kind)
        if origin is tuple and (len(inner) != 2 or inner[1] is not Ellipsis):
            return tuple(decode(k, v) for k, v in zip(inner, value, strict=True))
        return origin(decode(inner[0], item) for item in value)
    if origin in (dict, Mapping):
        key_type, item_type = typing.get_args(kind)
        return {decode(key_type, key): decode(item_type, item) for key, item in value.items()}
    if kind in (ResourceRef, Outpoint):
        return kind.parse(value)
    if kind is bytes:
        return bytes.fromhex(value)
    if kind is datetime:
        return datetime.fromisoformat(value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, value)
    if kind in (str, int, bool, type(None)):
        return value
    raise Invariant("codec", f"cannot read a {kind}")


def _decode_union(members: tuple[Any, ...], value: Json) -> Any:
    if value is None and type(None) in members:
        return None
    if isinstance(value, Mapping) and value.get("is") in _TAGGED:
        return _decode_dataclass(_TAGGED[value["is"]], value)
    rest = [member for member in members if member is not type(None)]
    if len(rest) == 1:
        return decode(rest[0], value)
    return value


def _decode_dataclass(kind: Any, value: Json) -> Any:
    if not isinstance(value, Mapping):
        raise Invariant("codec", f"cannot read a {kind.__name__} from {type(value).__name__}")
    hints = _hints(kind)
    present = {name: decode(hint, value[name]) for name, hint in hints.items() if name in value}
    return kind(**present)


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}
