"""Settle every open run before anything new is planned."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.engine.run import Runner
from reconciler.model.intent import Outcome, RunState


async def recover(runner: Runner) -> Mapping[str, Outcome]:
    """Drive each open run to its end by replay, oldest first; returns run id -> outcome.

    A run held by another owner is left to it (Locked passes through only when nothing else can go on).
    """
    with runner.ports.ledger.begin() as tx:
        open_runs = tx.runs(state=RunState.OPEN)
    return {run.id: await runner.resume(run) for run in open_runs}
