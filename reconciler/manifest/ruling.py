"""What only a look across the settings shows: policies that cannot be judged, and signatures that nobody could give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reconciler.manifest.fault import Fault, Path, listed, near
from reconciler.manifest.policies import faults
from reconciler.manifest.schema import packaged
from reconciler.model.canonical import Json


def concerned(settings: Json) -> bool:
    """Whether there is anything here to look at."""
    return isinstance(settings, dict) and any(settings.get(name) for name in ("policies", "approvals", "guards"))


def rulings(settings: Mapping[str, Json], shape: Mapping[str, Any]) -> Iterator[Fault]:
    """The faults of settings that their schema accepts; `shape` is the schema of a plan as policies see it."""
    policies = settings.get("policies") or []
    yield from _twice(policies, "name", ("policies",))
    for number, policy in enumerate(policies):
        yield from faults(policy["when"], shape, ("policies", number, "when"))
    yield from _approvals(settings.get("approvals") or {}, shape)
    budgets = ((settings.get("guards") or {}).get("spend") or {}).get("kinds") or {}
    kinds = packaged() if budgets else {}
    for kind in budgets:
        if kind not in kinds:
            meant = near(kind, kinds)
            hint = f'did you mean "{meant}"?' if meant else f"there are: {listed(list(kinds), 'and')}"
            yield Fault("E0115", f'unknown kind "{kind}"', ("guards", "spend", "kinds", kind), hint, on_key=True)


def _approvals(said: Mapping[str, Json], shape: Mapping[str, Any]) -> Iterator[Fault]:
    keys, rules = said.get("keys") or [], said.get("rules") or []
    yield from _twice(keys, "publicKey", ("approvals", "keys"))
    yield from _twice(keys, "name", ("approvals", "keys"))
    asked: list[tuple[int, Path]] = [(said.get("required") or 0, ("approvals", "required"))]
    asked += [(rule["required"], ("approvals", "rules", number, "required")) for number, rule in enumerate(rules)]
    asked += [(1, ("approvals", "guards"))] if said.get("guards") else []
    for required, path in asked:
        if required > len(keys):
            hint = "name more keys under approvals.keys, or ask for fewer signatures"
            yield Fault("E0112", f"{required} must sign, and {len(keys)} can: no plan would ever pass", path, hint)
    for number, rule in enumerate(rules):
        yield from faults(rule["when"], shape, ("approvals", "rules", number, "when"))


def _twice(items: Sequence[Mapping[str, Json]], name: str, path: Path) -> Iterator[Fault]:
    seen: dict[Json, int] = {}
    for number, item in enumerate(items):
        first = seen.setdefault(item[name], number)
        if first != number:
            yield Fault("E0111", f"{name} {item[name]} stands there twice", (*path, number, name))
