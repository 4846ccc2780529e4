"""`history` and `events`: what was done and noted, when, and what it cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Never

import typer

from reconciler.cli import exits, output
from reconciler.cli.context import with_workspace

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.model.ref import ResourceRef
    from reconciler.ports import Clock, Ledger, LedgerTransaction

# Seconds between two looks of --follow; the ledger is local, so a look is cheap.
LOOK_EVERY = 1.0
Limit = Annotated[int, typer.Option("-n", "--limit", min=1, max=100_000, help="At most so many, newest last.")]
Form = Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How it is written.")]


# What somebody did or decided, out of everything that is noted.
_DONE = {
    "change.applied", "run.stalled", "run.resolved", "plan.approved", "budget.set", "budget.unset", "coins.written_off",
    "coins.found", "resource.adopted", "resource.moved", "resource.forgotten", "resource.protected", "resource.unprotected",
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
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Stay, and show what is noted from now on; json is a line for each then.")
    ] = False,
    form: Form = "text",
) -> int:
    """Show everything that was noted in the ledger; oldest first."""
    if not follow:
        return _told(key, limit, form, None)
    from reconciler.model.ref import ResourceRef

    ref = ResourceRef.parse(key) if key else None

    def tell(one: Mapping[str, Any]) -> None:
        output.data(json.dumps(one, ensure_ascii=False) if form == "json" else _line(one))

    try:
        return with_workspace(lambda space: followed(space.ports.ledger, space.ports.clock, ref, limit, tell))
    except KeyboardInterrupt:
        return exits.INTERRUPTED


async def followed(
    ledger: Ledger, clock: Clock, ref: ResourceRef | None, limit: int, tell: Callable[[Mapping[str, Any]], None]
) -> Never:
    """Tell the newest `limit` entries, then every later one within a look of when it was noted, in order and once. Never ends."""
    seen: int | None = None
    while True:
        with ledger.begin() as tx:
            found = _after(tx, ref, seen, limit)
        for one in reversed(found):
            tell(one)
        seen = found[0]["seq"] if found else seen or 0
        await clock.sleep(LOOK_EVERY)


def _after(tx: LedgerTransaction, ref: ResourceRef | None, seen: int | None, limit: int) -> list[Mapping[str, Any]]:
    """What was noted after entry `seen`, newest first and however much it is; the newest `limit` when nothing was seen yet."""
    while True:
        found = tx.history(ref, limit)
        fresh = [one for one in found if seen is None or one["seq"] > seen]
        if seen is None or len(fresh) < limit:
            return fresh
        limit *= 2


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
        output.data(_line(one))
    if not found:
        output.say("nothing was noted yet")
    return exits.OK


def _line(one: Mapping[str, Any]) -> str:
    """One entry on one line."""
    return f"{one['at'][:19]}Z  {one['ref'] or '-':<28} {event(one).split('  ', 1)[1]}"


def event(one: Mapping[str, Any]) -> str:
    """One entry on one line, without the resource it is about."""
    detail = one["detail"]
    # Which plan a change belongs to is a matter for scripts; of a line about plans it is the point.
    names = ("budget", "plan", "reason", "error") if one["event"].startswith("plan.") else ("verb", "budget", "reason", "error")
    told = " ".join(str(detail[name]) for name in names if detail.get(name))
    if detail.get("from") and one["event"] == "resource.moved":
        told += f"from {detail['from']}"
    if by := detail.get("by"):
        told += " by " + (by if isinstance(by, str) else ", ".join(one["name"] for one in by))
    paid = f"  {detail['satoshis']} sat" if detail.get("satoshis") else ""
    sent = "".join(f"  {txid[:8]}…" for txid in detail.get("txids") or ())
    return f"{one['at'][:19]}Z  {one['event']:<16} {told}{sent}{paid}"
