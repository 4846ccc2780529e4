"""What a failed exchange means, and what a host may do to us. Runs in virtual time against small ASGI apps."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler import __version__
from reconciler.adapters import http as http_module
from reconciler.adapters.breaker import FAILURES, PAUSE
from reconciler.adapters.http import Answer, Http, Paid, Request, Sink, refusal
from reconciler.devnet.clock import VirtualClock, run
from reconciler.devnet.network import Fault, Network, Trouble
from reconciler.model.errors import LocalProtocolError, Refused, RemoteProtocolError, Unavailable, Uncertain


class Host:
    """An ASGI app that answers what it is told and remembers what it was asked."""

    def __init__(self, status: int = 200, body: bytes = b"{}", headers: dict[str, str] | None = None) -> None:
        self.status, self.body, self.headers = status, body, headers or {}
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    async def __call__(self, scope, receive, send) -> None:
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append((scope["method"], scope["path"], headers, body))
        pairs = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": pairs})
        await send({"type": "http.response.body", "body": self.body})


class World:
    """One host on one network, and a client."""

    def __init__(self, host: Host | None = None, conversation=None) -> None:
        self.clock = VirtualClock()
        self.host = host or Host()
        self.network = Network({"host.test": self.host})
        self.http = Http(self.clock, transport=self.network, conversation=conversation)

    def send(self, method: str = "GET", url: str = "http://host.test/x", body=b"", headers=None, **options) -> Answer:
        return run(self.http.send(Request(method, url, headers or {}, body), **options), clock=self.clock)


def test_a_request_names_the_product_and_asks_for_plain_bytes() -> None:
    world = World(Host(body=b'{"a": 1}', headers={"Content-Type": "application/JSON; charset=utf-8"}))
    answer = world.send("POST", body=b"hello")
    method, path, headers, body = world.host.asked[0]
    assert (method, path, body) == ("POST", "/x", b"hello")
    assert headers["user-agent"] == f"reconciler/{__version__}"
    assert headers["accept-encoding"] == "identity"
    assert headers["content-length"] == "5"
    assert (answer.status, answer.json(), answer.media_type) == (200, {"a": 1}, "application/json")


def test_a_streamed_body_needs_its_length() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"he"
        yield b"llo"

    world = World()
    world.send("PUT", body=parts(), headers={"content-length": "5"})
    assert world.host.asked[0][2]["content-length"] == "5"
    assert "transfer-encoding" not in world.host.asked[0][2]
    assert world.host.asked[0][3] == b"hello"
    with pytest.raises(LocalProtocolError, match="unknown length"):
        world.send("PUT", body=parts())


@pytest.mark.parametrize("irreversible", [False, True])
@pytest.mark.parametrize("host", ["down.test", "nowhere.test"])
def test_a_host_that_was_never_reached_is_unavailable_even_for_the_irreversible(host: str, irreversible: bool) -> None:
    world = World()
    world.network.apps["down.test"] = world.host
    world.network.down.add("down.test")
    with pytest.raises(Unavailable, match=host):
        world.send("POST", f"http://{host}/x", b"tx", irreversible=irreversible)
    assert world.host.asked == []


@pytest.mark.parametrize(("irreversible", "error"), [(False, Unavailable), (True, Uncertain)])
def test_a_lost_answer_is_uncertain_only_where_the_caller_says_so(irreversible: bool, error: type[Exception]) -> None:
    world = World()
    world.network.arm(Fault(Trouble.LOSE))
    with pytest.raises(error):
        world.send("POST", body=b"tx", irreversible=irreversible)
    assert len(world.host.asked) == 1, "no hidden retries"


@pytest.mark.parametrize(("irreversible", "error"), [(False, Unavailable), (True, Uncertain)])
def test_the_deadline_holds_for_the_whole_call(irreversible: bool, error: type[Exception]) -> None:
    class Slow(Host):
        async def __call__(self, scope, receive, send) -> None:
            await receive()
            await asyncio.sleep(100)

    world = World(Slow())
    with pytest.raises(error, match="within 7 s"):
        world.send("POST", body=b"tx", deadline=7, irreversible=irreversible)
    assert world.clock.elapsed == pytest.approx(7, abs=0.01)


def test_a_patience_of_ones_own_replaces_every_deadline_but_those_of_content() -> None:
    class Slow(Host):
        async def __call__(self, scope, receive, send) -> None:
            await asyncio.sleep(5)
            await super().__call__(scope, receive, send)

    async def parts() -> AsyncIterator[bytes]:
        yield b"hello"

    world = World(Slow())
    world.http.patience = 2.0
    with pytest.raises(Unavailable, match="within 2 s"):
        world.send(deadline=7)
    assert world.send("PUT", body=parts(), headers={"content-length": "5"}, deadline=7).status == 200
    assert world.send(deadline=7, sink=Sink(lambda piece: None)).status == 200
    world.http.patience = 20.0
    assert world.send(deadline=3).status == 200


def test_a_deadline_that_passes_before_the_body_is_read_is_not_uncertain() -> None:
    class Deaf(Host):
        async def __call__(self, scope, receive, send) -> None:
            await asyncio.sleep(100)

    with pytest.raises(Unavailable):
        World(Deaf()).send("POST", body=b"tx", deadline=7, irreversible=True)


def test_an_answer_may_not_be_larger_than_its_cap() -> None:
    world = World(Host(body=b"x" * 1001))
    with pytest.raises(RemoteProtocolError, match="larger than 1000"):
        world.send(limit=1000)
    assert world.send(limit=1001).body == b"x" * 1001


def test_a_body_can_be_taken_in_pieces() -> None:
    pieces: list[bytes] = []
    answer = World(Host(body=b"abc")).send(sink=Sink(pieces.append))
    assert (b"".join(pieces), answer.body) == (b"abc", b"")
    pieces.clear()
    assert (World(Host(status=404, body=b"abc")).send(sink=Sink(pieces.append)).body, pieces) == (b"abc", [])


def test_compression_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="gzip"):
        World(Host(headers={"content-encoding": "gzip"})).send()


def test_redirects_are_not_followed() -> None:
    world = World(Host(status=302, headers={"location": "http://evil.test/"}))
    with pytest.raises(Refused, match=r"redirects to http://evil\.test/"):
        world.send()
    assert len(world.network.exchanges) == 1


def test_cookies_are_not_kept() -> None:
    world = World(Host(headers={"set-cookie": "track=me"}))
    world.send()
    world.send()
    assert "cookie" not in world.host.asked[1][2]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host.test/", "//host.test", "http://"])
def test_only_http_urls_are_opened(url: str) -> None:
    with pytest.raises((Refused, Unavailable)):
        World().send("GET", url)


@pytest.mark.parametrize(("status", "word"), [(401, "who asks"), (402, "to be paid")])
def test_a_demand_nobody_can_meet_is_refused_with_a_hint(status: int, word: str) -> None:
    with pytest.raises(Refused, match=word) as caught:
        World(Host(status=status)).send(talk=True)
    assert caught.value.hint


class Talker:
    """A conversation that signs requests with a header and pays what it is asked, up to the limit."""

    def __init__(self, price: int) -> None:
        self.price = price
        self.accepted: list[int] = []

    async def prepare(self, request: Request) -> Request:
        return Request(request.method, request.url, {**request.headers, "x-who": "me"}, request.body)

    async def forgot(self, request: Request, answer: Answer) -> bool:
        return False

    async def accept(self, request: Request, answer: Answer) -> None:
        self.accepted.append(answer.status)

    async def pay(self, request: Request, answer: Answer, limit: int) -> Paid | None:
        if self.price > limit:
            return None
        return Paid(
            Request(request.method, request.url, {**request.headers, "x-who": "me", "x-paid": "yes"}, request.body), self.price
        )


class Shop(Host):
    """Wants `x-paid`."""

    async def __call__(self, scope, receive, send) -> None:
        self.status = 200 if (b"x-paid", b"yes") in scope["headers"] else 402
        await super().__call__(scope, receive, send)


def test_a_conversation_authenticates_and_pays_once_within_the_limit() -> None:
    talker = Talker(price=50)
    world = World(Shop(), talker)
    answer = world.send("POST", body=b"want", talk=True, max_payment=50)
    assert (answer.status, answer.paid, talker.accepted) == (200, 50, [402, 200])
    assert [headers.get("x-who") for _, _, headers, _ in world.host.asked] == ["me", "me"]
    with pytest.raises(Refused, match="more than 49 satoshis"):
        world.send("POST", body=b"want", talk=True, max_payment=49)


def test_silence_after_a_payment_is_uncertain() -> None:
    world = World(Shop(), Talker(price=1))
    world.network.arm(Fault(Trouble.LOSE, skip=1))
    with pytest.raises(Uncertain):
        world.send("POST", body=b"want", talk=True, max_payment=1)


def test_a_request_that_does_not_want_the_conversation_goes_without() -> None:
    world = World(Host(), Talker(price=1))
    world.send()
    assert "x-who" not in world.host.asked[0][2]


def fail(world: World, times: int) -> None:
    for _ in range(times):
        with pytest.raises(Unavailable):
            world.send()


def test_five_failures_open_the_breaker_and_one_probe_closes_it() -> None:
    world = World()
    world.network.down.add("host.test")
    fail(world, FAILURES - 1)
    assert world.http.breaker.open_until("host.test") is None
    fail(world, 1)
    opened = world.clock.now()
    with pytest.raises(Unavailable, match="5 times in a row") as caught:
        world.send()
    assert caught.value.retry_at == opened + timedelta(seconds=PAUSE)
    assert len(world.network.exchanges) == FAILURES, "nothing is sent while it is open"

    world.clock.advance(PAUSE)
    fail(world, 1)  # the probe fails: open again
    with pytest.raises(Unavailable, match="6 times in a row"):
        world.send()

    world.clock.advance(PAUSE)
    world.network.calm()
    assert world.send().status == 200
    world.network.down.add("host.test")
    fail(world, FAILURES - 1)
    assert world.http.breaker.open_until("host.test") is None, "a success forgets earlier failures"


def test_only_one_probe_goes_through_at_a_time() -> None:
    world = World()
    world.network.down.add("host.test")
    fail(world, FAILURES)
    world.network.calm()
    world.network.arm(Fault(Trouble.DELAY, seconds=2))
    world.clock.advance(PAUSE)

    async def both() -> list[object]:
        ask = Request("GET", "http://host.test/x")
        return await asyncio.gather(world.http.send(ask), world.http.send(ask), return_exceptions=True)

    outcomes = run(both(), clock=world.clock)
    assert {type(outcome) for outcome in outcomes} == {Answer, Unavailable}


def test_trouble_counts_against_a_host_and_opinions_do_not() -> None:
    world = World(Host(status=500))
    for _ in range(FAILURES + 1):
        assert world.send().status == 500
    world.host.status = 503
    for _ in range(FAILURES):
        assert world.send().status == 503
    with pytest.raises(Unavailable, match="in a row"):
        world.send()


def test_breakers_are_per_host() -> None:
    world = World()
    world.network.apps["other.test"] = Host()
    world.network.down.add("host.test")
    fail(world, FAILURES)
    assert world.send("GET", "http://other.test/").status == 200


def test_a_refusal_says_what_the_host_said() -> None:
    clock = VirtualClock()
    body = json.dumps({"status": "error", "description": "no\n room"}).encode()
    error = refusal(Answer(400, {}, body, "http://host.test/upload"), "store 5 bytes", clock)
    assert isinstance(error, Refused)
    assert error.message == "cannot store 5 bytes: host.test answered 400: no room"
    later = refusal(Answer(503, {"retry-after": "90"}, b"<html>", "http://host.test/"), "store", clock)
    assert isinstance(later, Unavailable)
    assert later.retry_at == clock.now() + timedelta(seconds=90)
    far = refusal(Answer(429, {"retry-after": "9" * 30}, b"", "http://host.test/"), "store", clock)
    assert isinstance(far, Unavailable)
    assert far.retry_at == clock.now() + timedelta(seconds=http_module.MAX_RETRY_AFTER)


def test_over_a_real_socket(tmp_path: Path) -> None:
    """The default transport: one exchange, one refused connection, one answer that never comes."""

    async def serve() -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"/hang " not in head:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}")
                await writer.drain()
            writer.close()

        from reconciler.adapters.clock import SystemClock

        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        http = Http(SystemClock())
        try:
            assert (await http.send(Request("GET", f"http://127.0.0.1:{port}/x"))).json() == {}
            with pytest.raises(Uncertain):
                await http.send(Request("POST", f"http://127.0.0.1:{port}/hang", {}, b"tx"), irreversible=True)
            server.close()
            await server.wait_closed()
            with pytest.raises(Unavailable):
                await http.send(Request("POST", f"http://127.0.0.1:{port}/x", {}, b"tx"), irreversible=True)
        finally:
            await http.close()

    asyncio.run(serve())


def test_the_library_below_does_not_log_urls(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        World().send("GET", "http://host.test/put?hmac=secret")
    assert "hmac" not in caplog.text
