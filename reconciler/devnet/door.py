"""One exchange with an ASGI application in the same process: an httpx request in, an httpx response out.

httpx has a transport for this. For every exchange it looks whether it runs under another event loop than asyncio, by an import
that fails and so walks the whole search path again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import httpx
from starlette.types import ASGIApp, Scope

# Whom the application takes itself to be spoken to by.
_CLIENT = ("127.0.0.1", 123)


async def exchange(app: ASGIApp, request: httpx.Request) -> httpx.Response:
    """Let the application answer. The body is read as it asks for it; what it raises goes to the caller."""
    talk = _Talk(_chunks(request), bodiless=request.method == "HEAD")
    await app(_scope(request), talk.receive, talk.send)
    return httpx.Response(talk.status, headers=talk.headers, stream=_Body(b"".join(talk.parts)))


def _scope(request: httpx.Request) -> Scope:
    url = request.url
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.partition(b"?")[0],
        "query_string": url.query,
        "server": (url.host, url.port),
        "client": _CLIENT,
        "root_path": "",
    }


class _Talk:
    """The two callables an application speaks through, and what it said."""

    def __init__(self, chunks: AsyncIterator[bytes], *, bodiless: bool) -> None:
        self.status, self.headers, self.parts = 0, list[tuple[bytes, bytes]](), list[bytes]()
        self._chunks, self._bodiless, self._asked = chunks, bodiless, False
        self._answered = asyncio.Event()

    async def receive(self) -> MutableMapping[str, Any]:
        """The next piece of the body; once it has ended, news of the hang-up that follows the answer."""
        if self._asked:
            await self._answered.wait()
            return {"type": "http.disconnect"}
        chunk = await anext(self._chunks, None)
        self._asked = chunk is None
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Head and body of the answer, in that order."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message.get("headers", [])
        elif message["type"] == "http.response.body":
            if not self._bodiless:
                self.parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                self._answered.set()


class _Body(httpx.AsyncByteStream):
    """An answer that is there in full, as the stream a transport hands over."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content


async def _chunks(request: httpx.Request) -> AsyncIterator[bytes]:
    if isinstance(request.stream, httpx.AsyncByteStream):
        async for chunk in request.stream:
            yield chunk
