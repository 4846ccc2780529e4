"""Identity certificates: whose word they are, about whom, and what they show to whom."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reconciler.model.errors import RemoteProtocolError
from reconciler.wire import identity_certificate as certificates
from reconciler.wire import keys
from reconciler.wire.auth import Asked

CERTIFIER, SUBJECT, VERIFIER, EVE = (keys.sha256(name) for name in (b"certifier", b"subject", b"verifier", b"eve"))
PEER = keys.public_key(SUBJECT)
TYPE, SERIAL = (base64.b64encode(byte * 32).decode() for byte in (b"\1", b"\2"))
VALUES = {"name": "Zoë", "City": "Köln"}
ASKED = Asked((keys.public_key(CERTIFIER).hex(),), {TYPE: ("name",)})
PUBLISHED = Path(__file__).parents[2] / "interop" / "vectors" / "brc52_certificate.json"


def seal(key: bytes, plain: bytes) -> str:
    nonce = keys.sha256(plain)
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, plain, None)).decode()


def unseal(key: bytes, sealed: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[:32], sealed[32:], None)
    except InvalidTag as fault:
        raise ValueError("it does not open") from fault


def issue(order: Any = sorted, show: tuple[str, ...] = ("name",), secret: bytes = CERTIFIER) -> dict[str, Any]:
    """A certificate as a certifier that sorts names by `order` writes it, showing fields to the verifier."""
    field_keys = {name: keys.sha256(name.encode()) for name in VALUES}
    fields = {name: seal(field_keys[name], value.encode()) for name, value in VALUES.items()}
    ring = {}
    for name in show:
        inv = keys.invoice("certificate field encryption", f"{SERIAL} {name}")
        ring[name] = seal(keys.symmetric_key(SUBJECT, keys.public_key(VERIFIER), inv), field_keys[name])
    said = {
        "type": TYPE, "serialNumber": SERIAL, "subject": PEER.hex(), "certifier": keys.public_key(secret).hex(),
        "revocationOutpoint": "ab" * 32 + ".300", "fields": fields, "keyring": ring, "signature": "00",
    }  # fmt: skip
    body = b"\1" * 32 + b"\2" * 32 + PEER + keys.public_key(secret) + b"\xab" * 32 + b"\xfd\x2c\x01" + b"\2"
    for name in order(fields):
        body += bytes([len(name)]) + name.encode() + bytes([len(fields[name])]) + fields[name].encode()
    child = keys.child_secret(secret, keys.ANYONE, keys.invoice("certificate signature", f"{TYPE} {SERIAL}"))
    return {**said, "signature": keys.sign(child, body).hex()}


@pytest.mark.parametrize("order", [sorted, lambda names: sorted(names, key=str.lower)])
def test_a_certificate_is_its_certifiers_word_in_either_order_of_names(order: Any) -> None:
    (found,) = certificates.shown(ASKED, PEER, [issue(order)])
    assert (found.type, found.serial, found.subject, str(found.outpoint)) == (TYPE, SERIAL, PEER, "ab" * 32 + ".300")
    assert found.revocable


def test_what_it_shows_opens_for_the_verifier_alone() -> None:
    found = certificates.parse_certificate(issue(show=("name", "City")))
    assert certificates.revealed(found, VERIFIER, unseal) == VALUES
    with pytest.raises(RemoteProtocolError, match="cannot open the field"):
        certificates.revealed(found, EVE, unseal)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"subject": keys.public_key(EVE).hex()}, "bad-signature"),
        ({"serialNumber": TYPE}, "bad-signature"),
        ({"type": SERIAL}, "bad-signature"),
        ({"revocationOutpoint": "ab" * 32 + ".301"}, "bad-signature"),
        ({"fields": {"name": "AAAA"}}, "bad-signature"),
        ({"certifier": keys.public_key(EVE).hex()}, "bad-signature"),
        ({"keyring": {}}, "hidden-field"),
        ({"signature": "zz"}, "remote-protocol"),
        ({"keyring": {"other": "AAAA"}}, "remote-protocol"),
        ({"revocationOutpoint": "ab" * 32}, "remote-protocol"),
        ({"revocationOutpoint": "ab" * 32 + ".-1"}, "remote-protocol"),
        ({"type": "AAAA"}, "remote-protocol"),
        ({"fields": {"x" * 51: "AAAA"}, "keyring": {}}, "remote-protocol"),
        ({"fields": {"\ud800": "AAAA"}, "keyring": {}}, "remote-protocol"),
        ({"fields": {str(n): "AAAA" for n in range(101)}, "keyring": {}}, "remote-protocol"),
    ],
)
def test_a_certificate_that_was_changed_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        certificates.shown(ASKED, PEER, [{**issue(), **change}])
    assert caught.value.code == why


@pytest.mark.parametrize(
    ("asked", "peer", "shown", "why"),
    [
        (ASKED, keys.public_key(EVE), [issue()], "other-subject"),
        (ASKED, PEER, [issue(secret=EVE)], "not-asked"),
        (Asked(ASKED.certifiers, {SERIAL: ()}), PEER, [issue()], "not-asked"),
        (ASKED, PEER, [], "no-certificate"),
    ],
)
def test_what_was_not_asked_for_does_not_count(asked: Asked, peer: bytes, shown: list[Any], why: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        certificates.shown(asked, peer, shown)
    assert caught.value.code == why


def test_the_published_example_is_read_and_like_everywhere_else_does_not_verify() -> None:
    found = certificates.parse_certificate(json.loads(PUBLISHED.read_text())["certificate"])
    assert (set(found.fields), found.keyring, found.outpoint.vout) == ({"email", "name"}, {}, 1)
    with pytest.raises(RemoteProtocolError, match="did not sign"):
        certificates.check(found)
