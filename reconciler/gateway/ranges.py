"""Ranges of bytes and conditions of requests (RFC 9110), as far as files that never change need them: pure."""

from __future__ import annotations

import base64
import re

_SPEC = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def span(header: str | None, size: int) -> tuple[int, int] | None:
    """The half-open span a Range header asks for; None for the whole.

    ValueError where there is no such span. Several ranges, and units other than bytes, may be ignored, and are.
    """
    found = _SPEC.fullmatch(header.replace(" ", "")) if header else None
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(int(last) + 1 if last else size, size)
        if last and int(last) < int(first):
            return None
    if start >= stop:
        raise ValueError(f"bytes {header} of {size}")
    return start, stop


def matches(header: str | None, tag: str) -> bool:
    """Whether a list of entity tags (If-None-Match) has this one, compared weakly."""
    if not header:
        return False
    return header.strip() == "*" or tag in [one.strip().removeprefix("W/") for one in header.split(",")]


def digest_field(sha256: str) -> str:
    """A SHA-256 (hex) as Repr-Digest and Content-Digest have it (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"
