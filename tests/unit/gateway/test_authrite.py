"""Authrite, where it is switched on: who is let in, and what is refused; and where it is not, nobody."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reconciler.devnet.clock import SeededEntropy, VirtualClock, run
from reconciler.gateway.auth import IDLE_FOR, Authenticated
from reconciler.gateway.authrite import Legacy
from reconciler.gateway.certificates import Required
from reconciler.kinds.network import read_net
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import RemoteProtocolError
from reconciler.wire import auth, authrite, keys
from reconciler.wire.speaker import Speaker

CLIENT, SERVER = keys.sha256(b"client"), keys.sha256(b"server")
WHO, HOST = keys.public_key(CLIENT), keys.public_key(SERVER)
BASE = "https://shop.test"
POLICY = {"require": {"certificates": [{"type": "AQ" * 21 + "E=", "certifiers": [HOST.hex()]}]}}


class Shop:
    """A door, with or without the old way in, and a client that writes Authrite by hand."""

    def __init__(self, *, on: bool = True) -> None:
        self.clock, self.count = VirtualClock(), 0

        async def echo(request: Asked) -> Response:
            who = request.state.identity
            return JSONResponse({"who": who.hex() if who else None, "body": (await request.body()).decode()})

        async def empty(request: Asked) -> Response:
            return Response(status_code=204)

        app = Starlette(routes=[Route("/content/{name}", echo, methods=["GET", "POST"]), Route("/empty", empty)])
        entropy, speaker = SeededEntropy(3), Speaker(SERVER)
        required = Required(lambda: {"gated": POLICY}, None, Endpoint("headers", BASE))  # type: ignore[arg-type]
        door = Authenticated(app, speaker, self.clock, entropy, demands=required, optional=True)
        self.door = Legacy(door, app, speaker, BASE, self.clock, entropy) if on else door
        self.theirs = ""

    def send(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> httpx.Response:
        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.door)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
                return await client.request(method, path, headers=headers, content=body)

        return run(once(), clock=self.clock)

    def hello(self) -> dict[str, Any]:
        self.ours = base64.b64encode(b"\7" * 32).decode()
        said = {"authrite": "0.1", "messageType": "initialRequest", "identityKey": WHO.hex(), "nonce": self.ours}
        answer = self.send("POST", authrite.PATH, {"content-type": "application/json"}, json.dumps(said).encode())
        told: dict[str, Any] = answer.json()
        self.theirs = told.get("nonce", "")
        return told

    def stamped(self, data: bytes, secret: bytes = CLIENT) -> dict[str, str]:
        self.count += 1
        nonce = auth.fresh_nonce(self.count.to_bytes(32, "big"))
        signature = authrite.signed(secret, HOST, self.theirs, nonce, data)
        return authrite.Stamp(WHO, nonce, self.theirs, signature).headers()

    def ask(self, path: str, body: bytes = b"") -> httpx.Response:
        headers = self.stamped(body or (BASE + path).encode())
        return self.send("POST" if body else "GET", path, headers, body)


@pytest.fixture
def shop() -> Shop:
    made = Shop()
    made.hello()
    return made


def test_both_sides_prove_their_keys(shop: Shop) -> None:
    told = shop.hello()
    data = base64.b64decode(shop.ours) + base64.b64decode(told["nonce"])
    assert (told["identityKey"], told["messageType"]) == (HOST.hex(), "initialResponse")
    assert authrite.holds(CLIENT, HOST, shop.ours, told["nonce"], data, bytes.fromhex(told["signature"]))
    for path, body in (("/content/open?a=1", b""), ("/content/open", '{"n":"Zoë"}'.encode())):
        answer = shop.ask(path, body)
        assert answer.json() == {"who": WHO.hex(), "body": body.decode()}
        said = authrite.parse_stamp(dict(answer.headers))
        assert said is not None and said.your_nonce == shop.ours
        assert authrite.holds(CLIENT, HOST, shop.ours, said.nonce, answer.content, said.signature)
    assert shop.ask("/empty").status_code == 204


def test_what_was_shown_before_or_signed_by_another_or_under_no_session_is_refused(shop: Shop) -> None:
    headers = shop.stamped((BASE + "/content/open").encode())
    assert shop.send("GET", "/content/open", headers).status_code == 200
    assert shop.send("GET", "/content/open", headers).json()["description"].endswith("shown before")
    forged = shop.stamped((BASE + "/content/open").encode(), keys.sha256(b"eve"))
    assert "signature does not fit" in shop.send("GET", "/content/open", forged).json()["description"]
    body = shop.send("POST", "/content/open", shop.stamped(b"one"), b"another")
    assert (body.status_code, body.json()["code"]) == (401, "ERR_AUTHRITE_FAILED")
    other = {**shop.stamped(b"x"), "x-authrite-identity-key": HOST.hex()}
    assert "introduce yourself" in shop.send("POST", "/content/open", other, b"x").json()["description"]
    shop.clock.advance(IDLE_FOR.total_seconds() + 1)
    assert "introduce yourself" in shop.ask("/content/open").json()["description"]


def test_nothing_binds_a_body_to_its_address(shop: Shop) -> None:
    """The weakness for which it is off unless asked for, and which the documentation states."""
    headers = shop.stamped(b"same bytes")
    assert shop.send("POST", "/content/elsewhere", headers, b"same bytes").status_code == 200


def test_certificates_cannot_be_shown_this_way(shop: Shop) -> None:
    answer = shop.ask("/content/gated")
    assert answer.status_code == 401 and "Authrite shows none" in answer.json()["description"]


def test_it_is_off_unless_a_network_says_so() -> None:
    closed = Shop(on=False)
    assert closed.send("POST", authrite.PATH, {}, b"{}").status_code == 404
    closed.theirs = Speaker(SERVER).nonce(bytes(16))
    assert closed.ask("/content/open").json()["who"] is None
    spec = {"chain": "test", "headers": {"url": BASE}}
    assert not read_net("n", spec).authrite and not read_net("n", {**spec, "gateway": {"listen": "x:1"}}).authrite
    assert read_net("n", {**spec, "gateway": {"authrite": True}}).authrite


def test_strangers_and_the_new_way_in_pass_by(shop: Shop) -> None:
    assert shop.send("GET", "/content/open").json()["who"] is None
    assert shop.send("POST", auth.PATH, {}, b"{}").json()["code"] == "ERR_AUTH_FAILED"


@pytest.mark.parametrize(
    "change", [{"x-authrite": "0.2"}, {"x-authrite-nonce": "!"}, {"x-authrite-signature": "zz"}, {"x-authrite-identity-key": ""}]
)
def test_broken_headers_are_named(shop: Shop, change: dict[str, str]) -> None:
    answer = shop.send("POST", "/content/open", {**shop.stamped(b"x"), **change}, b"x")
    assert (answer.status_code, answer.json()["code"]) == (401, "ERR_AUTHRITE_FAILED")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"authrite":"0.1","messageType":"general"}', b"x" * (authrite.MAX_HELLO + 1)]
)
def test_what_is_no_introduction_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        authrite.parse_hello(body)
