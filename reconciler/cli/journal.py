"""`journal`: runs that are open or stalled, their intents, and what recovery will do with each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import exits, output, resolve
from reconciler.cli.context import with_workspace

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.model.intent import Intent, Run

Form = Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How it is written.")]
# What an effect whose fate is unknown means, and how it is settled.
_SETTLED = {
    "Generate": "make the key, or find it made",
    "Attest": "sign the document again; equal content gives equal bytes",
    "Sign": "nothing left yet: sign with the coins that are reserved",
    "Broadcast": "ask the broadcasters, then send the same bytes again; being known already is success",
    "Await": "ask for the block again",
    "Submit": "look the outputs up, then submit the same transaction again; free",
    "Retract": "submit the same transaction again to the hosts left behind; free, and nothing waits for them",
    "Store": "ask the host for the content by its hash; send and pay only what it does not hold",
    "Renew": "ask the host until when it keeps the copy; pay only if that has not moved",
    "Release": "ask the host again",
}


def bind(app: typer.Typer) -> None:
    """Add the verbs."""
    family = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What was begun and is not settled.")
    family.command("list")(list_)
    family.command()(show)
    family.command()(resolve.resolve)
    app.add_typer(family, name="journal")


def list_(
    every: Annotated[bool, typer.Option("--all", help="Finished runs, too.")] = False,
    form: Form = "text",
) -> int:
    """List open and stalled runs, and whatever else waits for a person."""

    async def work(space: Workspace) -> list[dict[str, Any]]:
        from reconciler.engine.demands import demands
        from reconciler.engine.readonly import behind
        from reconciler.model.intent import RunState

        with space.ports.ledger.begin() as tx:
            asked = demands(tx)
            runs = [run for run in tx.runs() if every or run.state is not RunState.DONE or run.id in asked]
            found = [_facts(run, list(tx.intents(run.id))) for run in runs]
            for one in found:
                one["attention"] = asked[one["run"]].message if one["run"] in asked else None
            return found + resolve.purses(behind(tx))

    found = with_workspace(work)
    if form == "json":
        output.document(found)
        return exits.OK
    if not found:
        output.say("nothing is open: every run that was begun is settled")
        return exits.OK
    rows = [
        (
            one["run"],
            one["key"],
            one["state"],
            one["verb"],
            f"{one['settled']}/{one['steps']}",
            f"needs attention: {one['attention']}" if one["attention"] else one["error"] or "",
        )
        for one in found
    ]
    output.data(output.table(rows, ("RUN", "KEY", "STATE", "VERB", "SETTLED", "")))
    return exits.OK


def _facts(run: Run, intents: list[Intent]) -> dict[str, Any]:
    from reconciler.model.codec import timestamp
    from reconciler.model.intent import IntentState

    change = run.subject.get("change") or {}
    return {
        "run": run.id,
        "key": run.key.removeprefix("ref/"),
        "state": run.state.value,
        "verb": change.get("verb", "split"),
        "began": timestamp(run.began) if run.began else None,
        "version": run.version,
        "steps": len(intents),
        "settled": sum(intent.state is not IntentState.OPEN for intent in intents),
        "error": run.error,
    }


def show(run: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run.")], form: Form = "text") -> int:
    """Show a run's intents, and what recovery will do with what is open."""

    async def work(space: Workspace) -> tuple[Run | None, list[Intent]]:
        with space.ports.ledger.begin() as tx:
            return tx.run(run), list(tx.intents(run))

    found, intents = with_workspace(work)
    if found is None:
        from reconciler.model.errors import Refused

        raise Refused("no-run", f"cannot find run {run}", hint="reconciler journal list --all")
    if form == "json":
        output.document({**_facts(found, intents), "intents": [_intent(one) for one in intents]})
        return exits.OK
    facts = _facts(found, intents)
    output.data(
        f"{found.id}  {facts['key']}  {facts['verb']}  {facts['state']}  begun {facts['began']} by version {found.version}"
    )
    output.data("\n".join(_lines(found, intents)))
    return exits.OK


def _intent(one: Intent) -> dict[str, Any]:
    from reconciler.model.codec import encode
    from reconciler.planner.diff import redact

    return {
        "seq": one.seq,
        "effect": one.effect,
        "state": one.state.value,
        "result": redact(encode(one.result)),
        "fence": one.fence,
    }


async def lines_of(space: Workspace, run: Run) -> list[str]:
    """A run's intents in words, for other verbs."""
    with space.ports.ledger.begin() as tx:
        return _lines(run, list(tx.intents(run.id)))


def _lines(run: Run, intents: list[Intent]) -> list[str]:
    from reconciler.model.intent import IntentState, RunState

    lines = [f"{one.seq:>3}  {one.effect:<10} {one.state.value:<8} {_said(one)}".rstrip() for one in intents]
    if run.state is RunState.OPEN:
        last = intents[-1] if intents else None
        if last is not None and last.state is IntentState.OPEN:
            lines.append(f"recovery: {_SETTLED.get(last.effect, 'repeat it')}")
        else:
            lines.append("recovery: go on with the next step; nothing is in doubt")
    elif run.error:
        lines.append(f"stalled: {run.error}")
    return lines


def _said(one: Intent) -> str:
    result = one.result
    if "message" in result:
        return str(result["message"])
    if "txid" in result:
        return f"{result['txid']}" + (f"  fee {result['fee']} sat" if "fee" in result else f"  {result.get('status', '')}")
    if "digest" in result:
        return f"{result['digest'][:16]}…"
    hosts = [name for name, said in result.items() if isinstance(said, dict) and said.get("confirmed")]
    return ", ".join(hosts)
