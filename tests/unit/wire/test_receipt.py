"""Receipts: one form, one spelling, one signer; what is not the producer's word, or not paid, is not a receipt."""

import json
from typing import Any

import pytest

from reconciler.model.canonical import canonical
from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire import keys
from reconciler.wire.document import seal, signed_bytes
from reconciler.wire.message import key_id_for, sign_message
from reconciler.wire.receipt import open_receipt, parse_receipt, receipt_id, verify_receipt, write_receipt

SELLER, BUYER = keys.sha256(b"seller"), keys.sha256(b"buyer")
PRODUCER, CONSUMER = keys.public_key(SELLER).hex(), keys.public_key(BUYER).hex()


def document(**changed: Any) -> dict[str, Any]:
    said = {
        "type": "Receipt", "apiVersion": "overlay.bsv/v1alpha1", "producer": PRODUCER, "buyer": CONSUMER, "contentId": "rates",
        "sequence": 1, "digest": "11" * 32, "merkleRoot": "22" * 32, "license": "", "satoshis": 0, "price": [], "quoteId": None,
        "method": "brc105", "payment": None, "issued": "2026-01-01T00:00:00Z",
    } | changed  # fmt: skip
    return {**said, "id": changed.get("id", receipt_id(said))}


def sealed(secret: bytes = SELLER, **changed: Any) -> bytes:
    said = document(**changed)
    public, message = keys.public_key(secret), signed_bytes(said)
    return seal(said, public.hex(), sign_message(secret, message, key_id_for(public, message)))


def bundle(envelope: bytes, beef: str = "", headers: list[Any] | None = None) -> bytes:
    body = {"format": "reconciler-receipt/1", "receipt": json.loads(envelope), "beef": beef, "headers": headers or []}
    return canonical(body)


@pytest.mark.row("C-28", "P-PAY-23")
def test_a_receipt_is_its_producers_word() -> None:
    said = open_receipt(sealed(license="CC0-1.0", quoteId="q"))
    assert (said.producer, said.buyer, said.content, said.license, said.quote) == (PRODUCER, CONSUMER, "rates", "CC0-1.0", "q")
    assert said.id == receipt_id(document(license="CC0-1.0", quoteId="q")) and len(said.id) == 32
    checks = verify_receipt(write_receipt(sealed(), b"", {}))
    assert [(check.name, check.ok) for check in checks] == [("signature", True), ("payment", True)]


@pytest.mark.parametrize(
    ("envelope", "why"),
    [
        (sealed(BUYER), "is not who signed it"),
        (sealed(id="0" * 32), "is not that of its content"),
        (sealed(type="Quote"), "must be Receipt"),
        (sealed(method="barter"), "must be one of"),
        (sealed(issued="yesterday"), "must be a time"),
        (sealed(issued="2026-01-01T00:00:00"), "must be a time in UTC"),
        (sealed(sequence=0), "must be an integer"),
        (sealed(buyer="me"), "must be lower-case hex"),
    ],
)
def test_what_is_none_is_refused(envelope: bytes, why: str) -> None:
    with pytest.raises(RemoteProtocolError, match=why):
        open_receipt(envelope)
    assert verify_receipt(bundle(envelope))[0].ok is False


def test_a_bundle_has_one_spelling() -> None:
    good = bundle(sealed())
    assert parse_receipt(good).beef == b""
    for wrong in (good + b"\n", json.dumps(json.loads(good)).encode(), good.replace(b"/1", b"/2"), b"{}", b"[]", good[:-1]):
        with pytest.raises(RemoteProtocolError):
            parse_receipt(wrong)


def test_a_payment_that_is_not_shown_is_no_payment() -> None:
    paid = {"txid": "33" * 32, "vout": 0, "derivationPrefix": "", "derivationSuffix": ""}
    checks = {check.name: check.ok for check in verify_receipt(bundle(sealed(satoshis=5, payment=paid)))}
    assert checks == {"signature": True, "transaction": False, "payment": None, "lock": None}
    outside = {check.name: check.ok for check in verify_receipt(bundle(sealed(satoshis=5, method="external")))}
    assert outside == {"signature": True, "payment": None}
    idle = {check.name: check.ok for check in verify_receipt(bundle(sealed(), beef="00"))}
    assert idle["transaction"] is False
    with pytest.raises(LocalProtocolError):
        write_receipt(sealed(satoshis=5, payment=paid), b"", {})
