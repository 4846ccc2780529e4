"""`run` keeps the network as declared; `reconcile` asks for a pass now."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from reconciler.cli import exits, holders, outcome, output
from reconciler.cli.context import GLOBALS, settings

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.engine.execute import Report
    from reconciler.engine.handlers import Handlers
    from reconciler.model.plan import Plan
    from reconciler.model.ref import ResourceRef
    from reconciler.settings import Settings

# A person who asks is served before edits, blocks and resyncs, which are put with 0.
USER = 10


def bind(app: typer.Typer) -> None:
    """Add the verbs; `daemon` is another name of `run`."""
    app.command()(run)
    app.command("daemon", hidden=True)(run)
    app.command()(reconcile)


def run(
    once: Annotated[bool, typer.Option("--once", help="One pass, then exit with the codes of apply: for cron.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look and report; the same as --mode observe.")] = False,
    mode: Annotated[
        Literal["observe", "auto"] | None,
        typer.Option("--mode", help="Instead of the mode in reconciler.yaml.", show_default=False),
    ] = None,
    environment: Annotated[str | None, typer.Option("-e", "--env", help="Apply overlays/ENV.", show_default=False)] = None,
) -> int:
    """Watch manifests and network, and keep them in agreement within the guards. Stops on SIGTERM when work in hand is done."""
    if environment is not None:
        GLOBALS.environment = environment
    chosen = settings()
    if dry_run or mode is not None:
        chosen = replace(chosen, mode="observe" if dry_run or mode is None else mode)
    _log_to(sys.stderr.isatty() and GLOBALS.log_format != "json")
    return asyncio.run(_once(chosen) if once else _forever(chosen))


# --- the long run --------------------------------------------------------------------------------------


async def _forever(chosen: Settings) -> int:
    from reconciler.adapters.notify import notify
    from reconciler.compose import serve, workspace
    from reconciler.telemetry import Metrics

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with workspace(chosen) as space:

        def ready() -> None:
            notify("READY=1")

        async def farewell() -> None:
            await stop.wait()
            notify("STOPPING=1")

        parting = asyncio.ensure_future(farewell())
        # While this lease runs, others can see that somebody takes what they put into the queue.
        async with space.runner.lease(holders.DAEMON + space.runner.owner):
            try:
                await serve(space, stop, Metrics(), ready)
            finally:
                parting.cancel()
    return exits.OK


class _HumanLines(logging.Formatter):
    """One line per event: time, event, what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Render the fields that logs may carry, and no others."""
        from reconciler.telemetry import BOUND

        stamp = datetime.fromtimestamp(record.created, UTC)
        bound = " ".join(f"{name}={value}" for name in BOUND if (value := getattr(record, name, None)) not in (None, ""))
        paint = output.style_for(sys.stderr, GLOBALS.colour)
        role = "bad" if record.levelno >= logging.ERROR else "warning" if record.levelno >= logging.WARNING else "bold"
        return f"{paint('dim', f'{stamp:%H:%M:%S}')}  {paint(role, f'{record.getMessage():<18}')} {bound}".rstrip()


def _log_to(human: bool) -> None:
    """Log our events to stderr, and of the libraries only what went wrong."""
    from reconciler.telemetry import JsonLines

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_HumanLines() if human else JsonLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("reconciler").setLevel(logging.DEBUG if GLOBALS.verbose else logging.INFO)


# --- one pass ------------------------------------------------------------------------------------------


class _Pass:
    """One pass of the daemon's own handlers, and what came of it."""

    def __init__(self, space: Workspace) -> None:
        from reconciler.engine.handlers import Handlers

        chosen = space.settings
        self.space = space
        self.found: tuple[Plan, Report | None] | None = None
        self.handlers: Handlers = Handlers(
            space.runner, space.surveyor, chosen.limits, chosen.mode, chosen.parallelism, on_plan=self._keep
        )

    def _keep(self, plan: Plan, report: Report | None) -> None:
        self.found = (plan, report)

    async def over(self, key: str) -> None:
        """Work a key now, under its lease; Locked when somebody else does."""
        handler = next(h for prefix, h in self.handlers.table().items() if key.startswith(prefix))
        async with self.space.runner.lease(key) as lease:
            await handler(lease)

    @property
    def code(self) -> int:
        """The exit code, as apply's."""
        if self.handlers.source_fault:
            return exits.ERROR
        if self.found is None:
            return exits.OK
        plan, report = self.found
        if plan.refusals:
            return exits.GUARD
        if report is None:
            return exits.OK if self.handlers.mode == "observe" or not outcome.unfinished(plan) else exits.PARTIAL
        return outcome.code_of(plan, report)


async def _once(chosen: Settings) -> int:
    from reconciler.compose import workspace

    async with workspace(chosen) as space:
        work, task, code = _Pass(space), asyncio.current_task(), [0]

        def hear(due: int) -> None:
            again, code[0] = bool(code[0]), due
            work.handlers.stop()
            if (again or work.handlers.executor is None) and task is not None:
                task.cancel()

        loop = asyncio.get_running_loop()
        for number, due in ((signal.SIGTERM, exits.TERMINATED), (signal.SIGINT, exits.INTERRUPTED)):
            loop.add_signal_handler(number, hear, due)
        try:
            await work.over("plan")
            await work.over("confirm")
        except asyncio.CancelledError:
            if not code[0]:
                raise
        return code[0] or work.code


def reconcile(
    key: Annotated[list[str] | None, typer.Argument(metavar="[KEY]...", help="Kind/name, Kind, or Kind/glob*.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Act here and now, whatever the mode, without waiting for a daemon.")
    ] = False,
) -> int:
    """Have resources looked at and put right now: by the daemon when one runs, else by this command."""
    if bool(key) == every:
        raise typer.BadParameter("name resources, or say --all")
    _log_to(human=GLOBALS.log_format != "json")
    return asyncio.run(_reconcile(list(key or ()), force))


async def _reconcile(selectors: list[str], force: bool) -> int:
    from reconciler.compose import workspace

    chosen = settings()
    async with workspace(replace(chosen, mode="auto") if force else chosen) as space:
        refs = _named(space, selectors)
        keys = [f"look/{ref}" for ref in refs] if selectors else ["plan"]
        daemon = holders.presence(space)
        if daemon.running and not force:
            for one in keys:
                space.ports.queue.put(one, space.ports.clock.now(), USER)
            output.say(f"{len(keys)} queued; the daemon ({daemon.owner}, lease {daemon.fence}) takes it from here")
            return exits.OK
        if not daemon.running and not GLOBALS.quiet:
            output.say(f"no daemon is running: one pass here, mode {space.settings.mode}")
        codes = []
        for one in keys:
            work = _Pass(space)
            await work.over(one)
            codes.append(work.code)
            _tell(one, work)
        return max(codes)


def _named(space: Workspace, selectors: Sequence[str]) -> list[ResourceRef]:
    """The resources that selectors name, declared or recorded."""
    from reconciler.cli.planning import labelled, select
    from reconciler.engine.survey import midnight

    desired = space.surveyor.load().desired
    recorded = space.ports.ledger.read(midnight(space.ports.clock.now())).records
    return sorted(select(selectors, labelled(desired, recorded)))


def _tell(key: str, work: _Pass) -> None:
    """What one pass came to."""
    from reconciler.planner import phrases

    name = key.removeprefix("look/") if key != "plan" else "everything"
    if work.handlers.source_fault:
        output.say(f"{name}: the manifests are in error ({work.handlers.source_fault}); the last good revision was kept")
    if work.found is None:
        return
    plan, report = work.found
    if report is not None:
        for ref, one in report.results.items():
            output.data(f"{ref}: {one.fate.value}" + (f", {one.why}" if one.why else ""))
    elif plan.refusals:
        output.data(f"{name}: refused by {', '.join(guard.name for guard in plan.refusals)}; see reconciler plan")
    elif plan.acting:
        told = phrases.count(len(plan.acting), "change")
        output.data(f"{name}: {told} pending, not carried out because mode is observe; --force acts")
    else:
        output.data(f"{name}: as declared" if plan.empty else f"{name}: nothing can be done now; see reconciler plan")
