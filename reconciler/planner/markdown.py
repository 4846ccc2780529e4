"""A plan as GitHub-flavoured Markdown: the comment a reviewer reads under a proposed change of manifests."""

from __future__ import annotations

import re

from reconciler.model.change import Change, Cost, Verb
from reconciler.model.plan import GuardResult, Plan
from reconciler.planner import phrases
from reconciler.planner.guard import WARNING
from reconciler.planner.render import MARKS, TOTALS, advice, arithmetic, fields, totals, why

# What Markdown or HTML would take for more than text.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~@])")
# A comment is cut by its host at 65536 characters; beyond so many rows nobody reads either.
_ROWS = 100


def as_markdown(plan: Plan) -> str:
    """The plan as Markdown: totals, a table of changes, their fields folded away, cost and guards."""
    counts = totals(plan)
    parts = [f"{phrases.grouped(counts[name])} {said}" for name, said in TOTALS.items() if counts[name]]
    lines = [f"### Plan `{plan.id}`: {', '.join(parts) or 'nothing to do'}", ""]
    where = f"environment {_safe(plan.environment)}" if plan.environment else "base"
    lines += [f"{_safe(plan.revision)}, {where}", ""]
    shown = [change for change in plan.changes if change.verb is not Verb.NONE]
    if shown:
        lines += ["| | resource | why | cost |", "|---|---|---|---|"]
        lines += [_row(change) for change in shown[:_ROWS]]
        if len(shown) > _ROWS:
            lines.append(f"| | … and {phrases.grouped(len(shown) - _ROWS)} more | | |")
        lines += ["", *_details(shown[:_ROWS])]
    if plan.acting:
        lines += [f"**Cost:** {arithmetic(plan.cost)} in {phrases.count(plan.cost.transactions, 'transaction')}", ""]
    lines += [f"- {_mark(guard)} **{_safe(guard.name)}** {_safe(guard.message)}" for guard in plan.guards]
    return "\n".join([*lines, "", _safe(advice(plan))]) + "\n"


def _mark(guard: GuardResult) -> str:
    return "❌" if not guard.ok else "⚠️" if guard.message.startswith(WARNING) else "✅"


def _row(change: Change) -> str:
    mark = "?" if change.verb is Verb.DEFER else MARKS[change.verb]
    reason = _safe(change.detail or why(change)) if change.verb is Verb.DEFER else _safe(why(change))
    if change.blocked is not None:
        reason += f"<br>⛔ {_safe(change.blocked)}"
    price = phrases.price(change.cost) if change.cost != Cost() or change.verb is Verb.REPAIR else ""
    return f"| `{mark}` | {_safe(str(change.ref))} | {reason} | {price} |"


def _details(changes: list[Change]) -> list[str]:
    lines = []
    for change in changes:
        rows = fields(change)
        if rows:
            lines += ["<details>", f"<summary>{_safe(str(change.ref))}</summary>", ""]
            lines += [f"- {_safe(name)}: {_safe(text)}" for name, text in rows]
            lines += ["", "</details>", ""]
    return lines


def _safe(text: str) -> str:
    """Text that stays text: one line, no markup, no mention of anyone."""
    return _SPECIAL.sub(r"\\\1", phrases.cut(phrases.harmless(text), 300))
