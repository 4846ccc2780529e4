"""`rollback`: publish again what an earlier revision, or plan, asked for, as the next version, for its price."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli import apply, exits, output, planning


def bind(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(rollback)


def rollback(
    revision: Annotated[
        str | None, typer.Argument(metavar="[REV]", help="A revision that was applied before, as history -o json has it.")
    ] = None,
    to_plan: Annotated[
        str | None,
        typer.Option("--to-plan", metavar="ID", help="What stood when this plan had been applied, instead of a revision."),
    ] = None,
    yes: apply.Yes = False,
    approve: apply.Approve = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    target: planning.Targets = None,
    exclude: planning.Excluded = None,
    max_spend: planning.MaxSpend = None,
    wait: apply.Wait = "seen",
    form: apply.Form = "text",
) -> int:
    """Go back to what an earlier revision, or plan, asked for: planned, priced, guarded and asked about like every apply.

    The manifests stay as they are, so edit them too, or pin the revision: the next apply, and the daemon, follow the manifests.
    """
    if (revision is None) == (to_plan is None):
        raise typer.BadParameter("say to what: a revision, or --to-plan ID")
    wish = planning.Wish(
        targets=planning.listed(target),
        exclude=planning.listed(exclude),
        max_spend=max_spend,
        approved=frozenset(planning.listed(approve)),
        rollback=revision,
        to_plan=to_plan,
    )
    if dry_run:
        return _shown(wish)
    code = apply.execute(apply.Order(wish, None, None, yes, None, wait, 600.0, form, apply.ask), None)
    if code == exits.OK:
        output.say("the manifests say what they said before: edit them too, or the next apply goes forward again")
    return code


def _shown(wish: planning.Wish) -> int:
    import asyncio

    async def main() -> int:
        async with planning.opened(wish) as space:
            prepared = await planning.prepare(space, wish)
            planning.tell_plan(prepared, "text", "")
            return planning.verdict(prepared.plan, detailed=False)

    return asyncio.run(main())
