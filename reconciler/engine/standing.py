"""How a record's status learns what happened outside a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reconciler.model.canonical import Json
from reconciler.model.ref import ResourceRef
from reconciler.model.status import Condition, summarise
from reconciler.ports import LedgerTransaction


def state(tx: LedgerTransaction, ref: ResourceRef, said: Sequence[Condition], facts: Mapping[str, Json] | None = None) -> None:
    """Merge what was learned outside a run (drift, depth, probes) into a record's status; nothing when it is not recorded."""
    record = tx.record(ref)
    if record is None:
        return
    status = summarise(record.status, said, record.generation)
    status = replace(status, facts={**status.facts, **(facts or {})})
    if status != record.status:
        tx.put_record(replace(record, status=status))
