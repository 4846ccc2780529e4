"""A server on loopback that says whatever a test wants it to say, byte for byte, and counts who came."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

Speak = Callable[[asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Server:
    """`hits` counts connections, `heads` keeps what each asked for; `speak` writes the answer once the head has come."""

    def __init__(self, speak: Speak) -> None:
        self.hits, self.port, self.heads = 0, 0, []
        self.talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._speak = speak

    def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection has come in."""
        self.talks[asyncio.ensure_future(self.answer(reader, writer))] = writer

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.hits += 1
        # The client hangs up on most of what is said here; that is the point.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            await self._speak(writer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()


def saying(*pieces: bytes) -> Speak:
    """Write these bytes and hang up."""

    async def speak(writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(pieces))

    return speak


def forever(head: bytes, piece: bytes) -> Speak:
    """Write the head, and then the same piece as long as somebody reads."""

    async def speak(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return speak


def silent(*pieces: bytes) -> Speak:
    """Write these bytes, and then nothing until the client goes."""

    async def speak(writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(pieces))
        await writer.drain()
        await writer.wait_closed()

    return speak


@contextlib.asynccontextmanager
async def serving(speak: Speak, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """The server, listening on a free port of 127.0.0.1."""
    server = Server(speak)
    listening = await asyncio.start_server(server.meet, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for talk, writer in server.talks.items():
            writer.transport.abort()
            talk.cancel()
        await asyncio.gather(*server.talks, return_exceptions=True)
        await asyncio.sleep(0)  # transports are gone one turn of the loop after they were told
