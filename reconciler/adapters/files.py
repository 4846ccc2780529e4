"""Manifests and content from a directory.

Reading ten thousand files again because one changed would make every plan slow, so both texts and digests are kept
under the file's fingerprint (size, mtime, ctime, inode). A file touched within the last moments may still change
without its timestamp moving, so it is read but not kept: the same rule git applies to its index.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import mimetypes
import os
import re
import stat
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.describe import details
from reconciler.model.errors import Refused, Unavailable
from reconciler.model.resource import FileFact
from reconciler.model.revision import Revision
from reconciler.model.standing import Standing

PATTERNS = ("*.yaml", "*.yml")
# Editors write in bursts (truncate, write, rename): a hint follows once it has been quiet this long,
DEBOUNCE_MS = 200
# or after this long at the latest, so that a file written all the time does not hide changes to the others.
PATIENCE_MS = 2000
# File systems stamp times in ticks of up to 10 ms; a younger stamp may hide a second write.
RACY_NS = 20_000_000
# A manifest is text that people read. The loader has its own, finer limits; this one protects memory.
MAX_MANIFEST = 8 * 1024 * 1024
_BLOCK = 1024 * 1024
# What makes a pattern of a path. A manifest that names its file, as most do, is spared the search.
_MAGIC = frozenset("*?[")

# Pinned, because the tables of the standard library and of the machine differ between installations.
_MEDIA = {
    ".arrow": "application/vnd.apache.arrow.file",
    ".avro": "application/vnd.apache.avro",
    ".bin": "application/octet-stream",
    ".csv": "text/csv",
    ".feather": "application/vnd.apache.arrow.file",
    ".geojson": "application/geo+json",
    ".gz": "application/gzip",
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".md": "text/markdown",
    ".ndjson": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".sqlite": "application/vnd.sqlite3",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
    ".xml": "application/xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zst": "application/zstd",
}
_PACKED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz", "br": "application/x-brotli"}


@cache
def _types() -> mimetypes.MimeTypes:
    """The standard library's own table: filling it costs more than most repositories ever ask of it."""
    return mimetypes.MimeTypes(())


def media_type(path: str) -> str:
    """The media type that a file name promises; a compressed file is named by its compression."""
    known = _MEDIA.get(os.path.splitext(path)[1].lower())  # noqa: PTH122 - thousands of names pass here on every plan
    if known is not None:
        return known
    guess, packed = _types().guess_type(path, strict=True)
    if packed is not None:
        return _PACKED.get(packed, "application/octet-stream")
    return guess or "application/octet-stream"


# Packed, because one is kept of every file of content: a tuple of four integers takes three times as much.
_Print = bytes
_PACKED_PRINT = struct.Struct("<QqqQ").pack
# Of a file that is not to be recognised again.
_NO_PRINT = b""


def _print(state: os.stat_result) -> _Print:
    return _PACKED_PRINT(state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


def _matcher(patterns: Sequence[str]) -> Callable[[str], object]:
    """Something that is not None for a text that one of the patterns matches."""
    return re.compile("|".join(map(fnmatch.translate, patterns)) or r"(?!)").match


def _hidden(root: Path, path: str) -> bool:
    """Whether it lies in a dot-directory. Not `..data`: that is how a mounted ConfigMap swaps its content."""
    below = Path(path).relative_to(root).parts
    return any(part.startswith(".") and not part.startswith("..") for part in below[:-1])


@dataclass(frozen=True, slots=True)
class _Known:
    """A manifest as it was read last time."""

    fingerprint: _Print
    sha256: str
    text: bytes


class DirectorySource:
    """A directory of manifests and the content files they name."""

    def __init__(self, root: Path, patterns: Sequence[str] = PATTERNS) -> None:
        self.root = root
        # Patterns with a slash speak of the path, the others of the name.
        self._named = _matcher([pattern for pattern in patterns if "/" not in pattern])
        self._placed = _matcher([pattern for pattern in patterns if "/" in pattern])
        self._texts: dict[str, _Known] = {}
        # Patterns that are the name of one file, and that name.
        self._literal: dict[str, str] = {}
        self._facts: dict[str, tuple[_Print, FileFact]] = {}
        # Directories of content and whether they are inside the root, each checked once between two readings.
        self._homes: dict[str, bool] = {}
        self._clock = SystemClock()

    def current(self) -> Revision:
        """Every manifest below the root, dot-directories left out; Unavailable when one cannot be read whole."""
        self._homes = {}
        seen: dict[str, _Known] = {}
        for path, entry in sorted(self._manifests()):
            seen[path] = self._read(path, entry)
        self._texts = seen
        total = hashlib.sha256()
        for path, known in seen.items():
            total.update(f"{path}\0{known.sha256}\n".encode())
        return Revision("dir@" + total.hexdigest()[:12], {path: known.text for path, known in seen.items()}, self.root)

    def facts(self, pattern: str) -> Sequence[FileFact]:
        """Regular files that match the glob, hashed; dot-files only where the pattern names them."""
        name = self._literal.get(pattern)
        if name is None:
            parts = [part for part in pattern.split("/") if part not in ("", ".")]
            if not parts or pattern.startswith("/") or ".." in parts:
                hint = "write a path below the manifests"
                raise Refused("path-escapes", f"cannot use {pattern!r}: it leaves the source directory", hint=hint)
            if _MAGIC.intersection(pattern):
                return [fact for name in self._matching(pattern, parts) if (fact := self._fact(name)) is not None]
            name = "/".join(parts)
            # Most are written as they are; then the one text stands for both.
            name = self._literal[pattern] = pattern if name == pattern else name
        fact = self._fact(name)
        return [] if fact is None else [fact]

    def _matching(self, pattern: str, parts: Sequence[str]) -> list[str]:
        """What a glob finds, in path order, without the dot-files it does not name."""
        found = [path.relative_to(self.root) for path in self.root.glob(pattern)]
        return sorted(
            path.as_posix() for path in found if not any(part.startswith(".") and part not in parts for part in path.parts)
        )

    def locate(self, path: str, sha256: str) -> Path:
        """Where the file stands; whoever copies it compares the digest."""
        return self.root / path

    async def refresh(self) -> None:
        """Nothing to be asked: the directory is read anew each time."""

    def standing(self) -> Standing:
        """A directory has no history, so nothing of it is verified or held back."""
        return Standing()

    async def revisions(self) -> AsyncIterator[None]:
        """A hint per burst of changes below the root; dot-directories such as .git stay silent."""
        import watchfiles  # brings asyncio along, which `validate` does without

        root = self._real_root()
        async for _ in watchfiles.awatch(
            root, watch_filter=lambda _, path: not _hidden(root, path), step=DEBOUNCE_MS, debounce=PATIENCE_MS
        ):
            yield None

    def _real_root(self) -> Path:
        try:
            return self.root.resolve(strict=True)
        except OSError as error:
            hint = "check the path of the source"
            raise Unavailable("source-missing", f"cannot read {self.root}: {error.strerror}", hint=hint) from error

    def _manifests(self) -> Iterator[tuple[str, os.DirEntry[str]]]:
        self._real_root()
        waiting = [("", str(self.root))]
        while waiting:
            prefix, directory = waiting.pop()
            try:
                with os.scandir(directory) as listing:
                    entries = list(listing)
            except OSError as error:
                raise Unavailable("source-unreadable", f"cannot read {directory}: {error.strerror}") from error
            for entry in entries:
                path = prefix + entry.name
                if entry.is_symlink():
                    self._stay_inside(entry.path, entry.path)
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith("."):
                        waiting.append((path + "/", entry.path))
                elif self._wanted(path) and not entry.is_dir():
                    yield path, entry

    def _wanted(self, path: str) -> bool:
        name = path.rpartition("/")[2]
        if name.startswith("."):
            return False
        return self._named(name) is not None or self._placed(path) is not None

    def _stay_inside(self, path: str, home: str) -> None:
        """Refused when following `home`, the path itself or the directory it lies in, ends outside the root."""
        inside = self._homes.get(home)
        if inside is None:
            try:
                inside = self._homes[home] = Path(home).resolve().is_relative_to(self._real_root())
            except (OSError, RuntimeError) as error:  # a link that leads back to itself
                hint = "make it readable, or remove it: nothing is retired meanwhile"
                raise Unavailable("source-unreadable", f"cannot read {path}: it leads nowhere", hint=hint) from error
        if not inside:
            hint = "copy the file below the source directory"
            raise Refused("path-escapes", f"cannot use {path}: it leads out of {self._real_root()}", hint=hint)

    def _read(self, path: str, entry: os.DirEntry[str]) -> _Known:
        try:
            state = entry.stat()
            known = self._texts.get(path)
            if known is not None and known.fingerprint == _print(state):
                return known
            if not stat.S_ISREG(state.st_mode):
                raise Refused("source-kind", f"cannot read {entry.path}: it is not a regular file", hint="move it away")
            if state.st_size > MAX_MANIFEST:
                raise Refused("source-size", f"cannot read {entry.path}: a manifest may have {MAX_MANIFEST} bytes at most")
            text = Path(entry.path).read_bytes()
            after = Path(entry.path).stat()
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not entry.is_symlink():
                # It was there when the directory was listed: somebody puts another in its place.
                raise Unavailable("source-moving", f"cannot read {entry.path}: it is being replaced") from error
            hint = "make it readable, or remove it: nothing is retired meanwhile"
            raise Unavailable("source-unreadable", f"cannot read {entry.path}: {error.strerror}", hint=hint) from error
        if _print(after) != _print(state):
            raise Unavailable("source-moving", f"cannot read {entry.path}: it is being written", hint="it will be read again")
        return _Known(self._trusted(after), hashlib.sha256(text).hexdigest(), text)

    def _trusted(self, state: os.stat_result) -> _Print:
        """The fingerprint to remember; one that no file has when the last write is too recent to be told from the next."""
        now = int(self._clock.now().timestamp() * 1_000_000_000)
        return _print(state) if now - max(state.st_mtime_ns, state.st_ctime_ns) > RACY_NS else _NO_PRINT

    def _fact(self, name: str) -> FileFact | None:
        """What is known of one file; None when there is none."""
        path = f"{self.root}/{name}"
        try:
            state = os.lstat(path)
            if stat.S_ISLNK(state.st_mode):
                self._stay_inside(path, path)
                state = os.stat(path)  # noqa: PTH116 - as above
            else:
                self._stay_inside(path, path.rpartition("/")[0])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Unavailable("source-unreadable", f"cannot read {path}: {error.strerror}") from error
        if not stat.S_ISREG(state.st_mode):
            return None
        known = self._facts.get(name)
        if known is None or known[0] != _print(state):
            known = self._facts[name] = self._learned(name, path, state)
        return known[1]

    def _learned(self, name: str, path: str, before: os.stat_result) -> tuple[_Print, FileFact]:
        """The facts of a file and the fingerprint they hold for."""
        first = b""
        try:
            total = hashlib.sha256()
            with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 - as above
                while block := stream.read(_BLOCK):
                    total.update(block)
                    first = first or block
                stream.seek(0)
                # Nearly every file is one block, and then it is not read again to be described.
                content = io.BytesIO(first) if len(first) == before.st_size else io.BufferedReader(stream)
                found = details(content, before.st_size, media_type(name))
            after = os.stat(path)  # noqa: PTH116 - as above
        except OSError as error:
            raise Unavailable("source-unreadable", f"cannot read {path}: {error.strerror}") from error
        if _print(after) != _print(before):
            raise Unavailable("source-moving", f"cannot hash {path}: it is being written", hint="it will be read again")
        return self._trusted(after), FileFact(name, after.st_size, total.hexdigest(), media_type(name), found)
