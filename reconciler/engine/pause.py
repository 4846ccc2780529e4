"""Pauses: resources that a person said to leave alone for a while, in the ledger or in the manifest.

A word in the ledger is a status fact, "suspended": {"reason", "by", "since", "until"}; it outlives edits and restarts and holds
for every process. What has an end ends by the clock. While it holds nothing is done to the resource, whatever anybody asks for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from reconciler.model.canonical import Json
from reconciler.model.codec import timestamp
from reconciler.model.errors import Refused
from reconciler.model.record import Record, RecordedState
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import DesiredState, Resource, Suspension
from reconciler.ports import LedgerTransaction

_FACT = "suspended"


@dataclass(frozen=True, slots=True)
class Pause:
    """Who said to leave a resource alone, why, since when and, if it ends by itself, until when."""

    reason: str
    by: str
    since: datetime
    until: datetime | None = None

    def live(self, now: datetime) -> bool:
        """Whether it still holds."""
        return self.until is None or now < self.until


def pause_of(record: Record) -> Pause | None:
    """The pause in the ledger, over or not."""
    kept = record.status.facts.get(_FACT)
    if not kept:
        return None
    until = datetime.fromisoformat(kept["until"]) if kept["until"] else None
    return Pause(kept["reason"], kept["by"], datetime.fromisoformat(kept["since"]), until)


def suspend(tx: LedgerTransaction, ref: ResourceRef, pause: Pause) -> None:
    """Leave a recorded resource alone from now on; a second word replaces the first."""
    until = timestamp(pause.until) if pause.until else None
    kept: dict[str, Json] = {"reason": pause.reason, "by": pause.by, "since": timestamp(pause.since), "until": until}
    record = require(tx, ref)
    _set(tx, record, kept, record.status.facts.get("held"))
    tx.note(ref, pause.since, "resource.suspended", {name: kept[name] for name in ("reason", "by", "until")})


def resume(tx: LedgerTransaction, ref: ResourceRef, by: str, now: datetime) -> None:
    """Take the word back; Refused when there is none."""
    record = require(tx, ref)
    if not record.status.facts.get(_FACT):
        hint = "a manifest's own lifecycle.suspend is taken back in the manifest"
        raise Refused("not-suspended", f"cannot resume {ref}: nobody suspended it", hint=hint)
    # What the record kept of the pause, for a time without manifests, goes with it; a manifest's own word is kept again.
    held = {name: value for name, value in (record.status.facts.get("held") or {}).items() if name != "suspend"}
    _set(tx, record, None, held or None)
    tx.note(ref, now, "resource.resumed", {"by": by})


def require(tx: LedgerTransaction, ref: ResourceRef) -> Record:
    """The record of a resource; Refused when there is none."""
    record = tx.record(ref)
    if record is None:
        raise Refused("not-recorded", f"cannot find {ref}: it is not recorded", hint="reconciler status shows what is")
    return record


def _set(tx: LedgerTransaction, record: Record, kept: Json, held: Json) -> None:
    facts = {name: value for name, value in {**record.status.facts, _FACT: kept, "held": held}.items() if value is not None}
    tx.put_record(replace(record, status=replace(record.status, facts=facts)))
    tx.advance()


def in_force(desired: DesiredState | None, recorded: RecordedState, now: datetime) -> tuple[DesiredState | None, RecordedState]:
    """Both states with the pauses that hold now, and without those that are over."""
    over = {ref: _without(record) for ref, record in recorded.records.items() if (p := pause_of(record)) and not p.live(now)}
    if over:
        recorded = replace(recorded, records={**recorded.records, **over})
    if desired is None:
        return None, recorded
    moved = {
        ref: want if pause == want.lifecycle.suspend else replace(want, lifecycle=replace(want.lifecycle, suspend=pause))
        for ref, want in desired.resources.items()
        if (pause := _of(want, recorded.records.get(ref), now)) != want.lifecycle.suspend
    }
    return (replace(desired, resources={**desired.resources, **moved}) if moved else desired), recorded


def _of(want: Resource, record: Record | None, now: datetime) -> Suspension | None:
    """The pause of a declared resource: the manifest's while it lasts, else the ledger's."""
    said = want.lifecycle.suspend
    if said is not None and (said.until is None or now < _moment(said.until)):
        return said
    kept = record.status.facts.get(_FACT) if record is not None else None
    return Suspension(kept["reason"], kept["until"]) if kept else None


def _moment(text: str) -> datetime:
    """A moment as manifests write it. One that cannot be read lasts for ever: a pause is not ended by a slip of the pen."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _without(record: Record) -> Record:
    facts = {name: value for name, value in record.status.facts.items() if name != _FACT}
    return replace(record, status=replace(record.status, facts=facts))
