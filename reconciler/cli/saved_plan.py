"""Plan files: written by `plan --out`, read by `apply`, and refused when the world they were made for has moved."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.model.plan import Plan

_AGAIN = "plan again"


def save(made: Plan, file: Path) -> str:
    """Write the plan file; the sentence that says so and what to do next."""
    from reconciler.planner.planfile import write_plan

    content = write_plan(made)
    part = file.with_name(file.name + ".part")
    try:
        part.write_bytes(content)
        part.replace(file)
    except OSError as error:
        from reconciler.model.errors import Refused

        raise Refused(
            "plan-out", f"cannot write {file}: {error.strerror}", hint="name a file in a directory that exists"
        ) from error
    approvals = "".join(f" --approve {guard.name}" for guard in made.refusals)
    return f"Saved to {file} (sha256 {hashlib.sha256(content).hexdigest()[:8]}…). Apply with: reconciler apply {file}{approvals}"


def read(file: Path) -> Plan:
    """The plan in a file. Refused: there is none. GuardRefused: it was altered. Conflict: another format wrote it."""
    from reconciler.model.errors import Refused
    from reconciler.planner.planfile import read_plan

    try:
        return read_plan(file.read_bytes())
    except OSError as error:
        hint = "make it with: reconciler plan --out FILE"
        raise Refused("no-plan-file", f"cannot read {file}: {error.strerror}", hint=hint) from error


def check(space: Workspace, plan: Plan, plan_id: str | None, approved: frozenset[str]) -> None:
    """Conflict when a saved plan no longer fits this ledger: other lineage or environment, or a resource that moved since.

    Only the resources of the plan are looked at: work on others does not make it stale. What it has done itself is no change.
    """
    from reconciler.engine.survey import midnight
    from reconciler.model.errors import Conflict, GuardRefused
    from reconciler.model.intent import RunState
    from reconciler.planner.phrases import sats

    if plan_id not in (None, plan.id):
        raise Conflict("other-plan", f"cannot apply {plan_id}: the file holds {plan.id}", hint=_AGAIN)
    recorded = space.ports.ledger.read(midnight(space.ports.clock.now()))
    if plan.lineage != recorded.lineage:
        raise Conflict("other-ledger", "cannot apply this plan: it was made for another ledger", hint=_AGAIN)
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
                raise Conflict("stale", told, hint=_AGAIN)
    most = space.settings.limits.spend_day
    if most is not None and left > 0 and recorded.spent_today + left > most and "spend-day" not in approved:
        told = f"cannot apply {plan.id}: {sats(recorded.spent_today)} spent today, {sats(left)} to go, {sats(most)} per day"
        raise GuardRefused("spend-day", told, hint="--approve spend-day, or wait until midnight UTC")
