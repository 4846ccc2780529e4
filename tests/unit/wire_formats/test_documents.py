"""Signed messages and sealed documents."""

import base64
import hashlib
import json

import pytest

from reconciler.model.canonical import canonical
from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire import document, message
from reconciler.wire.keys import public_key
from tests.unit.wire_formats.maker import IDENTITY, OTHER, SECRET, manifest, seal

TEXT = b"terms of sale"
KEY_ID = message.key_id_for(IDENTITY, TEXT)


def test_signing_again_gives_the_same_bytes_and_names_the_signer() -> None:
    first = message.sign_message(SECRET, TEXT, KEY_ID)
    assert first == message.sign_message(SECRET, TEXT, KEY_ID)
    assert message.verify_message(first, TEXT) == IDENTITY
    assert first[:4].hex() == "42423301" and first[4:37] == IDENTITY and first[37] == 0 and first[38:70] == KEY_ID


def test_the_key_id_depends_on_signer_and_message() -> None:
    expected = hashlib.sha256(b"reconciler attest" + IDENTITY + hashlib.sha256(TEXT).digest()).digest()
    assert expected == KEY_ID
    assert len({KEY_ID, message.key_id_for(public_key(OTHER), TEXT), message.key_id_for(IDENTITY, b"other")}) == 3


def test_a_signature_over_something_else_is_refused() -> None:
    signed = message.sign_message(SECRET, TEXT, KEY_ID)
    for wrong in (TEXT + b" ", b""):
        with pytest.raises(RemoteProtocolError, match="does not match"):
            message.verify_message(signed, wrong)
    swapped = signed[:4] + public_key(OTHER) + signed[37:]
    with pytest.raises(RemoteProtocolError, match="does not match"):
        message.verify_message(swapped, TEXT)


def test_a_malformed_signature_is_refused() -> None:
    signed = message.sign_message(SECRET, TEXT, KEY_ID)
    for wrong in (
        b"",
        signed[:40],
        signed[:70],
        b"\x42\x42\x10\x33" + signed[4:],
        signed + b"\x00",
        signed[:4] + bytes(33) + signed[37:],
    ):
        with pytest.raises(RemoteProtocolError):
            message.verify_message(wrong, TEXT)
    with pytest.raises(LocalProtocolError, match="31 bytes"):
        message.sign_message(SECRET, TEXT, bytes(31))


# --- documents ------------------------------------------------------------------------------------


@pytest.mark.row("P-AD-24", "P-PUB-18")
def test_a_sealed_document_opens_to_itself_and_its_signer() -> None:
    envelope = seal(manifest())
    assert document.open_envelope(envelope) == (manifest(), IDENTITY.hex())
    assert document.digest_of(envelope) == hashlib.sha256(envelope).hexdigest()
    assert seal(manifest()) == envelope, "one document of one author has one envelope"
    outer = json.loads(envelope)
    assert canonical(outer) == envelope and outer["signature"]["scheme"] == "BRC-77"


@pytest.mark.row("P-PUB-24")
def test_any_changed_byte_of_an_envelope_is_noticed() -> None:
    envelope = seal({"title": "a", "rate": 5})
    for at in range(len(envelope)):
        changed = envelope[:at] + bytes([envelope[at] ^ 1]) + envelope[at + 1 :]
        with pytest.raises(RemoteProtocolError):
            document.open_envelope(changed)


def forged(**changes: object) -> bytes:
    outer = json.loads(seal({"title": "a"}))
    for name, value in changes.items():
        part = outer["signature"] if name in outer["signature"] else outer
        part[name] = value
    return canonical(outer)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"[]", "not an object"),
        (b"{", "not JSON"),
        (b'{"document":{}}', "signature is missing"),
        (forged(extra=1), "extra is not part"),
        (forged(document=[]), "not an object"),
        (forged(document={"title": "b"}), "does not match"),
        (forged(scheme="BRC-78"), "must be BRC-77"),
        (forged(signer="02"), "hex of 33"),
        (forged(signer=public_key(OTHER).hex()), "another key signed"),
        (forged(value="!!"), "base64"),
        (forged(value=base64.b64encode(b"BB3\x01").decode()), "BRC-77 signature"),
        (b" " + seal({"title": "a"}), "not canonical"),
        (
            b'{"document":{"a":1.5},"signature":{"scheme":"BRC-77","signer":"' + b"02" * 33 + b'","value":""}}',
            "no canonical form",
        ),
        (b'{"document":{"a":1,"a":1},"signature":{}}', "written twice"),
        (b'{"document":{"a":NaN},"signature":{}}', "NaN is not JSON"),
        (b'{"document":' + b"[" * 100_000, "not JSON"),
    ],
)
def test_an_envelope_with_a_fault_says_which(data: bytes, fault: str) -> None:
    with pytest.raises(RemoteProtocolError, match=fault):
        document.open_envelope(data)


def test_only_the_authors_own_signature_seals() -> None:
    content = {"title": "a"}
    signed = message.sign_message(OTHER, document.signed_bytes(content), bytes(32))
    with pytest.raises(LocalProtocolError, match="signed it, not"):
        document.seal(content, IDENTITY.hex(), signed)
    with pytest.raises(LocalProtocolError, match="is not over it"):
        document.seal({"title": "b"}, public_key(OTHER).hex(), signed)
    with pytest.raises(LocalProtocolError, match="no canonical form"):
        document.signed_bytes({"rate": 0.5})


def test_an_oversized_envelope_is_not_even_parsed() -> None:
    with pytest.raises(RemoteProtocolError, match="bytes"):
        document.open_envelope(b" " * (document.MAX_ENVELOPE + 1))
