"""Quantities as people write them, and the one form they are stored in.

| unit     | written                            | stored                                     |
|----------|------------------------------------|--------------------------------------------|
| duration | 500ms, 7d, 1h30m, ISO 8601 P7D     | integer milliseconds                       |
| size     | 100MB (10^6), 8MiB (2^20), 65536   | integer bytes                              |
| satoshis | 25sat, 25                          | integer satoshis                           |
| percent  | "99.9%"                            | shortest decimal text with its sign, 99.9% |
| rate     | 100sat/kB, 1sat/B                  | {"satoshis": 100, "bytes": 1000}           |
| path     | data/x.csv, ./data//x.csv          | data/x.csv, relative and without ..        |

Every reader is idempotent: the stored form reads as itself. Two spellings of one quantity never differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from reconciler.model.canonical import Json

# Ten thousand years; beyond it a duration is a slip of the keyboard, and dates overflow.
MAX_DURATION = 10_000 * 365 * 86_400_000
# 2^53 - 1: the largest integer canonical JSON holds exactly.
MAX_SIZE = 2**53 - 1
# All the satoshis there can ever be.
MAX_SATOSHIS = 21_000_000 * 100_000_000

CODES = {"duration": "E0201", "size": "E0202", "satoshis": "E0203", "percent": "E0204", "rate": "E0205", "path": "E0206"}
EXAMPLES = {
    "duration": "500ms, 90s, 1h30m, 7d or ISO 8601 such as P7D",
    "size": "65536, 100MB (millions) or 8MiB (2^20)",
    "satoshis": "25sat or a whole number of satoshis",
    "percent": '"99.9%"',
    "rate": "100sat/kB or 1sat/B",
    "path": "a path below the repository, such as data/prices.csv",
}
_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_BYTES = {
    "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50,
}  # fmt: skip
_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{1,9})?"
_DURATION = re.compile(
    rf"(?:({_NUMBER})w)?(?:({_NUMBER})d)?(?:({_NUMBER})h)?(?:({_NUMBER})m)?(?:({_NUMBER})s)?(?:({_NUMBER})ms)?"
)
_ISO = re.compile(rf"P(?:({_NUMBER})W)?(?:({_NUMBER})D)?(?:T(?:({_NUMBER})H)?(?:({_NUMBER})M)?(?:({_NUMBER})S)?)?")
_SIZE = re.compile(rf"({_NUMBER}) ?([kKMGTP]?i?B)")
_SATOSHIS = re.compile(r"([0-9]{1,17})(?: ?(?:sat|sats|satoshis))?")
_PERCENT = re.compile(rf"({_NUMBER}) ?%")
_RATE = re.compile(r"([0-9]{1,17}) ?(?:sat|sats|satoshis)/([1-9][0-9]{0,14})? ?(B|byte|kB|KB|KiB|MB)")


class UnitError(ValueError):
    """The text is no quantity of that unit; the message says what is wrong in the words of the manifest."""


def duration(value: Json) -> int:
    """Milliseconds; a bare number already counts them."""
    if isinstance(value, int) or value.isdecimal():
        return _bounded(int(value) if len(str(value)) < 20 else MAX_DURATION + 1, MAX_DURATION, "a duration")
    if re.fullmatch(r"P[^T]*[YM].*", value):
        raise UnitError(f'"{value}" counts months or years, whose length varies; write days')
    iso = _ISO.fullmatch(value)
    groups = (*iso.groups(), None) if iso is not None else getattr(_DURATION.fullmatch(value), "groups", tuple)()
    if not any(groups) or value.endswith("T"):
        raise UnitError(f'"{value}" is no duration')
    total = sum(
        Fraction(part) * size
        for part, size in zip(groups, (604_800_000, 86_400_000, 3_600_000, 60_000, 1000, 1), strict=True)
        if part
    )
    return _bounded(_whole(total, value, "milliseconds"), MAX_DURATION, "a duration")


def size(value: Json) -> int:
    """Bytes; k, M, G, T, P are powers of 1000 and Ki, Mi, Gi, Ti, Pi powers of 1024."""
    if isinstance(value, int) or value.isdecimal():
        return _bounded(int(value) if len(str(value)) < 20 else MAX_SIZE + 1, MAX_SIZE, "a size")
    match = _SIZE.fullmatch(value)
    if match is None or match[2] not in _BYTES:
        raise UnitError(f'"{value}" is no size')
    return _bounded(_whole(Fraction(match[1]) * _BYTES[match[2]], value, "bytes"), MAX_SIZE, "a size")


def satoshis(value: Json) -> int:
    """Whole satoshis; there is nothing smaller."""
    if isinstance(value, int):
        return _bounded(value, MAX_SATOSHIS, "an amount")
    match = _SATOSHIS.fullmatch(value)
    if match is None:
        raise UnitError(f'"{value}" is no amount of satoshis')
    return _bounded(int(match[1]), MAX_SATOSHIS, "an amount")


def percent(value: Json) -> str:
    """Decimal text from 0% to 100%, without needless zeros."""
    match = _PERCENT.fullmatch(value)
    if match is None:
        raise UnitError(f'"{value}" is no percentage')
    if Fraction(match[1]) > 100:
        raise UnitError(f'"{value}" is more than 100%')
    whole, _, rest = match[1].partition(".")
    rest = rest.rstrip("0")
    return f"{int(whole)}{'.' + rest if rest else ''}%"


def rate(value: Json) -> dict[str, int]:
    """Satoshis per bytes, in lowest terms, but never per fewer than 1000 bytes where 1000 states it exactly."""
    if isinstance(value, str):
        match = _RATE.fullmatch(value)
        if match is None:
            raise UnitError(f'"{value}" is no fee rate')
        amount, per = int(match[1]), int(match[2] or 1) * {"byte": 1, **_BYTES}[match[3]]
    else:
        amount, per = value["satoshis"], value["bytes"]
    exact = Fraction(amount, per)
    if (exact * 1000).denominator == 1:
        return {"satoshis": _bounded(int(exact * 1000), MAX_SATOSHIS, "a rate"), "bytes": 1000}
    return {"satoshis": exact.numerator, "bytes": exact.denominator}


def path(value: Json) -> str:
    """A relative path with forward slashes that stays below the repository."""
    if value.startswith(("/", "~")) or "\\" in value or "\0" in value:
        raise UnitError(f'"{value}" is not a path relative to the repository')
    parts = [part for part in value.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UnitError(f'"{value}" leaves the repository')
    return "/".join(parts) or "."


PARSERS: dict[str, Callable[[Json], Json]] = {
    "duration": duration, "size": size, "satoshis": satoshis, "percent": percent, "rate": rate, "path": path,
}  # fmt: skip


def show(unit: str, value: Json) -> str:
    """The stored form as a person would write it; reading it back gives the same value."""
    if unit == "duration":
        return _largest(value, [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)])
    if unit == "size":
        sizes = sorted(((name, count) for name, count in _BYTES.items() if name != "KB"), key=lambda pair: -pair[1])
        return _largest(value, sizes)
    if unit == "satoshis":
        return f"{value}sat"
    if unit == "rate":
        return f"{value['satoshis']}sat/{'k' if value['bytes'] == 1000 else value['bytes']}B"
    return str(value)


def _largest(value: int, units: list[tuple[str, int]]) -> str:
    name, count = next(((name, count) for name, count in units if value and value % count == 0), units[-1])
    return f"{value // count}{name}"


def _whole(exact: Fraction | int, text: str, of: str) -> int:
    if Fraction(exact).denominator != 1:
        raise UnitError(f'"{text}" is not a whole number of {of}')
    return int(exact)


def _bounded(value: int, most: int, what: str) -> int:
    if not 0 <= value <= most:
        raise UnitError(f"{value} is out of range for {what}")
    return value
