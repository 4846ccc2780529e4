"""`budget` shows and sets what may be spent; `cost` says what was."""

from __future__ import annotations

import getpass
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import exits, output
from reconciler.cli.context import GLOBALS, with_workspace

if TYPE_CHECKING:
    from datetime import datetime

    from reconciler.compose import Workspace
    from reconciler.engine.budget import Override
    from reconciler.model.booking import Booking
    from reconciler.planner.guard import Limits

Form = Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How the answer is written.")]
By = Annotated[Literal["kind", "resource", "day"], typer.Option("--by", help="What to sum up by.")]
# The word that takes an override back.
DEFAULT = "default"
# What the purse pays to split its own coins belongs to no resource.
_PURSE = "purse"


def bind(app: typer.Typer) -> None:
    """Add the verbs."""
    family = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What may be spent: limits, set aside, spent, left.")
    family.command("show")(show)
    family.command("set")(_set)
    app.add_typer(family, name="budget")
    app.command()(cost)


def show(form: Form = "text") -> int:
    """Show every budget: its limit and where that is from, what open runs have set aside, what was spent today, what is left."""

    async def work(space: Workspace) -> dict[str, Any]:
        from reconciler.engine.budget import effective, overrides, renewal

        now = space.ports.clock.now()
        with space.ports.ledger.begin() as tx:
            limits, set_by = effective(space.settings.limits, tx, now), overrides(tx)
            live = {name: one for name, one in set_by.items() if one.live(now)}
            return {"renews": _moment(renewal(now)), "budgets": _rows(tx, limits, live, now)}

    facts = with_workspace(work)
    if form == "json":
        output.document(facts)
        return exits.OK
    header = ("BUDGET", "LIMIT", "RESERVED", "SPENT", "LEFT", "FROM")
    rows = [
        (row["name"], *(_sats(row[part]) for part in ("limit", "reserved", "spent", "left")), _said(row))
        for row in facts["budgets"]
    ]
    output.data(output.table(rows, header, output.style_for(sys.stdout, GLOBALS.colour)))
    output.say(f"budgets of a day renew at {facts['renews']}")
    return exits.OK


def _rows(tx: Any, limits: Limits, live: Mapping[str, Override], now: datetime) -> list[dict[str, Any]]:
    from reconciler.engine.budget import DAY, RUN
    from reconciler.engine.survey import midnight

    since = midnight(now)
    kinds = {one.ref.kind for one in tx.bookings(since) if one.ref is not None} | limits.spend_kinds.keys()
    rows = [{"name": RUN, "limit": limits.spend_run, "reserved": None, "spent": None, "left": None}]
    for name, kind, limit in [(DAY, "", limits.spend_day), *((k, k, limits.spend_kinds.get(k)) for k in sorted(kinds))]:
        spent, reserved = tx.spent_since(since, kind), tx.reserved(kind)
        left = None if limit is None else limit - spent - reserved
        rows.append({"name": name, "limit": limit, "reserved": reserved, "spent": spent, "left": left})
    for row in rows:
        one = live.get(str(row["name"]))
        row["from"] = "override" if one else None if row["limit"] is None else "settings"
        if one is not None:
            until = _moment(one.until) if one.until else None
            row |= {"by": one.by, "reason": one.reason, "at": _moment(one.at), "until": until}
    return rows


def _said(row: Mapping[str, Any]) -> str:
    if row["from"] != "override":
        return row["from"] or "-"
    until = f" until {row['until']}" if row["until"] else ""
    return f"{row['by']}{until}" + (f', "{row["reason"]}"' if row["reason"] else "")


def _set(
    name: Annotated[str, typer.Argument(metavar="NAME", help="run, day, or a kind: what it may cost in a day.")],
    satoshis: Annotated[str, typer.Argument(metavar="SATS", help=f"The limit; {DEFAULT} goes back to the settings.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it stays with the budget and in the history.")] = "",
    duration: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="How long it holds; until it is taken back if omitted.")
    ] = None,
) -> int:
    """Set a budget over the one in the settings, in the ledger: for this command, every other and the daemon, from now on."""
    from reconciler.manifest import units

    try:
        amount = None if satoshis == DEFAULT else units.satoshis(satoshis)
        lasting = None if duration is None else timedelta(milliseconds=units.duration(duration))
    except units.UnitError as error:
        raise typer.BadParameter(str(error)) from error
    _known(name)

    async def work(space: Workspace) -> Override | None:
        from reconciler.engine.budget import Override, effective, put_override

        now, by = space.ports.clock.now(), getpass.getuser()
        made = None if amount is None else Override(amount, by, reason, now, now + lasting if lasting else None)
        with space.ports.ledger.begin() as tx:
            standing = effective(space.settings.limits, tx, now)
            put_override(tx, name, made, now, by)
            _bounded(name, standing, effective(space.settings.limits, tx, now))
        return made

    made = with_workspace(work)
    until = f" until {_moment(made.until)}" if made and made.until else ""
    output.say(f"budget {name}: {_sats(made.satoshis)}{until}" if made else f"budget {name}: as the settings say")
    return exits.OK


def _known(name: str) -> None:
    from reconciler.engine.budget import DAY, RUN
    from reconciler.manifest.schema import packaged

    if name not in (RUN, DAY, *packaged()):
        raise typer.BadParameter(f"there is no budget {name!r}; there are run, day and the kinds {', '.join(packaged())}")


def _bounded(name: str, before: Limits, after: Limits) -> None:
    """GuardRefused when a budget that only signatures may exceed would be widened by a word."""
    from reconciler.engine.budget import DAY, RUN
    from reconciler.model.errors import GuardRefused
    from reconciler.planner.guard import SPEND_DAY, SPEND_KIND, SPEND_RUN, by_signature

    guard = {RUN: SPEND_RUN, DAY: SPEND_DAY}.get(name, SPEND_KIND + name)
    was, now = (
        {RUN: limits.spend_run, DAY: limits.spend_day}.get(name, limits.spend_kinds.get(name)) for limits in (before, after)
    )
    if by_signature(guard, after) and was is not None and (now is None or now > was):
        message = f"cannot widen budget {name}: guard {guard} passes by signature only (approvals.guards)"
        raise GuardRefused(guard, message, hint="sign the plan that needs it: reconciler approve PLANFILE --guard " + guard)


# --- what it cost -----------------------------------------------------------------------------------


def cost(
    since: Annotated[str, typer.Option("--since", metavar="DURATION", help="How far back.")] = "30d",
    by: By = "kind",
    form: Form = "text",
) -> int:
    """Say what was spent: fees, storage, and value locked in tokens less what came back out of them."""
    from reconciler.manifest import units

    try:
        span = timedelta(milliseconds=units.duration(since))
    except units.UnitError as error:
        raise typer.BadParameter(f"--since: {error}") from error

    async def work(space: Workspace) -> tuple[datetime, Sequence[Booking]]:
        begin = space.ports.clock.now() - span
        with space.ports.ledger.begin() as tx:
            return begin, tx.bookings(begin)

    begin, bookings = with_workspace(work)
    rows = _summed(bookings, _BY[by])
    total = _sum(bookings)
    if form == "json":
        output.document(
            {"since": _moment(begin), "by": by, "rows": [{by: name, **sums} for name, sums in rows.items()], "total": total}
        )
        return exits.OK
    if not rows:
        output.say(f"nothing was spent since {_moment(begin)}")
        return exits.OK
    header = (by.upper(), "RUNS", "FEES", "STORAGE", "LOCKED", "SATOSHIS")
    parts = ("runs", "fees", "payments", "locked", "satoshis")
    table = [(name, *(_sats(sums[part]) for part in parts)) for name, sums in [*rows.items(), ("total", total)]]
    output.data(output.table(table, header, output.style_for(sys.stdout, GLOBALS.colour)))
    return exits.OK


def _kind(one: Booking) -> str:
    return one.ref.kind if one.ref else _PURSE


def _resource(one: Booking) -> str:
    return str(one.ref or _PURSE)


def _day(one: Booking) -> str:
    return one.moment.strftime("%Y-%m-%d")


_BY: Mapping[str, Callable[[Booking], str]] = {"kind": _kind, "resource": _resource, "day": _day}


def _summed(bookings: Sequence[Booking], by: Callable[[Booking], str]) -> dict[str, dict[str, int]]:
    groups: dict[str, list[Booking]] = defaultdict(list)
    for one in bookings:
        groups[by(one)].append(one)
    return {name: _sum(groups[name]) for name in sorted(groups)}


def _sum(bookings: Sequence[Booking]) -> dict[str, int]:
    return {
        "runs": len(bookings),
        "fees": sum(one.fees for one in bookings),
        "payments": sum(one.payments for one in bookings),
        "locked": sum(one.locked for one in bookings),
        "satoshis": sum(one.satoshis for one in bookings),
    }


def _sats(amount: int | None) -> str:
    from reconciler.planner.phrases import grouped

    return "-" if amount is None else grouped(amount)


def _moment(at: datetime) -> str:
    from reconciler.model.codec import timestamp

    return timestamp(at.replace(microsecond=0))
