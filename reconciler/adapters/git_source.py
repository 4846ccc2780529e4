"""Manifests from a repository: which commit is in force, and how another one comes to be.

Asking and deciding are apart. `_look` asks the remote, fetches and judges, in a thread, and touches nothing but the mirror;
`admit` says from what it found, and nothing else, whether the head comes into force; `_settle` writes that down in the
ledger, and from then on it is so. Killed anywhere before that, the revision in force is the one from before. A head that is
unsigned, signed by a stranger, or not a descendant of what is in force stays outside, and the standing says why.

Polls, pushes and nudges are hints: each makes us ask the remote, and none is believed about what it says.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from reconciler.adapters.blobs import BlobDirectory
from reconciler.adapters.git import remote
from reconciler.adapters.git_mirror import Mirror, Target
from reconciler.adapters.git_reader import CommitReader
from reconciler.adapters.git_verify import Keys, Verdict, Verifier, read_keys
from reconciler.model.canonical import Json, digest
from reconciler.model.codec import timestamp
from reconciler.model.errors import GuardRefused, ReconcilerError, Refused, Unavailable
from reconciler.model.resource import FileFact
from reconciler.model.revision import Revision
from reconciler.model.standing import Standing
from reconciler.model.status import Truth
from reconciler.ports import Clock, Entropy, Ledger

# After a remote did not answer, passes over other things do not each wait for it again.
PAUSE = timedelta(seconds=15)
# The share of the poll interval by which each wait is longer or shorter, so that many daemons do not ask at once.
JITTER = 0.2
PIN = "source/pin"


@dataclass(frozen=True, slots=True)
class Policy:
    """What is followed and what may come into force. `poll` in seconds."""

    target: Target
    path: str = ""
    poll: float = 60.0
    allow_rewind: bool = False
    keys: Keys = field(default_factory=Keys)


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the remote found; `fault` when it could not be asked, and then only what is here was judged."""

    object: str = ""
    commit: str = ""
    verdict: Verdict | None = None
    rewound: bool = False
    fault: str = ""
    hint: str = ""
    refused: ReconcilerError | None = None


def admit(look: Look, good: str, policy: Policy) -> tuple[bool, Truth, str, str]:
    """Whether the head of a look comes into force, and what is to be said of it: (admitted, verified, reason, message)."""
    if look.refused is not None:
        return False, Truth.FALSE, "Unreadable", look.refused.message
    if look.verdict is None or not look.commit:
        return False, Truth.UNKNOWN, "Unreachable", look.fault
    if not look.verdict.ok:
        return False, Truth.FALSE, look.verdict.reason, look.verdict.message
    if look.rewound and good != look.commit and not policy.allow_rewind:
        message = f"{look.commit[:12]} does not descend from {good[:12]}, which is in force: the history was rewritten"
        return False, Truth.FALSE, "Rewound", message
    truth = Truth.TRUE if policy.keys else Truth.UNKNOWN
    return True, truth, look.verdict.reason, look.verdict.message


class GitSource:
    """The Source port over a mirror. In the ledger: `source/good/<what is followed>`, and `source/pin` by the verb pin."""

    def __init__(
        self, mirror: Mirror, policy: Policy, ledger: Ledger, blobs: BlobDirectory, clock: Clock, entropy: Entropy
    ) -> None:
        self.mirror, self.policy = mirror, policy
        self._ledger, self._clock, self._entropy = ledger, clock, entropy
        self._reader = CommitReader(mirror, policy.path, blobs)
        self._verifier = Verifier(mirror, policy.keys)
        followed = [mirror.remote.url, policy.target.kind, policy.target.name]
        self._name = f"source/good/{digest(followed)[:16]}"
        self._good = self._object = ""
        self._asked = False
        self._pause: datetime | None = None
        self._standing = Standing()
        self._error: ReconcilerError | None = None
        self._turn = asyncio.Lock()
        self._nudged = asyncio.Event()

    # --- the port ----------------------------------------------------------------------------------

    def current(self) -> Revision:
        """The revision in force; GuardRefused while none was ever verified, Unavailable while none was ever fetched."""
        here = self._in_force()
        return Revision(self.named(here), self._reader.texts(here), self.mirror.directory)

    def facts(self, pattern: str) -> Sequence[FileFact]:
        """Content files of the revision in force."""
        return self._reader.facts(self._in_force(), pattern)

    def locate(self, path: str, sha256: str) -> Path:
        """Our own copy of a content file."""
        return self._reader.locate(self._in_force(), path, sha256)

    async def refresh(self) -> None:
        """Ask the remote for news, and let into force what may come into force. What it cannot do, the standing says."""
        async with self._turn:
            if self._pause is not None and self._clock.now() < self._pause:
                return
            good, pin = self._known()
            asking = asyncio.ensure_future(asyncio.to_thread(self._look, good, pin))
            try:
                found = await asyncio.shield(asking)
            except asyncio.CancelledError:
                self.mirror.interrupt()
                await asyncio.wait({asking})
                raise
            self._settle(found)

    def standing(self) -> Standing:
        """How it stood at the last look."""
        return self._standing

    async def revisions(self) -> AsyncIterator[None]:
        """A hint when the remote names another commit than at the last look, or begins or ceases to answer."""
        while True:
            await self._wait()
            before = self._standing
            if before.pinned or self.policy.target.kind == "commit":
                continue
            try:
                head = await asyncio.to_thread(self.mirror.ask, self.policy.target)
            except ReconcilerError:
                if not before.fault:
                    yield None
                continue
            self._pause = None
            if before.fault or head != self._object:
                yield None

    def nudge(self) -> None:
        """Somebody says there is news: ask now instead of at the next poll. A hint, harmless to repeat."""
        self._pause = None
        self._nudged.set()

    # --- more than the port --------------------------------------------------------------------------

    def named(self, commit: str) -> str:
        """The id of a revision."""
        return f"{self.policy.target.label}@{commit}"

    def commit(self, revision: str) -> tuple[str, Verdict]:
        """The commit that a person means, fetched and judged. Refused when the repository has no such revision."""
        text = revision.rpartition("@")[2] or revision
        # What was fetched before may do while the remote is silent.
        with contextlib.suppress(Unavailable):
            self.mirror.fetch_all()
        found = self.mirror.find(text)
        if found is None:
            hint = "name a branch, a tag or a commit that was pushed"
            raise Refused("git-revision", f"cannot find revision {revision!r} in {self.mirror.remote.url}", hint=hint)
        return found, self._verifier.judge(found, found)

    def at(self, commit: str, revision: str) -> FixedSource:
        """The source as it would be at another commit, which a person called `revision`."""
        said = revision.rpartition("@")[2] or revision
        label = "commit" if commit.startswith(said) else revision
        return FixedSource(self._reader, commit, f"{label}@{commit}", self.mirror.directory)

    # --- looking -------------------------------------------------------------------------------------

    def _known(self) -> tuple[str, str]:
        """(commit in force, commit that is pinned) as the ledger has them."""
        with self._ledger.begin() as tx:
            good, pin = tx.get(self._name) or {}, tx.get(PIN) or {}
        return str(good.get("commit", "")), str(pin.get("commit", ""))

    def _look(self, good: str, pin: str) -> Look:
        """Ask, fetch, verify. Raises nothing: whatever goes wrong is part of what was found."""
        target = Target("commit", pin) if pin else self.policy.target
        found = self._judged(target, good, pin)
        if found.refused is not None and found.refused.code == "git-damaged":
            # A disk forgot some of it. What is in force is named in the ledger, so a new mirror is as good as the old one.
            self.mirror.discard()
            found = self._judged(target, good, pin)
        return found

    def _judged(self, target: Target, good: str, pin: str) -> Look:
        fault = hint = ""
        try:
            head = self._bring(target, good)
        except ReconcilerError as error:
            fault, hint = error.message, error.hint or ""
            head = self._remembered(target, good)
        if not head:
            return Look(fault=fault, hint=hint)
        try:
            commit = self.mirror.commit_of(head)
            verdict = self._verifier.judge(head, commit)
            rewound = bool(good) and not pin and commit != good and not self.mirror.descends(good, commit)
            # Whole or not at all: every file of the head must be there before it can be in force.
            self._reader.entries(commit)
        except ReconcilerError as error:
            return Look(head, fault=fault, hint=hint, refused=error)
        return Look(head, commit, verdict, rewound, fault, hint)

    def _bring(self, target: Target, good: str) -> str:
        """The head of the remote, with everything that it and the revision in force need."""
        if target.kind == "commit":
            if not self.mirror.has(target.name):
                self.mirror.fetch(target)
            return target.name
        head = self.mirror.ask(target)
        if not self.mirror.has(head):
            head = self.mirror.fetch(target)
        if good and not self.mirror.has(good):
            # A new mirror of a remote whose branch has moved away from what is in force, which may be gone there, too.
            with contextlib.suppress(ReconcilerError):
                self.mirror.fetch(Target("commit", good))
        return head

    def _remembered(self, target: Target, good: str) -> str:
        """What to go on with while the remote is silent: the pin, else what is in force, if it is here."""
        for one in (target.name if target.kind == "commit" else "", good):
            if one and self.mirror.has(one):
                return one
        return ""

    def _settle(self, look: Look) -> None:
        """Write down what is in force from now on, and what is to be said."""
        self._asked = True
        good, pin = self._known()
        admitted, verified, reason, message = admit(look, good, self.policy)
        self._pause = self._clock.now() + PAUSE if look.fault else None
        self._good, self._object = good, look.object
        if admitted and (pin or not look.fault):
            self._good = look.commit
            if not pin and look.commit != good:
                self._write(look, good)
        self._error = None if self._good else self._refusal(look, message)
        here = self.named(self._good) if self._good else ""
        seen = self.named(look.commit or look.object) if look.object and not look.fault else self._standing.head
        self._standing = Standing(here, seen or here, verified, reason, message, look.fault, pin)

    def _write(self, look: Look, before: str) -> None:
        now = timestamp(self._clock.now())
        signer = look.verdict.signer if look.verdict else ""
        with self._ledger.begin() as tx:
            value: Mapping[str, Json] = {
                "commit": look.commit,
                "object": look.object,
                "signer": signer,
                "at": now,
                "before": before,
            }
            tx.put(self._name, value)
        self.mirror.keep(look.commit)

    def _refusal(self, look: Look, message: str) -> ReconcilerError:
        if look.fault:
            return Unavailable("git-nothing", look.fault, hint=look.hint or "it will be tried again")
        if look.refused is not None:
            return look.refused
        told = f"cannot use {self.mirror.remote.url}: no revision of it was ever verified ({message})"
        return GuardRefused(
            "unsigned", told, hint="sign the head with a key of source.git.verify, or add the key of whoever signed it"
        )

    def _in_force(self) -> str:
        """The commit in force; looked for now if nobody has looked yet, as when a saved plan is carried out."""
        if not self._asked:
            self._settle(self._look(*self._known()))
        if not self._good:
            raise self._error or Unavailable("git-nothing", "cannot read the source: nothing was fetched yet")
        return self._good

    async def _wait(self) -> None:
        """Until the next poll, give or take, or until somebody nudges."""
        share = int.from_bytes(self._entropy.bytes(2), "big") / 65535 * 2 - 1
        nap = asyncio.ensure_future(self._clock.sleep(self.policy.poll * (1 + JITTER * share)))
        told = asyncio.ensure_future(self._nudged.wait())
        try:
            await asyncio.wait({nap, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._nudged.clear()
            for one in (nap, told):
                one.cancel()
            await asyncio.gather(nap, told, return_exceptions=True)


def follow(
    said: Mapping[str, Json], root: Path, state: Path, ledger: Ledger, blobs: BlobDirectory, clock: Clock, entropy: Entropy
) -> GitSource:
    """The source that `source.git` of the settings describes; mirrors stand below `state`. Refused: it makes no sense."""
    credentials, verify = said["credentials"], said["verify"]
    mirror = Mirror(state / "git", remote(said["url"]), credentials, root, int(said["maxSize"]))
    kind = next((kind for kind in ("commit", "tag", "branch") if kind in said), "branch")
    policy = Policy(
        target=Target(kind, str(said.get(kind, "main"))),
        path=said["path"],
        poll=said["poll"] / 1000,
        allow_rewind=bool(said["allowRewind"]),
        keys=read_keys(verify["ssh"], verify["gpg"], verify["revoked"], root),
    )
    return GitSource(mirror, policy, ledger, blobs, clock, entropy)


class FixedSource:
    """One commit as a source: what `plan --rev` reads."""

    def __init__(self, reader: CommitReader, commit: str, name: str, root: Path) -> None:
        self._reader, self._commit, self._name, self._root = reader, commit, name, root

    def current(self) -> Revision:
        """That commit."""
        return Revision(self._name, self._reader.texts(self._commit), self._root)

    def facts(self, pattern: str) -> Sequence[FileFact]:
        """Its content files."""
        return self._reader.facts(self._commit, pattern)

    def locate(self, path: str, sha256: str) -> Path:
        """Our own copy of one of them."""
        return self._reader.locate(self._commit, path, sha256)

    async def refresh(self) -> None:
        """Nothing: a commit never changes."""

    def standing(self) -> Standing:
        """It is what it is."""
        return Standing(self._name, self._name)

    async def revisions(self) -> AsyncIterator[None]:
        """Never anything."""
        nothing: tuple[None, ...] = ()
        for never in nothing:
            yield never
