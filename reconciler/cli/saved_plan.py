"""Plan files: written by `plan --out`, read by `apply`, and refused when the world they were made for has moved."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.model.change import Change
    from reconciler.model.plan import GuardResult, Plan
    from reconciler.model.ref import ResourceRef
    from reconciler.planner.guard import Limits

_AGAIN = "plan again"


def save(made: Plan, file: Path) -> str:
    """Write the plan file; the sentence that says so and what to do next."""
    from reconciler.planner.guard import APPROVALS, lifted
    from reconciler.planner.planfile import write_plan
    from reconciler.planner.render import advice, guard_flags

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
    said = f"Saved to {file} (sha256 {hashlib.sha256(content).hexdigest()[:8]}…)."
    refusals = [guard.name for guard in made.refusals]
    if any(not lifted(guard) for guard in made.refusals):
        return f"{said} {advice(made)}"
    if APPROVALS in refusals:
        return f"{said} Have it signed with: reconciler approve {file}{guard_flags(refusals)}"
    return f"{said} Apply with: reconciler apply {file}{''.join(f' --approve {name}' for name in refusals)}"


def read(file: Path) -> Plan:
    """The plan in a file. Refused: there is none. GuardRefused: it was altered. Conflict: another format wrote it."""
    from reconciler.model.errors import Refused
    from reconciler.planner.planfile import read_plan

    try:
        return read_plan(file.read_bytes())
    except OSError as error:
        hint = "make it with: reconciler plan --out FILE"
        raise Refused("no-plan-file", f"cannot read {file}: {error.strerror}", hint=hint) from error


def check(space: Workspace, plan: Plan, plan_id: str | None, approved: frozenset[str]) -> tuple[GuardResult, ...]:
    """What the guards say of a saved plan now. Conflict when it no longer fits this ledger: other lineage or environment, or
    a resource that moved since; or, where commits are the source, when another one is in force by now.

    Only the resources of the plan are looked at: work on others does not make it stale. What it has done itself is no change.
    """
    from reconciler.engine.budget import effective
    from reconciler.engine.survey import midnight
    from reconciler.model.errors import Conflict
    from reconciler.model.intent import RunState
    from reconciler.planner.guard import SPEND_DAY, SPEND_RUN, budgets

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
    if space.settings.git is not None and (now_at := space.ports.source.current().id) != plan.revision:
        # Whoever signed it signed for that commit: what came after it was not before them.
        raise Conflict("stale", f"cannot apply this plan: it was made for {plan.revision}, and {now_at} is in force", hint=_AGAIN)
    left: dict[ResourceRef, Change] = {}
    with space.ports.ledger.begin() as tx:
        limits = replace(effective(space.settings.limits, tx, space.ports.clock.now()), approved=approved)
        for change in plan.acting:
            run = tx.run(change.run_id(plan.lineage))
            if run is None or run.state is not RunState.DONE:
                left[change.ref] = change
            if run is not None:
                continue
            now = recorded.records[change.ref].generation if change.ref in recorded.records else 0
            then = change.before.generation if change.before else 0
            if now != then or recorded.attempts.get(change.ref, 0) != change.attempt:
                told = f"cannot apply this plan to {change.ref}: it has changed since (generation {then}, now {now})"
                raise Conflict("stale", told, hint=_AGAIN)
    # What was said of its size when it was made holds; money, policies and signatures are those of today.
    now_said = {guard.name: guard for guard in budgets(recorded, list(left.values()), limits)}
    stays = {guard.name: guard for guard in plan.guards if not guard.name.startswith(SPEND_DAY)}
    if SPEND_RUN in stays and not stays[SPEND_RUN].ok:
        # It may have been refused for the sake of --max-spend, of which only the plan knows.
        now_said.pop(SPEND_RUN, None)
    return judged(replace(plan, guards=tuple((stays | now_said).values())), limits)


def judged(plan: Plan, limits: Limits) -> tuple[GuardResult, ...]:
    """The plan's verdicts, with those of policies and of signatures as today's settings give them."""
    from reconciler.planner.guard import APPROVALS, POLICY
    from reconciler.planner.plan import ruled

    own = tuple(guard for guard in plan.guards if not guard.name.startswith(POLICY) and guard.name != APPROVALS)
    return (*own, *ruled(replace(plan, guards=own), limits))
