"""Other revisions than the one in force: `plan --rev`, `plan --base`, and the verbs `pin` and `unpin`."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reconciler.cli import exits, output
from reconciler.cli.context import with_workspace

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.model.ref import ResourceRef
    from reconciler.model.resource import Resource
    from reconciler.ports import Source

Rev = Annotated[str | None, typer.Option("--rev", metavar="REV", help="Manifests of this branch, tag or commit.")]
Base = Annotated[
    str | None,
    typer.Option("--base", metavar="REV", help="Only what differs from this revision: what a change of manifests does."),
]
# The longest list of names that a line shows.
_NAMES = 20


def bind(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(pin)
    app.command()(unpin)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Which resources two revisions say differently."""

    base: str
    added: tuple[ResourceRef, ...]
    changed: tuple[ResourceRef, ...]
    removed: tuple[ResourceRef, ...]
    same: int

    @property
    def refs(self) -> frozenset[ResourceRef]:
        """All that differ."""
        return frozenset((*self.added, *self.changed, *self.removed))

    def line(self) -> str:
        """For the head of a plan."""
        from reconciler.engine.source import short

        counts = (
            (len(self.added), "added"),
            (len(self.changed), "changed"),
            (len(self.removed), "removed"),
            (self.same, "the same"),
        )
        return f"Base     {short(self.base)}   " + ", ".join(f"{count} {word}" for count, word in counts)

    def markdown(self, head: str) -> str:
        """For the comment under a proposed change."""
        from reconciler.engine.source import short

        lines = [f"Compared with `{short(self.base)}`, `{short(head)}` has:", ""]
        for word, refs in (("added", self.added), ("changed", self.changed), ("removed", self.removed)):
            if refs:
                names = ", ".join(f"`{ref}`" for ref in refs[:_NAMES]) + (" …" if len(refs) > _NAMES else "")
                lines.append(f"- {len(refs)} {word}: {names}")
        lines += ["- nothing that differs"] if not self.refs else []
        return "\n".join([*lines, "", f"{self.same} the same. What that does to what is published:", ""])


def source_at(space: Workspace, revision: str, *, verified: bool = False, base: bool = False) -> Source:
    """The manifests at a revision of the repository that is followed, or that the directory lies in.

    GuardRefused when it has to be `verified` and no key of the settings signed it; of a `base` nobody asks for a signature.
    """
    from reconciler.compose import revision_of

    found, told = revision_of(space, revision)
    if verified and told:
        from reconciler.model.errors import GuardRefused

        raise GuardRefused(
            "unsigned", f"cannot go on with {revision}: {told}", hint="have it signed by a key of source.git.verify"
        )
    if told and not base:
        output.say(f"{revision} could not come into force as it is: {told}")
    return found


def move(space: Workspace, revision: str, *, verified: bool = False) -> None:
    """Let the workspace plan by another revision."""
    space.surveyor.ports = replace(space.surveyor.ports, source=source_at(space, revision, verified=verified))


def compare(space: Workspace, base: str, wanted: Mapping[ResourceRef, Resource]) -> Comparison:
    """What differs between a base and the manifests that are wanted. Refused when the base has errors itself."""
    from reconciler.model.errors import Refused

    source = source_at(space, base, base=True)
    revision = source.current()
    loaded = space.surveyor.loader.load(revision.texts, source.facts, revision.id, space.settings.environment)
    if loaded.desired is None:
        first = loaded.errors[0]
        raise Refused("base-invalid", f"cannot compare with {base}: {first.at}: {first.message}", hint="choose another --base")
    before = loaded.desired.resources
    changed = tuple(ref for ref in sorted(before.keys() & wanted.keys()) if _body(before[ref]) != _body(wanted[ref]))
    added, removed = tuple(sorted(wanted.keys() - before.keys())), tuple(sorted(before.keys() - wanted.keys()))
    return Comparison(revision.id, added, changed, removed, len(wanted) - len(added) - len(changed))


def _body(resource: Resource) -> Any:
    """A resource without where it is written: moved is not changed."""
    return resource.spec, resource.requires, resource.lifecycle, resource.labels, resource.files


# --- pin and unpin -----------------------------------------------------------------------------------


def pin(
    revision: Annotated[str, typer.Argument(metavar="REV", help="A commit, a tag or a branch as it is now.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the ledger.")] = "",
) -> int:
    """Hold the source at one commit, whatever is pushed, until unpin. The commit must be one that could come into force."""

    async def work(space: Workspace) -> str:
        from reconciler.model.codec import timestamp

        _require_git(space)
        found = source_at(space, revision, verified=True).current().id.rpartition("@")[2]
        now = space.ports.clock.now()
        with space.ports.ledger.begin() as tx:
            tx.put("source/pin", {"commit": found, "by": getpass.getuser(), "at": timestamp(now), "reason": reason})
            tx.note(None, now, "source.pinned", {"revision": found, "by": getpass.getuser(), "reason": reason})
        space.ports.queue.put("plan", now)
        return found

    output.data(f"pinned to {with_workspace(work)}; reconciler unpin lets it go")
    return exits.OK


def unpin() -> int:
    """Follow what source.git names again."""

    async def work(space: Workspace) -> str:
        _require_git(space)
        now = space.ports.clock.now()
        with space.ports.ledger.begin() as tx:
            before = (tx.get("source/pin") or {}).get("commit") or ""
            tx.put("source/pin", {})
            if before:
                tx.note(None, now, "source.unpinned", {"revision": before, "by": getpass.getuser()})
        space.ports.queue.put("plan", now)
        return str(before)

    found = with_workspace(work)
    output.data(f"no longer pinned to {found}" if found else "nothing was pinned")
    return exits.OK


def _require_git(space: Workspace) -> None:
    if space.settings.git is None:
        from reconciler.model.errors import Refused

        raise Refused("no-git-source", "cannot pin a directory: it has no revisions", hint="follow a repository: source.git")
