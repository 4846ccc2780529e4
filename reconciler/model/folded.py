"""A JSON object kept as its text, and parsed only while it is looked at.

Ten thousand records as trees of dictionaries take five times the memory of their text, and of most of them a plan asks no
more than whether they say what the manifests say. That is often told without parsing: `says` compares texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

from reconciler.model.canonical import Json, compact

# Objects kept parsed: whoever looks at a field mostly looks at the next one, too.
_OPEN = 64
_NOTHING: Mapping[str, Json] = MappingProxyType({})


class Folded(Mapping[str, Json]):
    """A JSON object. `shared` are fields of it that many objects have in common, held as they are, after those of the text."""

    __slots__ = ("_shared", "_text")

    def __init__(self, own: Mapping[str, Json], shared: Mapping[str, Json] = _NOTHING) -> None:
        self._text, self._shared = compact(own), shared

    def __getitem__(self, key: str) -> Json:
        return self._shared[key] if key in self._shared else _parsed(self._text)[key]

    def __iter__(self) -> Iterator[str]:
        yield from _parsed(self._text)
        yield from self._shared

    def __len__(self) -> int:
        return len(_parsed(self._text)) + len(self._shared)

    def __repr__(self) -> str:
        return repr(dict(self))

    def says(self, other: Mapping[str, Json], alike: Callable[[Json, Json], bool]) -> bool:
        """Whether `other` has the very same text; `alike` compares what is shared. False proves nothing: order counts here."""
        if not all(key in other and alike(value, other[key]) for key, value in self._shared.items()):
            return False
        try:
            return compact({key: value for key, value in other.items() if key not in self._shared}) == self._text
        except TypeError:
            return False


@lru_cache(_OPEN)
def _parsed(text: str) -> Mapping[str, Json]:
    found: dict[str, Json] = json.loads(text)
    return found
