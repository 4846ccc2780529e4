"""What the generations of a resource have cost so far, which its own lifecycle.maxSpend is about.

A plan counts it, so that it says what the run would be refused for; the run counts it again in the commit that opens it.
"""

from __future__ import annotations

from reconciler.model.plan import Plan
from reconciler.model.ref import ResourceRef
from reconciler.ports import Ledger, LedgerTransaction


def spent_on(tx: LedgerTransaction, ref: ResourceRef, generation: int) -> int:
    """Satoshis that the runs of one generation of a resource have moved."""
    runs = [run for run in tx.runs(key=f"ref/{ref}") if run.subject["change"]["generation"] == generation]
    return sum(tx.booked(run.id) for run in runs)


def own_costs(ledger: Ledger, plan: Plan) -> dict[ResourceRef, dict[int, int]]:
    """What was spent on the generations that a plan would spend more on, of resources that have a maxSpend and ran before."""
    asked = [
        c
        for c in plan.acting
        if c.attempt and c.cost.satoshis > 0 and c.after is not None and c.after.lifecycle.max_spend is not None
    ]
    if not asked:
        return {}
    with ledger.begin() as tx:
        found = {change.ref: {change.generation: spent_on(tx, change.ref, change.generation)} for change in asked}
    return {ref: spent for ref, spent in found.items() if any(spent.values())}
