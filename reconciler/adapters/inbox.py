"""A directory into which people put approvals: whatever has the right name and size is handed on, to be judged elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

SUFFIX = ".sig"
# An approval has a few hundred bytes. A directory that others write to must fill neither memory nor time.
MAX_BYTES = 64 * 1024
MAX_FILES = 1000


def letters(directory: Path | None) -> Sequence[tuple[str, bytes]]:
    """(name, content) of the approvals in a directory, in the order of their names; none where there is no directory."""
    return [] if directory is None else list(_read(directory))


def beside(plan: Path) -> Sequence[tuple[str, bytes]]:
    """The approvals that stand beside a plan file: `plan.json.<name>.sig`."""
    return [one for one in _read(plan.parent) if one[0].startswith(plan.name + ".")]


def _read(directory: Path) -> Iterator[tuple[str, bytes]]:
    with contextlib.suppress(OSError):
        names = sorted(path for path in directory.iterdir() if path.name.endswith(SUFFIX))
        for path in names[:MAX_FILES]:
            with contextlib.suppress(OSError):
                if path.is_file() and path.stat().st_size <= MAX_BYTES:
                    yield path.name, path.read_bytes()
