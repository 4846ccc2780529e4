"""What of a file may be had for nothing: its first rows or bytes, as the dataset says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from reconciler.model.canonical import Json

# Read of a file for its sample; one of more bytes, or rows longer than this, ends here.
MAX_SAMPLE = 1024 * 1024
_WITH_HEADER = ("text/csv", "text/tab-separated-values")
_ARRAY = "application/json"


def sample_of(place: Path, media_type: str, sample: Mapping[str, Json]) -> bytes:
    """The first `bytes`, or the first `rows`: lines, behind a header line where the form has one; items of a JSON array."""
    with place.open("rb") as file:
        head = file.read(MAX_SAMPLE)
    if "bytes" in sample:
        return head[: int(sample["bytes"])]
    rows, kind = int(sample["rows"]), media_type.partition(";")[0].strip().lower()
    if kind == _ARRAY and (items := _items(head)) is not None:
        return json.dumps(items[:rows], ensure_ascii=False, indent=1).encode()
    lines = head.splitlines(keepends=True)
    if len(head) == MAX_SAMPLE:
        lines = lines[:-1] or lines  # the last one may have been cut
    return b"".join(lines[: rows + (1 if kind in _WITH_HEADER else 0)])


def _items(head: bytes) -> list[Json] | None:
    """The items of a JSON array that begins here, as many as are whole; None where it is no array of several."""
    text = head.decode("utf-8", "ignore").lstrip()
    if not text.startswith("["):
        return None
    found: list[Json] = []
    decoder, at = json.JSONDecoder(), 1
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        try:
            item, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return found
        found.append(item)
