"""A git repository on our own disk, read by object id: names, history, the files of a commit, and their bytes.

Nothing is checked out, so no filter, link or attribute of the repository ever touches a file of ours. Blobs are streamed from
one `git cat-file --batch`, and every object is checked by its id, which is the hash of its bytes.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Self

from reconciler.adapters.git import Git, end
from reconciler.model.errors import Refused, Unavailable

# Entries of one tree; a repository of manifests has hundreds, one with data thousands.
MAX_ENTRIES = 200_000
ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REGULAR, _LINK = ("100644", "100755"), "120000"
_MAX_LINKS = 8
_MAX_LINK = 4096
_BLOCK = 1024 * 1024
# How a file begins that only says where its bytes are (git-lfs, specification version 1); it has at most 1024 bytes.
LFS = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a commit: blob id and bytes."""

    id: str
    size: int


class Repository:
    """Objects by name and by id."""

    def __init__(self, git: Git) -> None:
        self.git = git

    def resolve(self, name: str) -> str | None:
        """The id of the object that a name of this mirror means; None when there is none."""
        ran = self.git.run("rev-parse", "--quiet", "--verify", "--end-of-options", name)
        found = ran.out.decode("ascii", "replace").strip()
        return found if ran.code == 0 and ID.fullmatch(found) else None

    def find(self, revision: str) -> str | None:
        """The commit that a person means by a branch, tag or beginning of an id, among all that was fetched."""
        for name in (f"refs/incoming/heads/{revision}", f"refs/incoming/tags/{revision}", revision):
            found = self.resolve(f"{name}^{{commit}}")
            if found is not None:
                return found
        return None

    def has(self, id_: str) -> bool:
        """Whether the object is here."""
        return (self.git.directory / "HEAD").is_file() and self.git.run("cat-file", "-e", id_).code == 0

    def commit_of(self, id_: str) -> str:
        """The commit that a tag object leads to, or the commit itself."""
        found = self.resolve(f"{id_}^{{commit}}")
        if found is None:
            raise Refused(
                "git-object", f"cannot use {id_[:12]}: it is no commit and leads to none", hint="follow a branch or tag"
            )
        return found

    def descends(self, old: str, new: str) -> bool:
        """Whether the new commit has the old one in its history."""
        return self.git.run("merge-base", "--is-ancestor", old, new).code == 0

    # --- reading a commit --------------------------------------------------------------------------

    def entries(self, commit: str, path: str = "") -> dict[str, Entry]:
        """Path -> file below `path`. Links are followed inside of it; submodules have no files here.

        Refused: there is no such directory, or a link leads out of it. Unavailable: objects are missing.
        """
        ran = self.git.run("ls-tree", "-r", "-z", "-l", "--full-tree", f"{commit}:{path}" if path else commit)
        if ran.code != 0:
            if (
                path
                and self.has(commit)
                and self.resolve(f"{commit}^{{tree}}") is not None
                and self.resolve(f"{commit}:{path}") is None
            ):
                raise Refused("git-path", f"cannot find the directory {path} in {commit[:12]}", hint="check source.git.path")
            raise Unavailable("git-damaged", f"cannot read {commit[:12]} from the mirror: {ran.said}", hint="it is fetched again")
        files: dict[str, Entry] = {}
        links: dict[str, str] = {}
        for line in ran.out.split(b"\0")[:-1]:
            facts, _, name = line.partition(b"\t")
            mode, _, id_, size = facts.decode("ascii").split()
            if mode in _REGULAR:
                files[os.fsdecode(name)] = Entry(id_, int(size))
            elif mode == _LINK:
                links[os.fsdecode(name)] = id_
        if len(files) + len(links) > MAX_ENTRIES:
            raise Refused(
                "git-size", f"cannot read {commit[:12]}: it has more than {MAX_ENTRIES} files", hint="set source.git.path"
            )
        return dict(sorted((files | self._followed(files, links)).items()))

    def _followed(self, files: Mapping[str, Entry], links: Mapping[str, str]) -> dict[str, Entry]:
        targets = {}
        for name, id_ in links.items():
            ran = self.git.run("cat-file", "blob", id_)
            targets[name] = os.fsdecode(ran.out[: _MAX_LINK + 1])
        found = {}
        for name in links:
            at = name
            for _ in range(_MAX_LINKS):
                if at not in targets:
                    break
                at = _beside(at, targets[at])
            if at in files:
                found[name] = files[at]
        return found


def _beside(link: str, target: str) -> str:
    """Where a link at a path leads; Refused when out of the tree."""
    joined = os.path.normpath(f"{link.rpartition('/')[0]}/{target}" if "/" in link else target)
    if target.startswith("/") or joined == ".." or joined.startswith("../"):
        raise Refused("path-escapes", f"cannot use {link}: it leads out of what is followed", hint="commit the file itself")
    return joined


class BlobReader:
    """One `git cat-file --batch`, while the block lasts."""

    def __init__(self, git: Git) -> None:
        self._git = git

    def __enter__(self) -> Self:
        self._process = self._git.start("cat-file", "--batch", stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        end(self._process)

    def stream(self, id_: str) -> Iterator[bytes]:
        """The bytes of a blob, to be read to their end before the next is asked for. Unavailable: it is not here, or damaged."""
        to, out = self._pipes()
        try:
            to.write(id_.encode() + b"\n")
            to.flush()
            facts = out.readline().split()
            if len(facts) != 3 or facts[1] != b"blob":
                raise Unavailable("git-damaged", f"cannot read blob {id_[:12]} from the mirror", hint="it is fetched again")
            left = int(facts[2])
            while left:
                block = out.read(min(left, _BLOCK))
                if not block:
                    raise Unavailable("git-damaged", f"cannot read all of blob {id_[:12]}", hint="it is fetched again")
                left -= len(block)
                yield block
            out.read(1)
        except OSError as error:
            raise Unavailable(
                "git-damaged", f"cannot read blob {id_[:12]}: {error.strerror}", hint="it is fetched again"
            ) from error

    def read(self, id_: str) -> bytes:
        """The bytes of a blob that is known to be small."""
        return b"".join(self.stream(id_))

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._process.stdin is not None and self._process.stdout is not None
        return self._process.stdin, self._process.stdout


def refuse_pointer(name: str, begin: bytes) -> None:
    """Refused when a file is only a pointer of git-lfs: what it points to is not in the repository, and a seller sells bytes."""
    if begin.startswith(LFS):
        hint = "commit the bytes themselves, or publish from a directory where git-lfs has put them"
        raise Refused("lfs-pointer", f"cannot use {name}: git-lfs keeps its bytes elsewhere", hint=hint)
