"""plan(desired, recorded, observed) -> Plan: the composition of this room.

Pure and total. No clock, no I/O; no world raises; equal states give an equal plan with an equal id, whatever the order
in which their mappings were filled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from reconciler.controller import Controller
from reconciler.model.change import Change, Cost, FeeRate
from reconciler.model.observation import ObservedState
from reconciler.model.plan import GuardResult, Plan
from reconciler.model.record import RecordedState
from reconciler.model.resource import DesiredState
from reconciler.planner.fund import SplitFee, fund
from reconciler.planner.guard import Facts, Limits, let_pass, verdicts
from reconciler.planner.order import execution
from reconciler.planner.policy import document, judge
from reconciler.planner.resolve import chain, paid_on
from reconciler.planner.seat import seated
from reconciler.planner.walk import Memory, Walk


def plan(
    desired: DesiredState,
    recorded: RecordedState,
    observed: ObservedState,
    *,
    kinds: Mapping[str, Controller],
    rates: Mapping[str, FeeRate],
    limits: Limits,
    split_fee: SplitFee,
    notes: Sequence[str] = (),
    memory: Memory | None = None,
) -> Plan:
    """Everything that is to be done, in order, with its price, its funding and the verdict of every guard.

    `rates` are miner fee rates by the name of the Network; `split_fee(inputs, outputs, rate)` prices a transaction of
    our own coins with that many coin outputs and a change output besides. `memory`, given to one plan after another, spares
    each the comparison of what has not moved since the last.
    """
    walk = Walk(desired, recorded, observed, kinds, rates, limits, memory or Memory()).run()
    changes, after = execution(walk.changes, walk.waits, kinds)
    acting = [change for change in changes if change.verb.acts and change.blocked is None]
    needs, dearest = _needs(acting)
    funding, shortfalls = fund(needs, recorded.purses, dearest, split_fee)
    cost = sum((change.cost for change in acting), Cost()) + sum((one.cost for one in funding), Cost())
    facts = Facts(desired, recorded, changes, cost, shortfalls, sorted(walk.kept), sorted(walk.dear), frozenset(needs))
    made = Plan(
        lineage=recorded.lineage,
        serial=recorded.serial,
        revision=desired.revision,
        environment=desired.environment,
        changes=changes,
        after=after,
        funding=funding,
        guards=verdicts(facts, limits),
        notes=tuple(notes),
    )
    return replace(made, guards=(*made.guards, *ruled(made, limits)))


def ruled(made: Plan, limits: Limits) -> tuple[GuardResult, ...]:
    """What policies say of a finished plan, and who has to sign it. A plan that does nothing offends nobody."""
    panel = seated(limits.panel, made)
    if not made.acting or not (limits.policies or panel):
        return ()
    shown = document(made)
    found = [let_pass(result, limits) for result in judge(limits.policies, shown)]
    refused = [guard.name for guard in (*made.guards, *found) if not guard.ok]
    signatures = panel.verdict(shown, refused) if panel else None
    return (*found, *([signatures] if signatures else []))


def _needs(acting: Sequence[Change]) -> tuple[dict[str, list[int]], dict[str, FeeRate]]:
    """By chain: the satoshis each paying transaction needs in one coin, and the highest rate any of them pays."""
    needs: dict[str, list[int]] = {}
    rates: dict[str, FeeRate] = {}
    for change in acting:
        on = chain(paid_on(change))
        if change.needs and on is not None and change.rate is not None:
            needs.setdefault(on, []).extend(change.needs)
            rates[on] = max(rates.get(on, change.rate), change.rate, key=_per_byte)
    return needs, rates


def _per_byte(rate: FeeRate) -> tuple[Fraction, int]:
    return Fraction(rate.satoshis, max(1, rate.bytes)), rate.bytes
