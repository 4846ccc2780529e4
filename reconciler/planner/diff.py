"""Structural comparison of two bodies, field by field.

Two values are the same when their canonical JSON is, with one allowance: a field that is null and a field that is
missing say the same thing, so that a new optional field in a schema does not make every resource cost a fee.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from reconciler.model.canonical import Json, digest
from reconciler.model.change import FieldDelta

# Values below these keys are never shown: a plan is printed, mailed and pasted into reviews.
SECRETS = frozenset({"passphrase", "secret"})
# What names an item of a list better than its index does, in order of preference.
ITEM_KEYS = ("name", "path")
# The key of a symbolic value: {"$after": "Kind/name"} is an export known only once that resource is applied.
AFTER = "$after"
# Enough of a digest to tell two secrets apart on a screen, too little to look one up by.
_SECRET_DIGITS = 12


def same(left: Json, right: Json) -> bool:
    """Whether two JSON values say the same thing. Unlike `==`, true is not 1 and a list is not told from a tuple."""
    if left is right:
        return True
    kind = type(left)
    if kind is str or kind is int or kind is bool or left is None:
        return kind is type(right) and bool(left == right)
    if kind is dict or isinstance(left, Mapping):
        return (type(right) is dict or isinstance(right, Mapping)) and _same_fields(left, right)
    if kind is list or kind is tuple:
        return type(right) in (list, tuple) and len(left) == len(right) and all(map(same, left, right))
    return kind is type(right) and bool(left == right)


def _same_fields(left: Mapping[str, Json], right: Mapping[str, Json]) -> bool:
    """`same` for two objects. Every resource passes here on every plan, so texts are compared on the spot."""
    vacant = len(left) != len(right)
    for key, value in left.items():
        other = right.get(key)
        if value is None:
            vacant = True
        if value is other:
            continue
        if type(value) is str:
            if value != other:
                return False
        elif type(value) is int:
            if type(other) is not int or value != other:
                return False
        elif not same(value, other):
            return False
    # With as many keys on both sides and none of them null, each key on the left has met its own on the right.
    return not vacant or all(key in left or item is None for key, item in right.items())


def is_marker(value: Json) -> bool:
    """Whether a value stands for exports that are known only after another resource is applied."""
    return isinstance(value, Mapping) and len(value) == 1 and AFTER in value


def redact(value: Json) -> Json:
    """The value with everything below a secret's key replaced by a short digest."""
    if isinstance(value, Mapping):
        return {key: _veil(item) if key in SECRETS else redact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return value


def compare(before: Mapping[str, Json], after: Mapping[str, Json], immutable: Sequence[str] = ()) -> tuple[FieldDelta, ...]:
    """Every changed field from `before` to `after`, in path order; a change at, below or above an immutable path replaces."""
    found = _mapping("", before, after)
    return tuple(replace(d, replaces=any(related(d.path, path) for path in immutable)) for d in found)


def covers(prefix: str, path: str) -> bool:
    """Whether the dotted `path` is `prefix` or lies below it."""
    return path == prefix or path.startswith(prefix + ".")


def related(path: str, other: str) -> bool:
    """Whether one of two dotted paths covers the other: a parent that appears whole carries its immutable child."""
    return covers(other, path) or covers(path, other)


def dotted(pointer: str) -> str:
    """A JSON pointer (RFC 6901) below the document root as a dotted path: /spec/description -> spec.description."""
    steps = (step.replace("~1", "/").replace("~0", "~") for step in pointer.strip("/").split("/"))
    return ".".join(steps)


def unignored(deltas: Sequence[FieldDelta], pointers: Sequence[str]) -> tuple[FieldDelta, ...]:
    """The deltas that no ignored JSON pointer covers."""
    ignored = [dotted(pointer) for pointer in pointers]
    return tuple(delta for delta in deltas if not any(covers(prefix, delta.path) for prefix in ignored))


def _veil(value: Json) -> Json:
    return None if value is None else "sha256:" + digest(_plain(value))[:_SECRET_DIGITS]


def _plain(value: Json) -> Json:
    """The value without nulls, so that equal meaning has an equal digest."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return repr(value) if isinstance(value, float) else value


def _between(path: str, before: Json, after: Json) -> Iterator[FieldDelta]:
    if same(before, after):
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping) and not is_marker(before) and not is_marker(after):
        yield from _mapping(path + ".", before, after)
    elif isinstance(before, list | tuple) and isinstance(after, list | tuple):
        yield from _sequence(path, before, after)
    else:
        yield FieldDelta(path, redact(before), redact(after))


def _mapping(prefix: str, before: Mapping[str, Json], after: Mapping[str, Json]) -> Iterator[FieldDelta]:
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if key in SECRETS:
            if not same(old, new):
                yield FieldDelta(prefix + key, _veil(old), _veil(new))
        else:
            yield from _between(prefix + key, old, new)


def _sequence(path: str, before: Sequence[Json], after: Sequence[Json]) -> Iterator[FieldDelta]:
    key = next((key for key in ITEM_KEYS if _named(before, key) and _named(after, key)), None)
    if key is not None:
        old, new = ({item[key]: item for item in items} for items in (before, after))
        yield from _mapping(path + ".", old, new)
        kept_before, kept_after = [name for name in old if name in new], [name for name in new if name in old]
        if kept_before != kept_after:
            yield FieldDelta(path, list(old), list(new))
    elif any(isinstance(item, Mapping) for item in (*before, *after)):
        indices = range(max(len(before), len(after)))
        found = [delta for i in indices for delta in _between(f"{path}.{i}", _item(before, i), _item(after, i))]
        # Lists that differ only by a null at the end differ in length and in nothing else.
        yield from found or [FieldDelta(path, redact(before), redact(after))]
    else:
        # A list of plain values reads best whole: one insertion would otherwise shift every index.
        yield FieldDelta(path, redact(before), redact(after))


def _named(items: Sequence[Json], key: str) -> bool:
    """Whether every item has its own text under `key`, which no secret's key may imitate."""
    names = [item.get(key) if isinstance(item, Mapping) else None for item in items]
    return all(isinstance(name, str) and name not in SECRETS for name in names) and len(set(names)) == len(names)


def _item(items: Sequence[Json], index: int) -> Json:
    return items[index] if index < len(items) else None
