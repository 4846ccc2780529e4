"""`state lock`: who works on what now, and how to end what a process holds that is gone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from reconciler.cli import exits, output
from reconciler.cli.context import with_workspace

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.ports import Lease


def bind(family: typer.Typer) -> None:
    """Add `lock` and its verbs."""
    lock = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Who works on what now.")
    lock.command()(show)
    lock.command("break")(break_)
    family.add_typer(lock, name="lock")


def show(
    form: Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How it is written.")] = "text",
) -> int:
    """List what is being worked on: by which process, and until when unless it says that it goes on."""
    from reconciler.model.codec import timestamp

    found, now = with_workspace(_held)
    rows = [
        {"key": one.key, "owner": one.owner, "process": process(one.owner), "lease": one.fence, "until": timestamp(one.until)}
        for one in found
    ]
    if form == "json":
        output.document(rows)
    elif rows:
        left = [f"{max(0, int((one.until - now).total_seconds()))}s" for one in found]
        cells = [(one.key, one.owner, process(one.owner), str(one.fence), more) for one, more in zip(found, left, strict=True)]
        output.data(output.table(cells, ("KEY", "OWNER", "PROCESS", "LEASE", "LEFT")))
    else:
        output.say("nobody works on anything")
    return exits.OK


def break_(
    name: Annotated[str, typer.Argument(metavar="KEY|OWNER", help="What is locked, or who holds it, as `lock show` names them.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> int:
    """End everything that the process holds that holds this. Nothing it still wrote afterwards would be taken from it.

    Of this machine a process that lives is refused: stop it. What ran elsewhere runs out by itself within a minute.
    """
    from reconciler.compose import WORK
    from reconciler.model.errors import Locked, Refused

    async def work(space: Workspace) -> tuple[str, Sequence[str]]:
        now = space.ports.clock.now()
        held = space.ports.queue.holders(now)
        owner = next((one.owner for one in held if name in (one.key, one.owner)), None)
        if owner is None:
            raise Refused("no-lock", f"cannot break {name}: nobody holds it", hint="see: reconciler state lock show")
        if process(owner) == "lives":
            raise Locked("locked", f"cannot break {name}: its process {owner} lives on this machine", hint="stop that process")
        keys = [one.key for one in held if one.owner == owner]
        if not yes and not _asked(owner, keys):
            return owner, ()
        space.ports.queue.forsake(owner, now, WORK)
        return owner, keys

    owner, keys = with_workspace(work)
    output.say(f"{owner} holds nothing any more: {', '.join(keys)}" if keys else "nothing was done")
    return exits.OK if keys else exits.ERROR


def process(owner: str) -> str:
    """Whether the process of a lease lives: lives, gone, or elsewhere, of which nothing can be known."""
    import socket

    from reconciler.adapters.process import is_dead

    if is_dead(owner):
        return "gone"
    return "lives" if owner.partition(":")[0] == socket.gethostname() else "elsewhere"


async def _held(space: Workspace) -> tuple[Sequence[Lease], datetime]:
    now = space.ports.clock.now()
    return space.ports.queue.holders(now), now


def _asked(owner: str, keys: Sequence[str]) -> bool:
    if not sys.stdin.isatty():
        raise typer.BadParameter("standard input is not a terminal to be asked on; add --yes")
    return typer.confirm(f"End what {owner} holds: {', '.join(keys)}?", err=True)
