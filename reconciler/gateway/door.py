"""Keeps the shop open where the records say: opens it once there is a key to sell with, moves it when they change.

A request in hand is answered before a door closes (graceful drain). Whatever else a shop needs now and then is done here, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import uvicorn

from reconciler.engine.till import Till
from reconciler.gateway.admin import Server, listening
from reconciler.gateway.app import application
from reconciler.gateway.hurry import Hurried
from reconciler.kinds import identity_keys
from reconciler.kinds.network import read_net
from reconciler.model.errors import ReconcilerError
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.ports import Ports
from reconciler.sales.opening import Opening, openings
from reconciler.sales.paywall import Shop
from reconciler.wire.payment import MAX_HEADER
from reconciler.wire.speaker import Speaker

log = logging.getLogger("reconciler.gateway")

# Seconds between two looks at the records.
LOOK = 1.0
# Seconds that a closing door waits for requests in hand; a download that takes longer is resumed at the next one.
DRAIN = 10
# Quotes are kept for a while after they ran out, so that it can be told why one is refused.
QUOTES_KEPT = timedelta(days=1)
# Beside the payment, which is the largest header, a request has others.
_HEADERS = MAX_HEADER + 64 * 1024


@dataclass(slots=True)
class _Serving:
    shop: Shop
    server: uvicorn.Server
    task: asyncio.Future[None]
    door: socket.socket


@dataclass(slots=True)
class Door:
    """`speak` gives the key of a name its voice; `refused` hears of every payment that a check did not let through."""

    ports: Ports
    speak: Callable[[str], Speaker]
    refused: Callable[[str], None] = lambda check: None
    handed: Mapping[str, socket.socket] = field(default_factory=dict)
    told: set[str] = field(default_factory=set, init=False)
    _open: dict[Opening, _Serving] = field(default_factory=dict, init=False)
    _swept: datetime | None = field(default=None, init=False)

    async def keep(self, stop: asyncio.Event, ready: Callable[[Shop], None] = lambda shop: None) -> None:
        """Until `stop`; `ready` is called with every shop that opens."""
        try:
            while not stop.is_set():
                await self.look(ready)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), LOOK)
        finally:
            for one in list(self._open):
                await self._close(one)

    async def look(self, ready: Callable[[Shop], None] = lambda shop: None) -> None:
        """Once: open and close what the records say. What goes wrong is told once, and tried again at the next look."""
        try:
            records = self.ports.ledger.read(self.ports.clock.now()).records
            wanted, faults = openings(records)
            for error in faults:
                self._tell(error)
            for gone in self._open.keys() - set(wanted):
                await self._close(gone)
            for one in wanted:
                if one not in self._open:
                    ready(await self._opened(one, records))
            self._sweep()
        except ReconcilerError as error:
            self._tell(error)
        except Exception:
            log.exception("gateway.failed")

    async def _opened(self, one: Opening, records: Mapping[ResourceRef, Record]) -> Shop:
        shop = shop_of(self.ports, one, records, self.speak, self.refused)
        host, _, port = one.listen.rpartition(":")
        # A server closes what it was given, and the address must outlive it.
        handed = self.handed.get("gateway")
        door = handed.dup() if handed is not None else listening((host.strip("[]"), int(port)))
        config = uvicorn.Config(
            application(shop),
            log_config=None,
            access_log=False,
            lifespan="off",
            http=Hurried,
            h11_max_incomplete_event_size=_HEADERS,
            limit_concurrency=one.most,
            timeout_graceful_shutdown=DRAIN,
            server_header=False,
        )
        server = Server(config)
        task = asyncio.ensure_future(server.serve(sockets=[door]))
        while not server.started and not task.done():  # noqa: ASYNC110 - the server offers a flag only
            await asyncio.sleep(0)
        self._open[one] = _Serving(shop, server, task, door)
        self.told.clear()
        log.info("gateway.opened", extra={"at": "{}:{}".format(*door.getsockname()[:2]), "ref": f"Identity/{one.identity}"})
        return shop

    async def _close(self, one: Opening) -> None:
        found = self._open.pop(one)
        found.server.should_exit = True
        await found.task
        found.shop.tally.enter()
        found.door.close()
        log.info("gateway.closed", extra={"at": one.listen})

    def _sweep(self) -> None:
        for one in self._open.values():
            one.shop.tally.enter()
        now = self.ports.clock.now()
        if self._open and (self._swept is None or abs(now - self._swept) > timedelta(hours=1)):
            self._swept = now
            with self.ports.ledger.begin() as tx:
                tx.forget_quotes(now - QUOTES_KEPT)

    def _tell(self, error: ReconcilerError) -> None:
        if error.message not in self.told:
            self.told.add(error.message)
            log.warning("gateway.waits", extra={"error": error.message, "hint": error.hint})


def shop_of(
    ports: Ports,
    one: Opening,
    records: Mapping[ResourceRef, Record],
    speak: Callable[[str], Speaker],
    refused: Callable[[str], None] = lambda check: None,
) -> Shop:
    """The shop behind a door; Refused("no-key") while its key is not there."""
    seller = records[ResourceRef("Identity", one.identity)]
    ports.wallet.know(identity_keys.ring(one.identity, seller.body["spec"], seller.outputs).sources)
    net = read_net(one.network, records[ResourceRef("Network", one.network)].body["spec"])
    return Shop(ports, one.identity, Till(ports, net, speak(one.key), one.key), one.base, refused)
