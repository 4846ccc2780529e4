"""The decision table: declared x recorded x seen -> what is to be done with one resource.

Three presences make twelve cases, written as a dict and checked for totality when the module is imported. No case
with an Unknown observation leads to an act: doubt never destroys, creates or pays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from itertools import product

from reconciler.controller import Controller
from reconciler.model.canonical import Json
from reconciler.model.change import Cause, Change, FieldDelta, Reason, Verb
from reconciler.model.errors import Invariant
from reconciler.model.observation import Absent, Observation, Present, Unknown
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import DeletionPolicy, Lifecycle, Prune, Resource, Suspension
from reconciler.planner.diff import compare, covers, unignored


class Seen(Enum):
    """The three kinds of observation."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class Row(Enum):
    """What a case calls for, before its details are looked at."""

    ADOPT = "adopt"
    CREATE = "create"
    COMPARE = "compare"
    RECREATE = "recreate"
    PRUNE = "prune"
    FORGET = "forget"
    DEFER = "defer"
    IGNORE = "ignore"


# The path at which a kind's `diff` says that what it published tells another name than its resource has now.
NAME = "name"

# (declared, recorded, seen) -> row.
TABLE: Mapping[tuple[bool, bool, Seen], Row] = {
    (True, False, Seen.PRESENT): Row.ADOPT,
    (True, False, Seen.ABSENT): Row.CREATE,
    (True, False, Seen.UNKNOWN): Row.DEFER,
    (True, True, Seen.PRESENT): Row.COMPARE,
    (True, True, Seen.ABSENT): Row.RECREATE,
    (True, True, Seen.UNKNOWN): Row.DEFER,
    (False, True, Seen.PRESENT): Row.PRUNE,
    (False, True, Seen.ABSENT): Row.FORGET,
    (False, True, Seen.UNKNOWN): Row.DEFER,
    (False, False, Seen.PRESENT): Row.IGNORE,
    (False, False, Seen.ABSENT): Row.IGNORE,
    (False, False, Seen.UNKNOWN): Row.IGNORE,
}


@dataclass(frozen=True, slots=True)
class Case:
    """Everything one decision rests on. `moved`: the body asked for is another than the recorded one.

    `declared` is False for a resource that is to go although its manifest still stands (destroy); `body` is the
    resolved request, empty when nothing is declared. `frozen`: a run of this resource is open. `keep`: why nothing
    may be pruned at all, if so. `known_as` is the name its record still has, when that is another.
    """

    ref: ResourceRef
    declared: bool
    want: Resource | None
    body: Mapping[str, Json]
    record: Record | None
    seen: Observation
    controller: Controller
    moved: bool = False
    attempt: int = 0
    frozen: bool = False
    keep: str | None = None
    known_as: ResourceRef | None = None

    @property
    def lifecycle(self) -> Lifecycle:
        """What governs the resource, declared or not."""
        return lifecycle_of(self.want, self.record)

    @property
    def generation(self) -> int:
        """1 for what is new; one more than recorded when the body changed; else as recorded."""
        if self.record is None:
            return 1
        return self.record.generation + 1 if self.moved else self.record.generation


def decide(case: Case) -> Change | None:
    """The change one resource needs, not yet priced; None where there is nothing of ours."""
    row = TABLE[case.declared, case.record is not None, _seen(case.seen)]
    if row is Row.IGNORE:
        return None
    if case.frozen:
        return _idle(case, Verb.DEFER, Reason.FROZEN, "a run of it is open and is driven to its end first")
    if case.lifecycle.suspend is not None:
        pause = case.lifecycle.suspend
        until = f" until {pause.until}" if pause.until else ""
        return _idle(case, Verb.NONE, Reason.SUSPENDED, pause.reason + until)
    return _RULES[row](case)


def lifecycle_of(want: Resource | None, record: Record | None) -> Lifecycle:
    """The lifecycle that governs a resource; without a manifest, what its record kept of it.

    A record keeps protection as its `protected` mark, a deletion policy of Orphan as status fact "deletionPolicy", and a
    person's word to leave it alone as "suspended".
    """
    if want is not None:
        return want.lifecycle
    if record is None:
        return Lifecycle()
    pause = record.status.facts.get("suspended")
    suspend = Suspension(pause["reason"], pause["until"]) if pause else None
    if record.protected:
        return Lifecycle(deletion_policy=DeletionPolicy.PROTECT, suspend=suspend)
    if record.status.facts.get("deletionPolicy") == DeletionPolicy.ORPHAN.value:
        return Lifecycle(deletion_policy=DeletionPolicy.ORPHAN, suspend=suspend)
    return Lifecycle(suspend=suspend)


def shielded(want: Resource | None, record: Record | None) -> str | None:
    """Why a resource must not be deleted, or None."""
    lifecycle = lifecycle_of(want, record)
    if (record is not None and record.protected) or lifecycle.deletion_policy is DeletionPolicy.PROTECT:
        return "protected: take the protection away before it is removed"
    if lifecycle.prune is Prune.NEVER:
        return "its lifecycle says prune: never"
    return None


def _seen(observation: Observation) -> Seen:
    if isinstance(observation, Present):
        return Seen.PRESENT
    return Seen.ABSENT if isinstance(observation, Absent) else Seen.UNKNOWN


def _idle(case: Case, verb: Verb, reason: Reason, detail: str = "", deltas: tuple[FieldDelta, ...] = ()) -> Change:
    """A change that does nothing. It carries no bodies: ten thousand of them must stay a small plan."""
    generation = case.record.generation if case.record is not None else 0
    return Change(case.ref, verb, reason, generation, deltas=deltas, detail=detail)


def _act(case: Case, verb: Verb, reason: Reason, deltas: tuple[FieldDelta, ...] = (), blocked: str | None = None) -> Change:
    seen = {} if isinstance(case.seen, Unknown) else case.seen.attributes
    leaving = not case.declared and case.record is not None
    before = case.record
    if before is not None and case.known_as is not None:
        # Whoever carries it out finds the record there, and moves it first.
        before = replace(before, ref=case.known_as)
    return Change(
        ref=case.ref,
        verb=verb,
        reason=reason,
        generation=case.generation,
        attempt=case.attempt,
        deltas=deltas,
        before=before,
        after=case.want if case.declared else None,
        body=case.record.body if leaving and case.record is not None else case.body,
        seen=seen,
        blocked=blocked,
        detail=case.seen.why if case.record is not None and isinstance(case.seen, Absent) else "",
    )


def _adopt(case: Case) -> Change:
    blocked = f"exists on the network but not in this ledger: take charge of it with reconciler adopt {case.ref}"
    return _act(case, Verb.CREATE, Reason.UNMANAGED, blocked=blocked)


def _create(case: Case) -> Change:
    return _act(case, Verb.CREATE, Reason.NEW)


def _recreate(case: Case) -> Change:
    ordered = isinstance(case.seen, Absent) and bool(case.seen.attributes.get("recreate"))
    return _act(case, Verb.REPLACE if ordered else Verb.CREATE, Reason.LOST, _asked(case))


def _compare(case: Case) -> Change:
    assert case.record is not None and isinstance(case.seen, Present)
    # Where the two bodies say the same, the kind reads the one that is at hand: the recorded one would have to be parsed.
    was = case.record if case.moved else replace(case.record, body=case.body)
    drift = unignored(case.controller.diff(case.body, was, case.seen), case.lifecycle.ignore)
    renamed = tuple(delta for delta in drift if delta.path == NAME)
    if case.moved:
        asked = _named(case, renamed) + _asked(case)
        drift = tuple(delta for delta in drift if delta.path != NAME)
        verb = Verb.REPLACE if any(delta.replaces for delta in asked) else Verb.UPDATE
        return _act(case, verb, _why(asked), asked + (drift if case.lifecycle.correct_drift else ()))
    if renamed:
        # What is out there tells the old name, and only a new version can tell the new one.
        return replace(_act(case, Verb.UPDATE, Reason.MOVED, drift), generation=case.record.generation + 1)
    if case.known_as is not None:
        return _act(case, Verb.MOVE, Reason.MOVED, _named(case))
    if not drift:
        if case.record.retiring:
            # A deletion was begun and its manifest came back: put right whatever it had already taken down.
            return _act(case, Verb.REPAIR, Reason.DRIFTED)
        return _idle(case, Verb.NONE, Reason.IN_SYNC)
    if all(delta.cause is Cause.TIME for delta in drift):
        return _act(case, Verb.REPAIR, Reason.EXPIRING, drift)
    if not case.lifecycle.correct_drift:
        return _idle(case, Verb.NONE, Reason.DRIFTED, "drift is reported, not corrected", drift)
    # What a re-submission of the same transaction cannot restore has to be made anew.
    return _act(case, Verb.REPLACE if any(delta.replaces for delta in drift) else Verb.REPAIR, Reason.DRIFTED, drift)


def _prune(case: Case) -> Change:
    blocked = shielded(case.want, case.record) or case.keep
    if case.lifecycle.deletion_policy is DeletionPolicy.ORPHAN:
        return _act(case, Verb.FORGET, Reason.REMOVED, blocked=blocked)
    return _act(case, Verb.DELETE, Reason.REMOVED, blocked=blocked)


def _forget(case: Case) -> Change:
    return _act(case, Verb.FORGET, Reason.ALREADY_GONE, blocked=shielded(case.want, case.record) or case.keep)


def _defer(case: Case) -> Change:
    return _idle(case, Verb.DEFER, Reason.UNKNOWN, case.seen.reason if isinstance(case.seen, Unknown) else "")


def _asked(case: Case) -> tuple[FieldDelta, ...]:
    if case.record is None:
        return ()
    return compare(case.record.body, case.body, case.controller.immutable)


def _named(case: Case, told: tuple[FieldDelta, ...] = ()) -> tuple[FieldDelta, ...]:
    """The new name as a field that changes, unless the kind has `told` so."""
    old = case.known_as
    return told or (() if old is None else (FieldDelta(NAME, old.name, case.ref.name),))


def _why(asked: tuple[FieldDelta, ...]) -> Reason:
    inherited = all(covers("using", delta.path) for delta in asked)
    return Reason.REQUIREMENT_CHANGED if inherited else Reason.SPEC_CHANGED


_RULES: Mapping[Row, Callable[[Case], Change]] = {
    Row.ADOPT: _adopt,
    Row.CREATE: _create,
    Row.COMPARE: _compare,
    Row.RECREATE: _recreate,
    Row.PRUNE: _prune,
    Row.FORGET: _forget,
    Row.DEFER: _defer,
}

if set(TABLE) != set(product((True, False), (True, False), Seen)) or set(TABLE.values()) - {Row.IGNORE} != set(_RULES):
    raise Invariant("decision-table", "cannot plan: the decision table has a hole")
