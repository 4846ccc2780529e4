"""`apply` and `destroy`: settle what is open, plan or read a plan, ask, carry it out, say what it came to."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from reconciler.cli import exits, holders, outcome, output, planning
from reconciler.cli.context import GLOBALS
from reconciler.cli.watching import Display, events_to

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.engine.execute import Executor
    from reconciler.model.plan import Plan

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Approve = Annotated[list[str] | None, typer.Option("--approve", metavar="GUARD", help="Let this guard pass, for this plan only.")]
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
# Seconds between two looks at what is waited for.
_PAUSE = 1.0


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


@dataclass(slots=True)
class Signals:
    """SIGINT and SIGTERM while money moves: the first stops politely, the second at once. `code` is the exit code due."""

    display: Display
    stop: Callable[[], None] | None = None
    code: int = 0
    _task: asyncio.Task[object] | None = field(default=None)

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Listen inside this block."""
        loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        for number, code in ((signal.SIGINT, exits.INTERRUPTED), (signal.SIGTERM, exits.TERMINATED)):
            loop.add_signal_handler(number, self._hear, code)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _hear(self, code: int) -> None:
        again, self.code = bool(self.code), code
        if again or self.stop is None:
            if self._task is not None:
                self._task.cancel()
            return
        flying = list(self.display.flying.values())
        told = (
            f"; {len(flying)} transaction{'s' * (len(flying) != 1)} in flight ({', '.join(f[:8] + '…' for f in flying)})"
            if flying
            else ""
        )
        self.display.say(f"      stopping: no new actions{told}{', journalled' if flying else ''}; once more to abort")
        self.stop()


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
    events: EventsTo = None,
    form: Form = "text",
) -> int:
    """Carry out a saved plan, or plan, show and ask. Interrupted or killed, the same command continues where it stopped."""
    wish = planning.Wish(
        directory, environment, planning.listed(target), planning.listed(exclude), False, refresh_only, refresh, max_spend,
        frozenset(planning.listed(approve)),
    )  # fmt: skip
    if file is not None and (wish.narrowed or directory or refresh_only or not refresh):
        raise typer.BadParameter("a plan file is applied as it is; choose targets when planning")
    return execute(Order(wish, file, plan_id, yes, parallelism, wait, _seconds(timeout), form, _ask), events)


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
    events: EventsTo = None,
    form: Form = "text",
) -> int:
    """Retire everything that is recorded, or only targets and what stands on them. Asks for the number of resources."""
    approved = frozenset(planning.listed(approve))
    wish = planning.Wish(
        None, environment, planning.listed(target), planning.listed(exclude), destroy=True, max_spend=max_spend, approved=approved
    )
    return execute(Order(wish, None, None, yes, parallelism, wait, _seconds(timeout), form, _ask_to_destroy), events)


def _seconds(text: str) -> float:
    from reconciler.manifest import units

    try:
        return units.duration(text) / 1000
    except units.UnitError as error:
        raise typer.BadParameter(f"--timeout: {error}") from error


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
    saved = _saved(order.file) if order.file is not None else None
    signals = Signals(display)
    try:
        async with planning.opened(order.wish, watch=display.watch, on_upload=display.upload) as space:
            with signals.heard():
                recovered = await _recover(space, display)
                plan = await _planned(space, order, display, saved)
            if plan is None:
                return exits.GUARD
            if saved is None and not plan.acting:
                return _nothing(plan, order, recovered)
            if saved is None and not order.yes and order.question is not None and not _asked(order.question, plan):
                output.say("nothing was done")
                return exits.ERROR
            with signals.heard():
                return await _execute(space, order, display, signals, plan, recovered)
    except asyncio.CancelledError:
        if not signals.code:
            raise
        display.rest()
        output.say("Aborted. The journal is consistent: re-run the same command to continue.")
        return signals.code


def _saved(file: Path) -> Plan:
    from reconciler.model.errors import Refused
    from reconciler.planner.planfile import read_plan

    try:
        return read_plan(file.read_bytes())
    except OSError as error:
        hint = "make it with: reconciler plan --out FILE"
        raise Refused("no-plan-file", f"cannot read {file}: {error.strerror}", hint=hint) from error


# --- before ------------------------------------------------------------------------------------------


async def _recover(space: Workspace, display: Display) -> dict[str, str]:
    """Finish what an earlier process began."""
    from reconciler.engine.recover import recover
    from reconciler.model.intent import RunState

    holders.release_dead(space)
    with space.ports.ledger.begin() as tx:
        runs = tx.runs(state=RunState.OPEN)
    if not runs:
        return {}
    names = ", ".join(run.key.removeprefix("ref/") for run in runs[:5]) + (" and more" if len(runs) > 5 else "")
    display.say(f"resuming {len(runs)} begun earlier: {names}")
    return outcome.outcome_words(await recover(space.runner))


async def _planned(space: Workspace, order: Order, display: Display, saved: Plan | None) -> Plan | None:
    """The plan that is to be carried out; None when a guard refuses it, which has then been told."""
    if saved is not None:
        _check(space, saved, order)
        refused = [guard for guard in saved.refusals if guard.name not in order.wish.approved]
        if refused or saved.refusals:
            refused = refused or [guard for guard in saved.refusals if guard.name == "funds"]
        for guard in refused:
            output.fail(f"cannot apply {saved.id}: guard {guard.name} refuses it ({guard.message})", f"--approve {guard.name}")
        return None if refused else saved
    prepared = await planning.prepare(space, order.wish)
    plan = prepared.plan
    if order.plan_id not in (None, plan.id, prepared.bare):
        from reconciler.model.errors import Conflict

        message = f"cannot apply {order.plan_id}: planning now gives {prepared.bare}"
        raise Conflict("other-plan", message, hint="review the new plan with reconciler plan")
    if order.form == "text" and not (GLOBALS.quiet and order.yes):
        output.data(planning.plan_text(prepared, "" if plan.acting and not plan.refusals else None).rstrip("\n") + "\n")
    if plan.refusals:
        if order.form != "text":
            for guard in plan.refusals:
                output.fail(f"cannot apply {plan.id}: guard {guard.name} refuses it ({guard.message})", f"--approve {guard.name}")
        return None
    return plan


def _check(space: Workspace, plan: Plan, order: Order) -> None:
    """Conflict when a saved plan no longer fits this ledger: other lineage or environment, or a resource that moved since.

    Only the resources of the plan are looked at: work on others does not make it stale. What it has done itself is no change.
    """
    from reconciler.engine.survey import midnight
    from reconciler.model.errors import Conflict, GuardRefused
    from reconciler.model.intent import RunState
    from reconciler.planner.phrases import sats

    again = "plan again"
    if order.plan_id not in (None, plan.id):
        raise Conflict("other-plan", f"cannot apply {order.plan_id}: the file holds {plan.id}", hint=again)
    recorded = space.ports.ledger.read(midnight(space.ports.clock.now()))
    if plan.lineage != recorded.lineage:
        raise Conflict("other-ledger", "cannot apply this plan: it was made for another ledger", hint=again)
    if plan.environment != space.settings.environment:
        message = f"cannot apply this plan: it was made for environment {plan.environment or 'base'!r}"
        raise Conflict(
            "other-environment", message, hint=f"add --env {plan.environment}" if plan.environment else "leave out --env"
        )
    left = 0
    with space.ports.ledger.begin() as tx:
        for change in plan.acting:
            run = tx.run(change.run_id(plan.lineage))
            if run is not None:
                left += 0 if run.state is RunState.DONE else change.cost.satoshis
                continue
            left += change.cost.satoshis
            now = recorded.records[change.ref].generation if change.ref in recorded.records else 0
            then = change.before.generation if change.before else 0
            if now != then or recorded.attempts.get(change.ref, 0) != change.attempt:
                told = f"cannot apply this plan to {change.ref}: it has changed since (generation {then}, now {now})"
                raise Conflict("stale", told, hint=again)
    most = space.settings.limits.spend_day
    if most is not None and left > 0 and recorded.spent_today + left > most and "spend-day" not in order.wish.approved:
        told = f"cannot apply {plan.id}: {sats(recorded.spent_today)} spent today, {sats(left)} to go, {sats(most)} per day"
        raise GuardRefused("spend-day", told, hint="--approve spend-day, or wait until midnight UTC")


def _nothing(plan: Plan, order: Order, recovered: dict[str, str]) -> int:
    from reconciler.engine.execute import Report

    result = outcome.Result(plan, Report(), recovered=recovered)
    result.code = exits.PARTIAL if outcome.unfinished(plan) else exits.OK
    if order.form == "json":
        output.document(outcome.document(result))
    return result.code


def _asked(question: Callable[[Plan], bool], plan: Plan) -> bool:
    """Ask, with Ctrl-C meaning what it means at a prompt: the event loop's own handler would not wake a blocking read."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return question(plan)
    finally:
        signal.signal(signal.SIGINT, before)


def _ask(plan: Plan) -> bool:
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
            # Copies without an end (a directory that somebody serves) carry a date nobody will see.
            until = "for ever" if max(ends) > 32503680000 else f"until {datetime.fromtimestamp(max(ends), UTC):%Y-%m-%d}"
            lines.append(f"{change.ref}: its bytes stay readable on {', '.join(sorted(copies))} {until}")
    return lines


# --- during and after ----------------------------------------------------------------------------------


async def _execute(
    space: Workspace, order: Order, display: Display, signals: Signals, plan: Plan, recovered: dict[str, str]
) -> int:
    from reconciler.engine.execute import Executor

    if order.wish.destroy and order.yes:
        for line in _readable_until(plan):
            output.say(line)
    done = _done_before(space, plan)
    display.expect(plan, done)
    executor = Executor(space.runner, plan, order.parallelism or space.settings.parallelism)
    resuming = f"  resuming: {done} already done" if done else ""
    display.say(f"{plan.id}  {executor.parallelism} workers{resuming}")
    signals.stop = executor.stop
    report = await executor.run()
    display.rest()
    if not signals.code and order.wait != "seen":
        signals.stop = None
        await _wait(space, order, display, signals, plan, executor)
    result = outcome.gather(space, plan, report, recovered)
    if signals.code and not report.complete:
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
    elif display.mirror is not None:
        display.mirror({"type": "result", **outcome.document(result)})
    if signals.code and result.code == signals.code:
        for line in outcome.interrupted(result, list(display.flying)):
            display.say(line)
        return
    for line in outcome.closing(result, display.paint):
        display.say(line)


async def _wait(space: Workspace, order: Order, display: Display, signals: Signals, plan: Plan, executor: Executor) -> None:
    """Until what had to wait is done and, for `mined`, every transaction of the plan is in a block; or until the time is up."""
    from datetime import timedelta

    until = space.ports.clock.now() + timedelta(seconds=order.timeout)
    said = ""
    while space.ports.clock.now() < until:
        await _retry_due(space, plan, executor)
        told = await _missing(space, plan, executor, mined=order.wait == "mined")
        if not told:
            return
        if told != said:
            display.say(f"      {display.paint('dim', told)}")
            said = told
        await space.ports.clock.sleep(_PAUSE)
    output.say(f"waited {order.timeout:g} s in vain; the daemon, or the same command, goes on")


async def _retry_due(space: Workspace, plan: Plan, executor: Executor) -> None:
    """Take up again what was put off, once its time has come."""
    from datetime import datetime

    from reconciler.engine.execute import Executor, Fate

    results, now = executor.report.results, space.ports.clock.now()
    due = [
        ref
        for ref, one in results.items()
        if one.fate is Fate.PENDING and (not isinstance(one.retry_at, datetime) or one.retry_at <= now)
    ]
    if not due:
        return
    again = {ref for ref, one in results.items() if ref in due or one.fate is Fate.SKIPPED}
    narrowed = replace(plan, changes=tuple(change for change in plan.changes if change.ref in again), funding=())
    # The narrowed plan executes the same changes, so their runs are the same; only its own id differs, and nobody asks for it.
    report = await Executor(space.runner, narrowed, executor.parallelism).run()
    results.update(report.results)


async def _missing(space: Workspace, plan: Plan, executor: Executor, *, mined: bool) -> str:
    """What is still waited for, in words; empty when nothing is."""
    from reconciler.engine.confirm import confirm
    from reconciler.engine.execute import Fate
    from reconciler.engine.handlers import chain_nets
    from reconciler.engine.survey import midnight

    pending = executor.report.count(Fate.PENDING)
    if pending:
        return f"{pending} waiting for the network"
    if not mined:
        return ""
    await confirm(space.ports, chain_nets(space.ports.ledger.read(midnight(space.ports.clock.now()))))
    result = outcome.gather(space, plan, executor.report, {})
    wanted = {txid for one in (*result.moved.values(), *result.split) for txid in one.txids}
    with space.ports.ledger.begin() as tx:
        found = {txid for txid in wanted if (stored := tx.transaction(txid)) is not None and stored.state == "mined"}
    return "" if found == wanted else f"{len(found)} of {len(wanted)} transactions in a block"


def digest_of(data: bytes) -> str:
    """SHA-256 of a plan file, hex, as it is quoted when the plan is saved."""
    return hashlib.sha256(data).hexdigest()
