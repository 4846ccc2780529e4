"""Auth messages and signed HTTP: who may say what, and every fault a named one."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire import auth, authhttp, keys
from reconciler.wire.jsontext import compact

ALICE, BOB, EVE = (keys.sha256(name) for name in (b"alice", b"bob", b"eve"))
A, B = keys.public_key(ALICE), keys.public_key(BOB)
SEED, FRESH = bytes(range(16)), bytes(range(32))
ID = bytes(range(100, 132))


def hello() -> dict[str, Any]:
    return {
        "version": "0.1",
        "messageType": "initialRequest",
        "identityKey": A.hex(),
        "initialNonce": auth.make_nonce(ALICE, SEED),
    }


def sealed(kind: str, **parts: Any) -> auth.Message:
    message = auth.Message(kind, A, nonce=auth.fresh_nonce(FRESH), your_nonce=auth.make_nonce(BOB, SEED), **parts)
    return auth.seal(message, ALICE, B)


# --- nonces --------------------------------------------------------------------------------------


def test_a_nonce_is_recognised_by_its_maker_alone() -> None:
    nonce = auth.make_nonce(ALICE, b"\xff\xfe" * 8)  # not UTF-8: the name of its key is a lossy reading
    assert len(nonce) == 64 and "=" not in nonce
    assert auth.is_own_nonce(ALICE, nonce)
    assert not auth.is_own_nonce(BOB, nonce)
    for other in ("", "x", nonce[:-4], nonce + "AAAA", "A" + nonce[1:], nonce[:-1] + "\u00e9", nonce + "\n"):
        assert not auth.is_own_nonce(ALICE, other)


def test_nonces_are_made_of_the_right_amount_of_randomness() -> None:
    with pytest.raises(LocalProtocolError):
        auth.make_nonce(ALICE, b"short")
    with pytest.raises(LocalProtocolError):
        auth.fresh_nonce(b"short")


# --- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        sealed("general", payload=b"\x00\xff"),
        sealed("certificateRequest", asked=auth.Asked((B.hex(),), {"AAAA": ("name", "city")}).json()),
        sealed("certificateResponse", certificates=[{"fields": {"name": "Zoë 🜚"}}]),
    ],
    ids=lambda message: message.kind,
)
def test_a_sealed_message_reads_back_and_is_for_one_reader(message: auth.Message) -> None:
    found = auth.parse_message(auth.write_message(message))
    assert found == message
    auth.check(found, BOB)
    for wrong, reader in ((found, EVE), (replace(found, identity=B), BOB), (replace(found, nonce=found.your_nonce), BOB)):
        with pytest.raises(RemoteProtocolError, match="signature"):
            auth.check(wrong, reader)


def test_an_initial_request_cannot_be_signed() -> None:
    with pytest.raises(LocalProtocolError, match="initialRequest"):
        auth.seal(auth.parse_message(compact(hello())), ALICE, B)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": "1.0"}, "version"),
        ({"version": 0.1}, "version"),
        ({"messageType": "hello"}, "hello"),
        ({"initialNonce": None}, "initialNonce is missing"),
        ({"initialNonce": "!!!!"}, "base64"),
        ({"initialNonce": "AA=="[:3] + "B"}, "base64"),
        ({"initialNonce": "A" * 400}, "400 characters"),
        ({"identityKey": "02" + "00" * 32}, "identity key"),
        ({"identityKey": A.hex().upper()}, "identity key"),
        ({"identityKey": 5}, "identityKey"),
        ({"requestedCertificates": {"certifiers": "all"}}, "certifiers"),
        ({"requestedCertificates": {"types": {"a": [5]}}}, "strings"),
        ({"requestedCertificates": {"certifiers": ["\ud800"]}}, "Unicode"),
        ({"certificates": "none"}, "certificates"),
        ({"signature": [1, 256]}, "signature"),
    ],
)
def test_a_malformed_message_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(RemoteProtocolError, match=why):
        auth.parse_message(json.dumps({**hello(), **change}).encode())


@pytest.mark.parametrize("kind", ["initialResponse", "certificateRequest", "certificateResponse", "general"])
def test_a_signed_kind_without_its_parts_is_refused(kind: str) -> None:
    with pytest.raises(RemoteProtocolError, match="is missing"):
        auth.parse_message(compact({**hello(), "messageType": kind}))


def test_a_message_of_any_length_is_not_read() -> None:
    with pytest.raises(RemoteProtocolError, match="bytes"):
        auth.parse_message(b" " * (auth.MAX_MESSAGE + 1))


# --- what is signed over HTTP --------------------------------------------------------------------


def payload(**changes: Any) -> bytes:
    asked = {
        "method": "POST",
        "target": "/x?a=1",
        "headers": [("Content-Type", "application/json; charset=utf-8"), ("X-BSV-Topic", "one")],
        "body": b"{}",
    }
    return authhttp.request_payload(ID, **{**asked, **changes})


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"}, {"target": "/y?a=1"}, {"target": "/x?a=2"}, {"target": "/x"}, {"body": b"{} "}, {"body": b""},
        {"headers": [("content-type", "text/plain"), ("x-bsv-topic", "one")]},
        {"headers": [("content-type", "application/json"), ("x-bsv-topic", "two")]},
        {"headers": [("content-type", "application/json"), ("x-bsv-topic", "one"), ("authorization", "me")]},
        {"headers": [("content-type", "application/json"), ("x-bsv-topic", "one"), ("x-bsv-topic", "two")]},
    ],
    ids=repr,
)  # fmt: skip
def test_whatever_is_signed_cannot_be_changed(change: dict[str, Any]) -> None:
    assert payload(**change) != payload()


@pytest.mark.parametrize(
    "headers",
    [
        [("content-type", "application/json"), ("x-bsv-topic", "one")],
        [("x-bsv-topic", " one "), ("content-type", "application/json ;charset=x"), ("accept", "*/*")],
        [("content-type", "application/json"), ("x-bsv-topic", "one"), ("x-bsv-auth-nonce", "AAAA")],
    ],
)
def test_what_a_proxy_may_change_is_not_signed(headers: list[tuple[str, str]]) -> None:
    assert payload(headers=headers) == payload()


def test_a_repeated_header_is_signed_as_one_line() -> None:
    twice = [("x-bsv-topic", "one"), ("X-Bsv-Topic", "two")]
    assert payload(headers=twice) == payload(headers=[("x-bsv-topic", "one, two")])


def test_an_answer_is_signed_with_its_status_and_without_its_content_type() -> None:
    plain = authhttp.answer_payload(ID, 200, [("x-bsv-price", "1")], b"x")
    assert authhttp.answer_payload(ID, 200, [("x-bsv-price", "1"), ("content-type", "a/b")], b"x") == plain
    assert authhttp.answer_payload(ID, 402, [("x-bsv-price", "1")], b"x") != plain
    assert authhttp.answer_payload(ID, 200, [("x-bsv-price", "2")], b"x") != plain


def stamp() -> authhttp.Stamp:
    return authhttp.stamped(payload(), ALICE, A, B, auth.fresh_nonce(FRESH), auth.make_nonce(BOB, SEED))


def test_a_stamp_reads_back_and_holds_for_one_payload_and_one_reader() -> None:
    found = authhttp.parse_stamp(stamp().headers())
    assert found == stamp()
    assert authhttp.holds(found, BOB, [b"", payload()])
    assert not authhttp.holds(found, BOB, [payload(body=b"[]")])
    assert not authhttp.holds(found, EVE, [payload()])
    assert not authhttp.holds(replace(found, identity=B), BOB, [payload()])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": ""}, "version"), ({"version": "1.0"}, "version"), ({"identity-key": "02"}, "identity key"),
        ({"nonce": "undefined"}, "base64"), ({"your-nonce": ""}, "nonce"), ({"request-id": ""}, "request id"),
        ({"request-id": base64.b64encode(b"short").decode()}, "request id"), ({"signature": ""}, "hex"),
        ({"signature": "zz"}, "hex"), ({"signature": "00" * 200}, "hex"),
    ],
)  # fmt: skip
def test_half_a_stamp_is_none_and_said_to_be(change: dict[str, str], why: str) -> None:
    headers = {**stamp().headers(), **{f"x-bsv-auth-{name}": value for name, value in change.items()}}
    with pytest.raises(RemoteProtocolError, match=why):
        authhttp.parse_stamp(headers)
    assert authhttp.parse_stamp({"content-type": "x", "x-bsv-topic": "y"}) is None


# --- requests that survive the way ---------------------------------------------------------------


def test_json_is_sent_as_a_server_that_prints_it_again_will_see_it() -> None:
    asked = {"Content-Type": "application/json; charset=utf-8", "X-Bsv-Topic": "t"}
    headers, body = authhttp.signable_body(
        "POST", asked, b'{ "b": "Zo\\u00eb \\u2028", "10": [true, null], "9": -1, "a": "\\u0001" }'
    )
    assert headers == {"content-type": "application/json", "x-bsv-topic": "t"}
    assert body == '{"9":-1,"10":[true,null],"b":"Zoë \u2028","a":"\\u0001"}'.encode()


def test_an_empty_json_body_is_an_object_where_a_body_is_expected() -> None:
    asked = {"content-type": "application/json"}
    assert authhttp.signable_body("POST", asked, b"") == (asked, b"{}")
    assert authhttp.signable_body("GET", asked, b"") == (asked, b"")
    assert authhttp.signable_body("POST", {}, b"") == ({}, b"")
    other = {"content-type": "text/plain; charset=utf-8"}
    assert authhttp.signable_body("POST", other, b"{ }") == (other, b"{ }"), "only JSON is printed again"


@pytest.mark.parametrize(
    "body", [b"1.0", b"[1e3]", b"9007199254740993", b'"\\ud800"', b'{"a":1,"a":2}', b"{", b"NaN", b"[" * 9999]
)
def test_json_with_more_than_one_spelling_is_not_signed(body: bytes) -> None:
    with pytest.raises(LocalProtocolError, match="cannot sign this JSON"):
        authhttp.javascript(body)


@pytest.mark.parametrize("value", ["caf\u00e9", "a\nb", "\x00"])
def test_a_header_that_two_parsers_could_read_differently_is_not_signed(value: str) -> None:
    with pytest.raises(LocalProtocolError, match="x-bsv-topic"):
        authhttp.signable_body("GET", {"x-bsv-topic": value}, b"")


@pytest.mark.parametrize("target", ["/", "/a/b.c?x=%27&y=1,2", "/find?uhrpUrl=XU_%20", "/a?x=/../y"])
def test_a_plain_target_is_signed_as_it_is(target: str) -> None:
    assert authhttp.signable_target(target) == target


@pytest.mark.parametrize("target", ["", "a", "/a b", "/a/../b", "/./", "/%2E%2e/x", "/a?x='", "/a#b", "/\u00e9", "/a%2", '/"'])
def test_a_target_that_a_server_would_rewrite_is_not_signed(target: str) -> None:
    with pytest.raises(LocalProtocolError, match="cannot sign the path"):
        authhttp.signable_target(target)
