"""What operators watch: metric names with closed label sets, and one JSON log line per unit of work."""

from __future__ import annotations

import json
import logging
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# Fields a log record may carry beside its event name; anything else is dropped, so secrets cannot wander in.
BOUND = ("ref", "run", "generation", "revision", "fence", "verb", "outcome", "plan", "satoshis", "txid", "error", "hint", "at")


class Metrics:
    """The daemon's counters and gauges, in a registry of their own so that tests do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made: dict[str, Any] = {"registry": self.registry}
        self.reconciles = Counter("reconciler_reconcile", "Passes over a key", ["kind", "result"], **made)
        self.seconds = Histogram("reconciler_reconcile_seconds", "Duration of a pass", ["kind"], **made)
        self.depth = Gauge("reconciler_queue_depth", "Keys that are due", **made)
        self.oldest = Gauge("reconciler_queue_oldest_seconds", "Age of the oldest due key", **made)
        self.drift = Gauge("reconciler_drift", "Resources that drifted at the last look", ["kind"], **made)
        self.open_intents = Gauge("reconciler_runs_open", "Runs begun and not settled", **made)
        self.spend = Counter("reconciler_spend_satoshis", "Satoshis moved by finished runs", ["kind"], **made)
        self.budget_left = Gauge("reconciler_budget_left_satoshis", "Satoshis left of today's budget", **made)
        self.revision_age = Gauge("reconciler_source_revision_age_seconds", "Since the desired revision was read", **made)
        self.source_ready = Gauge("reconciler_source_ready", "1 while the newest revision is the desired one", **made)
        self.actions = Gauge("reconciler_plan_actions", "Changes in the last plan", ["verb"], **made)

    def exposition(self) -> bytes:
        """Prometheus text format 0.0.4."""
        return generate_latest(self.registry)


class JsonLines(logging.Formatter):
    """One JSON object per line: time, level, event, then the bound fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Render; payloads, keys and raw transactions never pass."""
        bound = {name: getattr(record, name) for name in BOUND if getattr(record, name, None) is not None}
        stamp = self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z"
        line = {"time": stamp, "level": record.levelname.lower(), "event": record.getMessage(), **bound}
        return json.dumps(line, ensure_ascii=False, default=str)
