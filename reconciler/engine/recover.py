"""Settle every open run before anything new is planned."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from reconciler.engine import farewell, faults
from reconciler.engine.backoff import retry_at
from reconciler.engine.finish import halt
from reconciler.engine.run import Runner
from reconciler.model.errors import Conflict, Locked, ReconcilerError, Unavailable, Uncertain
from reconciler.model.intent import Outcome, Retry, Run, RunState, Stalled

log = logging.getLogger("reconciler.engine")


async def recover(runner: Runner) -> Mapping[str, Outcome]:
    """Drive each open run to its end by replay, oldest first; returns run id -> outcome.

    A run that cannot go on stays open and its resource frozen; the others do not wait for it.
    """
    with runner.ports.ledger.begin() as tx:
        open_runs = tx.runs(state=RunState.OPEN)
    await farewell.bid(runner.ports)
    return {run.id: await _one(runner, run) for run in open_runs}


async def _one(runner: Runner, run: Run) -> Outcome:
    try:
        return await runner.resume(run)
    except (Unavailable, Uncertain, Locked, Conflict) as error:
        return Retry(retry_at(runner.ports.clock.now(), 0, runner.ports.entropy), error)
    except ReconcilerError as error:
        log.error("run.halted", extra={"run": run.id, "error": error.message, "hint": error.hint})
        halt(runner.ports, run, error)
        return Stalled(error)
    except Exception as bug:
        named = faults.fault(bug)
        faults.tell(run.key.removeprefix("ref/"), named, bug)
        halt(runner.ports, run, named)
        return Stalled(named)
