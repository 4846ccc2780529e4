"""Laws of authentication and payment: what is signed holds, a changed bit does not, strangers raise RemoteProtocolError only."""

import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire import auth, authhttp, identity_certificate, keys, payment
from reconciler.wire.jsontext import parse

laws = settings(max_examples=60, deadline=None)
many = settings(max_examples=100, deadline=None)

ALICE, BOB = keys.sha256(b"alice"), keys.sha256(b"bob")
A, B = keys.public_key(ALICE), keys.public_key(BOB)
NONCE, YOURS = auth.fresh_nonce(bytes(32)), auth.make_nonce(BOB, bytes(16))
NAMES = st.from_regex(r"x-bsv-[a-z]{1,6}", fullmatch=True).filter(lambda name: not name.startswith("x-bsv-auth")) | st.just(
    "authorization"
)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=12)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
TARGETS = st.from_regex(r"/[a-z/%20]{0,8}(\?[a-z=&]{1,8})?", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)
MEMBERS = st.sampled_from(
    ["version", "messageType", "identityKey", "initialNonce", "yourNonce", "nonce", "signature", "payload", "certificates",
     "requestedCertificates", "fields", "keyring", "type", "serialNumber", "subject", "certifier", "revocationOutpoint",
     "derivationPrefix", "derivationSuffix", "transaction"]
)  # fmt: skip
OBJECTS = st.dictionaries(MEMBERS, JSON | st.just("0.1") | st.just(A.hex())).map(lambda value: json.dumps(value).encode())
STAMPS = st.sampled_from(["version", "identity-key", "nonce", "your-nonce", "request-id", "signature", "satoshis-required"])


@laws
@given(st.binary(min_size=16, max_size=16))
def test_every_nonce_is_its_makers(seed: bytes) -> None:
    nonce = auth.make_nonce(ALICE, seed)
    assert auth.is_own_nonce(ALICE, nonce) and not auth.is_own_nonce(BOB, nonce)
    assert auth.parse_nonce(nonce) == nonce


@laws
@given(st.sampled_from(["GET", "POST"]), TARGETS, HEADERS, st.binary(max_size=40), st.data())
def test_a_stamp_holds_for_its_request_and_for_no_other(
    method: str, target: str, headers: list[tuple[str, str]], body: bytes, data: Any
) -> None:
    signed = authhttp.request_payload(bytes(32), method, target, headers, body)
    stamp = authhttp.parse_stamp(authhttp.stamped(signed, ALICE, A, B, NONCE, YOURS).headers())
    assert stamp is not None
    shuffled = data.draw(st.permutations(sorted(dict(headers).items())))
    once = authhttp.request_payload(bytes(32), method, target, shuffled, body)
    assert authhttp.holds(stamp, BOB, [signed])
    assert authhttp.holds(stamp, BOB, [once]) == (once == signed)
    at = data.draw(st.integers(32, len(signed) - 1))
    assert not authhttp.holds(stamp, BOB, [signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :]])


@laws
@given(TARGETS, HEADERS, st.binary(max_size=20), TARGETS, HEADERS, st.binary(max_size=20))
def test_two_requests_that_differ_have_two_payloads(
    target: str, headers: list[tuple[str, str]], body: bytes, other: str, others: list[tuple[str, str]], rest: bytes
) -> None:
    def normal(lines: list[tuple[str, str]]) -> dict[str, str]:
        out: dict[str, list[str]] = {}
        for name, value in lines:
            out.setdefault(name, []).append(value.strip())
        return {name: ", ".join(values) for name, values in out.items()}

    same = (target, normal(headers), body) == (other, normal(others), rest)
    one, two = (authhttp.request_payload(bytes(32), "GET", *parts) for parts in ((target, headers, body), (other, others, rest)))
    assert (one == two) == same


@many
@given(
    st.binary(max_size=200)
    | st.dictionaries(MEMBERS, JSON | st.just("0.1") | st.just(A.hex())).map(lambda v: json.dumps(v).encode())
)
def test_a_message_from_a_stranger_is_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        auth.parse_message(body)
    with contextlib.suppress(RemoteProtocolError):
        payment.parse_payment(body.decode("latin-1"))
    with contextlib.suppress(RemoteProtocolError):
        identity_certificate.parse_certificate(parse(body, "certificate"))
    with contextlib.suppress(RemoteProtocolError):
        payment.judge(payment.Payment(YOURS, NONCE, body), ALICE, B, 1, asked=True, used=lambda *_: False)


@many
@given(JSON, JSON, st.sampled_from(["certificateRequest", "certificateResponse", "initialResponse", "general"]))
def test_a_signed_message_from_a_stranger_is_checked_or_refused(asked: Any, certificates: Any, kind: str) -> None:
    said = {
        "version": "0.1", "messageType": kind, "identityKey": A.hex(), "initialNonce": YOURS, "nonce": NONCE, "yourNonce": YOURS,
        "requestedCertificates": {"certifiers": [], "types": asked}, "certificates": [{"fields": certificates}],
        "signature": [48], "payload": [1],
    }  # fmt: skip
    with contextlib.suppress(RemoteProtocolError):
        auth.check(auth.parse_message(json.dumps(said).encode()), BOB)


@many
@given(
    st.dictionaries(
        st.sampled_from(["version", "identity-key", "nonce", "your-nonce", "request-id", "signature"]), st.text(max_size=70)
    )
)
def test_headers_from_a_stranger_are_read_or_refused(said: dict[str, str]) -> None:
    base = authhttp.stamped(bytes(40), ALICE, A, B, NONCE, YOURS).headers()
    with contextlib.suppress(RemoteProtocolError):
        authhttp.parse_stamp({**base, **{f"x-bsv-auth-{name}": value for name, value in said.items()}})
    with contextlib.suppress(RemoteProtocolError):
        payment.parse_demand({f"x-bsv-payment-{name}": value for name, value in said.items()})


@many
@given(JSON)
def test_json_is_signed_as_it_will_be_printed_or_not_at_all(value: Any) -> None:
    with contextlib.suppress(LocalProtocolError):
        printed = authhttp.javascript(json.dumps(value).encode())
        assert json.loads(printed) == value
        assert authhttp.javascript(printed) == printed
