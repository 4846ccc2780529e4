"""Certificates on request, both ways: our client shows them to whom it may, and our door lets in who has shown them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reconciler.adapters.auth import Introduced
from reconciler.adapters.certificates import Certificates, unseal
from reconciler.adapters.http import Answer, Http, Request
from reconciler.devnet.clock import SeededEntropy, VirtualClock, run
from reconciler.devnet.network import Network
from reconciler.gateway.auth import CERTIFICATES_WITHIN, JUDGED_FOR, Authenticated
from reconciler.gateway.certificates import Required
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused, Unavailable
from reconciler.model.ref import Outpoint
from reconciler.wire import keys
from reconciler.wire.speaker import Speaker
from tests.unit.wire.test_identity_certificate import CERTIFIER, SUBJECT, TYPE, VALUES, issue, seal

CLIENT, SERVER = Speaker(SUBJECT), Speaker(keys.sha256(b"server"))
URL = "http://shop.test"
BY = keys.public_key(CERTIFIER).hex()
POLICY = {"require": {"certificates": [{"type": TYPE, "certifiers": [BY], "fields": ["name"]}]}}


def master() -> dict[str, Any]:
    """The certificate as its subject keeps it: a keyring for himself, by the certifier."""
    ring = {}
    for name in VALUES:
        own = keys.symmetric_key(CERTIFIER, CLIENT.identity, keys.invoice("certificate field encryption", name))
        ring[name] = seal(own, keys.sha256(name.encode()))
    return {**issue(show=()), "masterKeyring": ring, "keyring": {}, "showTo": [URL]}


class Index:
    """An index of spends that a test fills, or takes away."""

    def __init__(self) -> None:
        self.spent: dict[str, str] = {}
        self.silent = False

    async def spender(self, outpoint: Outpoint, source: Endpoint) -> str | None:
        if self.silent:
            raise Unavailable("no-spend-index", "cannot ask")
        return self.spent.get(str(outpoint))


class Shop:
    """A door with one gated content and one that is open to everybody, and a buyer whose certificates lie in `place`."""

    def __init__(self, place: Path, *, policies: dict[str, Any] | None = None) -> None:
        self.clock, self.entropy, self.index, self.place = VirtualClock(), SeededEntropy(3), Index(), place
        self.policies = {"gated": POLICY, "open": {}} if policies is None else policies

        async def content(request: Asked) -> Response:
            who = request.state.identity
            return JSONResponse({"who": who.hex() if who else None})

        routes = [Route("/content/{rest:path}", content), Route("/purchases", content, methods=["POST"])]
        required = Required(lambda: self.policies, self.index, Endpoint("headers", URL))  # type: ignore[arg-type]
        door = Authenticated(Starlette(routes=routes), SERVER, self.clock, self.entropy, demands=required, optional=True)
        self.network = Network({"shop.test": door})
        self.http = Http(self.clock, transport=self.network)
        self.restart()

    def restart(self, *, mute: bool = False) -> None:
        """A client that knows nobody; one that is `mute` never answers what it is asked for."""
        held = Certificates(self.place, self.entropy)
        self.client = Introduced(self.http, lambda: CLIENT, self.entropy, None, held)
        if mute:

            async def silence(*_: Any) -> None:
                return None

            self.client._present = silence  # type: ignore[method-assign, assignment]
        self.http.conversation = self.client

    def keep(self, **changes: Any) -> None:
        self.place.mkdir(exist_ok=True)
        path = self.place / "club.json"
        path.write_text(json.dumps({**master(), **changes}, ensure_ascii=False))
        path.chmod(0o600)

    def ask(self, path: str, method: str = "GET", body: Any = None, *, known: bool = True) -> Answer:
        terms = {"identityKey": SERVER.identity.hex()} if known else {}
        data = json.dumps(body, separators=(",", ":")).encode() if body is not None else b""
        headers = {"content-type": "application/json"} if data else {}
        request = Request(method, URL + path, headers, data, terms)

        async def once() -> Answer:
            prepared = await self.client.prepare(request)
            answer = await self.http._guarded(prepared, 60, 9999, False, None)
            await self.client.accept(prepared, answer)
            return answer

        return run(once(), clock=self.clock)

    def code(self, path: str, method: str = "GET", body: Any = None) -> tuple[int, str]:
        answer = self.ask(path, method, body)
        return answer.status, answer.json().get("code", "")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "certificates")


@pytest.mark.row("C-18")
def test_who_shows_what_a_policy_wants_is_let_in(shop: Shop) -> None:
    shop.keep()
    answer = shop.ask("/content/gated")
    assert (answer.status, answer.json()["who"]) == (200, CLIENT.identity.hex())
    assert shop.code("/content/gated@3/files/a.csv")[0] == 200
    assert shop.code("/purchases", "POST", {"contentId": "gated@1"})[0] == 200
    assert shop.clock.now() == shop.clock.start, "nobody waits"


@pytest.mark.row("C-18")
def test_who_has_none_is_told_at_once_and_who_does_not_answer_after_a_while(shop: Shop) -> None:
    assert shop.code("/content/gated") == (401, "CERTIFICATE_REQUIRED")
    assert shop.code("/purchases", "POST", {"contentId": "gated"}) == (401, "CERTIFICATE_REQUIRED")
    assert shop.clock.now() == shop.clock.start
    shop.restart(mute=True)
    assert shop.code("/content/open")[0] == 200
    assert shop.clock.now() == shop.clock.start
    assert shop.code("/content/gated") == (408, "CERTIFICATE_TIMEOUT")
    assert shop.clock.now() - shop.clock.start >= timedelta(seconds=CERTIFICATES_WITHIN)


def test_everything_else_is_open_without(shop: Shop) -> None:
    for path in ("/content/open", "/content/gated/sample", "/content/gated/proof", "/content/gated/versions"):
        assert shop.code(path)[0] == 200, path
        assert shop.ask(path, known=False).status == 200, path
    # A token comes of a purchase, which was held to the policy.
    assert shop.ask("/content/gated?access=token", known=False).status == 200
    assert shop.ask("/content/gated", known=False).status == 401
    assert shop.code("/purchases", "POST", {"contentId": "open"})[0] == 200
    assert shop.code("/purchases", "POST", {"contentId": 7})[0] == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"showTo": []},
        {"showTo": ["http://other.test"]},
        {"revocationOutpoint": "cd" * 32 + ".1"},
        {"subject": BY},
        {"signature": "3006020101020101"},
    ],
)
def test_a_certificate_that_may_not_be_shown_or_is_none_opens_nothing(shop: Shop, changes: dict[str, Any]) -> None:
    shop.keep(**changes)
    if changes.keys() == {"showTo"}:
        assert shop.code("/content/gated") == (401, "CERTIFICATE_REQUIRED")
        return
    with pytest.raises(Refused, match="did not sign it"):
        shop.code("/content/gated")


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": TYPE, "certifiers": [SERVER.identity.hex()]},
        {"type": TYPE.replace("A", "B", 1), "certifiers": [BY]},
        {"type": TYPE, "certifiers": [BY], "fields": ["name", "age"]},
    ],
)
def test_another_certificate_than_the_policy_names_opens_nothing(shop: Shop, wanted: dict[str, Any]) -> None:
    shop.keep()
    shop.policies["gated"] = {"require": {"certificates": [wanted]}}
    assert shop.code("/content/gated") == (401, "CERTIFICATE_REQUIRED")
    both = {"require": {"certificates": [*POLICY["require"]["certificates"], wanted]}}
    shop.policies["gated"] = both
    shop.restart()
    assert shop.code("/content/gated") == (401, "CERTIFICATE_REQUIRED"), "all of them are required"


def test_a_revoked_certificate_counts_no_longer_even_within_a_session(shop: Shop) -> None:
    shop.keep()
    assert shop.code("/content/gated")[0] == 200
    shop.index.spent["ab" * 32 + ".300"] = "ef" * 32
    assert shop.code("/content/gated")[0] == 200, "it is looked at again after a while"
    shop.clock.advance(JUDGED_FOR.total_seconds() + 1)
    assert shop.code("/content/gated") == (401, "CERTIFICATE_REQUIRED")
    shop.restart()
    assert shop.code("/content/gated") == (401, "CERTIFICATE_REQUIRED")
    shop.index.spent.clear()
    shop.restart()
    assert shop.code("/content/gated")[0] == 200


def test_where_nobody_can_tell_whether_it_is_revoked_it_does_not_count(shop: Shop) -> None:
    shop.keep()
    shop.index.silent = True
    assert shop.code("/content/gated") == (401, "CERTIFICATE_REQUIRED")


def test_only_what_is_asked_for_is_shown_and_only_the_host_can_read_it(shop: Shop) -> None:
    shop.keep()
    held = Certificates(shop.place, shop.entropy)
    required = Required(lambda: shop.policies, shop.index, Endpoint("headers", URL))  # type: ignore[arg-type]
    (shown,) = held.show(required.asked(), CLIENT, SERVER.identity, URL)
    assert set(shown["keyring"]) == {"name"} and "masterKeyring" not in shown and "showTo" not in shown
    (judged,) = run(required.judge(CLIENT.identity, [shown]), clock=shop.clock)
    assert SERVER.reveal(judged, unseal) == {"name": "Zoë"}
    with pytest.raises(Refused, match="cannot open the field"):
        Speaker(keys.sha256(b"eve")).reveal(judged, unseal)
    assert list(held.show(required.asked(), Speaker(keys.sha256(b"eve")), SERVER.identity, URL)) == []


def test_a_shop_that_wants_nothing_asks_for_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "certificates", policies={"open": {}})
    assert shop.code("/content/open")[0] == 200
    assert [one.path for one in shop.network.exchanges] == ["/.well-known/auth", "/content/open"]


def test_a_file_that_is_no_certificate_or_open_to_others_is_named(shop: Shop) -> None:
    shop.keep()
    path = shop.place / "club.json"
    path.chmod(0o644)
    with pytest.raises(Refused, match="mode 0644"):
        Certificates(shop.place, shop.entropy).held()
    path.chmod(0o600)
    path.write_text("[]")
    with pytest.raises(Refused, match=r"club\.json as a certificate"):
        Certificates(shop.place, shop.entropy).held()
