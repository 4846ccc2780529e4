"""`apply` and `destroy`: settle what is open, plan or read a plan, ask, carry it out, say what it came to."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from reconciler.cli import consent, exits, outcome, output, planning, saved_plan, waiting
from reconciler.cli.context import GLOBALS
from reconciler.cli.describe import FOREVER
from reconciler.cli.interrupt import Signals
from reconciler.cli.watching import Display, events_to

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.engine.approve import Letter
    from reconciler.engine.survey import Survey
    from reconciler.model.plan import GuardResult, Plan

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Approve = Annotated[list[str] | None, typer.Option("--approve", metavar="GUARD", help="Let this guard pass, for this plan only.")]
Approvals = Annotated[
    list[Path] | None,
    typer.Option("--approval", metavar="FILE", help="A signed approval; those beside the plan file are found.", dir_okay=False),
]
Parallelism = Annotated[
    int | None, typer.Option("--parallelism", min=1, max=64, help="Changes carried out at once.", show_default="4")
]
Wait = Annotated[
    Literal["seen", "mined", "ready"],
    typer.Option(
        "--wait", help="Return when sent and seen, when what had to wait is done too (ready), or when all is in blocks."
    ),
]
Timeout = Annotated[str, typer.Option("--timeout", metavar="DURATION", help="Longest that --wait waits.")]
EventsTo = Annotated[Path | None, typer.Option("--events-to", metavar="FILE", help="Write every step there as a JSON line.")]
Form = Annotated[
    Literal["text", "json", "jsonl"], typer.Option("-o", "--output", help="The result as text, one document, or a line per step.")
]


@dataclass(frozen=True, slots=True)
class Order:
    """How a plan is to be carried out."""

    wish: planning.Wish
    file: Path | None = None
    plan_id: str | None = None
    yes: bool = False
    parallelism: int | None = None
    wait: str = "seen"
    timeout: float = 600.0
    form: str = "text"
    question: Callable[[Plan], bool] | None = None
    approvals: tuple[Path, ...] = ()


def bind(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(apply)
    app.command()(destroy)


def apply(
    file: Annotated[
        Path | None, typer.Argument(metavar="PLANFILE", help="A saved plan, applied exactly.", show_default=False)
    ] = None,
    yes: Yes = False,
    plan_id: Annotated[str | None, typer.Option("--plan-id", metavar="ID", help="Only if planning gives this very plan.")] = None,
    approve: Approve = None,
    approval: Approvals = None,
    parallelism: Parallelism = None,
    wait: Wait = "seen",
    timeout: Timeout = "10m",
    directory: planning.Directory = None,
    environment: planning.Environment = None,
    target: planning.Targets = None,
    exclude: planning.Excluded = None,
    refresh_only: planning.RefreshOnly = False,
    refresh: planning.Refresh = True,
    max_spend: planning.MaxSpend = None,
    fee_rate: planning.Rate = None,
    recreate: planning.Recreate = None,
    events: EventsTo = None,
    form: Form = "text",
) -> int:
    """Carry out a saved plan, or plan, show and ask. Interrupted or killed, the same command continues where it stopped."""
    wish = planning.Wish(
        directory, environment, planning.listed(target), planning.listed(exclude), False, refresh_only, refresh, max_spend,
        frozenset(planning.listed(approve)), recreate=planning.listed(recreate), fee_rate=fee_rate,
    )  # fmt: skip
    if file is not None and (wish.narrowed or recreate or directory or refresh_only or not refresh or fee_rate):
        raise typer.BadParameter("a plan file is applied as it is; choose targets and fee rate when planning")
    signed = tuple(approval or ())
    return execute(Order(wish, file, plan_id, yes, parallelism, wait, waiting.seconds(timeout), form, ask, signed), events)


def destroy(
    target: planning.Targets = None,
    exclude: planning.Excluded = None,
    yes: Yes = False,
    approve: Approve = None,
    parallelism: Parallelism = None,
    wait: Wait = "seen",
    timeout: Timeout = "10m",
    environment: planning.Environment = None,
    max_spend: planning.MaxSpend = None,
    fee_rate: planning.Rate = None,
    events: EventsTo = None,
    form: Form = "text",
) -> int:
    """Retire everything that is recorded, or only targets and what stands on them. Asks for the number of resources."""
    approved = frozenset(planning.listed(approve))
    wish = planning.Wish(
        None, environment, planning.listed(target), planning.listed(exclude), destroy=True, max_spend=max_spend,
        approved=approved, fee_rate=fee_rate,
    )  # fmt: skip
    return execute(Order(wish, None, None, yes, parallelism, wait, waiting.seconds(timeout), form, _ask_to_destroy), events)


def execute(order: Order, events: Path | None) -> int:
    """Run an order to its exit code; everything a person or a script is told is told here and below."""
    if order.file is None and not order.yes and not sys.stdin.isatty():
        output.fail(
            "cannot ask: standard input is not a terminal", "review with reconciler plan, then add --yes; nothing was done"
        )
        return exits.USAGE
    with contextlib.ExitStack() as stack:
        sinks: list[TextIO] = [sys.stdout] if order.form == "jsonl" else []
        if events is not None:
            sinks.append(stack.enter_context(events.open("a", encoding="utf-8")))
        # With a document on stdout, people still see the lines: on stderr.
        stream = sys.stdout if order.form == "text" else sys.stderr
        display = Display(stream, not GLOBALS.quiet, events_to(sinks) if sinks else None)
        try:
            return asyncio.run(_carry_out(order, display))
        except planning.Invalid:
            return exits.ERROR
        finally:
            display.rest()


async def _carry_out(order: Order, display: Display) -> int:
    saved = saved_plan.read(order.file) if order.file is not None else None
    signals = Signals(display)
    try:
        async with planning.opened(order.wish, watch=display.watch, on_upload=display.upload) as space:
            with signals.heard():
                await _require_newest(space)
                recovered = await _recover(space, display)
                found = consent.letters(order.approvals, order.file)
                plan, guards, survey = await _planned(space, order, saved)
                allowed = _allowed(space, order, plan, guards, found)
            if allowed.refused:
                return exits.GUARD
            if saved is None and not plan.acting:
                if survey is not None:
                    _remember(space, survey, plan)
                return _nothing(space, plan, order, display, recovered)
            if saved is None and not order.yes and order.question is not None and not _asked(order.question, plan):
                output.say("nothing was done")
                return exits.ERROR
            consent.remember(space, plan, allowed, found)
            if survey is not None:
                _remember(space, survey, plan)
            with signals.heard():
                return await _execute(space, order, display, signals, plan, recovered, allowed.passed)
    except asyncio.CancelledError:
        if not signals.code:
            raise
        display.rest()
        output.say("Aborted. The journal is consistent: re-run the same command to continue.")
        return signals.code


# --- before ------------------------------------------------------------------------------------------


async def _require_newest(space: Workspace) -> None:
    """Attention, which is exit code 7, when a coin was spent behind this ledger's back: nothing is resumed then, nor begun."""
    from reconciler.engine.handlers import require_newest

    await require_newest(space.runner)


async def _recover(space: Workspace, display: Display) -> dict[str, str]:
    """Finish what an earlier process began."""
    from reconciler.engine.recover import recover
    from reconciler.model.intent import RunState

    with space.ports.ledger.begin() as tx:
        runs = tx.runs(state=RunState.OPEN)
    if not runs:
        return {}
    names = ", ".join(run.key.removeprefix("ref/") for run in runs[:5]) + (" and more" if len(runs) > 5 else "")
    display.say(f"resuming {len(runs)} begun earlier: {names}")
    return outcome.outcome_words(await recover(space.runner))


async def _planned(space: Workspace, order: Order, saved: Plan | None) -> tuple[Plan, tuple[GuardResult, ...], Survey | None]:
    """The plan that is to be carried out, what the guards say of it now, and what it rests on if it was made just now."""
    from reconciler.engine.rebuild import adopt_marked

    if saved is not None:
        await space.ports.source.refresh()
        return saved, saved_plan.check(space, saved, order.plan_id, order.wish.approved), None
    prepared = await planning.prepare(space, order.wish)
    if await adopt_marked(space.runner, prepared.survey):
        prepared = await planning.prepare(space, order.wish)
    plan = prepared.plan
    if order.plan_id not in (None, plan.id, prepared.bare):
        from reconciler.model.errors import Conflict

        message = f"cannot apply {order.plan_id}: planning now gives {prepared.bare}"
        raise Conflict("other-plan", message, hint="review the new plan with reconciler plan")
    if order.form == "text" and not (GLOBALS.quiet and order.yes):
        output.data(planning.plan_text(prepared, "" if plan.acting and not plan.refusals else None).rstrip("\n") + "\n")
    return plan, plan.guards, prepared.survey


def _allowed(
    space: Workspace, order: Order, plan: Plan, guards: Sequence[GuardResult], found: Sequence[Letter]
) -> consent.Standing:
    """What still refuses the plan, which has then been told; and what was let pass for it."""
    allowed = consent.standing(space, plan, guards, found, order.wish.approved)
    if allowed.refused:
        consent.tell(plan, allowed.refused, space.settings.limits, order.file, space.ports.clock.now())
    return allowed


def _remember(space: Workspace, survey: Survey, plan: Plan) -> None:
    """Keep what the manifests say about deletion and pauses, so that it holds when they are gone or in error."""
    from reconciler.engine.finish import remember

    if survey.loaded.desired is not None:
        remember(space.ports, survey.loaded.desired, survey.recorded, plan)


def _nothing(space: Workspace, plan: Plan, order: Order, display: Display, recovered: dict[str, str]) -> int:
    from reconciler.engine.execute import Report

    result = outcome.gather(space, plan, Report(), recovered)
    result.code = exits.PARTIAL if outcome.unfinished(plan) else exits.OK
    if order.form == "json":
        output.document(outcome.document(result))
    if display.mirror is not None:
        display.mirror({"type": "result", **outcome.document(result)})
    return result.code


def _asked(question: Callable[[Plan], bool], plan: Plan) -> bool:
    """Ask, with Ctrl-C meaning what it means at a prompt: the event loop's own handler would not wake a blocking read."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return question(plan)
    finally:
        signal.signal(signal.SIGINT, before)


def ask(plan: Plan) -> bool:
    """The question before anything is done, with its price."""
    from reconciler.planner import phrases

    count, price = phrases.count(len(plan.acting), "change"), phrases.sats(plan.cost.satoshis)
    return typer.confirm(f"Apply {count} for {price}?", err=True)


def _ask_to_destroy(plan: Plan) -> bool:
    for line in _readable_until(plan):
        output.say(output.style_for(sys.stderr, GLOBALS.colour)("warning", line))
    said = typer.prompt(f"Type the number of resources to be retired ({len(plan.acting)}) to go on", err=True, default="")
    return bool(said.strip() == str(len(plan.acting)))


def _readable_until(plan: Plan) -> list[str]:
    """A warning for content that outlives its token on storage hosts."""
    from datetime import UTC, datetime

    lines = []
    for change in plan.acting:
        copies = (change.before.outputs.get("replicas") or {}) if change.before else {}
        ends = [facts["expires"] for host in copies.values() for facts in host.values() if facts.get("expires")]
        if ends:
            until = "for ever" if max(ends) > FOREVER else f"until {datetime.fromtimestamp(max(ends), UTC):%Y-%m-%d}"
            lines.append(f"{change.ref}: its bytes stay readable on {', '.join(sorted(copies))} {until}")
    return lines


# --- during and after ----------------------------------------------------------------------------------


async def _execute(
    space: Workspace,
    order: Order,
    display: Display,
    signals: Signals,
    plan: Plan,
    recovered: dict[str, str],
    passed: frozenset[str],
) -> int:
    from reconciler.engine.execute import Executor

    if order.wish.destroy and order.yes:
        for line in _readable_until(plan):
            output.say(line)
    done = _done_before(space, plan)
    display.expect(plan, done)
    executor = Executor(space.runner, plan, order.parallelism or space.settings.parallelism, passed=passed)
    resuming = f"  resuming: {done} already done" if done else ""
    display.say(f"{plan.id}  {executor.parallelism} workers{resuming}")
    signals.stop = executor.stop
    report = await executor.run()
    display.rest()
    patient = True
    if not signals.code and order.wait != "seen":
        mined = order.wait == "mined"
        patient = await waiting.wait(space, plan, executor, display, signals, mined=mined, patience=order.timeout)
    result = outcome.gather(space, plan, report, recovered)
    if not patient:
        result.code = max(result.code, exits.PARTIAL)
    if signals.code and not (report.complete and patient):
        result.code = signals.code
    _tell(result, order, display, signals)
    return result.code


def _done_before(space: Workspace, plan: Plan) -> int:
    from reconciler.model.intent import RunState

    with space.ports.ledger.begin() as tx:
        runs = [tx.run(change.run_id(plan.lineage)) for change in plan.acting]
    return sum(run is not None and run.state is RunState.DONE for run in runs)


def _tell(result: outcome.Result, order: Order, display: Display, signals: Signals) -> None:
    if order.form == "json":
        output.document(outcome.document(result))
    if display.mirror is not None:
        display.mirror({"type": "result", **outcome.document(result)})
    if signals.code and result.code == signals.code:
        for line in outcome.interrupted(result, list(display.flying)):
            display.say(line)
        return
    for line in outcome.closing(result, display.paint):
        display.say(line)
