"""Mutual authentication and payment against the reference: its vectors, and exchanges recorded between its own two halves."""

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire import auth, authhttp, authrite, keys, payment
from reconciler.wire.jsontext import compact
from reconciler.wire.script import p2pkh
from tests.interop.test_vectors_core import load, vectors

FIXTURES = Path(__file__).parent / "fixtures"
SEEDS = json.loads((FIXTURES / "keys.json").read_text())["seeds"]
CLIENT = keys.sha256(SEEDS["client of express-*.json and python-gateway-*.json"].encode())
SERVER = keys.sha256(SEEDS["server of express-*.json"].encode())
EXPRESS = ("express-auth-get", "express-auth-post", "express-paid-get", "express-underpaid-get")
RECORDED = load("generated_auth_brc104")


def exchanges(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FIXTURES / f"{name}.json").read_text())["exchanges"]
    return found


def headers_of(side: dict[str, Any]) -> dict[str, str]:
    return {name.lower(): value for name, value in side["headers"]}


def counterparty(root: bytes, named: str) -> bytes:
    return {"self": keys.public_key(root), "anyone": keys.ANYONE}.get(named) or bytes.fromhex(named)


# --- vectors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", vectors("brc100_createhmac"))
def test_symmetric_keys_are_those_of_the_reference(vector: Any) -> None:
    root, asked = bytes.fromhex(vector["input"]["root_key"]), vector["input"]["args"]
    level, protocol = asked["protocolID"]
    if vector["expected"].get("error"):
        with pytest.raises(LocalProtocolError):
            keys.invoice(protocol, asked["keyID"], level)
        return
    inv = keys.invoice(protocol, asked["keyID"], level)
    key = keys.symmetric_key(root, counterparty(root, asked["counterparty"]), inv).lstrip(b"\0")
    data = asked["data"].encode() if isinstance(asked["data"], str) else bytes(asked["data"])
    assert list(hmac.digest(key, data, "sha256")) == vector["expected"]["hmac"]


@pytest.mark.parametrize("side", ["client", "server"])
def test_session_nonces_are_those_of_the_reference(side: str) -> None:
    secret = bytes.fromhex(RECORDED[f"{side}_root_private_key_hex"])
    said = RECORDED["nonces"]
    nonce = said[f"{side}_initial_nonce_b64"]
    assert auth.make_nonce(secret, bytes.fromhex(said[f"{side}_first_half_hex"])) == nonce
    assert auth.is_own_nonce(secret, nonce)
    assert not auth.is_own_nonce(CLIENT, nonce)


def test_a_handshake_has_the_bytes_of_the_reference() -> None:
    client, server = (bytes.fromhex(RECORDED[f"{side}_root_private_key_hex"]) for side in ("client", "server"))
    first = auth.parse_message(compact(RECORDED["initialRequest"]))
    assert json.loads(auth.write_message(first)) == RECORDED["initialRequest"]
    assert first == auth.Message("initialRequest", keys.public_key(client), first.initial_nonce, asked=auth.Asked().json())
    said = RECORDED["initialResponse"]
    answer = auth.parse_message(compact(said))
    unsigned = auth.Message(
        "initialResponse", keys.public_key(server), said["initialNonce"], "", first.initial_nonce, auth.Asked().json()
    )
    assert auth.seal(unsigned, server, first.identity) == answer
    assert json.loads(auth.write_message(answer)) == said
    auth.check(answer, client)
    with pytest.raises(RemoteProtocolError, match="signature"):
        auth.check(answer, CLIENT)


def test_a_general_request_has_the_bytes_of_the_reference() -> None:
    said, server = RECORDED["general_request"], bytes.fromhex(RECORDED["server_root_private_key_hex"])
    stamp = authhttp.parse_stamp(said["http_headers"])
    assert stamp is not None
    body = said["body_utf8"].encode()
    payload = authhttp.request_payload(
        stamp.request_id, said["method"], said["url_path"] + said["search"], said["http_headers"].items(), body
    )
    assert payload.hex() == said["payload_hex"]
    assert authhttp.holds(stamp, server, [payload])
    client = bytes.fromhex(RECORDED["client_root_private_key_hex"])
    again = authhttp.stamped(payload, client, stamp.identity, keys.public_key(server), stamp.nonce, stamp.your_nonce)
    assert again == stamp
    assert again.headers() == {name: value for name, value in said["http_headers"].items() if name.startswith("x-bsv-auth")}
    bare = RECORDED["general_get_without_query_headers_body"]
    assert authhttp.request_payload(stamp.request_id, bare["method"], bare["url_path"], [], b"").hex() == bare["payload_hex"]


def test_a_general_answer_has_the_bytes_of_the_reference() -> None:
    said = RECORDED["general_response_402"]
    body = said["body_utf8"].encode()
    sent = {**said["signed_headers"], "content-type": "application/json", "x-bsv-auth-version": "0.1", "etag": "w"}
    request_id = base64.b64decode(RECORDED["general_request"]["http_headers"]["x-bsv-auth-request-id"])
    payload = authhttp.answer_payload(request_id, said["status"], sent.items(), body)
    assert payload.hex() == said["payload_hex"]
    nonce, your_nonce = said["keyID"].split(" ")
    server, client = (bytes.fromhex(RECORDED[f"{side}_root_private_key_hex"]) for side in ("server", "client"))
    stamp = authhttp.stamped(payload, server, keys.public_key(server), keys.public_key(client), nonce, your_nonce)
    assert stamp.signature.hex() == said["signature_der_hex"]
    assert authhttp.holds(stamp, client, [payload])
    empty = authhttp.answer_payload(request_id, 204, [], b"")
    assert empty.hex() == RECORDED["general_response_empty_body_204_payload_hex_server_form"]
    assert authhttp.answer_payload(request_id, 204, [], b"", authhttp.EMPTY[1]) == empty[: -len(authhttp.ABSENT)] + b"\0"


@pytest.mark.parametrize("vector", vectors("brc29_payment_derivation"))
def test_payment_keys_are_those_of_the_reference(vector: Any) -> None:
    root, asked = bytes.fromhex(vector["input"]["root_key"]), vector["input"]["args"]
    prefix, suffix = asked["keyID"].split(" ")
    assert asked["protocolID"] == [2, payment.PROTOCOL]
    script = p2pkh(bytes.fromhex(vector["expected"]["publicKey"]))
    other = counterparty(root, asked["counterparty"])
    if asked.get("forSelf"):
        assert p2pkh(keys.public_key(payment.secret_from(root, other, prefix, suffix))) == script
    else:
        assert payment.script_to(root, other, prefix, suffix) == script


def test_a_payment_script_is_that_of_the_reference_from_both_sides() -> None:
    said = load("generated_payments")
    payer, payee = bytes.fromhex(said["payer_private_key_hex"]), bytes.fromhex(said["payee_private_key_hex"])
    one = said["brc105"]
    names = (one["derivationPrefix"], one["derivationSuffix"])
    assert payment.script_to(payer, keys.public_key(payee), *names).hex() == one["p2pkh_script_hex"]
    assert payment.secret_from(payee, keys.public_key(payer), *names).hex() == one["payee_child_private_key_hex"]


# --- recorded exchanges --------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPRESS)
def test_every_recorded_exchange_is_what_we_would_sign(name: str) -> None:
    first, *rest = exchanges(name)
    request, answer = auth.parse_message(first["request"]["bodyText"].encode()), first["response"]["bodyText"].encode()
    assert request.kind == "initialRequest" and auth.is_own_nonce(CLIENT, request.initial_nonce)
    met = auth.parse_message(answer)
    auth.check(met, CLIENT)
    assert met.your_nonce == request.initial_nonce and met.identity == keys.public_key(SERVER)
    assert auth.write_message(request) == first["request"]["bodyText"].encode()
    assert auth.write_message(met) == answer
    assert rest
    for one in rest:
        asked, told = one["request"], one["response"]
        sent, got = authhttp.parse_stamp(headers_of(asked)), authhttp.parse_stamp(headers_of(told))
        assert sent is not None and got is not None and got.request_id == sent.request_id
        assert (sent.your_nonce, got.your_nonce) == (met.initial_nonce, request.initial_nonce)
        body = asked["bodyText"].encode()
        payload = authhttp.request_payload(
            sent.request_id, asked["method"], asked["path"], [(n, v) for n, v in asked["headers"]], body
        )
        again = authhttp.stamped(payload, CLIENT, keys.public_key(CLIENT), met.identity, sent.nonce, sent.your_nonce)
        assert again == sent, "the same bytes, signed the same way"
        said = told["bodyText"].encode()
        payload = authhttp.answer_payload(sent.request_id, told["status"], headers_of(told).items(), said)
        assert authhttp.holds(got, CLIENT, [payload])
        assert not authhttp.holds(got, CLIENT, [payload[:-1] + bytes([payload[-1] ^ 1])])


def test_the_recorded_payment_is_judged_and_the_underpaid_one_refused() -> None:
    for name, price in (("express-paid-get", 100), ("express-underpaid-get", 1)):
        _, demanded, paid = exchanges(name)
        demand = payment.parse_demand(headers_of(demanded["response"]))
        assert demand.satoshis == 100 and auth.is_own_nonce(SERVER, demand.prefix)
        text = headers_of(paid["request"])[payment.HEADER]
        found = payment.parse_payment(text)
        assert payment.write_payment(found) == text and found.prefix == demand.prefix
        payer = keys.public_key(CLIENT)

        def judge(price: int, found: payment.Payment = found, payer: bytes = payer) -> payment.Income:
            return payment.judge(found, SERVER, payer, price, asked=True, used=lambda *_: False)[0]

        assert (judge(price).satoshis, judge(price).vout) == (price, 0)
        with pytest.raises(RemoteProtocolError) as caught:
            judge(price + 1)
        assert caught.value.code == "ERR_UNDERPAID", name


def test_an_answer_without_authentication_has_no_stamp() -> None:
    (one,) = exchanges("express-unauthenticated")
    assert authhttp.parse_stamp(headers_of(one["response"])) is None


# --- Authrite ------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", vectors("brc31_authrite_signature"))
def test_authrite_signatures_are_those_of_the_reference(vector: Any) -> None:
    root, asked = bytes.fromhex(vector["input"]["root_key"]), vector["input"]["args"]
    assert asked["protocolID"] == [2, authrite.PROTOCOL]
    peer, data = counterparty(root, asked["counterparty"]), bytes.fromhex(asked["data"])
    first, second = asked["keyID"].split(" ")
    if vector["input"]["method"] == "createSignature":
        assert authrite.signed(root, peer, first, second, data).hex() == vector["expected"]["signature"]
        return
    signature = bytes.fromhex(asked["signature"])
    assert authrite.holds(root, peer, first, second, data, signature) is vector["expected"].get("valid", False)
    assert not authrite.holds(root, peer, second, first, data, signature)
