"""What a daemon thinks, on request: for the log on SIGUSR1, and for /control/state."""

from __future__ import annotations

from reconciler.engine.daemon import Daemon
from reconciler.engine.handlers import Handlers
from reconciler.engine.readonly import behind
from reconciler.model.canonical import Json
from reconciler.model.codec import encode, timestamp
from reconciler.model.intent import RunState

# Changes of the last plan that are named; the rest are counted.
_MOST = 100


def dump(daemon: Daemon, handlers: Handlers) -> dict[str, Json]:
    """Mode, workers, source, plan and guards, queue, leases, open runs, head of history. Names and numbers, never contents."""
    ports, plan = daemon.ports, handlers.last_plan
    now = ports.clock.now()
    depth, oldest = ports.queue.depth(now)
    with ports.ledger.begin() as tx:
        runs, head, lost = tx.runs(state=RunState.OPEN), tx.audit_head(), behind(tx)
    acting = [str(change.ref) for change in plan.acting] if plan is not None else []
    return {
        "mode": handlers.mode,
        "heartbeat": daemon.heartbeat,
        "workers": [{"owner": worker.owner, "beats": worker.pulse.beats} for worker in daemon.workers],
        "source": handlers.source_fault or "ok",
        "readOnly": lost.message if lost is not None else None,
        "plan": None
        if plan is None
        else {"id": plan.id, "revision": plan.revision, "acting": acting[:_MOST], "changes": len(acting)},
        "guards": [] if plan is None else encode(list(plan.guards)),
        "queue": {"due": depth, "oldestSeconds": round(oldest, 3)},
        "leases": [
            {"key": lease.key, "owner": lease.owner, "fence": lease.fence, "until": timestamp(lease.until)}
            for lease in ports.queue.holders(now)
        ],
        "runs": [{"id": run.id, "key": run.key, "began": timestamp(run.began) if run.began else None} for run in runs],
        "history": {"entries": head.entries, "head": head.digest},
    }
