"""Numbers and values as a person reads them: grouped digits, binary sizes, harmless text."""

from __future__ import annotations

import json
from collections.abc import Mapping

from reconciler.model.canonical import Json
from reconciler.model.change import Cost
from reconciler.planner.diff import AFTER, is_marker

THIN_SPACE = "\u2009"
MINUS = "\u2212"
# Longer texts are cut in the middle of a table; the plan's JSON has them whole.
_WIDEST = 60
_SIZES = ("KiB", "MiB", "GiB", "TiB")


def grouped(number: int) -> str:
    """12345 as 12 345, with a thin space."""
    return f"{number:,}".replace(",", THIN_SPACE).replace("-", MINUS)


def sats(number: int) -> str:
    """An amount with its unit."""
    return f"{grouped(number)} sat"


def percent(part: int, whole: int) -> str:
    """A share with one decimal, rounded down; of nothing it is 0."""
    tenths = part * 1000 // whole if whole else 0
    return f"{tenths // 10}.{tenths % 10} %"


def size(count: int) -> str:
    """Bytes in the largest binary unit that keeps a digit before the point."""
    if count < 1024:
        return f"{count} B"
    unit = min((count.bit_length() - 1) // 10, len(_SIZES))
    tenths = count * 10 // 1024**unit
    return f"{grouped(tenths // 10)}.{tenths % 10} {_SIZES[unit - 1]}"


def count(number: int, noun: str) -> str:
    """`1 transaction`, `2 transactions`."""
    return f"{grouped(number)} {noun}" + ("" if number == 1 else "s")


def value(item: Json, widest: int = _WIDEST) -> str:
    """A JSON value on one line, safe to print on a terminal; numbers grouped, long text cut, markers in words."""
    if item is None:
        return "none"
    if is_marker(item):
        return f"(known after apply of {item[AFTER]})"
    if isinstance(item, int) and not isinstance(item, bool):
        return grouped(item)
    return cut(harmless(_flow(item, bare=True)), widest)


def harmless(text: str) -> str:
    """The text with whatever does not print spelled out: manifests and hosts are strangers to the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == THIN_SPACE else c.encode("unicode_escape").decode() for c in text)


def cut(text: str, widest: int) -> str:
    """The text, at most so many characters long."""
    return text if len(text) <= widest else text[: widest - 1] + "…"


def digest(sha256: str) -> str:
    """The ends of a hash: enough to recognise it."""
    return f"{sha256[:4]}…{sha256[-2:]}" if len(sha256) > 8 else sha256


def price(cost: Cost) -> str:
    """The parts of a cost that are not nothing: `fee 214 sat + storage 3 450 sat`."""
    parts = [f"fee {sats(cost.fees)}"] if cost.fees else []
    parts += [f"storage {sats(cost.payments)}"] if cost.payments else []
    text = " + ".join(parts) or "free"
    if cost.locked > 0:
        text += f", locks {sats(cost.locked)}"
    if cost.locked < 0:
        text += f", returns {sats(-cost.locked)} locked"
    return text


def _flow(item: Json, *, bare: bool = False) -> str:
    """As YAML would have it on one line; the outermost list stands without brackets."""
    if isinstance(item, Mapping):
        inside = ", ".join(f"{key}: {_flow(inner)}" for key, inner in item.items())
        return inside if bare and inside else f"{{{inside}}}"
    if isinstance(item, list | tuple):
        inside = ", ".join(_flow(inner) for inner in item)
        return inside if bare and inside else f"[{inside}]"
    if isinstance(item, str):
        return item or '""'
    return json.dumps(item)
