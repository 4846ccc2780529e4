"""`--wait`: stay until what was put off is done, or until everything is in a block."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from reconciler.cli import outcome, output
from reconciler.cli.interrupt import Signals
from reconciler.cli.watching import Display

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.engine.execute import Executor
    from reconciler.model.plan import Plan

# Seconds between two looks at what is waited for.
_PAUSE = 1.0


def seconds(text: str) -> float:
    """The value of --timeout; BadParameter when it is no duration."""
    from reconciler.manifest import units

    try:
        return units.duration(text) / 1000
    except units.UnitError as error:
        raise typer.BadParameter(f"--timeout: {error}") from error


async def wait(
    space: Workspace, plan: Plan, executor: Executor, display: Display, signals: Signals, *, mined: bool, patience: float
) -> bool:
    """Until what had to wait is done and, for `mined`, every transaction of the plan is in a block; False when the time is up."""
    from datetime import timedelta

    until = space.ports.clock.now() + timedelta(seconds=patience)
    said = ""
    stopped = asyncio.Event()
    signals.stop = stopped.set
    while space.ports.clock.now() < until and not stopped.is_set():
        await _retry_due(space, plan, executor)
        told = await _missing(space, plan, executor, mined=mined)
        if not told:
            return True
        if told != said:
            display.say(f"      {display.paint('dim', told)}")
            said = told
        await space.ports.clock.sleep(_PAUSE)
    if not stopped.is_set():
        output.say(f"waited {patience:g} s in vain; the daemon, or the same command, goes on")
    return False


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
