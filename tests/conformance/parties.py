"""Both sides of an authenticated, paid conversation: our client with a purse, and our door on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from reconciler.adapters.auth import Introduced
from reconciler.adapters.clock import SystemClock, SystemEntropy
from reconciler.adapters.http import Answer, Http, Request
from reconciler.adapters.keystore import KeyStore
from reconciler.adapters.purse import Purse
from reconciler.adapters.sql.ledger import open_ledger
from reconciler.adapters.wallet import LocalWallet
from reconciler.engine.till import Till
from reconciler.gateway.admin import Server, listening
from reconciler.gateway.auth import Authenticated
from reconciler.gateway.payment import priced
from reconciler.kinds.network import Net
from reconciler.ports import Ports
from reconciler.wire import auth
from reconciler.wire.overlay import OCTETS

PRICE = 100


@contextmanager
def party(place: Path, secret: str, chain: Any = None) -> Iterator[Ports]:
    """The doors of one of us: a key, an empty ledger, and whatever chain there is."""
    place.mkdir()
    clock, entropy = SystemClock(), SystemEntropy()
    ledger, queue = open_ledger(place / "ledger.db", clock, entropy=entropy)
    doors: Any = dict.fromkeys(("source", "blobs", "overlay", "storage", "discovery"))
    wallet = LocalWallet(KeyStore(place, entropy), {"env": secret})
    yield Ports(clock=clock, entropy=entropy, ledger=ledger, queue=queue, wallet=wallet, chain=chain, **doors)
    ledger.close()


@dataclass
class Buyer:
    """Our client with a purse of devnet coins. `lose` what carries a payment; `taken` is what the server received."""

    ports: Ports
    url: str
    key: str
    taken: Callable[[], Sequence[tuple[str, int]]]
    lose: str = ""
    shown: list[str] = field(default_factory=list)

    def ask(self, path: str, method: str = "GET", headers: Any = None, body: bytes = b"", most: int = 0) -> Answer:
        """One request by a process that knows nothing but the ledger."""

        async def once() -> Answer:
            http = Http(self.ports.clock, transport=Lossy(self))
            wallet, entropy = self.ports.wallet, self.ports.entropy
            purse = Purse(self.ports.ledger, wallet, wallet.speaker, self.ports.clock, entropy)
            http.conversation = Introduced(http, wallet.speaker, entropy, purse)
            try:
                request = Request(method, self.url + path, headers or {}, body, {"identityKey": self.key})
                return await http.send(request, talk=True, max_payment=most)
            finally:
                await http.close()

        return asyncio.run(once())

    def received(self) -> list[int]:
        """What the server took of us, in satoshis."""
        return [satoshis for sender, satoshis in self.taken() if sender == self.who]

    @property
    def who(self) -> str:
        return str(self.ports.wallet.public_key("wallet"))


class Lossy(httpx.AsyncBaseTransport):
    """A real connection that loses what a buyer is to lose."""

    def __init__(self, buyer: Buyer) -> None:
        self.inner, self.buyer = httpx.AsyncHTTPTransport(), buyer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        paying = "x-bsv-payment" in request.headers
        if paying:
            self.buyer.shown.append(request.headers["x-bsv-payment"])
        if paying and self.buyer.lose == "request":
            raise httpx.WriteError("lost on the way there")
        answer = await self.inner.handle_async_request(request)
        if paying and self.buyer.lose == "answer":
            await answer.aread()
            await answer.aclose()
            raise httpx.ReadError("lost on the way back")
        return answer

    async def aclose(self) -> None:
        await self.inner.aclose()


@dataclass
class Door:
    """Our door on loopback, what came through it, and what a thief heard."""

    url: str
    ports: Ports
    heard: list[dict[str, Any]] = field(default_factory=list)
    given: list[bool] = field(default_factory=list)
    taken: list[tuple[str, int]] = field(default_factory=list)

    def coins(self) -> list[int]:
        with self.ports.ledger.begin() as tx:
            return [coin.satoshis for coin in tx.coins(state="free")]


@asynccontextmanager
async def opened(ports: Ports, net: Net, **how: Any) -> AsyncIterator[Door]:
    speaker = ports.wallet.speaker()
    till = Till(ports, net, speaker, "wallet")
    socket = listening(("127.0.0.1", 0))
    door = Door(f"http://127.0.0.1:{socket.getsockname()[1]}", ports)

    async def echo(request: Asked) -> Response:
        body = await request.body()
        answer = JSONResponse({"who": request.state.identity.hex(), "body": body.decode(), "query": request.url.query})
        answer.headers.append("x-bsv-said", "one")
        answer.headers.append("x-bsv-said", "zwei, drei")
        return answer

    async def free(request: Asked) -> Response:
        body, kind = await request.body(), request.headers.get("content-type", "").partition(";")[0]
        read: dict[str, Callable[[bytes], Any]] = {"application/json": json.loads, "text/plain": bytes.decode, OCTETS: bytes.hex}
        seen = read[kind](body) if kind in read else None
        return JSONResponse({"who": request.state.identity.hex(), "method": request.method, "body": seen})

    async def empty(request: Asked) -> Response:
        return Response(status_code=204)

    async def secret(request: Asked) -> Response:
        door.given.append(request.state.receipt.again)
        if not request.state.receipt.again:
            door.taken.append((request.state.identity.hex(), PRICE))
        return JSONResponse({"secret": "forty-two"})

    async def price(request: Asked) -> int:
        return PRICE

    routes = [
        Route("/echo", echo, methods=["GET", "POST", "PUT"]),
        Route("/free", free, methods=["GET", "POST", "PUT"]),
        Route("/empty", empty),
        Route("/paid", priced(secret, price, till)),
    ]
    guarded = Authenticated(Starlette(routes=routes), speaker, ports.clock, ports.entropy, **how)

    async def overheard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != auth.PATH:
            door.heard.append({"method": scope["method"], "path": scope["raw_path"].decode(), "headers": scope["headers"]})
        await guarded(scope, receive, send)

    config = uvicorn.Config(overheard, log_config=None, access_log=False, lifespan="off", h11_max_incomplete_event_size=1 << 20)
    server = Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[socket]))
    while not server.started:
        await asyncio.sleep(0)
    try:
        yield door
    finally:
        server.should_exit = True
        await serving
        socket.close()
