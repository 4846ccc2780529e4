"""Which versions of the schema this program knows: the names of the migrations, told without importing any of them."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterable
from pathlib import Path

from reconciler.model.errors import Invariant

_NAME = re.compile(r"(\d{4})_\w+")


def ordered(folders: Iterable[str]) -> tuple[str, ...]:
    """The module names of all steps in the folders, in order; Invariant when a number is missing or taken twice."""
    names = sorted(module.name for module in pkgutil.iter_modules(list(folders)) if _NAME.fullmatch(module.name))
    if [int(name[:4]) for name in names] != list(range(1, len(names) + 1)):
        raise Invariant("migrations", f"cannot order the migrations {names}: their numbers must count from 0001 without a gap")
    return tuple(names)


def newest() -> int:
    """The version of the schema that this program writes."""
    return len(ordered([str(Path(__file__).with_name("migrations"))]))
