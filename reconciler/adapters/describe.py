"""Facts that a file's own bytes state: rows, columns, first and last moment. Deterministic; nothing is guessed.

A format that is not known, or a file that does not keep to its format, has no such facts: {}.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import BinaryIO

from reconciler.model.canonical import Json

# Tables beyond this are not read a second time only to be described.
MAX_DESCRIBED = 64 * 1024 * 1024
MAX_COLUMNS = 64
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}.*)?")


def details(content: BinaryIO, size: int, media_type: str) -> Mapping[str, Json]:
    """{"rows", "columns", "from"?, "to"?} of a CSV, JSON-array or NDJSON file of `size` bytes; {} for anything else."""
    reader = _READERS.get(media_type)
    if reader is None or size > MAX_DESCRIBED:
        return {}
    try:
        return reader(content)
    except (UnicodeDecodeError, csv.Error, ValueError, StopIteration):
        return {}


def _csv(content: BinaryIO) -> Mapping[str, Json]:
    text = io.TextIOWrapper(content, encoding="utf-8-sig", newline="")
    try:
        rows = csv.reader(text, strict=True)
        columns = next(rows)
        return _table(columns, (row[0] for row in rows if row))
    finally:
        text.detach()  # the file is closed by whoever opened it


def _json(content: BinaryIO) -> Mapping[str, Json]:
    return _objects(json.loads(content.read().decode()))


def _ndjson(content: BinaryIO) -> Mapping[str, Json]:
    return _objects([json.loads(line) for line in content if line.strip()])


def _objects(items: Json) -> Mapping[str, Json]:
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) and item for item in items):
        return {}
    columns = list(items[0])
    return _table(columns, (str(item.get(columns[0], "")) for item in items))


def _table(columns: list[str], first_column: Iterable[str]) -> Mapping[str, Json]:
    """Rows are counted; the first column is a span where every value in it is an ISO 8601 date or time."""
    rows, low, high, dated = 0, "", "", True
    for value in first_column:
        rows += 1
        dated = dated and _MOMENT.fullmatch(value) is not None
        low, high = (min(low or value, value), max(high, value)) if dated else ("", "")
    found: dict[str, Json] = {"rows": rows, "columns": _columns(tuple(columns[:MAX_COLUMNS]))}
    return {**found, "from": low, "to": high} if dated and rows else found


@lru_cache(256)
def _columns(names: tuple[str, ...]) -> list[str]:
    """One list for all files that have the same columns, as the files of one repository mostly do."""
    return list(names)


_READERS = {"text/csv": _csv, "application/json": _json, "application/x-ndjson": _ndjson}
