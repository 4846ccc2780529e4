"""Who must agree to what becomes of an identity, beside those whom the settings name: its own `approvals`, as recorded.

What is recorded binds, so taking the block away is itself a change that its keys must agree to. What is new has nobody to ask
yet, and what only puts the record right (repairs, among them the end of a rotation's window) waits for nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from reconciler.model.change import Verb
from reconciler.model.plan import Plan
from reconciler.model.record import Record
from reconciler.planner.approval import Panel, Seat

_FIELD = "approvals"


def seated(panel: Panel | None, plan: Plan) -> Panel | None:
    """The panel with the seats that the changes of a plan call for; as it is, or None, where they call for none."""
    seats = tuple(_seats(plan))
    return replace(panel or Panel(), seats=seats) if seats else panel


def binding(records: Iterable[Record]) -> bool:
    """Whether any record says who must agree to its changes."""
    return any(_said(record).get("required") for record in records)


def _seats(plan: Plan) -> Iterator[Seat]:
    for change in plan.acting:
        said = _said(change.before) if change.before is not None and change.verb is not Verb.REPAIR else {}
        if said.get("required"):
            yield Seat(str(change.ref), int(said["required"]), frozenset(said["keys"]))


def _said(record: Record) -> Mapping[str, Any]:
    return (record.body.get("spec") or {}).get(_FIELD) or {} if record.ref.kind == "Identity" else {}
