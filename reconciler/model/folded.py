"""A JSON object kept as its text, and parsed only while it is looked at.

Ten thousand records as trees of dictionaries take five times the memory of their text, and of most of them a plan asks no
more than whether they say what the manifests say. That is often told without parsing: `says` compares texts. Texts of one
kind differ in names, digests and little else, so each is packed beside the first of its kind, and takes a fifth of itself.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

from reconciler.model.canonical import Json, compact

# Objects kept parsed: whoever looks at a field mostly looks at the next one, too.
_OPEN = 64
_NOTHING: Mapping[str, Json] = MappingProxyType({})
# The least effort, raw, in a window of 4 KiB: packing takes 15 to 25 us. A larger window costs more to set up than it saves.
_EFFORT, _WINDOW, _MEMORY = 1, -12, 5
# Text may hold half of a surrogate pair, which JSON can spell; it comes back as it was.
_CODEC = ("utf-8", "surrogatepass")


class Press:
    """Packs texts that resemble each other: each as what it does not share with the first, which is `like`."""

    __slots__ = ("_ready", "like")

    def __init__(self) -> None:
        self.like, self._ready = b"", zlib.compressobj(_EFFORT, zlib.DEFLATED, _WINDOW, _MEMORY)

    def packed(self, text: str) -> bytes:
        """The text, packed beside `like`."""
        plain = text.encode(*_CODEC)
        if not self.like:
            self.like = plain
            self._ready = zlib.compressobj(_EFFORT, zlib.DEFLATED, _WINDOW, _MEMORY, zdict=plain)
        ready = self._ready.copy()
        return ready.compress(plain) + ready.flush()


class Folded(Mapping[str, Json]):
    """A JSON object. `shared` are fields of it that many objects have in common, held as they are, after those of the text.

    Objects that were given the same `press` resemble each other, and are packed.
    """

    __slots__ = ("_like", "_shared", "_text")

    def __init__(self, own: Mapping[str, Json], shared: Mapping[str, Json] = _NOTHING, press: Press | None = None) -> None:
        text = compact(own)
        self._text: str | bytes = text if press is None else press.packed(text)
        self._like, self._shared = b"" if press is None else press.like, shared

    def _own(self) -> Mapping[str, Json]:
        return _parsed(self._text, self._like)

    def __getitem__(self, key: str) -> Json:
        return self._shared[key] if key in self._shared else self._own()[key]

    def __iter__(self) -> Iterator[str]:
        yield from self._own()
        yield from self._shared

    def __len__(self) -> int:
        return len(self._own()) + len(self._shared)

    def __repr__(self) -> str:
        return repr(dict(self))

    def says(self, other: Mapping[str, Json], alike: Callable[[Json, Json], bool]) -> bool:
        """Whether `other` has the very same text; `alike` compares what is shared. False proves nothing: order counts here."""
        if not all(key in other and alike(value, other[key]) for key, value in self._shared.items()):
            return False
        try:
            told = compact({key: value for key, value in other.items() if key not in self._shared})
        except TypeError:
            return False
        return told == _unpacked(self._text, self._like)


def _unpacked(text: str | bytes, like: bytes) -> str:
    if isinstance(text, str):
        return text
    return zlib.decompressobj(_WINDOW, zdict=like).decompress(text).decode(*_CODEC)


@lru_cache(_OPEN)
def _parsed(text: str | bytes, like: bytes) -> Mapping[str, Json]:
    found: dict[str, Json] = json.loads(_unpacked(text, like))
    return found
