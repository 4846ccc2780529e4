"""Forgetting: a record goes and what it recorded stays where it is, ours but unmanaged."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from reconciler.model.errors import Refused
from reconciler.model.intent import RunState
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.ports import LedgerTransaction


def forget(tx: LedgerTransaction, record: Record, users: Sequence[ResourceRef], by: str, now: datetime) -> None:
    """Drop a record; Refused while it is protected, while a run of it is open, and while `users` stand on it."""
    ref = record.ref
    if users:
        raise Refused("still-used", f"cannot forget {ref}: {users[0]} stands on it", hint=f"forget {users[0]} first")
    if record.protected:
        raise Refused("protected", f"cannot forget {ref}: it is protected", hint=f"reconciler unprotect {ref}")
    open_ = tx.runs(state=RunState.OPEN, key=f"ref/{ref}")
    if open_:
        raise Refused("run-open", f"cannot forget {ref}: run {open_[0].id} of it is open", hint="reconciler apply ends it")
    tx.drop_record(ref)
    tx.advance()
    tokens = [token["outpoint"] for token in record.outputs.get("tokens") or ()]
    tx.note(ref, now, "resource.forgotten", {"by": by, "generation": record.generation, "tokens": tokens})
