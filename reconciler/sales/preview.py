"""The first rows of a file as a page shows them, within what the producer lets people try before they buy."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.model.canonical import Json

# What is read of a file for a preview, and what is shown of that.
HEAD = 64 * 1024
MAX_ROWS, MAX_COLUMNS, MAX_CELL = 8, 16, 80
_TABLES = {"text/csv": ",", "text/tab-separated-values": "\t"}
_TEXTS = ("text/", "application/json", "application/x-ndjson", "application/jsonl", "application/yaml", "application/xml")


@dataclass(frozen=True, slots=True)
class Preview:
    """A table, where there are `columns`, or else lines of text, one a row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def preview(head: bytes, media_type: str, sample: Mapping[str, Json] | None) -> Preview | None:
    """What the beginning of a file shows; None where the producer allows no sample, or it is nothing to read."""
    if not sample:
        return None
    kind = media_type.partition(";")[0].strip().lower()
    whole = len(head) < HEAD and "bytes" not in sample
    allowed = head[: int(sample["bytes"])] if "bytes" in sample else head
    lines = allowed.decode("utf-8", "replace").splitlines()
    if not whole and lines:
        lines = lines[:-1] or lines  # the last one may have been cut
    rows = min(int(sample.get("rows") or MAX_ROWS), MAX_ROWS)
    if kind in _TABLES:
        return _table(lines, _TABLES[kind], rows)
    if kind.startswith(_TEXTS) and lines:
        return Preview((), tuple((line[: 2 * MAX_CELL],) for line in lines[:rows]))
    return None


def _table(lines: list[str], delimiter: str, rows: int) -> Preview | None:
    """Header and rows; None for an empty file, or one that is no table after all."""
    try:
        read = list(csv.reader(io.StringIO("\n".join(lines[: rows + 1])), delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    cut = [tuple(cell[:MAX_CELL] for cell in row[:MAX_COLUMNS]) for row in read if row]
    return Preview(cut[0], tuple(cut[1 : rows + 1])) if cut else None
