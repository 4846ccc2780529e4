"""Our client against our door, in virtual time: who is let in, what is believed, and what is refused."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from reconciler.adapters.auth import Introduced
from reconciler.adapters.http import Answer, Http, Request
from reconciler.devnet.clock import SeededEntropy, VirtualClock, run
from reconciler.devnet.network import Fault, Network, Trouble
from reconciler.gateway import auth as door
from reconciler.gateway.auth import Authenticated, Sessions
from reconciler.model.errors import LocalProtocolError, Refused, RemoteProtocolError, Unavailable
from reconciler.wire import auth, keys
from reconciler.wire.speaker import Speaker

CLIENT, SERVER, OTHER = (Speaker(keys.sha256(name)) for name in (b"client", b"server", b"other"))
URL = "http://host.test"
Meddle = Callable[[Scope], None]


async def echo(request: Asked) -> Response:
    body = await request.body()
    who = request.state.identity
    told = {"who": who.hex() if who else None, "method": request.method, "query": request.url.query, "body": body.decode()}
    lines = request.headers.getlist("x-bsv-topic")
    answer = JSONResponse({**told, "topics": lines})
    answer.headers.append("x-bsv-said", "one")
    answer.headers.append("x-bsv-said", "two")
    return answer


async def empty(request: Asked) -> Response:
    return Response(status_code=204)


class World:
    """One host behind the door, and a client with a key. `meddle` may change a request on its way; all of them are kept."""

    def __init__(self, **how: Any) -> None:
        self.clock, self.entropy = VirtualClock(), SeededEntropy(3)
        self.how, self.meddle, self.passed = how, None, []
        self.network = Network({"host.test": self._passing})
        self.restart()
        self.speaker: Speaker | None = CLIENT
        self.http = Http(self.clock, transport=self.network)
        self.http.conversation = self.client()

    def client(self) -> Introduced:
        return Introduced(self.http, lambda: self.speaker, self.entropy)

    def restart(self) -> None:
        """The host, with nothing remembered."""
        app = Starlette(routes=[Route("/echo", echo, methods=["GET", "POST", "DELETE"]), Route("/empty", empty)])
        self.door = Authenticated(app, SERVER, self.clock, self.entropy, **self.how)

    async def _passing(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != auth.PATH:
            self.passed.append(dict(scope))
            if self.meddle is not None:
                self.meddle(scope)
        await self.door(scope, receive, send)

    def send(self, path: str = "/echo", method: str = "GET", headers: Any = None, body: bytes = b"", **terms: Any) -> Answer:
        request = Request(method, URL + path, headers or {}, body, terms)
        return run(self.http.send(request, talk=True), clock=self.clock)

    def replay(self, scope: Scope) -> Answer:
        """A captured request, byte for byte."""
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        request = Request(scope["method"], URL + scope["raw_path"].decode(), headers)
        return run(self.http._guarded(request, 9, 9999, False, None), clock=self.clock)

    @property
    def handshakes(self) -> int:
        return sum(one.path == auth.PATH for one in self.network.exchanges)


@pytest.fixture
def world() -> World:
    return World()


# --- who is let in -------------------------------------------------------------------------------


def test_a_host_that_asks_who_it_is_learns_it_once(world: World) -> None:
    answer = world.send()
    assert (answer.status, json.loads(answer.body)["who"]) == (200, CLIENT.identity.hex())
    assert [one.status for one in world.network.exchanges] == [401, 200, 200], "asked, introduced, answered"
    assert world.send("/echo?a=1").status == 200
    assert world.handshakes == 1


@pytest.mark.parametrize(
    ("method", "headers", "body", "seen"),
    [
        ("POST", {"content-type": "application/json; charset=utf-8"}, '{"a": "Zoë \u2028"}'.encode(), '{"a":"Zoë \u2028"}'),
        ("POST", {"content-type": "application/json"}, b"", "{}"),
        ("POST", {}, b"", ""),
        ("DELETE", {"content-type": "text/plain; charset=utf-8"}, b" plain ", " plain "),
        ("GET", {"x-bsv-topic": "one, two", "authorization": "Bearer x", "x-other": "unsigned"}, b"", ""),
    ],
)
def test_every_kind_of_request_arrives_as_it_was_signed(
    world: World, method: str, headers: dict[str, str], body: bytes, seen: str
) -> None:
    answer = world.send("/echo?q=%20%27x", method, headers, body)
    assert (answer.status, json.loads(answer.body)["body"]) == (200, seen)
    assert answer.headers["x-bsv-said"] == "one, two"


def test_an_empty_answer_is_believed(world: World) -> None:
    assert (world.send("/empty").status, world.send("/empty").body) == (204, b"")


def test_without_a_key_the_host_stays_closed(world: World) -> None:
    world.speaker = None
    with pytest.raises(Refused, match="401"):
        world.send()
    assert world.handshakes == 0


def test_a_host_that_never_heard_of_it_is_only_asked_once_more(world: World) -> None:
    async def closed(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({}, 401)(scope, receive, send)

    world.network.apps["host.test"] = closed
    with pytest.raises(Refused, match="401"):
        world.send()
    assert [(one.path, one.status) for one in world.network.exchanges] == [("/echo", 401), (auth.PATH, 401)]


def test_a_host_that_wants_nobody_known_hears_of_nobody() -> None:
    world = World(optional=True)
    assert json.loads(world.send().body)["who"] is None
    assert world.handshakes == 0


# --- the key a host must show --------------------------------------------------------------------


def test_a_declared_key_is_asked_for_before_anything_else(world: World) -> None:
    assert world.send(identityKey=SERVER.identity.hex()).status == 200
    assert [one.path for one in world.network.exchanges] == [auth.PATH, "/echo"]


def test_a_host_with_another_key_than_declared_is_told_nothing(world: World) -> None:
    with pytest.raises(Refused, match="declared is") as caught:
        world.send(identityKey=OTHER.identity.hex())
    assert (caught.value.code, world.passed) == ("other-identity", [])


def test_a_host_that_proves_no_key_is_not_used_where_one_is_declared() -> None:
    world = World(optional=True)
    world.speaker = None
    with pytest.raises(Refused, match="does not prove"):
        world.send(identityKey=SERVER.identity.hex())
    assert world.passed == []


# --- what is believed ----------------------------------------------------------------------------


def test_an_answer_that_was_changed_is_not_believed(world: World) -> None:
    world.send()
    world.network.arm(Fault(Trouble.CORRUPT, path="/echo", times=1))
    with pytest.raises(RemoteProtocolError, match="not signed for us"):
        world.send()
    assert world.send().status == 200


@pytest.mark.parametrize("status", [200, 404, 400])
def test_an_unsigned_answer_of_a_known_host_is_not_believed(world: World, status: int) -> None:
    world.send()
    world.network.arm(Fault(Trouble.STATUS, path="/echo", status=status, times=1))
    with pytest.raises(RemoteProtocolError, match="not signed"):
        world.send()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_trouble_before_a_known_host_is_trouble(world: World, status: int) -> None:
    world.send()
    world.network.arm(Fault(Trouble.STATUS, path="/echo", status=status, times=1))
    with pytest.raises(Unavailable):
        world.send()


def test_an_answer_to_another_request_is_not_believed(world: World) -> None:
    inner, kept = world.door, []

    async def stale(scope: Scope, receive: Receive, send: Send) -> None:
        async def keep(message: Any) -> None:
            kept.append(message)

        if scope["path"] == auth.PATH:
            await inner(scope, receive, send)
            return
        await inner(scope, receive, keep)
        for message in kept[:2]:
            await send(message)

    world.network.apps["host.test"] = stale
    world.speaker = CLIENT
    assert world.send(identityKey=SERVER.identity.hex()).status == 200
    with pytest.raises(RemoteProtocolError, match="not signed for us"):
        world.send()


def test_a_handshake_that_answers_another_is_not_believed(world: World) -> None:
    old = auth.Message("initialResponse", SERVER.identity, SERVER.nonce(bytes(16)), "", CLIENT.nonce(bytes(16)))
    said = auth.write_message(SERVER.seal(old, CLIENT.identity))

    async def replaying(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(said)(scope, receive, send)

    world.network.apps["host.test"] = replaying
    with pytest.raises(RemoteProtocolError, match="another handshake"):
        world.send(identityKey=SERVER.identity.hex())


def test_a_path_that_would_be_rewritten_is_not_sent(world: World) -> None:
    world.send()
    with pytest.raises(LocalProtocolError, match="cannot sign the path"):
        world.send("/a/%2e%2e/echo")


# --- sessions ------------------------------------------------------------------------------------


def test_a_host_that_forgot_us_is_met_again_without_anybody_noticing(world: World) -> None:
    world.send()
    world.restart()
    assert world.send().status == 200
    assert world.handshakes == 2


def test_many_at_once_are_introduced_once(world: World) -> None:
    async def burst() -> list[Answer]:
        return list(await asyncio.gather(*(world.http.send(Request("GET", URL + "/echo"), talk=True) for _ in range(5))))

    assert {answer.status for answer in run(burst(), clock=world.clock)} == {200}
    assert world.handshakes == 1


@pytest.mark.parametrize("later", [door.IDLE_FOR + timedelta(seconds=1), timedelta(days=400)])
def test_a_session_ends(world: World, later: timedelta) -> None:
    world.send()
    (old,) = world.door.sessions._proven
    world.clock.advance(later.total_seconds())
    assert world.door.sessions.find(old) is None
    assert world.send().status == 200 and world.handshakes == 2


def test_a_session_that_is_used_lasts_but_not_for_ever(world: World) -> None:
    world.send()
    hour = door.IDLE_FOR.total_seconds()
    for _ in range(23):
        world.clock.advance(hour)
        world.send()
    assert world.handshakes == 1
    world.clock.advance(hour)
    world.clock.advance(1)
    world.send()
    assert world.handshakes == 2


def test_a_flood_of_handshakes_pushes_out_nobody_who_is_there() -> None:
    sessions = Sessions(VirtualClock(), max_proven=2, max_met=3)
    there = sessions.meet(CLIENT.identity, "a", "b")
    assert sessions.prove(there, "n1") and not sessions.prove(there, "n1")
    for number in range(10):
        sessions.meet(OTHER.identity, f"flood{number}", "x")
    assert len(sessions) == 4
    assert sessions.find("a") is there and sessions.find("flood0") is None and sessions.find("flood9") is not None


def test_what_all_sessions_remember_together_is_bounded() -> None:
    sessions = Sessions(VirtualClock(), max_remembered=10)
    for name in "abc":
        session = sessions.meet(CLIENT.identity, name, "x")
        for number in range(5):
            assert sessions.prove(session, f"{name}{number}")
    assert sessions.find("a") is None, "the one that was silent longest made room"
    assert sessions.find("b") is not None and sessions.find("c") is not None
    busy = sessions.find("b")
    assert busy is not None
    for number in range(100):
        assert sessions.prove(busy, f"more{number}")
    assert (sessions.find("b"), sessions.find("c")) == (busy, None)


def test_a_session_that_remembers_too_much_ends() -> None:
    sessions = Sessions(VirtualClock())
    session = sessions.meet(CLIENT.identity, "a", "b")
    for number in range(door.MAX_REQUESTS):
        assert sessions.find("a") is session and sessions.prove(session, str(number))
    assert sessions.find("a") is None


def test_a_handshake_that_leads_to_nothing_is_soon_forgotten() -> None:
    clock = VirtualClock()
    sessions = Sessions(clock)
    sessions.meet(CLIENT.identity, "a", "b")
    clock.advance(door.MET_FOR.total_seconds() + 1)
    assert sessions.find("a") is None and len(sessions) == 0


# --- what is refused -----------------------------------------------------------------------------


def test_a_captured_request_is_refused_the_second_time(world: World) -> None:
    world.send()
    answer = world.replay(world.passed[-1])
    assert (answer.status, answer.json()["code"]) == (401, "ERR_AUTH_FAILED")
    assert "shown before" in answer.json()["description"]


def header(name: bytes, value: bytes) -> Meddle:
    def meddle(scope: Scope) -> None:
        scope["headers"] = [(n, value if n == name else v) for n, v in scope["headers"]]

    return meddle


@pytest.mark.parametrize(
    "meddle",
    [
        lambda scope: scope.update(method="DELETE"),
        lambda scope: scope.update(raw_path=b"/other"),
        lambda scope: scope.update(query_string=b"a=2"),
        lambda scope: scope["headers"].append((b"x-bsv-topic", b"more")),
        header(b"content-type", b"text/plain"),
        header(b"x-bsv-auth-identity-key", OTHER.identity.hex().encode()),
        header(b"x-bsv-auth-nonce", auth.fresh_nonce(bytes(32)).encode()),
        header(b"x-bsv-auth-your-nonce", SERVER.nonce(bytes(16)).encode()),
        header(b"x-bsv-auth-request-id", auth.fresh_nonce(bytes(32)).encode()),
        header(b"x-bsv-auth-signature", b"3006020101020101"),
        header(b"x-bsv-auth-version", b"0.2"),
    ],
)
def test_a_request_that_was_changed_on_its_way_is_refused(world: World, meddle: Meddle) -> None:
    world.send()
    world.meddle = meddle
    with pytest.raises(Refused, match="401"):
        world.send("/echo?a=1", "POST", {"content-type": "application/json"}, b"{}")
    assert world.handshakes == 2, "met again once, in case the host had forgotten"


def test_a_body_that_is_too_large_is_not_held(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.send()
    monkeypatch.setattr(door, "MAX_BODY", 10)
    with pytest.raises(RemoteProtocolError, match="413"):
        world.send("/echo", "POST", {"content-type": "text/plain"}, b"x" * 11)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"version":"0.1","messageType":"general"}', b"x" * 20],
)
def test_a_handshake_that_is_none_is_refused(world: World, body: bytes) -> None:
    answer = run(world.http._guarded(Request("POST", URL + auth.PATH, {}, body), 9, 9999, False, None), clock=world.clock)
    assert (answer.status, answer.json()["code"]) == (401, "ERR_AUTH_FAILED")


def test_a_websocket_is_not_let_in_unknown(world: World) -> None:
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    run(world.door({"type": "websocket", "path": "/echo"}, None, send), clock=world.clock)
    assert said == [{"type": "websocket.close", "code": 1008}]


# --- certificates --------------------------------------------------------------------------------


def wanting(judged: list[Any]) -> World:
    def judge(peer: bytes, certificates: Any) -> None:
        if not certificates:
            raise RemoteProtocolError("cannot accept no certificate")
        judged.append((peer, certificates))

    return World(asked=auth.Asked((OTHER.identity.hex(),), {"AAAA": ("name",)}), judge=judge)


def test_who_shows_no_certificate_is_told_so_in_time() -> None:
    world = wanting([])
    answer = world.send()
    assert (answer.status, answer.json()["code"]) == (408, "CERTIFICATE_TIMEOUT")
    assert world.clock.now() - world.clock.start >= timedelta(seconds=door.CERTIFICATES_WITHIN)


def test_a_request_waits_for_the_certificates_that_come_beside_it() -> None:
    judged: list[Any] = []
    world = wanting(judged)

    async def show() -> Answer:
        await asyncio.sleep(5)
        (session,) = [*world.door.sessions._proven.values(), *world.door.sessions._met.values()]
        said = auth.Message(
            "certificateResponse", CLIENT.identity, session.theirs, auth.fresh_nonce(bytes(32)), session.ours, None, [{"a": "ü"}]
        )

        async def post(message: auth.Message) -> Answer:
            request = Request("POST", URL + auth.PATH, {}, auth.write_message(message))
            return await world.http._guarded(request, 9, 9999, False, None)

        none = replace(said, certificates=[], nonce=auth.fresh_nonce(b"\1" * 32))
        assert (await post(CLIENT.seal(none, SERVER.identity))).status == 401
        assert (await post(OTHER.seal(replace(said, nonce=auth.fresh_nonce(b"\2" * 32)), SERVER.identity))).status == 401
        return await post(CLIENT.seal(said, SERVER.identity))

    async def both() -> tuple[Answer, Answer]:
        first: Awaitable[Answer] = world.http.send(Request("GET", URL + "/echo"), talk=True)
        return tuple(await asyncio.gather(first, show()))  # type: ignore[return-value]

    answer, shown = run(both(), clock=world.clock)
    assert (answer.status, shown.status) == (200, 200)
    assert judged == [(CLIENT.identity, [{"a": "ü"}])]


def test_certificates_that_nobody_judges_are_not_asked_for(world: World) -> None:
    with pytest.raises(ValueError, match="nobody judges"):
        World(asked=auth.Asked((OTHER.identity.hex(),)))
    del world
