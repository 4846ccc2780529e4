"""Sealed documents: JSON with its author's signature, whose bytes have one spelling and therefore one hash.

    {"document": {...}, "signature": {"scheme": "BRC-77", "signer": hex33, "value": base64}}

The signature is over the canonical JSON (RFC 8785, no floats) of `document`; the bytes of the envelope are the canonical
JSON of the whole. A descriptor token carries the SHA-256 of those bytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

from reconciler.model.canonical import Json, canonical
from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire.jsontext import Fields
from reconciler.wire.message import verify_message

SCHEME = "BRC-77"
# Documents are terms and lists of files; anything larger is content and belongs behind a hash of its own.
MAX_ENVELOPE = 16 * 1024 * 1024


def signed_bytes(document: Mapping[str, Json]) -> bytes:
    """What the author signs."""
    try:
        return canonical(document)
    except (TypeError, ValueError, RecursionError) as fault:  # ValueError: a lone surrogate, or too many digits
        raise LocalProtocolError("document", "cannot sign the document: it has no canonical form") from fault


def seal(document: Mapping[str, Json], signer: str, signature: bytes) -> bytes:
    """The envelope's bytes; LocalProtocolError when `signature` is not `signer`'s (hex33) over the document."""
    message = signed_bytes(document)
    try:
        actual = verify_message(signature, message).hex()
    except RemoteProtocolError as fault:
        raise LocalProtocolError("document", "cannot seal the document: the signature is not over it") from fault
    if actual != signer:
        raise LocalProtocolError("document", f"cannot seal the document: {actual} signed it, not {signer}")
    return _envelope(document, signer, signature)


def open_envelope(data: bytes) -> tuple[Mapping[str, Json], str]:
    """The document and its signer (hex33); RemoteProtocolError unless form, spelling and signature are right."""
    if len(data) > MAX_ENVELOPE:
        raise RemoteProtocolError(f"cannot read a sealed document of {len(data)} bytes", hint=f"at most {MAX_ENVELOPE}")
    outer = Fields.parse(data, "sealed document").exactly("document", "signature")
    document = outer.object("document").values
    mark = outer.object("signature").exactly("scheme", "signer", "value")
    if mark.text("scheme") != SCHEME:
        mark.fail("scheme", f"must be {SCHEME}")
    signer, signature = mark.hex("signer", 33), mark.base64("value")
    try:
        message, spelled = canonical(document), _envelope(document, signer, signature)
    except (TypeError, ValueError, RecursionError) as fault:
        raise RemoteProtocolError("cannot read a sealed document: it has no canonical form") from fault
    if spelled != data:
        raise RemoteProtocolError("cannot read a sealed document: its bytes are not canonical JSON")
    if verify_message(signature, message).hex() != signer:
        raise RemoteProtocolError("cannot accept a sealed document: another key signed it", code="bad-signature")
    return document, signer


def digest_of(envelope: bytes) -> str:
    """SHA-256 hex of the envelope: the digest a descriptor token carries."""
    return hashlib.sha256(envelope).hexdigest()


def _envelope(document: Mapping[str, Json], signer: str, signature: bytes) -> bytes:
    mark = {"scheme": SCHEME, "signer": signer, "value": base64.b64encode(signature).decode()}
    return canonical({"document": document, "signature": mark})
