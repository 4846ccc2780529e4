"""Budgets while money moves: what is allowed now, and the claim on it that is made in the commit that opens a run.

A plan was judged against what had been spent when it was made. Two plans may each fit and not both; so every run asks once
more, in the transaction that writes it down. Whoever commits first has the money set aside; the second is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reconciler.engine.owncost import spent_on
from reconciler.engine.survey import midnight
from reconciler.model.canonical import Json
from reconciler.model.change import Change
from reconciler.model.codec import timestamp
from reconciler.model.errors import GuardRefused
from reconciler.planner.guard import MAX_SPEND, SPEND_DAY, SPEND_KIND, Limits
from reconciler.planner.phrases import sats
from reconciler.ports import LedgerTransaction, LedgerView

# Name of the durable overrides in the ledger.
OVERRIDES = "budgets"
RUN, DAY = "run", "day"
# Budgets that are whole again at midnight: what they refuse today is no fault of the resource.
RENEWING = (SPEND_DAY,)


@dataclass(frozen=True, slots=True)
class Override:
    """A limit that a person set over the one in the settings: who, why, since when, and until when (None: until it is unset)."""

    satoshis: int
    by: str
    reason: str
    at: datetime
    until: datetime | None = None

    def live(self, now: datetime) -> bool:
        """Whether it holds at that moment."""
        return self.until is None or now < self.until


def renewal(now: datetime) -> datetime:
    """When a daily budget is whole again."""
    return midnight(now) + timedelta(days=1)


def overrides(tx: LedgerView) -> dict[str, Override]:
    """Every override by the name of its budget, also those that have run out."""
    stored: Mapping[str, Json] = tx.get(OVERRIDES) or {}
    return {
        name: Override(
            one["satoshis"],
            one["by"],
            one["reason"],
            datetime.fromisoformat(one["at"]),
            datetime.fromisoformat(one["until"]) if one["until"] else None,
        )
        for name, one in stored.items()
    }


def put_override(tx: LedgerTransaction, name: str, override: Override | None, now: datetime, by: str) -> None:
    """Set or unset one, and say so in the history."""
    known = {one: found for one, found in overrides(tx).items() if found.live(now) and one != name}
    if override is not None:
        known[name] = override
    stored = {
        one: {
            "satoshis": found.satoshis,
            "by": found.by,
            "reason": found.reason,
            "at": timestamp(found.at),
            "until": timestamp(found.until) if found.until else None,
        }
        for one, found in known.items()
    }
    tx.put(OVERRIDES, stored)
    detail = stored[name] if override is not None else {"by": by}
    tx.note(None, now, "budget.set" if override is not None else "budget.unset", {"budget": name, **detail})


def effective(limits: Limits, tx: LedgerView, now: datetime) -> Limits:
    """The limits with the overrides that hold now in their place."""
    live = {name: one.satoshis for name, one in overrides(tx).items() if one.live(now)}
    if not live:
        return limits
    kinds = {name: satoshis for name, satoshis in live.items() if name not in (RUN, DAY)}
    return replace(
        limits,
        spend_run=live.get(RUN, limits.spend_run),
        spend_day=live.get(DAY, limits.spend_day),
        spend_kinds={**limits.spend_kinds, **kinds},
    )


def require(tx: LedgerTransaction, limits: Limits, kind: str, satoshis: int, now: datetime, passed: frozenset[str]) -> None:
    """GuardRefused when so much more for that kind ("": the purse itself) would exceed a budget of the day.

    Called in the commit that sets the amount aside. `passed` are guards that were let pass for this plan.
    """
    if satoshis <= 0:
        return
    limits, since = effective(limits, tx, now), midnight(now)
    if limits.spend_day is not None and SPEND_DAY not in passed:
        _within(SPEND_DAY, "day", tx.spent_since(since) + tx.reserved(), satoshis, limits.spend_day, now)
    most = limits.spend_kinds.get(kind)
    if most is not None and SPEND_KIND + kind not in passed:
        _within(SPEND_KIND + kind, f"day for {kind}", tx.spent_since(since, kind) + tx.reserved(kind), satoshis, most, now)


def require_own(tx: LedgerTransaction, change: Change, passed: frozenset[str]) -> None:
    """GuardRefused when this generation of the resource would have cost more than its own lifecycle.maxSpend."""
    most = change.after.lifecycle.max_spend if change.after is not None else None
    if most is None or change.cost.satoshis <= 0 or MAX_SPEND in passed:
        return
    spent = spent_on(tx, change.ref, change.generation)
    if spent + change.cost.satoshis > most:
        told = f"{sats(spent)} spent on generation {change.generation}, {sats(change.cost.satoshis)} to go, {sats(most)} in all"
        hint = f"raise lifecycle.maxSpend, or plan again and add --approve {MAX_SPEND}"
        raise GuardRefused(MAX_SPEND, f"cannot spend on {change.ref}: {told}", hint=hint)


def _within(guard: str, per: str, used: int, more: int, most: int, now: datetime) -> None:
    if used + more <= most:
        return
    told = f"{sats(used)} spent or set aside today, {sats(more)} to go, {sats(most)} per {per}"
    hint = f"the budget renews at {renewal(now):%Y-%m-%d %H:%M} UTC; to let it pass for one plan: --approve {guard}"
    raise GuardRefused(guard, f"cannot spend {sats(more)} more: guard {guard} refuses it ({told})", hint=hint)


def renews(code: str) -> bool:
    """Whether a refusal with this code goes away by itself at midnight."""
    return code.startswith(RENEWING)
