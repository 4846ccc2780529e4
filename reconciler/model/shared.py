"""One object for equal values.

Ten thousand documents of one repository refer to the same few resources, and files of one format have the same columns. Each
would hold its own copy of what says so, a third of all that is kept of a manifest.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import TypeVar, cast

T = TypeVar("T", bound=Hashable)

# Values that are remembered. Those in use live on in whoever holds them; this only bounds how many are found again.
_REMEMBERED = 4096


def once(value: T) -> T:
    """The value, or the equal one that came earlier. For values of one make: 1 equals True, and tuples of them are equal, too."""
    return cast("T", _first(value))


@lru_cache(_REMEMBERED)
def _first(value: Hashable) -> Hashable:
    return value
