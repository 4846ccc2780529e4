"""What stops a plan: one verdict per guard, in the order in which they refuse.

Guards judge the whole plan and leave it as it is. Each has a name that an approval takes; an approval counts for the
one plan it was given for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reconciler.model.change import Change, Cost, Verb
from reconciler.model.plan import GuardResult
from reconciler.model.record import RecordedState
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import DesiredState
from reconciler.planner.fund import Shortfall
from reconciler.planner.phrases import count, grouped, percent, sats

if TYPE_CHECKING:
    from reconciler.planner.approval import Panel
    from reconciler.planner.policy import Policy

# Below so many objects a percentage says nothing: one of three is already a third.
MIN_FOR_PERCENT = 10

EMPTY_SOURCE = "empty-source"
MAINNET = "mainnet"
PROTECTED = "protected"
DELETES = "deletes"
CHANGES = "changes"
SPEND_RUN = "spend-run"
SPEND_DAY = "spend-day"
# Of each kind that has a budget of its own: spend-day:Dataset.
SPEND_KIND = "spend-day:"
MAX_SPEND = "max-spend"
FUNDS = "funds"
# Of each policy: policy:<name>.
POLICY = "policy:"
APPROVALS = "approvals"
# How the message of a guard begins that a person let pass.
APPROVED = "approved"
# How it begins when nobody can let it pass, and when it only says something.
DENIED = "denied"
WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a plan may do without being asked again, and which part of the world it is about.

    Counts and satoshis are absolute, None for no limit; percentages count against the records and apply from 10 of
    them. `spend_kinds` are budgets of a day by kind. `approved` names guards that a person let pass; those of which `panel`
    says so pass by signatures only. `mainnet` is the standing word that real money may be spent. `policies` judge the
    finished plan. `prune` off keeps everything that is no longer declared. `only` are targets, planned with their
    requirements; `exclude` are left as they are; `destroy` retires everything recorded, declared or not.
    """

    delete_count: int | None = None
    delete_percent: int | None = 30
    change_count: int | None = None
    change_percent: int | None = None
    spend_run: int | None = None
    spend_day: int | None = None
    spend_kinds: Mapping[str, int] = field(default_factory=dict)
    policies: tuple[Policy, ...] = ()
    panel: Panel | None = None
    approved: frozenset[str] = frozenset()
    mainnet: bool = False
    prune: bool = True
    only: frozenset[ResourceRef] | None = None
    exclude: frozenset[ResourceRef] = frozenset()
    destroy: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What the guards judge. `kept` and `dear` are resources held back by protection and by their own maxSpend; `chains` are
    those whose coins the plan spends.
    """

    desired: DesiredState
    recorded: RecordedState
    changes: Sequence[Change]
    cost: Cost
    shortfalls: Sequence[Shortfall] = ()
    kept: Sequence[ResourceRef] = ()
    dear: Sequence[ResourceRef] = ()
    chains: frozenset[str] = frozenset()


def too_dear(change: Change, spent: int, most: int | None) -> str:
    """Why a change costs more than the resource's own maxSpend, `spent` satoshis on this generation included; empty if not."""
    cost = change.cost.satoshis
    if most is None or cost <= 0 or spent + cost <= most:
        return ""
    before = f" after {sats(spent)} spent on generation {change.generation}" if spent else ""
    return f"costs {sats(cost)}{before}, more than its maxSpend of {sats(most)}"


def emptied(desired: DesiredState, recorded: RecordedState, limits: Limits) -> bool:
    """Whether nothing is declared though much is recorded: a wrong directory far more often than a wish."""
    return not desired.resources and bool(recorded.records) and not limits.destroy


def verdicts(facts: Facts, limits: Limits) -> tuple[GuardResult, ...]:
    """Every guard that has something to judge, first refusal first."""
    found = [
        _empty_source(facts, limits),
        _mainnet(facts, limits),
        _protected(facts),
        _deletes(facts, limits),
        _changes(facts, limits),
        _spend_run(facts, limits),
        _spend_day(facts, limits),
        *_spend_kinds(facts, limits),
        _max_spend(facts),
        *_funds(facts),
    ]
    return tuple(let_pass(result, limits) for result in found if result is not None)


def budgets(recorded: RecordedState, changes: Sequence[Change], limits: Limits) -> tuple[GuardResult, ...]:
    """What the budgets say of changes that are still to be carried out; a plan's own splits were judged with it."""
    nothing = DesiredState(recorded.lineage, "", {})
    facts = Facts(nothing, recorded, changes, sum((change.cost for change in changes), Cost()))
    found = [_spend_run(facts, limits), _spend_day(facts, limits), *_spend_kinds(facts, limits)]
    return tuple(let_pass(result, limits) for result in found if result is not None)


def let_pass(result: GuardResult, limits: Limits) -> GuardResult:
    """The verdict after what a person said at the terminal."""
    if result.ok or result.name not in limits.approved or not lifted(result) or by_signature(result.name, limits):
        return result
    return GuardResult(result.name, True, f"{APPROVED} ({result.message})")


def lifted(result: GuardResult) -> bool:
    """Whether anybody can let this refusal pass: coins that are not there cannot be approved into being, nor a ban lifted."""
    return result.name != FUNDS and not (result.name.startswith(POLICY) and result.message.startswith(DENIED))


def by_signature(guard: str, limits: Limits) -> bool:
    """Whether only signed approvals let this guard pass."""
    return guard == APPROVALS or (limits.panel is not None and limits.panel.signed(guard))


def let_through(guards: Sequence[GuardResult]) -> frozenset[str]:
    """The guards that a person let pass."""
    return frozenset(guard.name for guard in guards if guard.ok and guard.message.startswith(APPROVED))


def _empty_source(facts: Facts, limits: Limits) -> GuardResult:
    recorded = len(facts.recorded.records)
    if emptied(facts.desired, facts.recorded, limits):
        return GuardResult(EMPTY_SOURCE, False, f"nothing is declared, {count(recorded, 'resource')} recorded")
    return GuardResult(EMPTY_SOURCE, True, f"{count(len(facts.desired.resources), 'resource')} declared")


def _mainnet(facts: Facts, limits: Limits) -> GuardResult | None:
    if "main" not in facts.chains:
        return None
    if limits.mainnet:
        return GuardResult(MAINNET, True, "settings say that real money may be spent")
    return GuardResult(MAINNET, False, "it pays on chain main, with real money, and nobody has said so")


def _protected(facts: Facts) -> GuardResult | None:
    if not facts.kept:
        return None
    return GuardResult(PROTECTED, False, f"to be removed, but protected: {_names(facts.kept)}")


def _deletes(facts: Facts, limits: Limits) -> GuardResult:
    going = [change.ref for change in facts.changes if change.verb is Verb.DELETE and change.blocked is None]
    total = len(facts.recorded.records)
    share = f"{grouped(len(going))}/{grouped(total)}"
    if limits.destroy:
        return GuardResult(DELETES, True, f"{share}, destroying on request")
    if limits.delete_count is not None and len(going) > limits.delete_count:
        return GuardResult(DELETES, False, f"{share}, more than {grouped(limits.delete_count)} at once")
    if limits.delete_percent is None:
        return GuardResult(DELETES, True, share)
    if going and (over := _over(going, facts.recorded, limits.delete_percent)):
        return GuardResult(DELETES, False, over)
    return GuardResult(DELETES, True, f"{share} ({percent(len(going), total)} ≤ {limits.delete_percent} %)")


def _changes(facts: Facts, limits: Limits) -> GuardResult | None:
    if limits.change_percent is None and limits.change_count is None:
        return None
    moving = [c.ref for c in facts.changes if c.before is not None and c.verb.acts and c.blocked is None]
    total = len(facts.recorded.records)
    share = f"{grouped(len(moving))}/{grouped(total)}"
    if limits.change_count is not None and len(moving) > limits.change_count:
        return GuardResult(CHANGES, False, f"{share}, more than {grouped(limits.change_count)} at once")
    if limits.change_percent is None:
        return GuardResult(CHANGES, True, share)
    if moving and (over := _over(moving, facts.recorded, limits.change_percent)):
        return GuardResult(CHANGES, False, over)
    return GuardResult(CHANGES, True, f"{share} ({percent(len(moving), total)} ≤ {limits.change_percent} %)")


def _over(touched: Sequence[ResourceRef], recorded: RecordedState, limit: int) -> str | None:
    """Where the touched share exceeds the limit: in the whole, or within one kind."""
    by_kind, kinds = Counter(ref.kind for ref in touched), Counter(ref.kind for ref in recorded.records)
    groups = [("", len(touched), len(recorded.records)), *((f" of {k}", by_kind[k], kinds[k]) for k in sorted(by_kind))]
    for name, part, whole in groups:
        if whole >= MIN_FOR_PERCENT and part * 100 > limit * whole:
            return f"{grouped(part)}/{grouped(whole)}{name} ({percent(part, whole)} > {limit} %)"
    return None


def _spend_run(facts: Facts, limits: Limits) -> GuardResult | None:
    if limits.spend_run is None:
        return None
    cost = facts.cost.satoshis
    ok = cost <= limits.spend_run
    return GuardResult(SPEND_RUN, ok, f"{sats(cost)} {'≤' if ok else '>'} {sats(limits.spend_run)} per run")


def _spend_day(facts: Facts, limits: Limits) -> GuardResult | None:
    if limits.spend_day is None:
        return None
    spent = facts.recorded.spent_today + sum(_set_aside(facts).values())
    return _of_a_day(SPEND_DAY, spent, facts.cost.satoshis, limits.spend_day)


def _spend_kinds(facts: Facts, limits: Limits) -> list[GuardResult]:
    spent, cost = Counter(facts.recorded.spent_kinds), Counter[str]()
    for ref, satoshis in _set_aside(facts).items():
        spent[ref.kind] += satoshis
    for change in facts.changes:
        if change.verb.acts and change.blocked is None:
            cost[change.ref.kind] += change.cost.satoshis
    most = sorted(limits.spend_kinds.items())
    return [_of_a_day(SPEND_KIND + kind, spent[kind], cost[kind], limit) for kind, limit in most if cost[kind]]


def _set_aside(facts: Facts) -> dict[ResourceRef, int]:
    """What runs that are still open may yet move. A change of this plan takes the place of its resource's open run."""
    acting = {change.ref for change in facts.changes if change.verb.acts and change.blocked is None}
    return {ref: satoshis for ref, satoshis in facts.recorded.reserved.items() if ref not in acting}


def _of_a_day(name: str, spent: int, cost: int, limit: int) -> GuardResult:
    left = limit - spent - cost
    told = f"{sats(spent)} today + {sats(cost)}, {sats(limit)} per day"
    # A plan that only returns money is never over a budget.
    ok = left >= 0 or cost <= 0
    return GuardResult(name, ok, f"{told}, left {sats(max(left, 0))} after" if ok else f"{told}, {sats(-left)} over")


def _max_spend(facts: Facts) -> GuardResult | None:
    if not facts.dear:
        return None
    return GuardResult(MAX_SPEND, False, f"dearer than their own maxSpend: {_names(facts.dear)}")


def _funds(facts: Facts) -> list[GuardResult]:
    paying = sum(len(change.needs) for change in facts.changes if change.verb.acts and change.blocked is None)
    if paying and not facts.shortfalls:
        return [GuardResult(FUNDS, True, f"a coin for each of {count(paying, 'transaction')}")]
    return [GuardResult(FUNDS, False, _short(short)) for short in facts.shortfalls]


def _short(short: Shortfall) -> str:
    needed = short.available + short.missing
    amounts = f"needed {sats(needed)}, available {sats(short.available)}, missing {sats(short.missing)}"
    return f"{count(short.needs, 'transaction')} on {short.chain}: {amounts}"


def _names(refs: Sequence[ResourceRef]) -> str:
    shown = ", ".join(map(str, sorted(refs)[:5]))
    return shown if len(refs) <= 5 else f"{shown} and {grouped(len(refs) - 5)} more"
