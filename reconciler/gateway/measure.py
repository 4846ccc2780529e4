"""What /metrics shows of the work: passes over keys with their duration, plans with their actions, drift and money."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from reconciler.engine import anchor, balance
from reconciler.engine.budget import effective
from reconciler.engine.dispatch import Outbox
from reconciler.engine.execute import Fate, Report
from reconciler.engine.finish import spent
from reconciler.engine.handlers import Handlers
from reconciler.engine.survey import midnight
from reconciler.engine.worker import Handler
from reconciler.model.change import Cause, Change, Reason, Verb
from reconciler.model.intent import Intent, IntentState, RunState
from reconciler.model.plan import Plan
from reconciler.model.status import Truth
from reconciler.ports import Lease
from reconciler.telemetry import Metrics

# How the world may leave a record.
DRIFTS = ("host-missing", "copy-missing", "copy-corrupt", "other")
# How far a run may have come.
STATIONS = ("begun", "reserved", "signed", "sent", "seen")
# Conditions that are shown even while nothing has them, so that an alert sees a zero and not a gap.
TYPES = ("Ready", "Stalled", "Drifted", "Reconciling", "Confirmed", "HeadersAgree")


@dataclass(slots=True)
class Measured(Handlers):
    """The daemon's handlers, counted and timed by the prefix of their key."""

    metrics: Metrics | None = None

    def table(self) -> Mapping[str, Handler]:
        """The same table; each handler tells the metrics what became of its pass."""
        # Zero-argument super() does not see the class that slots=True makes anew.
        plain = Handlers.table(self)
        return plain if self.metrics is None else {prefix: _counted(prefix, h, self.metrics) for prefix, h in plain.items()}


def _counted(prefix: str, handler: Handler, metrics: Metrics) -> Handler:
    kind = prefix.rstrip("/")

    async def measured(lease: Lease) -> datetime | None:
        began = time.perf_counter()
        result = "error"
        try:
            again = await handler(lease)
            result = "done" if again is None else "later"
            return again
        finally:
            metrics.reconciles.labels(kind, result).inc()
            metrics.seconds.labels(kind).observe(time.perf_counter() - began)

    return measured


def watch(handlers: Handlers, metrics: Metrics) -> None:
    """Let every plan that is made show in the gauges, and every one that is carried out in the counters."""
    ports, read = handlers.runner.ports, [handlers.runner.ports.clock.now()]
    metrics.revision_age.set_function(lambda: (ports.clock.now() - read[0]).total_seconds())

    def on_plan(plan: Plan, report: Report | None) -> None:
        if not handlers.source_fault:
            read[0] = ports.clock.now()
        actions = Counter(change.verb.value for change in plan.changes)
        for verb in Verb:
            metrics.actions.labels(verb.value).set(actions[verb.value])
        drifted = Counter((change.ref.kind, sort) for change in plan.changes for sort in drift_of(change))
        for kind in {change.ref.kind for change in plan.changes}:
            for sort in DRIFTS:
                metrics.drift.labels(kind, sort).set(drifted[kind, sort])
        metrics.suspended.set(sum(change.reason is Reason.SUSPENDED for change in plan.changes))
        _money(plan, report)

    def _money(plan: Plan, report: Report | None) -> None:
        with ports.ledger.begin() as tx:
            for change in plan.acting if report is not None else ():
                result = report.results.get(change.ref) if report is not None else None
                if result is not None and result.fate in (Fate.DONE, Fate.FAILED):
                    # A counter cannot fall; what a retirement returns shows in the budget instead.
                    moved = max(0, sum(spent(tx, change.run_id(plan.lineage))))
                    metrics.spend.labels(change.ref.kind, handlers.surveyor.environment).inc(moved)
            now = ports.clock.now()
            if (most := effective(handlers.limits, tx, now).spend_day) is not None:
                metrics.budget_left.set(most - tx.spent_since(midnight(now)) - tx.reserved())

    handlers.on_plan = on_plan


def drift_of(change: Change) -> set[str]:
    """How the world left a record, of `DRIFTS`: a host without a token, a host without a copy or with a changed one, or else."""
    found = set()
    for delta in change.deltas:
        if delta.cause is Cause.DRIFT:
            place = delta.path.partition(".")[0]
            copy = "copy-corrupt" if delta.after == "corrupt" else "copy-missing"
            found.add({"hosts": "host-missing", "replicas": copy}.get(place, "other"))
    return found


def refresher(
    metrics: Metrics, handlers: Handlers, outbox: Outbox, hosts: Callable[[], Mapping[str, bool]]
) -> Callable[[], None]:
    """Sets, at every scrape, what the ledger and the doors know better than any pass."""
    ports = handlers.runner.ports
    subject = anchor.subject(handlers.surveyor.environment)
    # What was shown once is shown on, as nothing when it is gone.
    sinks: set[str] = set()
    chains: set[str] = set()

    def refresh() -> None:
        now = ports.clock.now()
        with ports.ledger.begin() as tx:
            head, newest, record = tx.audit_head(), tx.history(limit=1), tx.record(subject)
            since = tx.unanchored_since(record.body["spec"]["entries"] if record is not None else 0, subject)
            purses = balance.balances(tx)
            stations = Counter(station(tx.intents(run.id)) for run in tx.runs(state=RunState.OPEN))
        chains.update(purses)
        for chain in chains:
            for name in balance.STATES:
                metrics.purse.labels(chain, name).set(purses.get(chain, {}).get(name, 0))
        for state in STATIONS:
            metrics.stations.labels(state).set(stations[state])
        metrics.audit_entries.set(head.entries)
        metrics.audit_age.set(0 if since is None else (now - since).total_seconds())
        if newest:
            metrics.event_age.set((now - datetime.fromisoformat(str(newest[0]["at"]))).total_seconds())
        said = Counter(
            (c.type, c.status.value) for r in ports.ledger.read(midnight(now)).records.values() for c in r.status.conditions
        )
        for type_ in {*TYPES, *(type_ for type_, _ in said)}:
            for truth in Truth:
                metrics.conditions.labels(type_, truth.value).set(said[type_, truth.value])
        for host, up in hosts().items():
            metrics.host_up.labels(host).set(up)
        waiting = outbox.pending()
        sinks.update(waiting)
        for sink in sinks:
            metrics.notices_pending.labels(sink).set(waiting.get(sink, 0))

    return refresh


def station(intents: Sequence[Intent]) -> str:
    """How far an open run came, of `STATIONS`: once it is sent, money may be on its way."""
    reached = {intent.effect: intent.state for intent in intents}
    if "Broadcast" in reached:
        return "sent" if reached["Broadcast"] is IntentState.OPEN else "seen"
    if "Sign" in reached:
        return "reserved" if reached["Sign"] is IntentState.OPEN else "signed"
    return "begun"
