"""`run` keeps the network as declared; `reconcile` asks for a pass now."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from reconciler.cli import exits, holders, outcome, output, waiting
from reconciler.cli.context import GLOBALS, settings

if TYPE_CHECKING:
    from reconciler.compose import Service, Workspace
    from reconciler.engine.execute import Report
    from reconciler.engine.handlers import Handlers
    from reconciler.model.plan import Plan
    from reconciler.model.ref import ResourceRef
    from reconciler.settings import Settings

log = logging.getLogger("reconciler.daemon")

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
        Literal["observe", "propose", "auto"] | None,
        typer.Option("--mode", help="Instead of the mode in reconciler.yaml.", show_default=False),
    ] = None,
    environment: Annotated[str | None, typer.Option("-e", "--env", help="Apply overlays/ENV.", show_default=False)] = None,
) -> int:
    """Watch manifests and network, and keep them in agreement within the guards. Stops on SIGTERM when work in hand is done."""
    if environment is not None:
        GLOBALS.environment = environment

    def read() -> Settings:
        """The settings, with what the command line says instead: now, and each time they are read again."""
        chosen = settings()
        if dry_run or mode is not None:
            chosen = replace(chosen, mode="observe" if dry_run or mode is None else mode)
        return chosen

    log_to(sys.stderr.isatty() and GLOBALS.log_format != "json")
    return asyncio.run(_once(read()) if once else _forever(read))


# --- the long run --------------------------------------------------------------------------------------


async def _forever(read: Callable[[], Settings]) -> int:
    from reconciler.adapters.notify import notify, watchdog, watchdog_period
    from reconciler.compose import serve, workspace
    from reconciler.engine.narrate import logged
    from reconciler.telemetry import Metrics

    chosen, stop, loop = read(), asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # Until there is something to reload or to tell, they must not end the process, which is what they do by default.
    for number in (signal.SIGHUP, signal.SIGUSR1):
        loop.add_signal_handler(number, lambda: None)
    beside: list[asyncio.Task[None]] = []
    async with workspace(chosen, watch=logged) as space:

        def ready(service: Service) -> None:
            signals = _Signals(service, chosen, read)
            loop.add_signal_handler(signal.SIGHUP, signals.reload)
            loop.add_signal_handler(signal.SIGUSR1, signals.tell)
            if (period := watchdog_period()) is not None:
                beside.append(asyncio.create_task(watchdog(service.daemon.alive, period)))
            notify("READY=1")

        async def farewell() -> None:
            await stop.wait()
            notify("STOPPING=1")

        beside.append(asyncio.create_task(farewell()))
        # While this lease runs, others can see that somebody takes what they put into the queue.
        async with space.runner.lease(holders.DAEMON + space.runner.owner):
            try:
                await serve(space, stop, Metrics(), ready)
            finally:
                for task in beside:
                    task.cancel()
    return exits.OK


class _Signals:
    """What SIGHUP and SIGUSR1 do to a running daemon."""

    def __init__(self, service: Service, chosen: Settings, read: Callable[[], Settings]) -> None:
        self.service, self.current, self.read = service, chosen, read

    def reload(self) -> None:
        """Read the settings again. What is wrong with them is told, and the old ones stay."""
        from reconciler.adapters.notify import notify, reloading
        from reconciler.model.errors import ReconcilerError
        from reconciler.settings import SettingsError

        reloading()
        try:
            fresh = self.read()
        except SettingsError as error:
            first = error.diagnostics[0]
            log.error("settings.rejected", extra={"at": str(first.at), "error": first.message, "hint": first.hint})
        except (ReconcilerError, OSError) as error:
            log.error("settings.rejected", extra={"error": str(error)})
        else:
            taken, waiting = self.service.adopt(self.current, fresh)
            self.current = replace(fresh, **{name: getattr(self.current, name) for name in waiting})
            log.info("settings.adopted", extra={"settings": taken})
            if waiting:
                log.warning("settings.need_restart", extra={"settings": waiting, "hint": "they hold from the next start on"})
        notify("READY=1")

    def tell(self) -> None:
        """The state of the daemon, as one line of the log."""
        log.info("daemon.state", extra={"state": self.service.dump()})


class _HumanLines(logging.Formatter):
    """One line per event: time, event, what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Render the fields that logs may carry, and no others."""
        from reconciler.telemetry import fields_of

        stamp = datetime.fromtimestamp(record.created, UTC)
        bound = " ".join(f"{name}={value}" for name, value in fields_of(record).items() if value != "")
        paint = output.style_for(sys.stderr, GLOBALS.colour)
        role = "bad" if record.levelno >= logging.ERROR else "warning" if record.levelno >= logging.WARNING else "bold"
        return f"{paint('dim', f'{stamp:%H:%M:%S}')}  {paint(role, f'{record.getMessage():<18}')} {bound}".rstrip()


def log_to(human: bool) -> None:
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
        self.handlers.approvals = space.approvals
        self.handlers.tell = space.review or self.handlers.tell

    def _keep(self, plan: Plan, report: Report | None) -> None:
        self.found = (plan, report)

    async def over(self, key: str) -> None:
        """Work a key now, under its lease; Locked when somebody else does."""
        from reconciler.telemetry import bound

        handler = next(h for prefix, h in self.handlers.table().items() if key.startswith(prefix))
        async with self.space.runner.lease(key) as lease:
            with bound(key=key, fence=str(lease.fence)):
                await handler(lease)

    @property
    def pending(self) -> bool:
        """Whether something of it waits for the network."""
        from reconciler.engine.execute import Fate

        return self.found is not None and self.found[1] is not None and self.found[1].count(Fate.PENDING) > 0

    @property
    def code(self) -> int:
        """The exit code, as apply's."""
        if self.handlers.source_fault:
            return exits.ERROR
        if self.found is None:
            return exits.OK
        plan, report = self.found
        if (plan.refusals and report is None) or self.space.ports.source.standing().held_back:
            return exits.GUARD
        if report is None:
            return exits.OK if self.handlers.mode == "observe" or not outcome.unfinished(plan) else exits.PARTIAL
        return outcome.code_of(plan, report)


async def _once(chosen: Settings) -> int:
    from reconciler.compose import workspace
    from reconciler.engine.narrate import logged

    async with workspace(chosen, watch=logged) as space:
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
            if space.outlets is not None:
                await space.outlets.dispatcher.flush()
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
    wait: Annotated[bool, typer.Option("--wait", help="Return when it is done, with the exit code of what it came to.")] = False,
    timeout: Annotated[str, typer.Option("--timeout", metavar="DURATION", help="Longest that --wait waits.")] = "10m",
) -> int:
    """Have resources looked at and put right now: by the daemon when one runs, else by this command."""
    if bool(key) == every:
        raise typer.BadParameter("name resources, or say --all")
    patience = waiting.seconds(timeout) if wait else 0.0
    log_to(human=GLOBALS.log_format != "json")
    return asyncio.run(_reconcile(list(key or ()), force, patience))


async def _reconcile(selectors: list[str], force: bool, patience: float) -> int:
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
            return await _awaited(space, keys, [str(ref) for ref in refs], patience) if patience else exits.OK
        if not daemon.running and not GLOBALS.quiet:
            output.say(f"no daemon is running: one pass here, mode {space.settings.mode}")
        until = space.ports.clock.now() + timedelta(seconds=patience)
        codes = []
        for one in keys:
            work = await _worked(space, one, until)
            codes.append(work.code)
            _tell(one, work)
        return max(codes)


async def _worked(space: Workspace, key: str, until: datetime) -> _Pass:
    """A pass over the key; and, while something of it waits for the network, another one, as long as there is time."""
    clock, pause = space.ports.clock, 1.0
    while True:
        work = _Pass(space)
        await work.over(key)
        left = (until - clock.now()).total_seconds()
        if left <= 0 or not work.pending:
            return work
        await clock.sleep(min(pause, left))
        pause = min(2 * pause, 15.0)


async def _awaited(space: Workspace, keys: list[str], targets: list[str], patience: float) -> int:
    """Wait for the daemon, and say what is left then."""
    from reconciler.cli import awaited, planning
    from reconciler.planner.render import why

    try:
        found = await awaited.until_done(space, keys, targets, patience, lambda: holders.presence(space).running)
    except planning.Invalid:
        return exits.ERROR
    for change in found.left:
        output.data(f"{change.ref}: {change.verb.value} is left, {change.detail or why(change)}")
    for guard in found.plan.refusals if found.plan is not None else ():
        output.say(f"guard {guard.name} refuses it: {guard.message}")
    if found.gone:
        output.say("the daemon has gone; what it was asked for stays queued")
    elif found.late:
        output.say(f"waited {patience:g} s in vain; the daemon goes on")
    elif not found.left:
        output.say(f"{', '.join(targets[:5]) + (' and more' if len(targets) > 5 else '') or 'everything'}: as declared")
    return found.code


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
