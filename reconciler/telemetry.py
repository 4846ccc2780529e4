"""What operators watch: metric names with closed label sets, and one JSON log line per unit of work."""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

# Fields a log record may carry beside its event name; anything else is dropped, so secrets cannot wander in.
BOUND = (
    "key", "ref", "run", "plan", "revision", "generation", "fence", "verb", "effect", "outcome", "satoshis", "txid", "error",
    "hint", "at", "sink", "notice", "settings", "state", "host", "sent", "size",
)  # fmt: skip
# What the unit of work is about, for every line logged in it.
_AROUND: ContextVar[Mapping[str, Any]] = ContextVar("around", default={})  # noqa: B039 - never changed in place


class Metrics:
    """The daemon's counters and gauges, in a registry of their own so that tests do not share them."""

    def __init__(self) -> None:
        # Imported by those who count. What every command shares of this module is the name of the work in the log.
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        made: dict[str, Any] = {"registry": self.registry}
        self.reconciles = Counter("reconciler_reconcile", "Passes over a key", ["kind", "result"], **made)
        self.seconds = Histogram("reconciler_reconcile_seconds", "Duration of a pass", ["kind"], **made)
        self.depth = Gauge("reconciler_queue_depth", "Keys that are due", **made)
        self.oldest = Gauge("reconciler_queue_oldest_seconds", "Age of the oldest due key", **made)
        self.drift = Gauge("reconciler_drift", "Resources that drifted at the last look", ["kind", "class"], **made)
        self.open_intents = Gauge("reconciler_runs_open", "Runs begun and not settled", **made)
        self.stations = Gauge("reconciler_intents_open", "Runs begun and not settled, by how far they came", ["state"], **made)
        self.spend = Counter("reconciler_spend_satoshis", "Satoshis moved by finished runs", ["kind", "env"], **made)
        self.budget_left = Gauge("reconciler_budget_left_satoshis", "Satoshis left of today's budget", **made)
        self.purse = Gauge("reconciler_wallet_satoshis", "Satoshis in the purse, by state of coin", ["chain", "state"], **made)
        self.revision_age = Gauge("reconciler_source_revision_age_seconds", "Since the desired revision was read", **made)
        self.source_ready = Gauge("reconciler_source_ready", "1 while the newest revision is the desired one", **made)
        self.source_verified = Gauge("reconciler_source_verified", "0 while a head is kept out of force", **made)
        self.pushes = Counter("reconciler_push", "Pushes that came in", ["result"], **made)
        self.callbacks = Counter("reconciler_callback", "Callbacks of broadcasters that came in", ["result"], **made)
        self.behind = Gauge("reconciler_ledger_behind", "1 while nothing is spent: a coin went without this ledger", **made)
        self.actions = Gauge("reconciler_plan_actions", "Changes in the last plan", ["verb"], **made)
        self.event_age = Gauge("reconciler_last_event_age_seconds", "Since history last gained an entry", **made)
        self.host_up = Gauge("reconciler_host_up", "1 while a host answers, 0 while it is shut out for silence", ["host"], **made)
        self.suspended = Gauge("reconciler_suspended", "Resources that are suspended", **made)
        self.conditions = Gauge("reconciler_conditions", "Resources by what a condition says", ["type", "status"], **made)
        self.notices = Counter("reconciler_notices", "Attempts to deliver a notice", ["sink", "result"], **made)
        self.notices_pending = Gauge("reconciler_notices_pending", "Notices that wait for their sink", ["sink"], **made)
        self.payments_refused = Counter("reconciler_payments_refused", "Payments that a check did not let in", ["check"], **made)
        self.audit_entries = Gauge("reconciler_audit_entries", "Entries in the chain of history", **made)
        self.audit_age = Gauge("reconciler_audit_unanchored_seconds", "Age of the oldest entry that no anchor covers", **made)

    def exposition(self) -> bytes:
        """Prometheus text format 0.0.4."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)


@contextmanager
def bound(**fields: str) -> Iterator[None]:
    """Let every line that is logged inside, and in tasks begun there, say what it is about; empty values say nothing."""
    token = _AROUND.set({**_AROUND.get(), **{name: value for name, value in fields.items() if value}})
    try:
        yield
    finally:
        _AROUND.reset(token)


def learn(**fields: str) -> None:
    """As `bound`, for the rest of the unit of work this runs in: what it is about is often known only halfway."""
    _AROUND.set({**_AROUND.get(), **{name: value for name, value in fields.items() if value}})


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a line carries beside its event: what it was given, and else what its unit of work is about."""
    around = _AROUND.get()
    found = {name: getattr(record, name, None) for name in BOUND}
    return {name: value for name in BOUND if (value := around.get(name) if found[name] is None else found[name]) is not None}


class JsonLines(logging.Formatter):
    """One JSON object per line: time, level, event, then the bound fields, and where an exception came from."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """Render; payloads, keys and raw transactions never pass."""
        stamp = self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z"
        line = {"time": stamp, "level": record.levelname.lower(), "event": record.getMessage(), **fields_of(record)}
        if record.exc_info and record.exc_info[1] is not None:
            # The places and the type tell enough; the message of a stranger's exception may hold anything.
            error = record.exc_info[1]
            frames = traceback.extract_tb(error.__traceback__)
            line |= {"exception": type(error).__name__, "trace": [f"{one.filename}:{one.lineno} {one.name}" for one in frames]}
        return json.dumps(line, ensure_ascii=False, default=str)
