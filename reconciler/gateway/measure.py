"""What /metrics shows of the work: passes over keys with their duration, plans with their actions, drift and money."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from reconciler.engine.execute import Fate, Report
from reconciler.engine.finish import spent
from reconciler.engine.handlers import Handlers
from reconciler.engine.survey import midnight
from reconciler.engine.worker import Handler
from reconciler.model.change import Cause, Verb
from reconciler.model.plan import Plan
from reconciler.ports import Lease
from reconciler.telemetry import Metrics


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
    ports, limits, read = handlers.runner.ports, handlers.limits, [handlers.runner.ports.clock.now()]
    metrics.revision_age.set_function(lambda: (ports.clock.now() - read[0]).total_seconds())

    def on_plan(plan: Plan, report: Report | None) -> None:
        if not handlers.source_fault:
            read[0] = ports.clock.now()
        actions = Counter(change.verb.value for change in plan.changes)
        for verb in Verb:
            metrics.actions.labels(verb.value).set(actions[verb.value])
        drifted = Counter(c.ref.kind for c in plan.changes if any(delta.cause is Cause.DRIFT for delta in c.deltas))
        for kind in {change.ref.kind for change in plan.changes}:
            metrics.drift.labels(kind).set(drifted[kind])
        _money(plan, report)

    def _money(plan: Plan, report: Report | None) -> None:
        with ports.ledger.begin() as tx:
            for change in plan.acting if report is not None else ():
                result = report.results.get(change.ref) if report is not None else None
                if result is not None and result.fate in (Fate.DONE, Fate.FAILED):
                    # A counter cannot fall; what a retirement returns shows in the budget instead.
                    metrics.spend.labels(change.ref.kind).inc(max(0, sum(spent(tx, change.run_id(plan.lineage)))))
            if limits.spend_day is not None:
                metrics.budget_left.set(limits.spend_day - tx.spent_since(midnight(ports.clock.now())))

    handlers.on_plan = on_plan
