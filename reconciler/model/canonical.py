"""Canonical JSON and digests: the one definition of "same".

The form is RFC 8785 restricted to what manifests hold: no floats (amounts and ratios are integers or
strings), so that two implementations cannot disagree about a digit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

# A JSON value. Kept as Any because a recursive alias makes every indexing of parsed text a cast.
Json = Any

# A value as JSON text without spaces, fields in the order in which they stand. Made once: json.dumps makes an encoder every time.
compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def canonical(value: Json) -> bytes:
    """The RFC 8785 bytes of `value`; TypeError on floats and on anything that is not JSON."""
    return compact(_ordered(value)).encode()


def digest(value: Json) -> str:
    """SHA-256 of the canonical bytes, lower-case hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def _ordered(value: Json) -> Json:
    kind = type(value)
    if kind is str or kind is int or value is None or isinstance(value, (str, bool, int)):
        return value
    if kind is dict or isinstance(value, Mapping):
        # RFC 8785 sorts by UTF-16 code units, which differs from Python's order above the BMP.
        keys = sorted(value) if all(map(str.isascii, value)) else sorted(value, key=lambda key: key.encode("utf-16-be"))
        return {key: _ordered(value[key]) for key in keys}
    if kind is list or (isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray))):
        return [_ordered(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no canonical form; use integers or strings")
