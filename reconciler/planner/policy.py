"""Rules of the house over a plan, written as data: what a plan may look like, and what is to be done about one that does not.

A policy sees the plan as `plan -o json` prints it, without the id and without the verdicts of policies: a document, judged
by a predicate that was compiled from a JSON Schema. Judging is pure, and takes time linear in the document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from reconciler.model.canonical import Json
from reconciler.model.outline import outline
from reconciler.model.plan import FORMAT_VERSION, GuardResult, Plan
from reconciler.planner.guard import APPROVALS, DENIED, POLICY, WARNING
from reconciler.planner.render import TOTALS, as_json

Matches = Callable[[Json], bool]

DENY, ASK, WARN = "deny", "require-approval", "warn"
ACTIONS = (DENY, ASK, WARN)
_COST = ("transactions", "fees", "payments", "locked", "satoshis", "uploaded")


@dataclass(frozen=True, slots=True)
class Policy:
    """One rule. Where `matches` the plan's document, `action` says what follows: deny, require-approval or warn.

    `matches` is `when` compiled; rules are the same when their words are.
    """

    name: str
    action: str
    when: Json
    matches: Matches = field(compare=False)
    message: str = ""

    def judge(self, document: Json) -> GuardResult:
        """Its verdict, as one guard among the others."""
        name = POLICY + self.name
        if not self.matches(document):
            return GuardResult(name, True, "does not apply")
        said = self.message or f"the plan matches {self.name}"
        if self.action == WARN:
            return GuardResult(name, True, f"{WARNING}: {said}")
        return GuardResult(name, False, f"{DENIED}: {said}" if self.action == DENY else said)


def document(plan: Plan) -> dict[str, Json]:
    """What policies and approval rules judge: the plan before either has spoken."""
    own = tuple(guard for guard in plan.guards if not guard.name.startswith(POLICY) and guard.name != APPROVALS)
    bare = replace(plan, guards=own)
    shown = as_json(bare)
    del shown["id"]
    return shown


def judge(policies: Sequence[Policy], shown: Json) -> tuple[GuardResult, ...]:
    """Every verdict, in the order of the policies."""
    return tuple(policy.judge(shown) for policy in policies)


@cache
def document_schema() -> dict[str, Any]:
    """The schema of `document`, read from the model: what a policy may name, and nothing else."""
    schema = outline(Plan)
    whole = {"type": "integer"}
    totals = dict.fromkeys((*TOTALS, *_COST), whole)
    schema["properties"] = {
        "formatVersion": {"const": FORMAT_VERSION},
        **schema["properties"],
        "totals": {"type": "object", "properties": totals, "required": list(totals), "additionalProperties": False},
    }
    schema["required"] = list(schema["properties"])
    return schema
