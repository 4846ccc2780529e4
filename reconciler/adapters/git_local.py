"""Revisions of the repository that a directory of manifests lies in: what a reviewer compares, without a remote."""

from __future__ import annotations

from pathlib import Path

from reconciler.adapters.blobs import BlobDirectory
from reconciler.adapters.git import Git
from reconciler.adapters.git_objects import Repository
from reconciler.adapters.git_reader import CommitReader
from reconciler.adapters.git_source import FixedSource
from reconciler.model.errors import Refused


def local(directory: Path, revision: str, blobs: BlobDirectory) -> FixedSource:
    """The directory as it is in a revision of its repository. Refused: it lies in none, or the revision does not exist."""
    here = Git(directory, directory)
    ran = here.run("rev-parse", "--absolute-git-dir", "--show-prefix", anywhere=True)
    lines = ran.out.decode("utf-8", "replace").splitlines()
    if ran.code != 0 or not lines:
        hint = "run it in a clone, or follow one with source.git"
        raise Refused("git-none", f"cannot compare revisions of {directory}: it is in no repository ({ran.said})", hint=hint)
    repository = Repository(Git(Path(lines[0]), Path(lines[0])))
    name = revision.rpartition("@")[2] or revision
    found = repository.find(name)
    if found is None:
        hint = "fetch it first: git fetch origin; a shallow clone has no history"
        raise Refused("git-revision", f"cannot find revision {revision!r} in {lines[0]}", hint=hint)
    path = lines[1].rstrip("/") if len(lines) > 1 else ""
    label = "commit" if found.startswith(name) else revision
    return FixedSource(CommitReader(repository, path, blobs), found, f"{label}@{found}", directory)
