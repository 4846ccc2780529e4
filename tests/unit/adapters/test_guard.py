"""Where a stranger may not send us. Loopback servers count who comes: whatever is refused was never connected to."""

import ast
import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from reconciler.adapters.guard import MAX_ADDRESSES, Pinned
from reconciler.adapters.http import Answer, Http, Request
from reconciler.adapters.uhrp import UhrpHosts
from reconciler.devnet.clock import VirtualClock
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import ReconcilerError, Refused, RemoteProtocolError, Unavailable
from tests.interop.tls import certify
from tests.unit.adapters.loopback import OK, Server, saying, serving

NAME = "host.example"
ADAPTERS = Path(__file__).parents[3] / "reconciler" / "adapters"
# Requests that go only where the operator's own files send them, by function, with the file that says where.
DECLARED = {
    "chain._call": "Network.broadcasters",
    "headers._get": "Network.headers",
    "netlook._listed": "Network.overlays",
    "paydoor.asks": "Network.gateway.publicUrl",
    "review._post": "reconciler.yaml, review",
    "s3._ask": "Network.storage",
    "sinks._post": "reconciler.yaml, notify",
}


class Names:
    """A resolver of our own; every look-up is remembered, and answers can change from one to the next."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers, self.asked = list(answers), []

    async def __call__(self, name: str, port: int) -> Sequence[str]:
        self.asked.append((name, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def get(url: str, names: Names, *, stranger: bool = True) -> Answer:
    http = Http(VirtualClock(), resolve=names)
    try:
        return await http.send(Request("GET", url, stranger=stranger), deadline=5)
    finally:
        await http.close()


def refused(url: str, *addresses: str) -> tuple[RemoteProtocolError, Server]:
    """What asking for the URL ends with, and the loopback server at its `{port}`."""

    async def play() -> tuple[RemoteProtocolError, Server]:
        async with serving(saying(OK)) as server:
            with pytest.raises(RemoteProtocolError) as caught:
                await get(url.format(port=server.port), Names(addresses or ["127.0.0.1"]))
            return caught.value, server

    return asyncio.run(play())


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "2130706433", "0x7f000001", "0x7f.1",
        "0177.0.0.1", "127.1", "0.0.0.0", "localhost.", "x.localhost", "user@127.0.0.1", "127.0.0.1.",
    ],
)  # fmt: skip
def test_a_stranger_cannot_send_us_to_this_machine_however_it_is_written(host: str) -> None:
    error, server = refused(f"http://{host}:{{port}}/")
    assert (error.code, server.hits) == ("forbidden-address", 0)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "192.168.0.1", "::1", "fe80::1", "fd00::1", "ff02::1"]
)
def test_a_name_that_leads_to_a_private_address_is_refused(address: str) -> None:
    error, server = refused(f"http://{NAME}:{{port}}/", address)
    assert (error.code, server.hits) == ("forbidden-address", 0)
    assert address in error.message


def test_one_private_address_among_public_ones_spoils_the_name() -> None:
    error, server = refused(f"http://{NAME}:{{port}}/", "8.8.8.8", "127.0.0.1")
    assert (error.code, server.hits) == ("forbidden-address", 0)


def test_the_secret_in_a_query_is_not_repeated_in_the_error() -> None:
    error, _ = refused(f"http://{NAME}:{{port}}/up?signature=s3cret")
    assert "s3cret" not in f"{error.message} {error.hint}"


def test_what_the_operator_declared_is_reached_wherever_it_is() -> None:
    async def play() -> tuple[Answer, Names, int]:
        names = Names(["8.8.8.8"])
        async with serving(saying(OK)) as server:
            return await get(f"http://127.0.0.1:{server.port}/", names, stranger=False), names, server.hits

    answer, names, hits = asyncio.run(play())
    assert (answer.status, hits) == (200, 1)
    assert names.asked == [], "a declared host is nobody's trick"


def test_a_redirect_to_a_private_address_is_not_followed() -> None:
    async def play() -> tuple[Refused, Server]:
        async with serving(saying(OK)) as inner:
            there = f"http://127.0.0.1:{inner.port}/latest/meta-data".encode()
            head = b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: " + there + b"\r\n\r\n"
            async with serving(saying(head)) as outer:
                with pytest.raises(Refused) as caught:
                    await get(f"http://127.0.0.1:{outer.port}/", Names(["127.0.0.1"]), stranger=False)
            return caught.value, inner

    error, inner = asyncio.run(play())
    assert (error.code, inner.hits) == ("redirected", 0)


class Carrier(httpx.AsyncBaseTransport):
    """Remembers what it was given to carry; the addresses in `dead` take no connection."""

    def __init__(self, *dead: str) -> None:
        self.dead, self.carried = dead, []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.carried.append(request)
        if request.url.host in self.dead:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, content=b"{}")


def carry(names: Names, *dead: str, url: str = f"https://{NAME}/x?y=1") -> Carrier:
    carrier = Carrier(*dead)
    asyncio.run(Pinned(names, carrier).handle_async_request(httpx.Request("GET", url, headers={"a": "b"})))
    return carrier


def test_the_connection_goes_to_the_address_that_was_judged() -> None:
    """The name leads elsewhere at the second look; there is none."""
    names = Names(["8.8.8.8"], ["127.0.0.1"])
    (request,) = carry(names).carried
    assert names.asked == [(NAME, 443)]
    assert str(request.url) == "https://8.8.8.8/x?y=1"
    assert (request.headers["host"], request.headers["a"]) == (NAME, "b")
    assert request.extensions["sni_hostname"] == NAME


def test_an_address_of_six_octet_pairs_is_pinned_too() -> None:
    (request,) = carry(Names(["2606:4700::1111"])).carried
    assert request.url.host == "2606:4700::1111"
    assert str(request.url) == "https://[2606:4700::1111]/x?y=1"


def test_a_dead_address_gives_way_to_the_next_and_a_hundred_do_not() -> None:
    assert [one.url.host for one in carry(Names(["8.8.8.8", "1.1.1.1"]), "8.8.8.8").carried] == ["8.8.8.8", "1.1.1.1"]
    many = [f"8.8.8.{n}" for n in range(100)]
    with pytest.raises(httpx.ConnectError):
        carry(Names(many), *many)
    carrier = Carrier(*many)
    with pytest.raises(httpx.ConnectError):
        asyncio.run(Pinned(Names(many), carrier).handle_async_request(httpx.Request("GET", f"http://{NAME}/")))
    assert len(carrier.carried) == MAX_ADDRESSES


@pytest.mark.parametrize("names", [Names([]), "gone"])
def test_a_name_without_an_address_is_out_of_reach(names: Names | str) -> None:
    async def gone(name: str, port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    with pytest.raises(Unavailable):
        asyncio.run(get(f"http://{NAME}/", gone if names == "gone" else names))  # type: ignore[arg-type]


@pytest.mark.parametrize("known", [True, False])
def test_a_certificate_is_held_against_the_name_and_not_the_address(tmp_path: Path, known: bool) -> None:
    """The certificate is for 127.0.0.1: right when that is the host of the URL, wrong when the URL names another host there."""
    certificate = certify(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate.certificate, certificate.key)

    async def play() -> int:
        async with serving(saying(OK), tls) as server:
            inner = httpx.AsyncHTTPTransport(verify=certificate.trusted, trust_env=False)
            pinned = Pinned(Names(["127.0.0.1"]), inner, judge=lambda address: "")
            host = "127.0.0.1" if known else NAME
            async with httpx.AsyncClient(transport=pinned) as client:
                return (await client.get(f"https://{host}:{server.port}/")).status_code

    if known:
        assert asyncio.run(play()) == 200
    else:
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            asyncio.run(play())


def test_an_upload_goes_to_the_declared_host_or_to_the_public_internet(tmp_path: Path) -> None:
    """A storage host names the place for the bytes: its own is taken on trust, any other is a stranger's."""
    path = tmp_path / "blob"
    path.write_bytes(b"bytes")

    async def play(elsewhere: bool) -> tuple[ReconcilerError | None, list[bytes]]:
        async with serving(saying(OK)) as other:
            upload = b""

            async def speak(writer: asyncio.StreamWriter) -> None:
                content = b'{"quote": 0, "uploadURL": "' + upload + b'", "requiredHeaders": {}}'
                writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(content), content))

            async with serving(speak) as host:
                upload = b"http://127.0.0.1:%d/up" % (other if elsewhere else host).port
                http = Http(VirtualClock())
                storage = UhrpHosts(http, lambda *progress: None)
                endpoint = Endpoint("s", f"http://127.0.0.1:{host.port}")
                try:
                    await storage.put(endpoint, "00" * 32, path, "text/plain", 60, 0)
                except ReconcilerError as error:
                    return error, [one.split(b" ")[0] for one in host.heads + other.heads]
                finally:
                    await http.close()
        return None, []

    error, methods = asyncio.run(play(elsewhere=True))
    assert error is not None
    assert (error.code, b"PUT" in methods) == ("forbidden-address", False)
    error, methods = asyncio.run(play(elsewhere=False))
    assert error is not None
    assert (error.code, b"PUT" in methods) == ("blob-changed", True)


def requests() -> dict[str, bool]:
    """Every function below adapters/ that makes a request, and whether it says whose wish the address is."""
    found: dict[str, bool] = {}
    for path in sorted(ADAPTERS.rglob("*.py")):
        text = path.read_text()
        for function in ast.walk(ast.parse(text)) if "Request(" in text else ():
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for call in ast.walk(function):
                    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Request":
                        told = len(call.args) > 5 or any(word.arg == "stranger" for word in call.keywords)
                        found[f"{path.stem}.{function.name}"] = found.get(f"{path.stem}.{function.name}", True) and told
    return found


def test_every_request_says_whether_a_stranger_chose_the_address() -> None:
    """A new one is marked, or entered above with the file that declares where it goes."""
    silent = {name for name, told in requests().items() if not told}
    assert silent == set(DECLARED)
    assert "uhrp._send" in requests()
