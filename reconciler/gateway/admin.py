"""The local listener: health, readiness, metrics and control. Bind it to loopback; it has no authentication."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reconciler.engine.daemon import Daemon
from reconciler.engine.handlers import Handlers
from reconciler.model.codec import encode
from reconciler.model.errors import Refused
from reconciler.model.intent import RunState
from reconciler.model.ref import ResourceRef
from reconciler.ports import Ports
from reconciler.telemetry import Metrics

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Admin:
    """What the routes speak about."""

    daemon: Daemon
    handlers: Handlers
    ports: Ports
    metrics: Metrics

    def app(self) -> Starlette:
        """The routes."""
        return Starlette(
            routes=[
                Route("/health", self.health),
                Route("/readyz", self.ready),
                Route("/metrics", self.exposition),
                Route("/control/state", self.state),
                Route("/control/reconcile", self.reconcile, methods=["POST"]),
            ]
        )

    async def health(self, request: Request) -> Response:
        """200 while the workers turn."""
        return JSONResponse({"status": "ok", "live": True, "ready": self.handlers.last_plan is not None})

    async def ready(self, request: Request) -> Response:
        """200 once a plan was made from a good revision, 503 with the reason until then."""
        fault = self.handlers.source_fault
        ready = self.handlers.last_plan is not None and not fault
        return JSONResponse({"ready": ready, "source": fault or "ok"}, status_code=200 if ready else 503)

    async def exposition(self, request: Request) -> Response:
        """Prometheus text."""
        now = self.ports.clock.now()
        depth, oldest = self.ports.queue.depth(now)
        self.metrics.depth.set(depth)
        self.metrics.oldest.set(oldest)
        self.metrics.source_ready.set(0 if self.handlers.source_fault else 1)
        with self.ports.ledger.begin() as tx:
            self.metrics.open_intents.set(len(tx.runs(state=RunState.OPEN)))
        return Response(self.metrics.exposition(), media_type=PROMETHEUS)

    async def state(self, request: Request) -> Response:
        """What the daemon thinks: its last plan, its source, its heartbeat."""
        plan = self.handlers.last_plan
        shown: dict[str, Any] = {
            "mode": self.handlers.mode,
            "heartbeat": self.daemon.heartbeat,
            "source": self.handlers.source_fault or "ok",
            "plan": None
            if plan is None
            else {"id": plan.id, "revision": plan.revision, "acting": [str(c.ref) for c in plan.acting]},
            "guards": [] if plan is None else encode(list(plan.guards)),
        }
        return JSONResponse(shown)

    async def reconcile(self, request: Request) -> Response:
        """Ask for a pass now: {"key": "Dataset/x"} or {} for everything."""
        asked = await request.json()
        try:
            key = f"look/{ResourceRef.parse(asked['key'])}" if asked.get("key") else "plan"
        except Refused as error:
            return JSONResponse({"title": error.message, "hint": error.hint}, status_code=422)
        self.daemon.put(key)
        return JSONResponse({"queued": key}, status_code=202)


def listener(admin: Admin, address: tuple[str, int]) -> uvicorn.Server:
    """A server that leaves signals to the daemon."""
    config = uvicorn.Config(admin.app(), host=address[0], port=address[1], log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    return server
