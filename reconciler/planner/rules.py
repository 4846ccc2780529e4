"""The settings' words about guards, budgets, policies and approvals, as limits.

Every command reads settings, `validate` too, and few settings speak of policies or approvals: what those rest on is imported
where they do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from reconciler.model.canonical import Json
from reconciler.planner.guard import Limits

if TYPE_CHECKING:
    from reconciler.planner.approval import Panel
    from reconciler.planner.policy import Matches, Policy


def limits_of(values: Mapping[str, Json], compiled: Callable[[Json], Matches]) -> Limits:
    """The standing limits of valid settings; `compiled` makes a predicate of a policy's `when`."""
    guards = values.get("guards") or {}
    deletes, changes, spend = guards.get("deletes") or {}, guards.get("changes") or {}, guards.get("spend") or {}
    return Limits(
        mainnet=bool(guards.get("mainnet")),
        delete_count=deletes.get("count"),
        delete_percent=deletes.get("percent", 30),
        change_count=changes.get("count"),
        change_percent=changes.get("percent"),
        spend_run=spend.get("run"),
        spend_day=spend.get("day"),
        spend_kinds={kind: budget["day"] for kind, budget in (spend.get("kinds") or {}).items()},
        policies=_policies(values.get("policies") or (), compiled),
        panel=_panel(values.get("approvals") or {}, compiled),
    )


def _policies(said: Sequence[Mapping[str, Json]], compiled: Callable[[Json], Matches]) -> tuple[Policy, ...]:
    if not said:
        return ()
    from reconciler.planner.policy import Policy

    return tuple(Policy(one["name"], one["action"], one["when"], compiled(one["when"]), one.get("message", "")) for one in said)


def _panel(said: Mapping[str, Json], compiled: Callable[[Json], Matches]) -> Panel | None:
    if not said.get("keys") and not said.get("required") and not said.get("rules") and not said.get("guards"):
        return None
    from reconciler.planner.approval import Demand, Panel

    demands = tuple(
        Demand(rule.get("name") or f"rule {number}", rule["required"], rule["when"], compiled(rule["when"]))
        for number, rule in enumerate(said.get("rules") or (), 1)
    )
    people = {one["publicKey"]: one["name"] for one in said.get("keys") or ()}
    return Panel(people, said.get("required") or 0, demands, frozenset(said.get("guards") or ()))
