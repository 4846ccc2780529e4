"""`state`: the ledger itself. What is in it, copies of it, and how it is made again when it is lost."""

from __future__ import annotations

import getpass
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import exits, lifecycle, locks, output
from reconciler.cli.context import settings, with_workspace

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.engine.readonly import Foreign
    from reconciler.engine.rebuild import Find, Purse
    from reconciler.model.ref import ResourceRef
    from reconciler.settings import Settings

Form = Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How it is written.")]


def bind(app: typer.Typer) -> None:
    """Add the verbs."""
    family = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        help="The ledger: list, show, rename, back up, restore, rebuild when it is lost.",
    )
    family.command("list")(list_)
    family.command("mv")(move)
    for verb in (show, backup, restore, rebuild):
        family.command()(verb)
    locks.bind(family)
    app.add_typer(family, name="state")


# --- what is in it -----------------------------------------------------------------------------------


def list_(
    select: Annotated[list[str] | None, typer.Argument(metavar="[SEL]...", help="Kind, Kind/name or Kind/glob*.")] = None,
    form: Form = "text",
) -> int:
    """List what is recorded, one name on a line."""
    from reconciler.cli.books import read

    records = with_workspace(read).chosen(select)
    if form == "json":
        output.document(
            [{"ref": str(r.ref), "uid": r.uid, "generation": r.generation, "protected": r.protected} for r in records]
        )
    else:
        for record in records:
            output.data(str(record.ref))
    return exits.OK


def show(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Kind/name.")],
    shape: Annotated[Literal["yaml", "json"], typer.Option("-o", "--output", help="How it is written.")] = "yaml",
) -> int:
    """Show one record whole, as the ledger keeps it; secrets are replaced by digests."""
    from reconciler.model.codec import encode
    from reconciler.model.ref import ResourceRef
    from reconciler.planner.diff import redact

    ref = ResourceRef.parse(key)

    async def work(space: Workspace) -> Any:
        from reconciler.engine.pause import require

        with space.ports.ledger.begin() as tx:
            return redact(encode(require(tx, ref)))

    output.document(with_workspace(work), shape)
    return exits.OK


def move(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Kind/name as it is recorded.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Kind/name as it is to be.")],
) -> int:
    """Record a resource under another name, which its manifest must have already. Free: what was published stays as it is.

    Where the name is part of what is published, the next plan publishes a version under the new one, for its price.
    """
    from reconciler.model.ref import ResourceRef

    here, there = ResourceRef.parse(old), ResourceRef.parse(new)

    async def work(space: Workspace) -> None:
        from reconciler.engine.moving import move
        from reconciler.engine.readonly import require_writable

        _require_renamed(space, here, there)
        now = space.ports.clock.now()
        async with space.runner.lease(f"ref/{here}") as lease, space.runner.lease(f"ref/{there}"):
            known = space.ports.ledger.read(now).records
            with space.ports.ledger.begin() as tx:
                require_writable(tx)
                tx.check_fence(lease.key, lease.fence)
                move(tx, known, here, there, space.runner.kinds, now, {"by": getpass.getuser()})

    with_workspace(work)
    output.say(f"{here} is recorded as {there}; reconciler plan shows whether that has to be published")
    return exits.OK


def _require_renamed(space: Workspace, old: ResourceRef, new: ResourceRef) -> None:
    """Refused while the manifests still declare the old name, or cannot be read: the next plan would undo the move for money."""
    from reconciler.model.errors import Refused

    loaded = space.surveyor.load()
    if loaded.desired is None:
        first = loaded.errors[0]
        raise Refused("bad-manifests", f"cannot move {old}: {first.at}: {first.message}", hint="reconciler validate")
    declared = loaded.desired.resources.get(old)
    if declared is not None:
        hint = f"name it {new.name} there first, with renamedFrom: {old.name} apply does the rest"
        raise Refused("still-declared", f"cannot move {old}: it is declared at {declared.at}", hint=hint)


# --- copies of it ------------------------------------------------------------------------------------


def backup(file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file; FILE.sha256 is written beside it.")]) -> int:
    """Copy the ledger to a file while everything goes on. No key is in it: back those up with reconciler identity backup."""
    from reconciler.adapters.sql.backup import backup as copy

    chosen = settings()

    async def work(space: Workspace) -> int:
        return space.ports.ledger.read(space.ports.clock.now()).serial

    serial = with_workspace(work)
    digest = copy(chosen.database, file)
    output.say(f"{file}  serial {serial} or later, sha256 {digest}")
    return exits.OK


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What a copy is worth now: its serial, the coins that strangers spent, the chains that nobody could be asked about."""

    lineage: str
    serial: int
    foreign: tuple[Foreign, ...]
    untold: tuple[str, ...]


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A copy made by state backup, with its FILE.sha256.", exists=True)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also a copy that is behind, or of which nobody can tell.")] = False,
) -> int:
    """Put a copy in the place of the ledger, if its coins are all still there; the one it replaces is kept beside it.

    A copy that is behind has forgotten what was paid for since, and is refused: state rebuild asks the network instead.
    """
    from reconciler.adapters.sql import backup as copies

    chosen = settings()
    copies.require_whole(file)
    verdict = _judged(chosen, file)
    held = _refusal(verdict)
    if held and not force:
        output.fail(
            f"cannot restore {file}: {held}", "reconciler state rebuild makes a ledger from the network; --force restores it"
        )
        return exits.ATTENTION
    now = with_workspace(_at_rest)
    if not yes:
        if not sys.stdin.isatty():
            output.fail("cannot ask: standard input is not a terminal", "add --yes; nothing was done")
            return exits.USAGE
        typer.confirm(f"Replace the ledger at serial {now[1]} by the copy at serial {verdict.serial}?", err=True, abort=True)
    kept = copies.put_back(file, chosen.database, f"ledger.before-{now[2]}.db")
    output.say(f"restored serial {verdict.serial}" + (f"; the ledger it replaced is {kept}" if kept else ""))
    if held:
        output.say(f"warning: {held}")
    return exits.OK


async def _at_rest(space: Workspace) -> tuple[str, int, str]:
    """(lineage, serial, a word for now) of the ledger in place; Locked while anybody works on it."""
    from reconciler.model.errors import Locked

    now = space.ports.clock.now()
    holders = [lease.owner for lease in space.ports.queue.holders(now)]
    if holders:
        raise Locked("locked", f"cannot replace the ledger: {holders[0]} works on it", hint="stop the daemon first")
    recorded = space.ports.ledger.read(now)
    return recorded.lineage, recorded.serial, f"{now:%Y%m%dT%H%M%SZ}"


def _judged(chosen: Settings, file: Path) -> _Verdict:
    """Open a copy of the copy, and hold its coins against the chain."""
    import asyncio

    from reconciler.adapters.sql.backup import copy

    async def main(state: Path) -> _Verdict:
        from reconciler.compose import workspace
        from reconciler.engine.handlers import chain_nets
        from reconciler.engine.stale import agrees

        async with workspace(replace(chosen, state=str(state))) as space:
            recorded = space.ports.ledger.read(space.ports.clock.now())
            foreign: list[Foreign] = []
            untold: list[str] = []
            for chain, net in sorted(chain_nets(recorded).items()):
                found = await agrees(space.ports, chain, net.headers)
                foreign += found or ()
                untold += [chain] if found is None else []
            return _Verdict(recorded.lineage, recorded.serial, tuple(foreign), tuple(untold))

    with tempfile.TemporaryDirectory(prefix="restoring-", dir=chosen.state_dir.parent) as directory:
        copy(file, Path(directory) / "ledger.db")
        return asyncio.run(main(Path(directory)))


def _refusal(verdict: _Verdict) -> str:
    """Why a copy should not become the ledger; empty when all its coins are there."""
    if verdict.foreign:
        one = verdict.foreign[0]
        more = f" and {len(verdict.foreign) - 1} more" if len(verdict.foreign) > 1 else ""
        return f"it is behind: coin {one.outpoint}{more} was spent by {one.txid}, which it does not know"
    if verdict.untold:
        return f"no header source can tell whether its coins on {', '.join(verdict.untold)} are there still"
    return ""


# --- making it again ---------------------------------------------------------------------------------


def rebuild(form: Form = "text") -> int:
    """Make a lost ledger again from manifests, keys and the network: what is ours is recorded. Nothing is signed or spent.

    What was published under a manifest that has changed since is recorded as it was, and the next plan shows the difference.
    Budgets, costs and history of before are gone with the ledger.
    """

    async def work(space: Workspace) -> tuple[tuple[Find, ...], Purse]:
        from reconciler.engine.rebuild import adopt, find_coins

        survey = await space.surveyor.survey()
        by = getpass.getuser()
        found = await adopt(space.runner, survey, by)
        return found, await find_coins(space.ports, survey, by)

    found, purse = with_workspace(work)
    whole = not purse.unknown and all(one.what == "adopted" for one in found)
    if form == "json":
        output.document(
            {
                "resources": [{"ref": str(one.ref), "what": one.what, "detail": one.detail} for one in found],
                "coins": [{"outpoint": str(coin.outpoint), "satoshis": coin.satoshis} for coin in purse.coins],
                "unknown": list(purse.unknown),
            }
        )
        return exits.OK if whole else exits.PARTIAL
    lifecycle.tell(found)
    count, worth = len(purse.coins), sum(coin.satoshis for coin in purse.coins)
    output.say(f"{count} {'coin' if count == 1 else 'coins'} found, {worth} sat; nothing was spent. Next: reconciler plan")
    for told in purse.unknown:
        output.fail(f"cannot find all the money: {told}")
    return exits.OK if whole else exits.PARTIAL
