"""The manifests and the content of one commit, below one directory of it: the reading half of a source in git.

A blob never changes, so texts and facts are kept by its id: a commit that touches one file costs one file.
"""

from __future__ import annotations

import fnmatch
import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from reconciler.adapters.blobs import BlobDirectory
from reconciler.adapters.describe import details
from reconciler.adapters.files import MAX_MANIFEST, PATTERNS, media_type
from reconciler.adapters.git_objects import BlobReader, Entry, Repository, refuse_pointer
from reconciler.model.errors import Conflict, Refused
from reconciler.model.resource import FileFact

# Content up to here is described in memory; larger content goes through a file that has no name.
_SPOOL = 8 * 1024 * 1024
_MAGIC = frozenset("*?[")


class CommitReader:
    """Reads commits of a repository below `path` ("" is its root)."""

    def __init__(self, repository: Repository, path: str, blobs: BlobDirectory) -> None:
        self.repository, self.path, self._blobs = repository, path, blobs
        # Of the two commits read last: the one in force, and a head that is looked at in another thread.
        self._entries: dict[str, Mapping[str, Entry]] = {}
        self._texts: dict[str, bytes] = {}
        self._facts: dict[tuple[str, str], FileFact] = {}

    def entries(self, commit: str) -> Mapping[str, Entry]:
        """Path -> file of a commit."""
        found = self._entries.get(commit)
        if found is None:
            found = self.repository.entries(commit, self.path)
            self._entries = {**dict(list(self._entries.items())[-1:]), commit: found}
        return found

    def texts(self, commit: str) -> dict[str, bytes]:
        """Every manifest, dot-files and dot-directories left out. Refused: one is too large, or is not in the repository."""
        wanted = {path: entry for path, entry in self.entries(commit).items() if _manifest(path)}
        for path, entry in wanted.items():
            if entry.size > MAX_MANIFEST:
                raise Refused("source-size", f"cannot read {path}: a manifest may have {MAX_MANIFEST} bytes at most")
        missing = {entry.id for entry in wanted.values()} - self._texts.keys()
        if missing:
            with BlobReader(self.repository.git) as reader:
                self._texts |= {id_: reader.read(id_) for id_ in sorted(missing)}
        self._texts = {entry.id: self._texts[entry.id] for entry in wanted.values()}
        found = {path: self._texts[entry.id] for path, entry in wanted.items()}
        for path, text in found.items():
            refuse_pointer(path, text)
        return found

    def facts(self, commit: str, pattern: str) -> Sequence[FileFact]:
        """Files that match a glob, in path order, hashed as they stream by; dot-files only where the pattern names them."""
        parts = [part for part in pattern.split("/") if part not in ("", ".")]
        if not parts or pattern.startswith("/") or ".." in parts:
            hint = "write a path below the manifests"
            raise Refused("path-escapes", f"cannot use {pattern!r}: it leaves the source directory", hint=hint)
        entries = self.entries(commit)
        if _MAGIC.intersection(pattern):
            names = [name for name in entries if matches(name.split("/"), parts) and not _hidden(name, parts)]
        else:
            names = [name for name in ("/".join(parts),) if name in entries]
        unknown = [name for name in names if (entries[name].id, name) not in self._facts]
        if unknown:
            with BlobReader(self.repository.git) as reader:
                for name in unknown:
                    self._facts[entries[name].id, name] = self._learned(reader, name, entries[name])
        return [self._facts[entries[name].id, name] for name in names]

    def locate(self, commit: str, path: str, sha256: str) -> Path:
        """A file of ours with the bytes a plan saw at a path; Conflict when no commit that was read here has them there."""
        if not self._blobs.has(sha256):
            known = next((id_ for (id_, name), fact in self._facts.items() if name == path and fact.sha256 == sha256), None)
            if known is None and path in self.entries(commit) and self.facts(commit, _literal(path))[0].sha256 == sha256:
                known = self.entries(commit)[path].id
            if known is None:
                message = f"cannot find {path} with digest {sha256[:12]} in {commit[:12]}"
                raise Conflict("blob-source", message, hint="plan again")
            with BlobReader(self.repository.git) as reader:
                self._blobs.keep(reader.stream(known), sha256)
        return self._blobs.path(sha256)

    @staticmethod
    def _learned(reader: BlobReader, name: str, entry: Entry) -> FileFact:
        total, first = hashlib.sha256(), b""
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL) as whole:
            for block in reader.stream(entry.id):
                if not first:
                    refuse_pointer(name, block)
                    first = block
                total.update(block)
                whole.write(block)
            whole.seek(0)
            found = details(whole, entry.size, media_type(name))  # type: ignore[arg-type] # it is a binary file in all but name
        return FileFact(name, entry.size, total.hexdigest(), media_type(name), found)


def _manifest(path: str) -> bool:
    *folders, name = path.split("/")
    hidden = any(part.startswith(".") for part in (*folders, name))
    return not hidden and any(fnmatch.fnmatchcase(name, pattern) for pattern in PATTERNS)


def _hidden(name: str, parts: Sequence[str]) -> bool:
    return any(part.startswith(".") and part not in parts for part in name.split("/"))


def _literal(path: str) -> str:
    """A pattern that means exactly this path."""
    return "".join(f"[{letter}]" if letter in _MAGIC else letter for letter in path)


def matches(name: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path fit those of a glob, as pathlib understands it: ** is any number of directories."""
    if not pattern:
        return not name
    if pattern[0] == "**":
        # A pattern that ends so means directories, and a commit has only files.
        return len(pattern) > 1 and any(matches(name[skip:], pattern[1:]) for skip in range(len(name)))
    return bool(name) and fnmatch.fnmatchcase(name[0], pattern[0]) and matches(name[1:], pattern[1:])
