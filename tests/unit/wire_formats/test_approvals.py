"""Approvals as files: whoever changes a byte has a file that is none."""

import json
from dataclasses import replace

import pytest

from reconciler.model.approval import Approval
from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire.approval import FORMAT, MAX_BYTES, message, read_approval, write_approval
from reconciler.wire.document import seal, signed_bytes
from reconciler.wire.keys import public_key
from reconciler.wire.message import key_id_for, sign_message

SECRET = bytes.fromhex("11" * 32)
ONE = Approval(
    "pl_0123456789", "ab" * 32, public_key(SECRET).hex(), ("deletes", "spend-day"), "ann", "2026-01-31T12:00:00Z", "ok"
)


def signed(approval: Approval) -> bytes:
    words = message(approval)
    return sign_message(SECRET, words, key_id_for(public_key(SECRET), words))


def test_what_is_written_is_read() -> None:
    data = write_approval(ONE, signed(ONE))
    assert read_approval(data) == ONE
    assert write_approval(ONE, signed(ONE)) == data
    assert json.loads(data)["document"]["format"] == FORMAT


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"pl_0123456789", b"pl_0123456780"),
        (b"deletes", b"changes"),
        (b"abab", b"acab"),
        (b'"ok"', b'"no"'),
        (b"BRC-77", b"BRC-78"),
    ],
)
def test_an_altered_byte_is_noticed(before: bytes, after: bytes) -> None:
    data = write_approval(ONE, signed(ONE))
    assert before in data
    with pytest.raises(RemoteProtocolError):
        read_approval(data.replace(before, after, 1))


def test_a_signature_over_something_else_makes_no_approval() -> None:
    with pytest.raises(LocalProtocolError, match="the signature is not over it"):
        write_approval(ONE, signed(replace(ONE, reason="another")))


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"format": "something/1"}, "is not part|must be"),
        ({"guards": "deletes"}, "guards must be an array"),
        ({"guards": [3]}, "guards must hold strings only"),
        ({"guards": ["x"] * 300}, "more than 256"),
        ({"sha256": "AB" * 32}, "sha256 must be lower-case hex"),
        ({"extra": 1}, "extra is not part of the format"),
    ],
)
def test_what_was_signed_must_be_an_approval(document: dict[str, object], fault: str) -> None:
    whole = {**json.loads(message(ONE)), **document}
    words = signed_bytes(whole)
    data = seal(whole, ONE.key, sign_message(SECRET, words, key_id_for(public_key(SECRET), words)))
    with pytest.raises(RemoteProtocolError, match=fault):
        read_approval(data)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"document": 1, "signature": 2}', b"x" * (MAX_BYTES + 1)])
def test_anything_else_is_none(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_approval(data)
