"""JSON from strangers: parsed strictly, read field by field, every fault a RemoteProtocolError.

Python's parser takes more than RFC 8259 allows (NaN, doubled keys that win silently) and may raise more than ValueError
on hostile text (deep nesting); both end here.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from reconciler.model.canonical import Json
from reconciler.model.errors import RemoteProtocolError

# Above this an integer does not survive a JavaScript peer (2**53 - 1).
MAX_SAFE = 9_007_199_254_740_991
_HEX = frozenset("0123456789abcdef")
# Three bytes of text can be an object of two hundred bytes in memory. No answer we ask for has as many objects, arrays and texts.
MAX_CONTAINERS = 250_000
MAX_TEXTS = 500_000


def parse(body: bytes, what: str) -> Json:
    """The JSON value in `body` (UTF-8, no doubled keys, no NaN); `what` names it in the error."""

    def pairs(items: list[tuple[str, Json]]) -> dict[str, Json]:
        out = dict(items)
        if len(out) != len(items):
            raise RemoteProtocolError(f"cannot read {what}: a key is written twice")
        return out

    def constant(name: str) -> NoReturn:
        raise RemoteProtocolError(f"cannot read {what}: {name} is not JSON")

    if body.count(b"[") + body.count(b"{") > MAX_CONTAINERS or body.count(b'"') > 2 * MAX_TEXTS:
        raise RemoteProtocolError(f"cannot read {what}: it has too many parts", code="too-many-items")
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as fault:
        raise RemoteProtocolError(f"cannot read {what}: not JSON") from fault


def compact(value: Json) -> bytes:
    """JSON as peers re-serialise it (no spaces, nothing escaped that need not be), in the order given."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object whose members are read by type; `what` names the object in errors."""

    what: str
    values: Mapping[str, Json]

    @classmethod
    def of(cls, value: Json, what: str) -> Fields:
        """Wrap `value`, which must be an object."""
        if not isinstance(value, Mapping):
            raise RemoteProtocolError(f"cannot read {what}: not an object")
        return cls(what, value)

    @classmethod
    def parse(cls, body: bytes, what: str) -> Fields:
        """Parse `body`, which must hold one object."""
        return cls.of(parse(body, what), what)

    def fail(self, name: str, why: str) -> NoReturn:
        """Raise for the member `name`."""
        raise RemoteProtocolError(f"cannot read {self.what}: {name} {why}")

    def exactly(self, *names: str) -> Fields:
        """Itself, when it has these members and no other."""
        for name in sorted(set(names) ^ set(self.values)):
            self.fail(name, "is missing" if name in names else "is not part of the format")
        return self

    def text(self, name: str, default: str | None = None) -> str:
        """A string; a missing or null member gives `default` when there is one."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            self.fail(name, "must be a string")
        return value

    def integer(self, name: str, low: int = 0, high: int = MAX_SAFE, default: int | None = None) -> int:
        """An integer within `low`..`high`; booleans and floats are none."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.fail(name, f"must be an integer from {low} to {high}")
        return value

    def flag(self, name: str, default: bool | None = None) -> bool:
        """A boolean."""
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            self.fail(name, "must be true or false")
        return value

    def hex(self, name: str, size: int | None = None, default: str | None = None) -> str:
        """Lower-case hex of `size` bytes (any number when None)."""
        value = self.text(name, default)
        if value != default and not is_hex(value, size):
            self.fail(name, "must be lower-case hex" + (f" of {size} bytes" if size is not None else ""))
        return value

    def list(self, name: str, default: Sequence[Json] | None = None) -> Sequence[Json]:
        """An array."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, list):
            self.fail(name, "must be an array")
        return value

    def objects(self, name: str) -> tuple[Fields, ...]:
        """An array of objects."""
        return tuple(Fields.of(item, f"{self.what}, {name}[{i}]") for i, item in enumerate(self.list(name)))

    def strings(self, name: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """An array of strings."""
        items = self.list(name, default)
        if not all(isinstance(item, str) for item in items):
            self.fail(name, "must hold strings only")
        return tuple(items)

    def integers(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """An array of integers, none negative."""
        items = self.list(name, default)
        if not all(isinstance(item, int) and not isinstance(item, bool) and 0 <= item <= MAX_SAFE for item in items):
            self.fail(name, "must hold non-negative integers only")
        return tuple(items)

    def object(self, name: str) -> Fields:
        """A nested object."""
        return Fields.of(self.values.get(name), f"{self.what}, {name}")

    def octets(self, name: str, default: bytes | None = None) -> bytes:
        """Bytes as peers write them: an array of 0..255, or base64 text."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, str):
            return self.base64(name)
        if not isinstance(value, list):
            self.fail(name, "must be an array of bytes or base64")
        if not all(type(item) is int and 0 <= item <= 255 for item in value):  # a bool is an int to Python, not to a peer
            self.fail(name, "must hold numbers from 0 to 255 only")
        return bytes(value)

    def base64(self, name: str) -> bytes:
        """Standard, padded base64 in its one canonical spelling."""
        text = self.text(name)
        try:
            value = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            self.fail(name, "must be base64")
        if base64.b64encode(value).decode() != text:
            self.fail(name, "is base64 with stray bits")
        return value


def is_hex(text: str, size: int | None = None) -> bool:
    """Whether `text` is lower-case hex of `size` bytes (any even length when None)."""
    return len(text) % 2 == 0 and set(text) <= _HEX and (size is None or len(text) == 2 * size)


def media_type(content_type: str) -> str:
    """A Content-Type without its parameters, lower-case."""
    return content_type.partition(";")[0].strip().lower()
