"""Signed messages (BRC-77): `42423301 | signer 33 | 00 or verifier 33 | key ID 32 | DER`.

The message itself is not inside. The form without a verifier can be checked by anyone, and is the one we write: it outlives
both sides. Signatures are over SHA-256 of the message, by the child key of protocol "message signing" and the base64 key ID.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire.bytesio import Reader
from reconciler.wire.keys import (
    ANYONE,
    ANYONE_SECRET,
    child_public,
    child_secret,
    invoice,
    is_public_key,
    public_key,
    sha256,
    sign,
    verify,
)

VERSION = bytes.fromhex("42423301")
PROTOCOL = "message signing"
KEY_ID_SIZE = 32


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """The parts of a signature; `verifier` is None when anyone may check it."""

    signer: bytes
    verifier: bytes | None
    key_id: bytes
    signature: bytes


def key_id_for(signer: bytes, message: bytes) -> bytes:
    """The key ID we use: fixed by signer and message, so that signing again gives the same bytes. BRC-77 lets it be any 32."""
    return sha256(b"reconciler attest" + signer + sha256(message))


def sign_message(secret: bytes, message: bytes, key_id: bytes) -> bytes:
    """A signature anyone may verify; equal arguments give equal bytes (RFC 6979 nonces)."""
    if len(key_id) != KEY_ID_SIZE:
        raise LocalProtocolError("key-id", f"cannot sign with a key ID of {len(key_id)} bytes", hint="32 bytes")
    child = child_secret(secret, ANYONE, _invoice(key_id))
    return write_message(public_key(secret), key_id, sign(child, message))


def write_message(signer: bytes, key_id: bytes, signature: bytes) -> bytes:
    """The parts of a signature that anyone may verify, put together."""
    return VERSION + signer + b"\x00" + key_id + signature


def parse_message(signature: bytes) -> SignedMessage:
    """Take a signature apart, checking its layout and its keys but not the signature."""
    reader = Reader(signature, "BRC-77 signature")
    if reader.take(4) != VERSION:
        raise RemoteProtocolError("cannot read a BRC-77 signature: another version, or none")
    signer, head = reader.take(33), reader.take(1)
    verifier = None if head == b"\x00" else head + reader.take(32)
    found = SignedMessage(signer, verifier, reader.take(KEY_ID_SIZE), reader.take(reader.left))
    if not is_public_key(signer) or (verifier is not None and not is_public_key(verifier)):
        raise RemoteProtocolError("cannot read a BRC-77 signature: a key is not on the curve")
    return found


def verify_message(signature: bytes, message: bytes, verifier_secret: bytes | None = None) -> bytes:
    """The signer's identity key; RemoteProtocolError when the signature is not theirs over `message`.

    A signature made for one verifier needs that verifier's secret.
    """
    found = parse_message(signature)
    reader = None if verifier_secret is None else public_key(verifier_secret)
    if found.verifier != reader:
        raise RemoteProtocolError("cannot verify a BRC-77 signature made for somebody else")
    child = child_public(found.signer, verifier_secret or ANYONE_SECRET, _invoice(found.key_id))
    if not verify(child, message, found.signature):
        raise RemoteProtocolError("cannot accept a BRC-77 signature: it does not match the message", code="bad-signature")
    return found.signer


def name_of(key_id: bytes) -> str:
    """The key ID of BRC-43 that the 32 bytes stand for."""
    return base64.b64encode(key_id).decode()


def _invoice(key_id: bytes) -> str:
    return invoice(PROTOCOL, name_of(key_id))
