"""A bare copy of a repository: fetched whole, read by object id, never checked out.

A fetch brings objects first and moves our one ref last, so a fetch that is killed moves nothing; what it left lying is swept
before the next. Nothing here says which commit is in force: that is written in the ledger, once a commit was fetched whole
and judged. Two processes may share a mirror: fetching is done under a lock, which a child that outlives us keeps.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.adapters.git import ASK_SECONDS, FETCH_SECONDS, Git, Ran, Remote
from reconciler.adapters.git_access import access
from reconciler.adapters.git_objects import ID, Repository
from reconciler.model.canonical import Json, digest
from reconciler.model.errors import Refused, Unavailable

# How long to wait for another process that fetches.
LOCK_SECONDS = 60.0
_LOCK_PAUSE = 0.05
# So many packs, one from each fetch, may lie about before they are made one; and so many loose objects.
PACKS = 50
LOOSE = 5000
INCOMING = "refs/incoming/head"
GOOD = "refs/good/head"


@dataclass(frozen=True, slots=True)
class Target:
    """What is followed: a branch, a tag, or one commit by its whole id."""

    kind: str  # branch | tag | commit
    name: str

    @property
    def ref(self) -> str:
        """Its full name on the remote; the id itself for a commit."""
        return {"branch": f"refs/heads/{self.name}", "tag": f"refs/tags/{self.name}"}.get(self.kind, self.name)

    @property
    def label(self) -> str:
        """What stands before the @ of a revision."""
        return "commit" if self.kind == "commit" else self.name


class Mirror(Repository):
    """The copy of one remote in a directory of ours."""

    def __init__(self, directory: Path, remote: Remote, credentials: Mapping[str, Json], root: Path, max_size: int) -> None:
        self.directory = directory / digest(remote.url)[:16]
        self.remote = remote
        self._credentials, self._root = credentials, root
        self.home = self.directory / "home"
        super().__init__(Git(self.directory / "repo.git", self.home, remote.scheme, max_file=max_size))
        self._running: list[subprocess.Popen[bytes]] = []

    # --- asking the remote -------------------------------------------------------------------------

    def ask(self, target: Target) -> str:
        """The id of the object a branch or tag names now. Refused: it has no such name. Unavailable: it does not answer."""
        ran = self._call("ls-remote", "--", self.remote.url, target.ref)
        for line in ran.out.decode("utf-8", "replace").splitlines():
            found, _, name = line.partition("\t")
            if name == target.ref and ID.fullmatch(found):
                return found
        hint = "check source.git, and that it was pushed"
        raise Refused("git-ref", f"cannot find {target.kind} {target.name} in {self.remote.url}", hint=hint)

    def fetch(self, target: Target) -> str:
        """Bring what the target names, with its whole history; the id of the object, commit or tag."""
        with self.locked() as lock:
            self._sweep()
            self._tidy(lock)
            flags = ("--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance", "--quiet")
            try:
                self._call("fetch", *flags, "--", self.remote.url, f"+{target.ref}:{INCOMING}", keep=(lock,))
            except (Refused, Unavailable):
                if target.kind != "commit":
                    raise
                # Not every server gives a commit by its id. With all branches and tags, it is there if it is reachable.
                every = ("+refs/heads/*:refs/incoming/heads/*", "+refs/tags/*:refs/incoming/tags/*")
                self._call("fetch", *flags, "--", self.remote.url, *every, keep=(lock,))
            found = target.name if target.kind == "commit" else self.resolve(INCOMING)
            if found is None or not self.has(found):
                raise Unavailable("git-fetch", f"cannot find {target.name} after fetching it", hint="it will be tried again")
            return found

    def fetch_all(self) -> None:
        """Bring every branch and tag, for a person who asks for another revision than the one followed."""
        with self.locked() as lock:
            self._sweep()
            every = ("+refs/heads/*:refs/incoming/heads/*", "+refs/tags/*:refs/incoming/tags/*")
            self._call("fetch", "--no-tags", "--no-write-fetch-head", "--quiet", "--", self.remote.url, *every, keep=(lock,))

    def _call(self, *words: str, keep: tuple[int, ...] = ()) -> Ran:
        self.prepare()
        with access(self.remote, self._credentials, self._root, self.home) as given:
            git = replace(self.git, environment=given.environment, secrets=given.secrets, running=self._running)
            ran = git.run(*words, keep=keep, seconds=FETCH_SECONDS if words[0] == "fetch" else ASK_SECONDS)
        if ran.code == 0:
            return ran
        if self._overflowed():
            where = self.remote.host or self.remote.url
            message = f"cannot fetch from {where}: it is larger than source.git.maxSize"
            raise Refused("git-size", message, hint="raise source.git.maxSize")
        raise _failure(words[0], self.remote, ran)

    def _overflowed(self) -> bool:
        """Whether a pack was cut off where no file may grow further; git itself says only that it is not whole."""
        parts = self.git.directory.glob("objects/pack/tmp_*")
        return bool(self.git.max_file) and any(part.stat().st_size >= self.git.max_file for part in parts)

    def interrupt(self) -> None:
        """Give up what is asked of the remote just now: nobody waits for it any more."""
        for process in list(self._running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    # --- our copy ----------------------------------------------------------------------------------

    def prepare(self) -> None:
        """An empty repository, if there is none yet."""
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (self.git.directory / "HEAD").is_file():
            return
        # Made beside its place, so that it is there whole or not at all.
        part = self.directory / f".new-{os.getpid()}"
        shutil.rmtree(part, ignore_errors=True)
        ran = self.git.run("init", "--bare", "--quiet", "--template=", "--initial-branch=none", "--", str(part), anywhere=True)
        if ran.code != 0:
            raise Unavailable("git-mirror", f"cannot make {part}: {ran.said}", hint="make the state directory writable")
        try:
            part.rename(self.git.directory)
        except OSError:
            shutil.rmtree(part, ignore_errors=True)

    def discard(self) -> None:
        """Drop a damaged copy; the next fetch brings all of it again."""
        with self.locked():
            shutil.rmtree(self.git.directory, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """The right to write to the mirror; Unavailable when another process does not give it up."""
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        message = f"cannot fetch into {self.directory}: another process does"
                        raise Unavailable("git-locked", message, hint="it will be tried again") from None
                    time.sleep(_LOCK_PAUSE)
            yield handle
        finally:
            os.close(handle)

    def _sweep(self) -> None:
        """Remove what a killed fetch left: half packs, and locks that nobody can hold, for we hold the one above them."""
        for pattern in (
            "objects/pack/tmp_*",
            "objects/pack/.tmp-*",
            "objects/tmp_*",
            "objects/??/tmp_obj_*",
            "refs/**/*.lock",
            "*.lock",
        ):
            for path in self.git.directory.glob(pattern):
                path.unlink(missing_ok=True)

    def _tidy(self, lock: int) -> None:
        """Make one pack of many, when there are many; what nothing leads to goes after two weeks. If it fails, room is lost."""
        if not (self.git.directory / "HEAD").is_file():
            return
        settings = {
            "gc.auto": str(LOOSE),
            "gc.autoPackLimit": str(PACKS),
            "gc.autoDetach": "false",
            "gc.writeCommitGraph": "false",
        }
        # What was fetched in parts may be larger than a part may be.
        git = replace(self.git, max_file=0, running=self._running)
        with contextlib.suppress(Unavailable):
            git.run("gc", "--auto", "--quiet", settings=settings, keep=(lock,), seconds=FETCH_SECONDS)

    def keep(self, commit: str) -> None:
        """Hold on to a commit that is in force, whatever becomes of the branch."""
        self.git.run("update-ref", GOOD, commit)


def _failure(verb: str, remote: Remote, ran: Ran) -> Unavailable:
    """What a call that failed means, and what may be done about it."""
    said = ran.said or f"git ended with {ran.code}"
    low = said.lower()
    where = remote.host or remote.url
    if "authentication failed" in low or "could not read username" in low or "permission denied" in low or " 403" in low:
        hint = "check source.git.credentials, and that they may read this repository"
        return Unavailable("git-denied", f"cannot {_verb(verb)} {where}: it does not let us in ({said})", hint=hint)
    if "host key verification failed" in low:
        hint = "compare its key with source.git.credentials.ssh.knownHosts; do not go on before they agree"
        return Unavailable("git-host-key", f"cannot trust {where}: its key is not one of the settings ({said})", hint=hint)
    return Unavailable(
        "git-remote", f"cannot {_verb(verb)} {where}: {said}", hint="it will be tried again; the last good revision stays"
    )


def _verb(word: str) -> str:
    return "ask" if word == "ls-remote" else "fetch from"
