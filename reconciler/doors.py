"""Doors of the daemon through which others tell that something happened. Each is a hint; part of composing, like compose.py.

Heavy imports stand where they are needed: without the settings of a door, nothing of it is loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from reconciler.ports import Ports, Source
from reconciler.settings import Settings, address

if TYPE_CHECKING:
    import uvicorn

    from reconciler.telemetry import Metrics


@contextlib.asynccontextmanager
async def _open(name: str, listen: str, server: uvicorn.Server) -> AsyncIterator[None]:
    """The server at its address, or at the socket of that name that systemd opened for us."""
    from reconciler.adapters.notify import handed_over
    from reconciler.gateway.admin import listening

    door = handed_over().get(name) or listening(address(listen))
    serving = asyncio.ensure_future(server.serve(sockets=[door]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
        door.close()


@contextlib.asynccontextmanager
async def pushes(settings: Settings, source: Source, metrics: Metrics) -> AsyncIterator[None]:
    """The door for pushes, if the settings open one."""
    from reconciler.adapters.git_source import GitSource

    said = (settings.git or {}).get("push")
    if not said or not isinstance(source, GitSource):
        yield
        return
    from reconciler.adapters.secret import read_secret
    from reconciler.gateway.push import Receiver, receiving

    def secret() -> bytes:
        return read_secret(said["secret"], settings.root)

    secret()  # a door that nobody can open is a mistake that should be told now
    told = metrics.pushes.labels
    server = receiving(Receiver(source.policy.target.ref, secret, source.nudge, lambda result: told(result).inc()))
    async with _open("push", said["listen"], server):
        yield


@contextlib.asynccontextmanager
async def callbacks(settings: Settings, ports: Ports, metrics: Metrics) -> AsyncIterator[None]:
    """The door for broadcasters, if the settings open one: what they tell of transactions of ours makes us look at once."""
    said = settings.callbacks
    if not said or not said.get("listen"):
        yield
        return
    from reconciler.gateway.callbacks import Listener, server

    def hint(txids: Sequence[str]) -> int:
        with ports.ledger.begin() as tx:
            ours = sum(tx.transaction(txid) is not None for txid in txids)
        if ours:
            ports.queue.put("confirm", ports.clock.now())
        return ours

    token = _token(settings, said)
    token()  # likewise
    told = metrics.callbacks.labels
    async with _open("callbacks", said["listen"], server(Listener(token, hint, lambda result: told(result).inc()))):
        yield


def callback(settings: Settings) -> Callable[[], tuple[str, str]] | None:
    """The address that broadcasters are given with each submission, and the token they have to show there; None without one."""
    said = settings.callbacks
    if not said:
        return None
    url, token = str(said["url"]), _token(settings, said)
    return lambda: (url, token().decode())


def _token(settings: Settings, said: Mapping[str, object]) -> Callable[[], bytes]:
    """Reads the token; every time, so that it can be replaced."""
    from reconciler.adapters.secret import read_secret

    where = said["token"]
    assert isinstance(where, dict)
    return lambda: read_secret(where, settings.root)
