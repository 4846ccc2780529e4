"""The world on loopback: one listener per host in one process, under real time.

Hosts talk to each other inside the process; clients come through the listeners, and callbacks leave over real sockets. A
dropped host's listener is closed and its port refuses; a partitioned host accepts and never answers. While the network is
up, `devnet.json` in the state directory says where everything is; it disappears with the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from reconciler.adapters.clock import SystemClock
from reconciler.devnet.config import CONTROL, Config
from reconciler.devnet.world import World
from reconciler.model.canonical import Json
from reconciler.model.errors import ReconcilerError, Unavailable
from reconciler.wire.jsontext import Fields

STATE_FILE = "devnet.json"
_LOOPBACK = "127.0.0.1"
# How often a silent (partitioned) host looks whether it is reachable again.
_PATROL = 0.05


class _Server(uvicorn.Server):
    """A server among several in one process: signals belong to the process, not to it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Gate:
    """Silence in front of an app while its host is partitioned; what arrived then is never delivered."""

    def __init__(self, app: ASGIApp, name: str, world: World) -> None:
        self._app, self._host, self._world = app, f"{name}.devnet", world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._host not in self._world.network.partitioned:
            await self._app(scope, receive, send)
            return
        while self._host in self._world.network.partitioned:  # noqa: ASYNC110 - the world is not tied to a loop, so it has no Event
            await asyncio.sleep(_PATROL)
        await PlainTextResponse("the request was lost in a partition", 504)(scope, receive, send)


class Listener:
    """One host's socket and server; it can be stopped and started again on the same port."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._socket = _bind(port)
        self.port: int = self._socket.getsockname()[1]
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; returns once connections are accepted."""
        if self._task is not None:
            return
        if self._socket.fileno() < 0:
            self._socket = _bind(self.port)
        settings = uvicorn.Config(
            self._app, log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
        self._server = _Server(settings)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name=f"listener {self.port}")
        while not self._server.started and not self._task.done():  # noqa: ASYNC110 - the server offers a flag only
            await asyncio.sleep(0)
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        """Close the socket and every connection; harmless when stopped."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task
            self._server = self._task = None
        self.close()

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()


class Served:
    """A world, its listeners and its control host."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.listeners: dict[str, Listener] = {}
        self._late: dict[str, ASGIApp] = {}
        try:
            for name in config.names:
                self.listeners[name] = Listener(self._door(name), config.port(name))
        except BaseException:
            for listener in self.listeners.values():
                listener.close()
            raise
        self.urls = {name: f"http://{_LOOPBACK}:{listener.port}" for name, listener in self.listeners.items()}
        self.world = World(plan=config.plan, clock=SystemClock(), urls=self.urls, beyond=httpx.AsyncHTTPTransport())
        self._late = {name: _Gate(app, name, self.world) for name, app in self.world.apps.items()}
        self._late[CONTROL] = self._control()

    def _door(self, name: str) -> ASGIApp:
        """The host's app, looked up when a request comes: ports must be known before the world can name its URLs."""

        async def door(scope: Scope, receive: Receive, send: Send) -> None:
            await self._late[name](scope, receive, send)

        return door

    def facts(self) -> dict[str, Json]:
        """What the state file says."""
        plan = self.config.plan
        return {
            "pid": os.getpid(),
            "control": self.urls[CONTROL],
            "urls": {name: url for name, url in self.urls.items() if name != CONTROL},
            "regions": dict((*plan.overlays, *plan.storage)),
            "seed": plan.seed,
            "blockEvery": self.config.block_every,
        }

    async def start(self) -> None:
        """Open every listener."""
        await asyncio.gather(*(listener.start() for listener in self.listeners.values()))

    async def stop(self) -> None:
        """Close every listener and the world."""
        self.world.network.calm()
        await asyncio.gather(*(listener.stop() for listener in self.listeners.values()))
        await self.world.close()

    async def tick(self) -> None:
        """Mine for ever, one block per interval."""
        while True:
            await asyncio.sleep(self.config.block_every)
            self.world.mine()
            await self.world.settle()

    def _control(self) -> Starlette:
        async def status(request: Request) -> Response:
            network = self.world.network
            return JSONResponse(
                self.facts()
                | {
                    "height": self.world.chain.tip.height,
                    "mempool": len(self.world.chain.state.pool),
                    "down": sorted(host.removesuffix(".devnet") for host in network.down),
                    "partitioned": sorted(host.removesuffix(".devnet") for host in network.partitioned),
                }
            )

        async def manifest(request: Request) -> Response:
            return PlainTextResponse(self.world.network_manifest(), media_type="application/yaml")

        async def switch(request: Request) -> Response:
            try:
                name = Fields.parse(await request.body(), "request").text("host")
                await self._switch(request.path_params["verb"], name)
            except ReconcilerError as error:
                return JSONResponse({"status": "error", "message": error.message, "hint": error.hint}, 400)
            return JSONResponse({"status": "success"})

        return Starlette(
            routes=[
                Route("/devnet/status", status),
                Route("/devnet/manifest", manifest),
                Route("/devnet/{verb:str}", switch, methods=["POST"]),
            ]
        )

    async def _switch(self, verb: str, name: str) -> None:
        if verb == "drop":
            self.world.drop(name)
            await self.listeners[name].stop()
        elif verb == "restore":
            self.world.restore(name)
            await self.listeners[name].start()
            await self.world.settle()
        elif verb == "partition":
            self.world.partition(name)
        else:
            raise Unavailable("devnet-verb", f"cannot {verb} a host", hint="drop, restore or partition")


def _bind(port: int) -> socket.socket:
    """A loopback socket on that port; Unavailable when somebody has it."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((_LOOPBACK, port))
    except OSError as error:
        bound.close()
        raise Unavailable("devnet-port", f"cannot listen on port {port}: {error.strerror}", hint="choose another port") from error
    return bound


async def serve(config: Config, ready_fd: int = -1) -> None:
    """Serve until SIGTERM or SIGINT. When ready, the state file exists and its bytes have gone to `ready_fd`."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    served = Served(config)
    path = config.state_dir / STATE_FILE
    timer = asyncio.create_task(served.tick(), name="blocks") if config.block_every else None
    try:
        await served.start()
        text = json.dumps(served.facts(), indent=2) + "\n"
        config.state_dir.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(text)
        part.replace(path)
        if ready_fd >= 0:
            os.write(ready_fd, text.encode())
            os.close(ready_fd)
        await stop.wait()
    finally:
        if timer is not None:
            timer.cancel()
            await asyncio.gather(timer, return_exceptions=True)
        await served.stop()
        path.unlink(missing_ok=True)
