"""`history` and `events`: what was done and noted, when, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import exits, output
from reconciler.cli.context import with_workspace

if TYPE_CHECKING:
    from reconciler.compose import Workspace

Limit = Annotated[int, typer.Option("-n", "--limit", min=1, max=100_000, help="At most so many, newest last.")]
Form = Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How it is written.")]


# What somebody did or decided, out of everything that is noted.
_DONE = {
    "change.applied", "run.stalled", "run.resolved", "plan.approved", "budget.set", "budget.unset", "coins.written_off",
    "coins.found", "resource.adopted", "resource.forgotten", "resource.protected", "resource.unprotected",
    "resource.suspended", "resource.resumed",
}  # fmt: skip


def bind(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(history)
    app.command()(events)


def history(
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Kind/name; everything if omitted.")] = None,
    limit: Limit = 100,
    form: Form = "text",
) -> int:
    """Show what was done, when, and what it cost; oldest first."""
    return _told(key, limit, form, _DONE)


def events(
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Kind/name; everything if omitted.")] = None,
    limit: Limit = 100,
    form: Form = "text",
) -> int:
    """Show everything that was noted in the ledger; oldest first."""
    return _told(key, limit, form, None)


def _told(key: str | None, limit: int, form: str, only: set[str] | None) -> int:
    from reconciler.model.ref import ResourceRef

    ref = ResourceRef.parse(key) if key else None

    async def work(space: Workspace) -> list[Mapping[str, Any]]:
        with space.ports.ledger.begin() as tx:
            return list(tx.history(ref, limit))

    found = [one for one in reversed(with_workspace(work)) if only is None or one["event"] in only]
    if form == "json":
        output.document(found)
        return exits.OK
    for one in found:
        output.data(f"{one['at'][:19]}Z  {one['ref'] or '-':<28} {event(one).split('  ', 1)[1]}")
    if not found:
        output.say("nothing was noted yet")
    return exits.OK


def event(one: Mapping[str, Any]) -> str:
    """One entry on one line, without the resource it is about."""
    detail = one["detail"]
    told = " ".join(str(detail[name]) for name in ("verb", "budget", "plan", "reason", "error") if detail.get(name))
    if by := detail.get("by"):
        told += " by " + (by if isinstance(by, str) else ", ".join(one["name"] for one in by))
    paid = f"  {detail['satoshis']} sat" if detail.get("satoshis") else ""
    sent = "".join(f"  {txid[:8]}…" for txid in detail.get("txids") or ())
    return f"{one['at'][:19]}Z  {one['event']:<16} {told}{sent}{paid}"
