"""Records that get another name: carried over with all that was published, and the records that speak of them with them.

A name is part of what some kinds publish (the subject of a descriptor, the name in a document). Carrying the record over is free
and leaves that as it is; the next plan publishes it again under the new name, spending the old token. References to the old name
in other records are rewritten where that changes nothing they have published; where it would, they are left for the plan to show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from reconciler.controller import Controller
from reconciler.kinds import identity_keys
from reconciler.kinds.later import later
from reconciler.model.canonical import Json
from reconciler.model.errors import Conflict, Refused
from reconciler.model.intent import RunState
from reconciler.model.record import Record, RecordedState
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import DesiredState
from reconciler.ports import LedgerTransaction

if TYPE_CHECKING:
    from reconciler.kinds import restating
else:
    restating = later("reconciler.kinds.restating")

Records = Mapping[ResourceRef, Record]
Kinds = Mapping[str, Controller]
Body = dict[str, Any]


def shifted(recorded: RecordedState, desired: DesiredState | None, kinds: Kinds) -> RecordedState:
    """The records as they will be once every declared rename is carried out: `moved` and `barred` say which, and which not."""
    wanted = {ref: want for ref, want in desired.resources.items() if want.renamed_from} if desired else {}
    records, frozen = dict(recorded.records), set(recorded.frozen)
    moved: dict[ResourceRef, ResourceRef] = {}
    barred: dict[ResourceRef, str] = {}
    for new, want in sorted(wanted.items()):
        old = want.renamed_from
        if old is None or old not in records:
            continue
        why = refusal(records[old], new)
        if new in records:
            why = f"both {old} and {new} are recorded: reconciler forget one, or take renamedFrom out to have {old} retired"
        if why is not None:
            barred |= dict.fromkeys((old, new), f"{new} is renamed from {old} ({want.at}), and {why}")
            continue
        others = rewritten(records, old, new, kinds)
        if old in frozen or any(ref in frozen for ref in others):
            frozen = {*frozen - {old}, new}
        del records[old]
        records |= others
        moved[new] = old
    if not moved and not barred:
        return recorded
    return replace(recorded, records=records, frozen=frozenset(frozen), moved=moved, barred=barred)


def refusal(record: Record, new: ResourceRef) -> str | None:
    """Why a record cannot be carried over to another name, or None."""
    old = record.ref
    if old.kind != new.kind:
        return f"a {old.kind} does not become a {new.kind}"
    if old.kind != "Identity":
        return None
    if record.outputs.get("keys"):
        return f"the statements that its keys signed about each other name {old.name}: keep the name, and edit displayName"
    if identity_keys.place(record.body["spec"].get("key") or {}) == ("", ""):
        return f"its key is kept under the name {old.name}: name its place under key first"
    return None


def rewritten(records: Records, old: ResourceRef, new: ResourceRef, kinds: Kinds) -> dict[ResourceRef, Record]:
    """Every record that is another once `old` is called `new`, and that of `new` itself. Pure."""
    found = {new: _renamed_owner(replace(records[old], ref=new), old, new)}
    for ref, record in records.items():
        if ref != old and (old in record.requires or str(old) in record.body["using"]):
            requires = tuple(sorted(new if other == old else other for other in record.requires))
            body = _speaking(record, old, new, kinds.get(ref.kind))
            found[ref] = _renamed_owner(replace(record, requires=requires, body=body), old, new)
    return found


def _renamed_owner(record: Record, old: ResourceRef, new: ResourceRef) -> Record:
    """The name of an Identity is the name of its key in the wallet: tokens say by which one they are spent."""
    tokens = record.outputs.get("tokens") or ()
    if old.kind != "Identity" or not any(token["owner"] == old.name for token in tokens):
        return record
    named = [{**token, "owner": new.name} if token["owner"] == old.name else token for token in tokens]
    return replace(record, outputs={**record.outputs, "tokens": named})


def _speaking(record: Record, old: ResourceRef, new: ResourceRef, controller: Controller | None) -> Mapping[str, Json]:
    """The body with the new name as far as what was published still says the same."""
    used = {str(new) if name == str(old) else name: said for name, said in record.body["using"].items()}
    body: Body = {**record.body, "using": dict(sorted(used.items()))}
    if controller is None:
        return record.body
    for candidate in ({**body, "spec": redirected(body["spec"], old, new, controller)}, body):
        if restating.says(record.ref, candidate, record.outputs):
            return candidate
    return record.body


def redirected(spec: Mapping[str, Json], old: ResourceRef, new: ResourceRef, controller: Controller) -> Mapping[str, Json]:
    """The spec with every reference to `old` made one to `new`."""
    said: Any = spec
    for pointer, kind, name in controller.references(spec):
        if (kind, name) == old:
            said = _put(said, pointer.strip("/").split("/"), new.name)
    return dict(said)


def _put(value: Any, steps: list[str], name: str) -> Any:
    """A copy of a JSON value with the text at the path replaced."""
    if not steps:
        return name
    if isinstance(value, Mapping):
        return {**value, steps[0]: _put(value[steps[0]], steps[1:], name)}
    return [_put(item, steps[1:], name) if str(index) == steps[0] else item for index, item in enumerate(value)]


def move(
    tx: LedgerTransaction,
    known: Records,
    old: ResourceRef,
    new: ResourceRef,
    kinds: Kinds,
    now: datetime,
    detail: Mapping[str, Json],
) -> None:
    """Carry the record over in the ledger; Refused where it cannot be, Conflict while a run of it or of its users is open.

    `known` are the records as last read: which of them speak of it. They are read again here.
    """
    record = tx.record(old)
    if record is None:
        raise Refused("not-recorded", f"cannot move {old}: it is not recorded", hint="reconciler state list")
    if tx.record(new) is not None:
        raise Conflict("recorded", f"cannot move {old}: {new} is recorded already", hint=f"reconciler forget {new} first")
    why = refusal(record, new)
    if why is not None:
        raise Refused("cannot-rename", f"cannot move {old} to {new}: {why}")
    touched = {old, *(ref for ref, one in known.items() if old in one.requires or str(old) in one.body["using"])}
    for ref in sorted({*touched, new}):
        open_ = tx.runs(state=RunState.OPEN, key=f"ref/{ref}")
        if open_:
            raise Conflict("run-open", f"cannot move {old}: run {open_[0].id} of {ref} is open", hint="reconciler apply ends it")
    changed = rewritten({ref: one for ref in touched if (one := tx.record(ref)) is not None}, old, new, kinds)
    tx.drop_record(old)
    for one in changed.values():
        tx.put_record(one)
    tx.advance()
    tx.note(new, now, "resource.moved", {**detail, "from": str(old), "generation": record.generation})
