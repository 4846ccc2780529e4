"""A plan as text for a terminal and as JSON for programs.

Schema of `as_json`: every field of Plan as the codec writes it, secrets replaced by digests (a plan that can be applied
is written by `planfile`), and

    formatVersion  1
    id             "pl_" + 10 hex digits, the digest of the plan
    totals         {add, change, replace, repair, retire, forget, deferred, blocked, unchanged: counts of resources,
                    transactions, fees, payments, locked, satoshis, uploaded: the cost of all of it}

`as_lines` gives the same as JSON lines: {"type": "change", ...Change, after: [refs]} for each resource in order, then
one {"type": "summary", formatVersion, id, lineage, serial, revision, environment, totals, funding, guards, notes}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from reconciler.model.canonical import Json, canonical
from reconciler.model.change import Cause, Change, Cost, FieldDelta, Reason, Verb
from reconciler.model.codec import encode
from reconciler.model.plan import FORMAT_VERSION, Funding, GuardResult, Plan
from reconciler.planner import phrases
from reconciler.planner.decide import NAME
from reconciler.planner.diff import redact
from reconciler.planner.guard import APPROVALS, APPROVED, DELETES, FUNDS, SPEND_DAY, WARNING, lifted

# (role, text) -> text with its colours. Roles: add, change, replace, remove, repair, bold, dim, good, bad.
Style = Callable[[str, str], str]

MARKS = {
    Verb.CREATE: "+",
    Verb.UPDATE: "~",
    Verb.REPLACE: "-/+",
    Verb.DELETE: "-",
    Verb.FORGET: "x",
    Verb.REPAIR: "≈",
    Verb.MOVE: "→",
}
_ROLES = {
    Verb.CREATE: "add",
    Verb.UPDATE: "change",
    Verb.REPLACE: "replace",
    Verb.DELETE: "remove",
    Verb.FORGET: "remove",
    Verb.REPAIR: "repair",
    Verb.MOVE: "change",
}
# Name of a total, and how a person says it.
TOTALS = {
    "add": "to add",
    "change": "to change",
    "replace": "to replace",
    "retire": "to retire",
    "repair": "to repair",
    "move": "to move",
    "forget": "to forget",
    "deferred": "deferred",
    "blocked": "blocked",
    "unchanged": "unchanged",
}
_COUNTED = {
    Verb.CREATE: "add",
    Verb.UPDATE: "change",
    Verb.REPLACE: "replace",
    Verb.DELETE: "retire",
    Verb.REPAIR: "repair",
    Verb.MOVE: "move",
    Verb.FORGET: "forget",
    Verb.DEFER: "deferred",
    Verb.NONE: "unchanged",
}
# A new resource shows so many of its fields; the manifest has the rest.
_FIELDS = 12
_NAME_WIDTH = 34
_FIELD_WIDTH = 14


def totals(plan: Plan) -> dict[str, int]:
    """How many resources fall to each verb, and the cost in its parts."""
    counts = dict.fromkeys(TOTALS, 0)
    for change in plan.changes:
        counts["blocked" if change.blocked is not None else _COUNTED[change.verb]] += 1
    cost = plan.cost
    return {**counts, **encode(cost), "satoshis": cost.satoshis}


def as_json(plan: Plan) -> dict[str, Json]:
    """The plan as one JSON object (see the module's schema)."""
    body: dict[str, Json] = redact(encode(plan))
    return {"formatVersion": FORMAT_VERSION, "id": plan.id, **body, "totals": totals(plan)}


def as_lines(plan: Plan) -> Iterator[str]:
    """The plan as JSON lines, without line ends."""
    whole = as_json(plan)
    after = whole.pop("after")
    for change in whole.pop("changes"):
        yield canonical({"type": "change", **change, "after": after.get(change["ref"], [])}).decode()
    yield canonical({"type": "summary", **whole}).decode()


def as_text(
    plan: Plan, *, style: Style | None = None, next_step: str | None = None, told: Callable[[Change], Change] | None = None
) -> str:
    """The plan as a person reads it, ending in a line end.

    `next_step` replaces the advice of the last line; `told` rewrites the values of a change for the eye alone.
    """
    paint, told = style or _plain, told or _as_it_is
    head = f"Source   {plan.revision}   env {plan.environment}   {phrases.count(len(plan.changes), 'resource')}"
    lines = [phrases.harmless(line) for line in (head, *plan.notes)] + [""]
    shown = [change for change in plan.changes if change.verb in MARKS and change.verb is not Verb.REPAIR]
    for change in shown:
        lines += _block(plan, told(change), paint)
    if shown:
        lines.append("")
    lines += _section("Drift", [told(c) for c in plan.changes if _drifted(c)], paint)
    timely = [told(c) for c in plan.changes if c.reason is Reason.EXPIRING]
    lines += _section("Renewals", [c for c in timely if not _retires(c)], paint)
    lines += _section("Keys whose time is over", [c for c in timely if _retires(c)], paint)
    lines += _section("Not decided", [c for c in plan.changes if c.verb is Verb.DEFER or c.reason is Reason.SUSPENDED], paint)
    lines += [*_summary(plan, paint), paint("bold", next_step) if next_step is not None else advice(plan)]
    return "\n".join(lines).rstrip("\n") + "\n"


def advice(plan: Plan) -> str:
    """What to do with the plan now."""
    refusals = [guard.name for guard in plan.refusals]
    banned = [guard.name for guard in plan.refusals if not lifted(guard) and guard.name != FUNDS]
    if banned:
        return f"Refused by {', '.join(banned)}, which nobody can let pass: change what is declared, then plan again."
    if FUNDS in refusals:
        return "Refused: the purse lacks coins. Pay in what is missing, then plan again."
    if APPROVALS in refusals:
        return f"Refused until it is signed: reconciler plan --out FILE, then reconciler approve FILE{guard_flags(refusals)}"
    if refusals:
        return "Refused. To let it pass after review: --approve " + ",".join(refusals)
    if plan.acting:
        return "Apply with: reconciler apply"
    if plan.empty:
        return "Nothing to do: the network is as declared."
    return "Nothing can be done now; see what is blocked or deferred above."


def guard_flags(refusals: Sequence[str]) -> str:
    """What an approver adds so that these refusals pass with the signature."""
    return "".join(f" --guard {name}" for name in refusals if name != APPROVALS)


def why(change: Change) -> str:
    """One phrase for the reason of a change, with the place in the manifests where there is one."""
    at = change.after.at if change.after is not None else None
    place = phrases.harmless(f"{at.file}:{at.line}") if at is not None and at.file else ""
    if change.verb is Verb.REPLACE:
        fields = sorted({delta.path.removeprefix("spec.") for delta in change.deltas if delta.replaces})
        return f"{', '.join(fields)} cannot change in place: retired and made anew"
    told = {
        Reason.NEW: "new",
        Reason.SPEC_CHANGED: "changed",
        Reason.REQUIREMENT_CHANGED: "what it builds on changes",
        Reason.DRIFTED: "the network left the record",
        Reason.EXPIRING: "what was paid for ends soon",
        Reason.LOST: "lost on the network, made again",
        Reason.MOVED: _moved(change),
        Reason.REMOVED: "no longer declared",
        Reason.ALREADY_GONE: "already gone, the record is dropped",
    }.get(change.reason, change.reason.value)
    return f"{told} in {place}" if place and change.reason in (Reason.NEW, Reason.SPEC_CHANGED, Reason.MOVED) else told


def _moved(change: Change) -> str:
    """A new name, and whether it takes a new version of what is published."""
    old = next((f" from {phrases.value(delta.before)}" for delta in change.deltas if delta.path == NAME), "")
    return f"moved{old}" + ("" if change.verb is Verb.MOVE else ": published again under the new name")


def fields(change: Change) -> list[tuple[str, str]]:
    """(name, text) of every field worth showing: what changes, or for a new resource what it is."""
    if change.verb is Verb.CREATE and change.reason is not Reason.LOST:
        return _facts(change)
    return [(phrases.harmless(delta.path.removeprefix("spec.")), _delta(delta)) for delta in change.deltas]


def _facts(change: Change) -> list[tuple[str, str]]:
    spec = redact(change.body.get("spec") or {})
    found = [(phrases.harmless(name), phrases.value(item)) for name, item in sorted(spec.items()) if item is not None]
    if len(found) > _FIELDS:
        found = [*found[:_FIELDS], ("…", f"and {phrases.count(len(found) - _FIELDS, 'more field')}")]
    for fact in change.body.get("files") or ():
        path, sha256 = phrases.harmless(fact["path"]), phrases.digest(fact["sha256"])
        found.append(("content", f"{path}  sha256 {sha256}  {phrases.size(fact['size'])}"))
    return found


def _delta(delta: FieldDelta) -> str:
    mark = "≈ " if delta.cause is Cause.DRIFT else ""
    return f"{mark}{phrases.value(delta.before)} → {phrases.value(delta.after)}"


def _drifted(change: Change) -> bool:
    mending = change.verb is Verb.REPAIR and change.reason is not Reason.EXPIRING
    return mending or (change.verb is Verb.NONE and change.reason is Reason.DRIFTED)


def _block(plan: Plan, change: Change, paint: Style) -> list[str]:
    """One resource: a head line, its fields, what blocks it, its price."""
    head = f"{MARKS[change.verb]:>3} {change.ref!s:<{_NAME_WIDTH}} {why(change)}".rstrip()
    lines = [paint("bad" if change.blocked is not None else _ROLES[change.verb], head)]
    rows = fields(change)
    if change.detail:
        rows.append(("because", _told(change.detail)))
    if change.cost != Cost():
        made = f" ({phrases.count(change.cost.transactions, 'transaction')})" if change.cost.transactions else ""
        rows.append(("cost", phrases.price(change.cost) + made))
    width = max((len(name) for name, _ in rows), default=0)
    lines += [f"      {name:<{max(width, _FIELD_WIDTH)}} {text}" for name, text in rows]
    return lines + _blocked(change, paint)


def _blocked(change: Change, paint: Style) -> list[str]:
    return [] if change.blocked is None else [paint("bad", f"      ! {_told(change.blocked)}")]


def _told(text: str) -> str:
    return phrases.cut(phrases.harmless(text), 400)


def _retires(change: Change) -> bool:
    """Whether a key that was replaced is no longer honoured."""
    return change.reason is Reason.EXPIRING and any(delta.path.startswith("keys.") for delta in change.deltas)


def _section(title: str, changes: list[Change], paint: Style) -> list[str]:
    if not changes:
        return []
    lines = [paint("bold", title)]
    for change in changes:
        act = "retire" if _retires(change) else "renew" if change.reason is Reason.EXPIRING else "repair"
        repaired = f"→ {act}, {phrases.price(change.cost)}"
        outcome = repaired if change.verb is Verb.REPAIR else _told(change.detail or change.reason.value)
        mark = "↻" if change.reason is Reason.EXPIRING else "≈" if _drifted(change) else "?" if change.verb is Verb.DEFER else "‖"
        lines.append(paint("repair" if _drifted(change) else "dim", f"{mark:>3} {change.ref!s:<{_NAME_WIDTH}} {outcome}"))
        lines += [f"      {name:<{_FIELD_WIDTH}} {text}" for name, text in fields(change)]
        lines += _blocked(change, paint)
    return [*lines, ""]


def _summary(plan: Plan, paint: Style) -> list[str]:
    counts = totals(plan)
    parts = [f"{phrases.grouped(counts[name])} {said}" for name, said in TOTALS.items() if counts[name]]
    lines = [paint("bold", f"Plan {plan.id}: {', '.join(parts) or 'nothing declared, nothing recorded'}")]
    if plan.acting:
        lines.append(f"Cost: {arithmetic(plan.cost)}")
        moved = phrases.count(plan.cost.transactions, "transaction")
        moved += f", {phrases.size(plan.cost.uploaded)} to upload" if plan.cost.uploaded else ""
        budget = next((f"      budget {guard.message}" for guard in plan.guards if guard.name == SPEND_DAY), "")
        lines.append(f"      {moved}{budget}")
    lines += [_split(chain, tuple(splits)) for chain, splits in groupby(plan.funding, lambda funding: funding.chain)]
    if plan.guards:
        lines.append("Guards: " + " · ".join(_verdict(guard, paint) for guard in plan.guards))
    lines += [paint("bad", f"      ! {guard.name}: {_told(guard.message)}") for guard in plan.refusals]
    warned = [guard for guard in plan.guards if guard.ok and guard.message.startswith(WARNING)]
    lines += [paint("change", f"      ! {guard.name}: {_told(guard.message)}") for guard in warned]
    return lines


def _split(chain: str, splits: Sequence[Funding]) -> str:
    """The splits of one chain; each but the first spends a coin that an earlier one made for it."""
    made = phrases.grouped(sum(len(funding.outputs) for funding in splits) - len(splits) + 1)
    merged, fees = phrases.count(splits[0].inputs, "coin"), phrases.sats(sum(funding.cost.fees for funding in splits))
    several = f" in {len(splits)} transactions" if len(splits) > 1 else ""
    return f"      first {merged} split into {made} on {chain}{several}, fee {fees}"


def arithmetic(cost: Cost) -> str:
    """The sum a reader can check: `529 sat fees + 3 450 sat storage − 1 000 sat returned = 2 979 sat`."""
    text = f"{phrases.sats(cost.fees)} fees"
    if cost.payments:
        text += f" + {phrases.sats(cost.payments)} storage"
    if cost.locked > 0:
        text += f" + {phrases.sats(cost.locked)} locked"
    if cost.locked < 0:
        text += f" {phrases.MINUS} {phrases.sats(-cost.locked)} returned"
    return f"{text} = {phrases.sats(cost.satoshis)}"


def _verdict(guard: GuardResult, paint: Style) -> str:
    if not guard.ok:
        return f"{guard.name} {paint('bad', 'REFUSED')}"
    if guard.message.startswith(WARNING):
        return f"{guard.name} {paint('change', 'WARNING')}"
    # Of what passes, only the size of a removal and what a person let through are worth a reader's time.
    told = f" {_told(guard.message)}" if guard.name == DELETES or guard.message.startswith(APPROVED) else ""
    return f"{guard.name}{told} {paint('good', 'ok')}"


def _as_it_is(change: Change) -> Change:
    return change


def _plain(_: str, text: str) -> str:
    return text
