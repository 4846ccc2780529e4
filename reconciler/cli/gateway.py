"""`gateway` runs the shop alone, against the same ledger as the daemon."""

from __future__ import annotations

import asyncio
import signal
import sys

import typer

from reconciler.cli import exits, output
from reconciler.cli.context import GLOBALS, settings


def bind(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(gateway)


def gateway() -> int:
    """Sell what is published, at Network.gateway.listen, and reconcile nothing. Stops on SIGTERM when requests are answered."""
    from reconciler.cli.daemon import log_to

    log_to(sys.stderr.isatty() and GLOBALS.log_format != "json")
    return asyncio.run(_forever())


async def _forever() -> int:
    from reconciler.adapters.notify import notify
    from reconciler.compose import vend, workspace
    from reconciler.telemetry import Metrics

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def ready(address: str) -> None:
        output.say(f"open at {address}")
        notify("READY=1")

    async with workspace(settings()) as space:
        await vend(space, stop, Metrics(), ready)
    return exits.OK
