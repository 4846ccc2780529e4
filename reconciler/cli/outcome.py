"""What an apply came to: the final lines, the result document, and the exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reconciler.cli import exits
from reconciler.cli.output import Style

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.engine.execute import Report
    from reconciler.model.change import Change
    from reconciler.model.intent import Outcome, Run
    from reconciler.model.plan import Plan
    from reconciler.model.record import Record

# Exit code -> the word for it in the result document.
_WORDS = {
    exits.OK: "applied",
    exits.ERROR: "failed",
    exits.PARTIAL: "partial",
    exits.GUARD: "refused",
    exits.STALE: "stale",
    exits.LOCKED: "locked",
    exits.ATTENTION: "uncertain",
    exits.INTERRUPTED: "interrupted",
    exits.TERMINATED: "terminated",
}


@dataclass(frozen=True, slots=True)
class Moved:
    """What one change really moved, as its journal and the books have it."""

    run: str
    satoshis: int
    txids: tuple[str, ...]


@dataclass(slots=True)
class Result:
    """An apply, told. `moved` is by the name of the resource; `split` are the funding transactions of the plan.

    `resumed` are runs of an earlier plan that this command carried to their end, and `resumed_planned` what those were to cost.
    """

    plan: Plan
    report: Report
    moved: dict[str, Moved] = field(default_factory=dict)
    split: list[Moved] = field(default_factory=list)
    resumed: list[Moved] = field(default_factory=list)
    resumed_planned: int = 0
    records: dict[str, Record] = field(default_factory=dict)
    recovered: dict[str, str] = field(default_factory=dict)
    code: int = exits.OK

    @property
    def spent(self) -> int:
        """Satoshis that left the purse for this plan and for what it resumed, returns subtracted."""
        return sum(one.satoshis for one in (*self.moved.values(), *self.split, *self.resumed))

    @property
    def planned(self) -> int:
        """Satoshis that all of that was to cost."""
        return self.plan.cost.satoshis + self.resumed_planned

    @property
    def done(self) -> int:
        """How many changes are done."""
        from reconciler.engine.execute import Fate

        return self.report.count(Fate.DONE)


def gather(space: Workspace, plan: Plan, report: Report, recovered: Mapping[str, str]) -> Result:
    """Read from the ledger what the plan's runs moved and made. The plan's own figures are estimates and not asked."""
    from reconciler.engine.finish import spent

    result = Result(plan, report, recovered=dict(recovered))
    with space.ports.ledger.begin() as tx:

        def moved(run_id: str) -> Moved:
            signed = [intent.result.get("txid") for intent in tx.intents(run_id) if intent.effect == "Sign"]
            return Moved(run_id, sum(spent(tx, run_id)), tuple(txid for txid in signed if txid))

        for change in plan.acting:
            run_id = change.run_id(plan.lineage)
            if tx.run(run_id) is not None:
                result.moved[str(change.ref)] = moved(run_id)
            if (record := tx.record(change.ref)) is not None:
                result.records[str(change.ref)] = record
        result.split = [moved(run_id) for run_id, _ in plan.splits]
        own = {one.run for one in (*result.moved.values(), *result.split)}
        for run_id in sorted(set(recovered) - own):
            if (run := tx.run(run_id)) is not None:
                result.resumed.append(moved(run_id))
                result.resumed_planned += _approved(run)
    result.code = code_of(plan, report)
    return result


def _approved(run: Run) -> int:
    """Satoshis that a run was planned to cost."""
    from reconciler.model.change import Change
    from reconciler.model.codec import decode
    from reconciler.model.plan import Funding

    if "funding" in run.subject:
        split: Funding = decode(Funding, run.subject["funding"])
        return split.cost.satoshis
    change: Change = decode(Change, run.subject["change"])
    return change.cost.satoshis


def code_of(plan: Plan, report: Report) -> int:
    """The worst of it. One special cause for everything that failed, with nothing done, keeps its own code."""
    from reconciler.engine.execute import Fate
    from reconciler.model.errors import Attention, Uncertain

    errors = [one.error for one in report.results.values() if one.error is not None]
    if any(isinstance(error, Uncertain | Attention) for error in errors):
        return exits.ATTENTION
    if len(report.results) == len(plan.acting) and report.complete:
        return exits.PARTIAL if unfinished(plan) else exits.OK
    codes = {exits.code_of(error) for error in errors}
    if report.count(Fate.DONE) == 0 and len(codes) == 1 and codes < {exits.GUARD, exits.STALE, exits.LOCKED}:
        return codes.pop()
    return exits.PARTIAL


def unfinished(plan: Plan) -> list[Change]:
    """What the plan itself left undone: blocked, or not known well enough to act. A suspension is a wish, not a failure."""
    from reconciler.model.change import Verb

    return [change for change in plan.changes if change.blocked is not None or change.verb is Verb.DEFER]


def closing(result: Result, paint: Style) -> list[str]:
    """The last lines for a person."""
    from reconciler.planner import phrases

    plan, lines = result.plan, []
    for change in plan.acting:
        one = result.report.results.get(change.ref)
        if one is not None and one.fate.value == "skipped":
            lines.append(f"      {change.ref!s:<26} {paint('dim', 'skipped ' + one.why)}")
    lines += [f"      {c.ref!s:<26} {paint('dim', 'left aside: ' + (c.blocked or c.detail))}" for c in unfinished(plan)]
    done = f"{result.done} of {phrases.count(len(plan.acting), 'action')}"
    money = f"Planned {phrases.sats(result.planned)}, spent {phrases.sats(result.spent)}."
    role, word = ("good", "Applied") if result.code == exits.OK else ("warning", "Partly applied")
    lines.append(paint(role, f"{word} {plan.id}: {done}.") + f" {money}")
    if waiting := [one for one in result.report.results.values() if one.fate.value == "pending"]:
        lines.append(f"{phrases.count(len(waiting), 'action')} waiting for the network; run the same command to continue.")
    return lines


def document(result: Result) -> dict[str, Any]:
    """The result for scripts."""
    from reconciler.cli.envelope import results
    from reconciler.model.codec import encode

    fates = []
    for change in result.plan.acting:
        one, moved = result.report.results.get(change.ref), result.moved.get(str(change.ref))
        record = result.records.get(str(change.ref))
        fates.append(
            {
                "ref": str(change.ref),
                "verb": change.verb.value,
                "reason": change.reason.value,
                "fate": one.fate.value if one else "cancelled",
                "why": (one.why if one else "not started") or None,
                "retryAt": encode(one.retry_at) if one and one.retry_at else None,
                "run": moved.run if moved else None,
                "transactionIds": list(moved.txids) if moved else [],
                "satoshis": moved.satoshis if moved else 0,
                "outputs": results(record) if record else {},
            }
        )
    return {
        "planId": result.plan.id,
        "revision": result.plan.revision,
        "environment": result.plan.environment,
        "resources": fates,
        "leftAside": [{"ref": str(c.ref), "why": c.blocked or c.detail} for c in unfinished(result.plan)],
        "recovered": result.recovered,
        "planned": result.planned,
        "spent": result.spent,
        "exit": {"code": result.code, "reason": _WORDS.get(result.code, "failed")},
    }


def outcome_words(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """Run id -> done, stalled, retry or waiting."""
    return {run: type(outcome).__name__.lower() for run, outcome in outcomes.items()}


def interrupted(result: Result, flying: Sequence[str]) -> list[str]:
    """What stands after a stop: nothing is in doubt, because everything that was sent is in the journal."""
    from reconciler.engine.execute import Fate

    counts = result.report
    begun = counts.count(Fate.PENDING) + len(flying)
    failed = f", {counts.count(Fate.FAILED)} failed" if counts.count(Fate.FAILED) else ""
    left = len(result.plan.acting) - counts.count(Fate.DONE) - counts.count(Fate.FAILED) - begun
    return [
        f"Interrupted. {result.done} done, {begun} sent and being confirmed, {max(0, left)} not started{failed}, 0 in doubt.",
        "Re-run the same command to continue.",
    ]
