"""The local listener: health, readiness, metrics and control. Bind it to loopback; it has no authentication."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from reconciler.engine.daemon import Daemon
from reconciler.engine.dump import dump
from reconciler.engine.handlers import Handlers
from reconciler.engine.readonly import behind
from reconciler.gateway.hurry import Hurried
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
    refresh: Callable[[], None] = lambda: None

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
        self.refresh()
        now = self.ports.clock.now()
        depth, oldest = self.ports.queue.depth(now)
        self.metrics.depth.set(depth)
        self.metrics.oldest.set(oldest)
        self.metrics.source_ready.set(0 if self.handlers.source_fault else 1)
        with self.ports.ledger.begin() as tx:
            self.metrics.open_intents.set(len(tx.runs(state=RunState.OPEN)))
            self.metrics.behind.set(0 if behind(tx) is None else 1)
        return Response(self.metrics.exposition(), media_type=PROMETHEUS)

    async def state(self, request: Request) -> Response:
        """What the daemon thinks: its last plan, its source, its heartbeat."""
        return JSONResponse(dump(self.daemon, self.handlers))

    async def reconcile(self, request: Request) -> Response:
        """Ask for a pass now: {"key": "Dataset/x"} or {} for everything."""
        asked = await request.json()
        try:
            key = f"look/{ResourceRef.parse(asked['key'])}" if asked.get("key") else "plan"
        except Refused as error:
            return JSONResponse({"title": error.message, "hint": error.hint}, status_code=422)
        self.daemon.put(key)
        return JSONResponse({"queued": key}, status_code=202)


class Server(uvicorn.Server):
    """A server among other work in one process: signals belong to the process, not to it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


def listener(admin: Admin) -> uvicorn.Server:
    """A server for the routes; `serve(sockets=[listening(...)])` runs it."""
    return hurried(admin.app())


def hurried(app: ASGIApp) -> uvicorn.Server:
    """A server for an application of ours, for clients that do not dawdle."""
    return Server(
        uvicorn.Config(app, http=Hurried, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    )


def listening(address: tuple[str, int]) -> socket.socket:
    """A socket on that address; Refused when it cannot be had, for nobody can watch a daemon that does not answer."""
    door = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind(address)
    except OSError as error:
        door.close()
        told = f"cannot listen on {address[0]}:{address[1]}: {error.strerror}"
        raise Refused("listen", told, hint="set another listen address in reconciler.yaml, or RECONCILER_LISTEN") from error
    return door
