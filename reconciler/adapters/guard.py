"""The way to hosts that strangers name: looked up once, judged, and then connected to by the very address that was judged.

Between a check of a name and a connection to it the name may change what it leads to (DNS rebinding). So the name is resolved
here, every address it has is judged, and the connection is opened to one of these addresses, with the name kept for the Host
header and the certificate. Nothing is kept open between requests: a connection is shared by address, and a certificate was
checked for one name only. A proxy of the environment is not asked, since it would look the name up again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from reconciler.adapters.client import httpx
from reconciler.model.errors import RemoteProtocolError
from reconciler.wire.address import fault_of_address, fault_of_url

# Addresses tried before a name counts as unreachable: a name with a hundred dead ones must not use up the deadline.
MAX_ADDRESSES = 3
_HINT = "a host of your own is declared in the Network; what others name must be on the public internet"

# The addresses of a name, as text, in the order to try them; OSError when it has none.
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]


async def system(name: str, port: int) -> Sequence[str]:
    """The addresses that the system's resolver gives."""
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def admit(url: str) -> None:
    """RemoteProtocolError("forbidden-address") when the text of a stranger's URL is reason enough to leave it alone."""
    if fault := fault_of_url(url):
        raise forbidden(url, fault)


def forbidden(url: str, fault: str) -> RemoteProtocolError:
    """The refusal; `fault` says what the address is."""
    shown = url.split("?", 1)[0][:200]
    told = f"cannot open {shown!r}: a stranger named it, and it is {fault}"
    return RemoteProtocolError(told, code="forbidden-address", hint=_HINT)


class Pinned(httpx.AsyncBaseTransport):
    """Opens each request to a judged address of its host. `inner` carries it there; `judge` is for tests of what happens then."""

    def __init__(
        self,
        resolve: Resolver = system,
        inner: httpx.AsyncBaseTransport | None = None,
        judge: Callable[[str], str] = fault_of_address,
    ) -> None:
        self._resolve, self._judge = resolve, judge
        # One connection per request, so that none is used for another name than it was verified for.
        self._inner = inner or httpx.AsyncHTTPTransport(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry it to the first address that takes a connection."""
        host = request.url.raw_host.decode("ascii")
        addresses = await self._judged(request, host)
        for address in addresses[:-1]:
            try:
                return await self._inner.handle_async_request(_to(request, host, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._inner.handle_async_request(_to(request, host, addresses[-1]))

    async def _judged(self, request: httpx.Request, host: str) -> Sequence[str]:
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        try:
            addresses = await self._resolve(host, port)
        except OSError as error:
            raise httpx.ConnectError(f"no address of {host} is known: {error.strerror or error}", request=request) from error
        for address in addresses:
            # One bad address spoils the name: whoever mixes them in is trying which of them we take.
            if fault := self._judge(address):
                raise forbidden(str(request.url), f"{fault} ({address})")
        if not addresses:
            raise httpx.ConnectError(f"{host} has no address", request=request)
        return addresses[:MAX_ADDRESSES]

    async def aclose(self) -> None:
        """Close what carries the requests."""
        await self._inner.aclose()


def _to(request: httpx.Request, host: str, address: str) -> httpx.Request:
    """The same request to that address: Host and certificate stay those of the name."""
    named = {} if host == address else {"sni_hostname": host}
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, **named},
    )
