"""Before anything is carried out: what refuses the plan, what was let pass, at the terminal or by signature, and the way on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli import output

if TYPE_CHECKING:
    from datetime import datetime

    from reconciler.compose import Workspace
    from reconciler.engine.approve import Consent, Letter
    from reconciler.model.plan import GuardResult, Plan
    from reconciler.planner.guard import Limits


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a plan may be carried out: what still refuses it, and the guards that were let pass for it."""

    refused: tuple[GuardResult, ...]
    passed: frozenset[str]
    consent: Consent | None = None


def letters(files: Sequence[Path], plan_file: Path | None) -> list[Letter]:
    """The approvals that were named, each of which must be one, and those that stand beside the plan file."""
    from reconciler.adapters import inbox
    from reconciler.model.errors import GuardRefused, RemoteProtocolError
    from reconciler.wire.approval import read_approval

    found: list[Letter] = []
    for file in files:
        try:
            data = file.read_bytes()
            read_approval(data)
        except OSError as error:
            raise GuardRefused("bad-approval", f"cannot read {file}: {error.strerror}", hint="check the path") from error
        except RemoteProtocolError as error:
            raise GuardRefused("bad-approval", f"cannot use {file}: {error.message}", hint="have it signed again") from error
        found.append((str(file), data))
    named = {data for _, data in found}
    if plan_file is not None:
        found += [one for one in inbox.beside(plan_file) if one[1] not in named]
    return found


def standing(
    space: Workspace, plan: Plan, guards: Sequence[GuardResult], found: Sequence[Letter], said: frozenset[str]
) -> Standing:
    """Count what there is for a plan, of which the guards say this now; `said` are those of --approve.

    Tells whose approvals count, and of letters that count for nothing.
    """
    assert space.approvals is not None, "a command has the real doors"
    consent = space.approvals.consent(plan, found, guards=guards, passed=said)
    for place, why in consent.unreadable:
        output.say(f"ignored {place}: {why}")
    for one, why in consent.tally.ignored:
        output.say(f"ignored the approval of {one.approver or one.key[:12]}: {why}")
    for one in consent.tally.counted:
        named = f", lets pass {', '.join(one.guards)}" if one.guards else ""
        output.say(f"approved by {consent.tally.names[one.key]}{named}")
    kept = {guard.name for guard in consent.refused}
    return Standing(consent.refused, (said | consent.tally.passes) - kept, consent)


def remember(space: Workspace, plan: Plan, found: Standing, letters: Sequence[Letter]) -> None:
    """Enter into the ledger who agreed, before what they agreed to begins."""
    if space.approvals is not None and found.consent is not None and found.consent.tally.counted:
        from reconciler.engine.approve import opened

        ours = [one for one in letters if any(approval.plan == plan.id for approval in opened([one])[0])]
        space.approvals.enter(ours)
        space.approvals.note(plan, found.consent, space.ports.clock.now())


def tell(plan: Plan, refused: Sequence[GuardResult], limits: Limits, file: Path | None, now: datetime) -> None:
    """Each refusal with the rule that refuses, and the command that would let it pass."""
    for guard in refused:
        output.fail(f"cannot apply {plan.id}: guard {guard.name} refuses it ({guard.message})", way(guard, limits, file, now))


def way(guard: GuardResult, limits: Limits, file: Path | None, now: datetime) -> str:
    """How a refusal may be let pass, as a command; or what has to change."""
    from reconciler.engine.budget import renewal, renews
    from reconciler.planner.guard import APPROVALS, FUNDS, by_signature, lifted

    if guard.name == FUNDS:
        return "pay in what is missing"
    if not lifted(guard):
        return "nobody can let it pass: change what is declared, then plan again"
    later = f"; or wait: the budget renews at {renewal(now):%Y-%m-%d %H:%M} UTC" if renews(guard.name) else ""
    if by_signature(guard.name, limits):
        first = "" if file else "reconciler plan --out plan.json, then "
        flag = "" if guard.name == APPROVALS else f" --guard {guard.name}"
        return f"after review, each of them: {first}reconciler approve {file or 'plan.json'}{flag}{later}"
    return f"after review: reconciler apply{f' {file}' if file else ''} --approve {guard.name}{later}"
