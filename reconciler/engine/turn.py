"""Whose turn it is: a plan may have waited for a yes, and others worked meanwhile. One resource has one run at a time."""

from __future__ import annotations

from datetime import datetime

from reconciler.engine.finish import release, spent
from reconciler.engine.journal import has_signed
from reconciler.model.change import Change, Verb
from reconciler.model.errors import Conflict
from reconciler.model.intent import Run, RunState
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.planner.diff import same
from reconciler.ports import LedgerTransaction


def fits(change: Change, run: Run | None, record: Record | None) -> None:
    """Conflict unless the change may begin, go on, or stands as it was left when its run was done."""
    if run is None:
        before = change.before
        if (record is None) != (before is None) or (record and before and not _is(record, before)):
            raise _stale(change, "it has changed since")
    elif run.state is RunState.STALLED:
        raise _stale(change, f"its run was given up ({run.error})")
    elif run.state is RunState.DONE:
        gone = change.verb in (Verb.DELETE, Verb.FORGET)
        if gone != (record is None) or (record is not None and record.generation != change.generation):
            raise _stale(change, "it was carried out, and things have moved on since")


def supersede(tx: LedgerTransaction, key: str, now: datetime) -> None:
    """Close whatever else is open under the key and has signed nothing; Conflict when money may be in flight."""
    for run in tx.runs(state=RunState.OPEN, key=key):
        if has_signed(tx, run.id):
            message = f"cannot begin on {key.removeprefix('ref/')}: run {run.id} of another plan is open"
            raise Conflict("run-open", message, hint="apply again: what is open is driven to its end first")
        ref = ResourceRef.parse(key.removeprefix("ref/"))
        tx.book(run.id, ref, now, *spent(tx, run.id))
        release(tx, run.id)
        tx.close_run(run.id, RunState.STALLED, "superseded by a newer plan before anything was signed")
        tx.note(ref, now, "run.superseded", {"run": run.id})


def _is(record: Record, before: Record) -> bool:
    """Whether the record is the one the plan was made for; its status may have moved."""
    alike = same(record.outputs, before.outputs) and same(record.body, before.body)
    return alike and (record.uid, record.generation) == (before.uid, before.generation)


def _stale(change: Change, why: str) -> Conflict:
    return Conflict("stale", f"cannot apply this plan to {change.ref}: {why}", hint="plan again")
