"""One pass over everything: what is declared, requirements first, then what is to go, dependents first.

Each resource is decided knowing what this plan does to the resources it stands on. The rule throughout: a requirement
that this plan does not move is offered as it is recorded; one that should move but cannot holds back whatever would
spend on top of it, and whatever would pull it away from under something that stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from operator import is_

from reconciler.controller import Controller
from reconciler.model.canonical import Json
from reconciler.model.change import Change, FeeRate, Reason, Verb
from reconciler.model.errors import ReconcilerError
from reconciler.model.folded import Folded
from reconciler.model.observation import Observation, ObservedState, Present, Unknown
from reconciler.model.record import Record, RecordedState
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import DesiredState, Lifecycle, Resource
from reconciler.planner.decide import Case, decide, shielded
from reconciler.planner.diff import is_marker, same
from reconciler.planner.guard import EMPTY_SOURCE, MAX_SPEND, Limits, emptied, too_dear
from reconciler.planner.order import rank_of, topological
from reconciler.planner.resolve import Hold, Offer, chain, exported, marker, network, paid_on, renews, request

# What a kind may raise over a body it cannot read (one of another version, one with markers in it). It costs that one
# resource its turn, never the plan.
_FAULTS = (
    ReconcilerError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError, RuntimeError
)  # fmt: skip
_UNSEEN = Unknown("not observed")


@dataclass(frozen=True, slots=True)
class Agreed:
    """A resource that was found in sync, and all that this rested on."""

    record: Record
    want: Resource
    exports: tuple[Json, ...]
    seen: Observation
    change: Change


@dataclass(slots=True)
class Memory:
    """What one plan leaves to the next: the resources that were in sync, which most are and stay.

    Deciding is a pure function, so the same objects lead to the same change; that they are the same is told by identity,
    which costs nothing. So this changes how long a plan takes and nothing else. Exports are made anew for every plan; where
    they say what they said before, the earlier object stands for them.
    """

    agreed: dict[ResourceRef, Agreed] = field(default_factory=dict)
    exports: dict[ResourceRef, Json] = field(default_factory=dict)
    wants: list[Resource] = field(default_factory=list)
    order: list[ResourceRef] = field(default_factory=list)

    def shared(self, ref: ResourceRef, exports: Json) -> Json:
        """The exports as an object whose identity lasts while what it says does."""
        known = self.exports.get(ref)
        if known is None or not same(known, exports):
            known = self.exports[ref] = exports
        return known

    def ordered(self, staying: Mapping[ResourceRef, Resource], kinds: Mapping[str, Controller]) -> list[ResourceRef]:
        """What stays, each after what it requires: the order of the last plan where it was about the same resources."""
        wants = list(staying.values())
        if len(wants) != len(self.wants) or not all(map(is_, wants, self.wants)):
            self.order = topological(staying, {ref: want.requires for ref, want in staying.items()}, rank_of(kinds))
            self.wants = wants
        return self.order

    def forget(self, records: Mapping[ResourceRef, Record]) -> None:
        """Let go of what is no longer recorded."""
        if len(self.agreed) > len(records):
            self.agreed = {ref: found for ref, found in self.agreed.items() if ref in records}


def _same_sight(then: Observation, now: Observation) -> bool:
    return isinstance(then, Present) and isinstance(now, Present) and same(then.attributes, now.attributes)


@dataclass(slots=True)
class Walk:
    """The three states and what has been decided so far.

    After `run`: `changes` in the order decided, `waits` with every resource that must be done before another, `kept`
    what protection kept from being removed, `dear` what costs more than its own maxSpend.
    """

    desired: DesiredState
    recorded: RecordedState
    observed: ObservedState
    kinds: Mapping[str, Controller]
    rates: Mapping[str, FeeRate]
    limits: Limits
    memory: Memory = field(default_factory=Memory)
    changes: dict[ResourceRef, Change] = field(default_factory=dict)
    waits: dict[ResourceRef, frozenset[ResourceRef]] = field(default_factory=dict)
    kept: list[ResourceRef] = field(default_factory=list)
    dear: list[ResourceRef] = field(default_factory=list)
    _offers: dict[ResourceRef, Offer] = field(default_factory=dict)
    _usings: dict[tuple[str, ...], Json] = field(default_factory=dict)
    _compared: dict[tuple[int, int], tuple[bool, Json, Json]] = field(default_factory=dict)
    _pending: set[ResourceRef] = field(default_factory=set)
    _users: dict[ResourceRef, frozenset[ResourceRef]] | None = None

    def run(self) -> Walk:
        """Decide and price every resource in scope."""
        scope = self._scope()
        rank = rank_of(self.kinds)
        declared = {} if self.limits.destroy else self.desired.resources
        staying = declared if scope is None else {ref: want for ref, want in declared.items() if ref in scope}
        self.waits.update({ref: want.requires for ref, want in staying.items()})
        for ref in self.memory.ordered(staying, self.kinds):
            self._stay(ref, staying[ref])
        going = [ref for ref in self.recorded.records if ref not in declared and (scope is None or ref in scope)]
        if going:
            users = {ref: self._used_by(ref) for ref in going}
            self.waits.update(users)
            for ref in topological(going, users, lambda ref: (-rank(ref)[0], *rank(ref)[1:])):
                self._leave(ref, frozenset(going))
        self.memory.forget(self.recorded.records)
        return self

    # --- what stays --------------------------------------------------------------------------------

    def _stay(self, ref: ResourceRef, want: Resource) -> None:
        record, controller = self.recorded.records.get(ref), self.kinds.get(ref.kind)
        if controller is None:
            self.changes[ref] = _no_kind(_undecided(ref, want, record))
            return
        if record is None and ref in self.recorded.barred:
            self.changes[ref] = replace(_undecided(ref, want, None), blocked=self.recorded.barred[ref])
            return
        try:
            known = self._recalled(ref, want, record)
            if known is not None:
                self.changes[ref] = known
                return
            offers = {other: self._offer(other) for other in want.requires}
            case = self._case(ref, want, record, controller, body=self._asked(want, controller, offers))
            change = decide(case)
        except _FAULTS as fault:
            self.changes[ref] = _faulty(_undecided(ref, want, record), fault)
            return
        if change is None:
            return
        if change.reason is Reason.IN_SYNC and record is not None:
            exports = tuple([offer.exports for offer in offers.values()])
            self.memory.agreed[ref] = Agreed(record, want, exports, case.seen, change)
        if change.verb is Verb.DEFER and (record is None or case.moved):
            self._pending.add(ref)
        if renews(change):
            change = self._wait_for(change, offers)
        change = self._wait_for_names(change, want.requires)
        self.changes[ref] = self._price(change, controller, want.lifecycle)

    def _recalled(self, ref: ResourceRef, want: Resource, record: Record | None) -> Change | None:
        """The change of an earlier plan that rested on the same. Nearly every resource of nearly every plan ends here."""
        then = self.memory.agreed.get(ref)
        if then is None or then.record is not record or then.want is not want or ref in self.recorded.frozen:
            return None
        # The same set is walked in the same order.
        for other, exports in zip(want.requires, then.exports, strict=True):
            offer = self._offers.get(other) or self._offer(other)
            if offer.exports is not exports:
                return None
        seen = self.observed.get(ref, _UNSEEN)
        return then.change if then.seen is seen or _same_sight(then.seen, seen) else None

    def _case(
        self,
        ref: ResourceRef,
        want: Resource | None,
        record: Record | None,
        controller: Controller,
        *,
        body: Mapping[str, Json] | None = None,
        keep: str | None = None,
    ) -> Case:
        """What is known of one resource; without a body it is to go."""
        return Case(
            ref=ref,
            declared=body is not None,
            want=want,
            body=body if body is not None else {},
            record=record,
            seen=self.observed.get(ref, _UNSEEN),
            controller=controller,
            moved=body is not None and record is not None and self._moved(record, body),
            attempt=self.recorded.attempts.get(ref, 0),
            frozen=ref in self.recorded.frozen,
            keep=keep,
            known_as=self.recorded.moved.get(ref),
        )

    def _asked(self, want: Resource, controller: Controller, offers: Mapping[ResourceRef, Offer]) -> dict[str, Json]:
        """The body of a resource; those that use the same share one object that says so."""
        body = request(want, controller, offers)
        body["using"] = self._usings.setdefault(tuple(body["using"]), body["using"])
        return body

    def _moved(self, record: Record, body: Mapping[str, Json]) -> bool:
        kept = record.body
        return not (isinstance(kept, Folded) and kept.says(body, self._alike)) and not same(kept, body)

    def _alike(self, left: Json, right: Json) -> bool:
        """`same` for objects that many resources share, compared once. They are kept, so that no other takes their identity."""
        key = (id(left), id(right))
        if key not in self._compared:
            self._compared[key] = (same(left, right), left, right)
        return self._compared[key][0]

    def _wait_for(self, change: Change, offers: Mapping[ResourceRef, Offer]) -> Change:
        hold = next((hold for other in sorted(offers) if (hold := offers[other].hold) is not None), None)
        if hold is None:
            return change
        self._pending.add(change.ref)
        return _held(change, hold)

    def _wait_for_names(self, change: Change, others: Iterable[ResourceRef]) -> Change:
        """Its record is shown as it will be once what it stands on has its new name: until then it must not be written."""
        moved = self.recorded.moved
        for other in sorted(ref for ref in others if ref in moved) if moved and change.verb.acts else ():
            mover = self.changes.get(other)
            if mover is None or mover.blocked is not None or not mover.verb.acts:
                return _held(change, Hold(f"waits for {other}, which has its new name first", Reason.MOVED))
            self.waits[change.ref] |= {other}
        return change

    def _offer(self, ref: ResourceRef) -> Offer:
        offer = self._offers.get(ref)
        if offer is None:
            offer = self._offers[ref] = self._new_offer(ref)
        return offer

    def _new_offer(self, ref: ResourceRef) -> Offer:
        change, record, controller = self.changes.get(ref), self.recorded.records.get(ref), self.kinds.get(ref.kind)
        exports = self.memory.shared(ref, marker(ref) if controller is None else exported(ref, controller, change, record))
        if change is not None and renews(change):
            return Offer(exports)
        hold = self._hold_of(ref, change)
        if hold is None and is_marker(exports):
            hold = Hold(f"requires {ref}, which has nothing to offer yet")
        return Offer(exports, hold)

    def _hold_of(self, ref: ResourceRef, change: Change | None) -> Hold | None:
        """Why dependents of a resource that this plan does not renew may not spend on it."""
        missing = ref not in self.recorded.records
        if change is None:
            where = "is not part of this plan" if ref in self.desired.resources else "is not declared"
            return Hold(f"requires {ref}, which {where} and does not exist") if missing else None
        if change.blocked is not None:
            stuck = missing or change.verb is not Verb.REPAIR
            return Hold(f"requires {ref}, which is blocked") if stuck else None
        if change.verb is Verb.DEFER:
            open_ended = change.reason is Reason.FROZEN or ref in self._pending
            return Hold(f"waits for {ref}", change.reason) if open_ended else None
        return Hold(f"requires {ref}, which was suspended before it existed") if missing else None

    # --- what goes ---------------------------------------------------------------------------------

    def _leave(self, ref: ResourceRef, going: frozenset[ResourceRef]) -> None:
        record, controller = self.recorded.records[ref], self.kinds.get(ref.kind)
        want = self.desired.resources.get(ref)
        if controller is None:
            self.changes[ref] = _no_kind(_undecided(ref, None, record))
            return
        case = self._case(ref, want, record, controller, keep=self._keep() or self.recorded.barred.get(ref))
        change = decide(case)
        if change is None:
            return
        if change.verb.acts and shielded(want, record):
            self.kept.append(ref)
        if change.verb.acts and change.blocked is None:
            for user in sorted(self._used_by(ref)):
                hold = self._still_used(ref, user, going)
                if hold is not None:
                    change = _held(change, hold)
                    break
        change = self._wait_for_names(change, record.requires)
        self.changes[ref] = self._price(change, controller, case.lifecycle)

    def _keep(self) -> str | None:
        """Why nothing at all may be pruned."""
        if not self.limits.prune and not self.limits.destroy:
            return "no longer declared, but pruning is off"
        if emptied(self.desired, self.recorded, self.limits) and EMPTY_SOURCE not in self.limits.approved:
            return "the source declares nothing at all"
        return None

    def _still_used(self, ref: ResourceRef, user: ResourceRef, going: frozenset[ResourceRef]) -> Hold | None:
        """Why `ref` may not go yet because of a resource that stands on it."""
        if user == ref:
            return None
        change = self.changes.get(user)
        if change is None:
            # Undecided among those that go: the two stand on each other, and one has to go first.
            return None if user in going else Hold(f"still used by {user}, which is not part of this plan")
        if change.blocked is not None:
            return Hold(f"still used by {user}, which is blocked")
        if change.verb is Verb.DEFER:
            return Hold(f"waits for {user}", change.reason)
        if change.reason is Reason.SUSPENDED:
            return Hold(f"still used by {user}, which is suspended")
        if user not in going and ref in self.desired.resources[user].requires:
            return Hold(f"still required by {user}")
        return None

    def _used_by(self, ref: ResourceRef) -> frozenset[ResourceRef]:
        """Everything recorded, or still declared, as standing on `ref`."""
        if self._users is None:
            found: dict[ResourceRef, set[ResourceRef]] = {}
            for record in self.recorded.records.values():
                for other in record.requires:
                    found.setdefault(other, set()).add(record.ref)
            for want in () if self.limits.destroy else self.desired.resources.values():
                for other in want.requires:
                    found.setdefault(other, set()).add(want.ref)
            self._users = {other: frozenset(users) for other, users in found.items()}
        return self._users.get(ref, frozenset())

    def _scope(self) -> frozenset[ResourceRef] | None:
        """The resources this plan is about, None for all: targets with what they stand on, and what stands on targets that go."""
        if self.limits.only is None and not self.limits.exclude:
            return None
        if self.limits.only is None:
            return frozenset({*self.desired.resources, *self.recorded.records} - self.limits.exclude)
        found: set[ResourceRef] = set()
        open_ = list(self.limits.only)
        while open_:
            ref = open_.pop()
            if ref in found:
                continue
            found.add(ref)
            want = None if self.limits.destroy else self.desired.resources.get(ref)
            open_.extend(want.requires if want is not None else self._used_by(ref))
        return frozenset(found - self.limits.exclude)

    # --- the price ---------------------------------------------------------------------------------

    def _price(self, change: Change, controller: Controller, lifecycle: Lifecycle) -> Change:
        """The change with its rate, cost and needs; blocked when it cannot be priced or costs more than it may."""
        if not change.verb.acts or change.blocked is not None or change.verb in (Verb.FORGET, Verb.MOVE):
            return change
        name = network(paid_on(change))
        change = replace(change, rate=self.rates.get(name) if name is not None else None)
        where = f"no fee rate is known for Network/{name}" if name is not None else "it names no Network to pay on"
        try:
            cost, needs = controller.estimate(change)
        except _FAULTS as fault:
            return _faulty(change, fault) if change.rate is not None else replace(change, blocked=f"{where} ({_told(fault)})")
        change = replace(change, cost=cost, needs=tuple(needs))
        if needs and change.rate is None:
            return replace(change, blocked=where)
        if needs and chain(paid_on(change)) is None:
            return replace(change, blocked=f"Network/{name} does not say on which chain to pay")
        spent = self.recorded.own.get(change.ref, {}).get(change.generation, 0)
        if told := too_dear(change, spent, lifecycle.max_spend):
            self.dear.append(change.ref)
            if MAX_SPEND not in self.limits.approved:
                return replace(change, blocked=told)
        return change


def _held(change: Change, hold: Hold) -> Change:
    if hold.reason is None:
        return replace(change, blocked=hold.text)
    generation = change.before.generation if change.before is not None else 0
    return Change(change.ref, Verb.DEFER, hold.reason, generation, detail=hold.text)


def _undecided(ref: ResourceRef, want: Resource | None, record: Record | None) -> Change:
    """A change nobody can decide: what it would be by presence alone, to carry the fault that blocks it."""
    if want is None:
        verb, reason = Verb.DELETE, Reason.REMOVED
    else:
        verb, reason = (Verb.CREATE, Reason.NEW) if record is None else (Verb.UPDATE, Reason.SPEC_CHANGED)
    return Change(ref, verb, reason, record.generation if record is not None else 1, before=record, after=want)


def _no_kind(change: Change) -> Change:
    return replace(change, blocked=f"no kind {change.ref.kind} is installed")


def _faulty(change: Change, fault: Exception) -> Change:
    told = _told(fault)
    return replace(change, blocked=told if isinstance(fault, ReconcilerError) else f"its kind cannot plan it: {told}")


def _told(fault: Exception) -> str:
    return fault.message if isinstance(fault, ReconcilerError) else f"{type(fault).__name__}: {fault}"
