"""What operators are told: changes of conditions, as they are committed, to the sinks whose filter they pass.

A notice is decided here, from the status before and after, and written to the outbox in the very commit that changed the
condition. So none is lost to a crash, and none tells of what was never recorded. Delivery comes later (dispatch.py), at
least once, under an id that stays the same.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

from reconciler.engine import rotation
from reconciler.model.canonical import Json, digest
from reconciler.model.codec import timestamp
from reconciler.model.errors import Refused
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.model.status import Condition, Truth

# A condition that was never stated counts as this; all others count as False until somebody says otherwise.
_UNSTATED = {"Ready": Truth.UNKNOWN, "Funded": Truth.UNKNOWN}
# Conditions for which True is the good news; for all others it is False.
_GOOD = frozenset({"Ready", "Confirmed", "SourceReady", "SourceVerified", "Funded", "Published", "Advertised", "HeadersAgree"})
# A condition that is bad, but passes by itself more often than not.
_PASSING = frozenset({"Reconciling", "Confirmed", "Rotating", rotation.SUCCESSION})
# One that somebody should see to, while everything still works.
_EARLY = frozenset({"Drifted", "Funded"})
# Named values of the ledger that hold conditions: of resources that have no record yet, and of the source.
UNRECORDED = "condition/"
SOURCE = "source"


class Severity(IntEnum):
    """How much it matters; a filter lets pass what is at least so severe."""

    INFO = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class When:
    """A filter: every part that is not empty must fit. `names` are globs over the name or over Kind/name."""

    conditions: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    severity: Severity = Severity.WARNING


@dataclass(frozen=True, slots=True)
class Sink:
    """Where notices go: to a webhook, to a command, or else to the log. `name` is the key of what is still to go there."""

    name: str
    when: When = field(default_factory=When)
    webhook: Mapping[str, Json] | None = None
    command: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """One condition that moved. `ref` is None where the source itself is meant.

    Of a succession of keys `statement` is what both keys signed, for subscribers to verify.
    """

    ref: ResourceRef | None
    type: str
    before: Truth
    after: Truth
    reason: str
    message: str
    generation: int
    revision: str
    at: datetime
    statement: Mapping[str, Json] | None = None

    @property
    def severity(self) -> Severity:
        """Bad news that needs somebody is an error, bad news that may pass a warning, good news an information."""
        if (self.after is Truth.TRUE) is (self.type in _GOOD):
            return Severity.INFO
        passing = self.type in _PASSING and self.reason != rotation.REVOKED
        if self.after is Truth.UNKNOWN or passing or self.type in _EARLY:
            return Severity.WARNING if self.type != "Confirmed" else Severity.INFO
        return Severity.ERROR

    @property
    def id(self) -> str:
        """The same for the same transition, however often it is delivered, and for the same statement, whoever tells it."""
        if self.statement is not None:
            return digest([self.type, self.reason, dict(self.statement)])[:32]
        said = [str(self.ref), self.type, self.before.value, self.after.value, self.reason, self.generation, timestamp(self.at)]
        return digest(said)[:32]

    def passes(self, when: When, labels: Mapping[str, str]) -> bool:
        """Whether a filter lets it through; `labels` are those of the resource."""
        kind, name = (self.ref.kind, self.ref.name) if self.ref else ("", "")
        globs = [fnmatch.fnmatchcase(text, glob) for glob in when.names for text in (name, str(self.ref))]
        return (
            self.severity >= when.severity
            and (not when.conditions or self.type in when.conditions)
            and (not when.kinds or kind in when.kinds)
            and (not when.names or (self.ref is not None and any(globs)))
            and all(labels.get(key) == value for key, value in when.labels.items())
        )


@dataclass(frozen=True, slots=True)
class Notice:
    """A transition on its way to one sink; `body` is the JSON that every kind of sink hands over. `attempts` have failed."""

    id: str
    sink: str
    at: datetime
    body: Mapping[str, Json]
    attempts: int = 0


def moved(before: Record | None, after: Record | None, now: datetime) -> Iterator[Transition]:
    """What a write of a record changed. A record that is gone takes its Ready with it."""
    if after is None:
        if before is not None:
            ready = Condition("Ready", Truth.UNKNOWN, "Gone", "retired, or no longer looked after", before.generation, now)
            yield from _changed(before.ref, before.status.conditions, (ready,), before.revision, now, partial=True)
        return
    old = before.status.conditions if before is not None else ()
    yield from _changed(after.ref, old, after.status.conditions, after.revision, now)
    for one in rotation.told(before, after):
        first = Truth.UNKNOWN if one.reason == "Announced" else Truth.TRUE
        said = (first, Truth.TRUE, one.reason, one.message, after.generation, after.revision, now)
        yield Transition(after.ref, rotation.SUCCESSION, *said, statement=one.link)


def named(name: str, before: Json, after: Json, now: datetime) -> Iterator[Transition]:
    """What a write of a named value changed, where that value holds conditions."""
    if name.startswith(UNRECORDED):
        ref = ResourceRef.parse(name.removeprefix(UNRECORDED))
        yield from _changed(ref, _stated(before, now), _stated(after, now), "", now)
    elif name == SOURCE and isinstance(after, Mapping):
        was = Truth.TRUE if not isinstance(before, Mapping) or before.get("ready") else Truth.FALSE
        truth = Truth.TRUE if after.get("ready") else Truth.FALSE
        if was is not truth:
            reason, message = ("Read", "") if truth is Truth.TRUE else ("Rejected", str(after.get("message") or ""))
            yield Transition(None, "SourceReady", was, truth, reason, message, 0, str(after.get("revision") or ""), now)


def _stated(value: Json, now: datetime) -> tuple[Condition, ...]:
    items = value if isinstance(value, list) else []
    return tuple(Condition(type_, Truth(truth), reason, message, 0, now) for type_, truth, reason, message in items)


def _changed(
    ref: ResourceRef,
    before: Sequence[Condition],
    after: Sequence[Condition],
    revision: str,
    now: datetime,
    *,
    partial: bool = False,
) -> Iterator[Transition]:
    """A condition that left the list without a word became what it is unless stated; `partial` lists say nothing by silence."""
    old, new = ({one.type: one for one in conditions} for conditions in (before, after))
    for type_ in sorted({*old, *new} if not partial else new):
        was, now_is = old.get(type_), new.get(type_)
        unstated = _UNSTATED.get(type_, Truth.FALSE)
        truth_before = was.status if was is not None else unstated
        truth = now_is.status if now_is is not None else unstated
        bad = (truth is Truth.TRUE) is not (type_ in _GOOD)
        if truth is truth_before and not (bad and was is not None and now_is is not None and was.reason != now_is.reason):
            continue
        said = now_is if now_is is not None else Condition(type_, truth, "Over", "", was.observed_generation if was else 0, now)
        yield Transition(ref, type_, truth_before, truth, said.reason, said.message, said.observed_generation, revision, now)


@dataclass(slots=True)
class Herald:
    """Turns transitions into notices for the sinks of the settings. `labels` are looked up as the manifests last said."""

    sinks: Sequence[Sink]
    environment: str = ""
    labels: Callable[[ResourceRef], Mapping[str, str]] = lambda ref: {}

    def tell(self, found: Iterable[Transition]) -> list[Notice]:
        """One notice for each sink that wants to hear of it."""
        notices = []
        for one in found:
            labels = self.labels(one.ref) if one.ref is not None else {}
            for sink in self.sinks:
                if one.passes(sink.when, labels):
                    notices.append(Notice(one.id, sink.name, one.at, self._body(one, labels)))
        return notices

    def _body(self, one: Transition, labels: Mapping[str, str]) -> dict[str, Json]:
        return {
            "resource": str(one.ref) if one.ref is not None else None,
            "kind": one.ref.kind if one.ref is not None else None,
            "name": one.ref.name if one.ref is not None else None,
            "environment": self.environment,
            "labels": dict(labels),
            "condition": one.type,
            "before": one.before.value,
            "status": one.after.value,
            "reason": one.reason,
            "message": one.message,
            "severity": one.severity.name.lower(),
            "generation": one.generation,
            "revision": one.revision,
            "at": timestamp(one.at),
            **({"succession": dict(one.statement)} if one.statement is not None else {}),
        }


def cloud_event(notice: Notice, source: str) -> dict[str, Json]:
    """The notice as CloudEvents 1.0 in structured mode; `source` names this installation."""
    return {
        "specversion": "1.0",
        "id": notice.id,
        "source": source,
        "type": f"bsv.overlay.reconciler.{'key.succession' if 'succession' in notice.body else 'condition.changed'}",
        "subject": notice.body["resource"] or "source",
        "time": notice.body["at"],
        "datacontenttype": "application/json",
        "data": dict(notice.body),
    }


def sinks_of(settings: Sequence[Mapping[str, Json]]) -> tuple[Sink, ...]:
    """The sinks that settings list; Refused when two share a name or one goes nowhere, or to several places."""
    found: dict[str, Sink] = {}
    for item in settings:
        ways = [way for way in ("webhook", "log", "command") if item.get(way) is not None]
        if len(ways) != 1 or item["name"] in found:
            fault = f'two are called "{item["name"]}"' if item["name"] in found else f"{item['name']} has {len(ways)} ways to go"
            raise Refused("bad-sink", f"cannot notify: {fault}", hint="give each a name and one of webhook, log and command")
        when = item.get("when") or {}
        found[item["name"]] = Sink(
            name=item["name"],
            when=When(
                conditions=tuple(when.get("conditions") or ()),
                kinds=tuple(when.get("kinds") or ()),
                names=tuple(when.get("names") or ()),
                labels=when.get("labels") or {},
                severity=Severity[str(when.get("severity") or "warning").upper()],
            ),
            webhook=item.get("webhook"),
            command=item.get("command"),
        )
    return tuple(found.values())
