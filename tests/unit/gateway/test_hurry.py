"""Clients that dawdle, against a real server on loopback: they are cut off, and the honest are served meanwhile."""

import asyncio
import socket

import httpx
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from reconciler.gateway.admin import Server, hurried
from reconciler.gateway.hurry import PATIENCE, Hurried


class Quick(Hurried):
    """The same with little patience."""

    patience = 0.25


async def echo(scope, receive, send) -> None:
    response: Response = PlainTextResponse(str(len(await Request(scope, receive).body())))
    await response(scope, receive, send)


HEAD = b"POST / HTTP/1.1\r\nhost: a\r\n"
DAWDLERS = {
    "says nothing": b"",
    "never ends its first line": b"POST / HT",
    "never ends its head": HEAD + b"x-a: b\r\n",
    "never begins its body": HEAD + b"content-length: 5\r\n\r\n",
    "never ends its body": HEAD + b"content-length: 5\r\n\r\nab",
    "never ends its chunks": HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
    "is well and then stops in a second request": HEAD + b"content-length: 2\r\n\r\nab" + HEAD,
}


async def served(app: ASGIApp, work) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        server = Server(uvicorn.Config(app, http=Quick, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
        serving = asyncio.ensure_future(server.serve(sockets=[door]))
        try:
            await work(door.getsockname()[1])
        finally:
            server.should_exit = True
            await serving


@pytest.mark.parametrize("name", DAWDLERS)
def test_a_connection_is_not_held_by_who_dawdles(name: str) -> None:
    async def work(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(DAWDLERS[name])
        await writer.drain()
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.post(f"http://127.0.0.1:{port}/", content=b"honest")).text == "6"
        # The server hangs up by itself; until it does, this waits.
        said = b""
        try:
            async with asyncio.timeout(20):
                while piece := await reader.read(4096):
                    said += piece
        except ConnectionResetError:
            pass
        assert said.startswith(b"HTTP/1.1 200") == name.startswith("is well")
        writer.close()

    asyncio.run(served(echo, work))


def test_a_drip_does_not_buy_time() -> None:
    async def work(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sent = 0
        try:
            async with asyncio.timeout(20):
                while not reader.at_eof():
                    writer.write(b"x" if sent else b"POST / HTTP/1.1\r\nx: ")
                    await writer.drain()
                    sent += 1
                    await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        assert sent > 1
        writer.close()

    asyncio.run(served(echo, work))


def test_a_head_without_end_is_refused() -> None:
    async def work(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nx: " + b"a" * 100_000)
        assert (await reader.read(100)).startswith(b"HTTP/1.1 400")
        writer.close()

    asyncio.run(served(echo, work))


def test_every_listener_of_ours_is_hurried() -> None:
    assert hurried(echo).config.http is Hurried
    assert Hurried.patience == PATIENCE
