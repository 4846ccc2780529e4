"""Mutual authentication between two identity keys (BRC-103, message version 0.1): messages, nonces and their signatures.

Theory of operation. Each side makes one session nonce: the asker's travels in `initialRequest`, the answerer's in
`initialResponse`, which is signed over both. From then on every message carries a fresh nonce of its own and the receiver's
session nonce, and is signed by a BRC-42 child key that only these two can derive, named by both nonces. So a signature
speaks for one sender, to one receiver, within one session, once per fresh nonce. Whether a fresh nonce was seen before is not
in the messages: who serves must remember it.

A session nonce is 48 bytes on purpose: implementations decode the *concatenated* base64 texts of two nonces, which equals the
two byte strings only where no padding stands between them.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace

from reconciler.model.canonical import Json
from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire import jsontext
from reconciler.wire.keys import child_public, child_secret, invoice, is_public_key, public_key, sign, symmetric_key, verify

VERSION = "0.1"
# Where messages other than general ones are posted (BRC-104).
PATH = "/.well-known/auth"
PROTOCOL = "auth message signature"
NONCE_PROTOCOL = "server hmac"
# Random bytes of a session nonce; the MAC over them follows. Of a message nonce: all of it.
SEED_SIZE = 16
FRESH_SIZE = 32
_MAC_SIZE = 32
# A key ID holds two nonces and has 800 characters (BRC-43); real ones have 44 or 64.
_NONCE_LENGTH = range(4, 257)
# Certificates come in the body of a message; a dozen of them with keyrings are well below this.
MAX_MESSAGE = 256 * 1024

# What each kind of message must carry, beside its version and the sender's key.
_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "initialRequest": ("initialNonce",),
    "initialResponse": ("initialNonce", "yourNonce", "signature"),
    "certificateRequest": ("nonce", "yourNonce", "requestedCertificates", "signature"),
    "certificateResponse": ("nonce", "yourNonce", "certificates", "signature"),
    "general": ("nonce", "yourNonce", "payload", "signature"),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """Which certificates a side wants: any of `certifiers` (hex33), and by type (base64) the names of the fields to reveal."""

    certifiers: tuple[str, ...] = ()
    types: Mapping[str, tuple[str, ...]] | None = None

    def __bool__(self) -> bool:
        return bool(self.certifiers)

    def json(self) -> dict[str, Json]:
        """As it is written, and signed."""
        types = {name: list(fields) for name, fields in (self.types or {}).items()}
        return {"certifiers": list(self.certifiers), "types": types}


@dataclass(frozen=True, slots=True)
class Message:
    """One message. Nonces are base64 texts, empty where the kind has none; `asked` and `certificates` are kept as they came,
    because their signatures are over exactly that JSON.
    """

    kind: str
    identity: bytes
    initial_nonce: str = ""
    nonce: str = ""
    your_nonce: str = ""
    asked: Json = None
    certificates: Json = None
    payload: bytes = b""
    signature: bytes = b""


# --- nonces ---------------------------------------------------------------------------------------


def make_nonce(secret: bytes, seed: bytes) -> str:
    """A session nonce that its maker recognises without having kept it: 16 random bytes and a MAC over them, as base64."""
    if len(seed) != SEED_SIZE:
        raise LocalProtocolError("bad-seed", f"cannot make a nonce of {len(seed)} random bytes", hint=f"{SEED_SIZE}")
    return base64.b64encode(seed + _mac(secret, seed)).decode()


def is_own_nonce(secret: bytes, nonce: str) -> bool:
    """Whether the holder of `secret` made this nonce; False, never an error, for anything else."""
    try:
        raw = base64.b64decode(nonce, validate=True)
    except (binascii.Error, ValueError):
        return False
    own = len(raw) == SEED_SIZE + _MAC_SIZE and hmac.compare_digest(raw[SEED_SIZE:], _mac(secret, raw[:SEED_SIZE]))
    # One nonce has one spelling, or it could be shown twice as two.
    return own and base64.b64encode(raw).decode() == nonce


def fresh_nonce(seed: bytes) -> str:
    """The nonce of one message, from 32 random bytes."""
    if len(seed) != FRESH_SIZE:
        raise LocalProtocolError("bad-seed", f"cannot make a nonce of {len(seed)} random bytes", hint=f"{FRESH_SIZE}")
    return base64.b64encode(seed).decode()


def _mac(secret: bytes, seed: bytes) -> bytes:
    # The reference names the key by these bytes read as UTF-8, losses included, and strips leading zeros of the key.
    name = seed.decode("utf-8", "replace")
    key = symmetric_key(secret, public_key(secret), invoice(NONCE_PROTOCOL, name))
    return hmac.digest(key.lstrip(b"\0"), seed, "sha256")


# --- signatures -----------------------------------------------------------------------------------


def sign_for(secret: bytes, counterparty: bytes, nonce: str, your_nonce: str, content: bytes) -> bytes:
    """A DER signature that only `counterparty` can check, bound to the fresh `nonce` and to their session's nonce."""
    return sign(child_secret(secret, counterparty, invoice(PROTOCOL, f"{nonce} {your_nonce}")), content)


def is_from(secret: bytes, sender: bytes, nonce: str, your_nonce: str, content: bytes, signature: bytes) -> bool:
    """Whether `sender` signed this for us; the key must be a point of the curve (a parsed message's is)."""
    return verify(child_public(sender, secret, invoice(PROTOCOL, f"{nonce} {your_nonce}")), content, signature)


def seal(message: Message, secret: bytes, counterparty: bytes) -> Message:
    """The message with its signature; LocalProtocolError for an initialRequest, which has none."""
    nonce, your_nonce, content = _signed(message)
    return replace(message, signature=sign_for(secret, counterparty, nonce, your_nonce, content))


def check(message: Message, secret: bytes) -> None:
    """RemoteProtocolError unless the message is signed by its sender for us. Whose session it names is the caller's to check."""
    nonce, your_nonce, content = _signed(message)
    if not is_from(secret, message.identity, nonce, your_nonce, content, message.signature):
        raise _fault("its signature is not that of its sender", code="bad-signature")


def _signed(message: Message) -> tuple[str, str, bytes]:
    """The two nonces that name the key, and what is signed."""
    if message.kind == "initialResponse":
        both = _octets(message.your_nonce) + _octets(message.initial_nonce)
        return message.your_nonce, message.initial_nonce, both
    if message.kind == "initialRequest":
        raise LocalProtocolError("not-signed", "cannot sign an initialRequest", hint="there is nobody yet to sign it for")
    if message.kind == "general":
        return message.nonce, message.your_nonce, message.payload
    said = message.asked if message.kind == "certificateRequest" else message.certificates
    return message.nonce, message.your_nonce, jsontext.compact(said)


# --- bytes ----------------------------------------------------------------------------------------


def write_message(message: Message) -> bytes:
    """The JSON of a message, members in the order the reference writes them."""
    out: dict[str, Json] = {"version": VERSION, "messageType": message.kind, "identityKey": message.identity.hex()}
    texts = {"nonce": message.nonce, "initialNonce": message.initial_nonce, "yourNonce": message.your_nonce}
    out |= {name: text for name, text in texts.items() if text}
    if message.certificates is not None:
        out["certificates"] = message.certificates
    if message.asked is not None:
        out["requestedCertificates"] = message.asked
    if message.kind == "general":
        out["payload"] = list(message.payload)
    if message.signature:
        out["signature"] = list(message.signature)
    return jsontext.compact(out)


def parse_message(body: bytes) -> Message:
    """Read a message and check its form; RemoteProtocolError. Nothing is believed yet: see `check`."""
    if len(body) > MAX_MESSAGE:
        raise _fault(f"it has {len(body)} bytes", code="too-large")
    fields = jsontext.Fields.parse(body, "auth message")
    if fields.text("version") != VERSION:
        raise _fault(f"it has version {fields.text('version')[:20]!r}, not {VERSION}", code="auth-version")
    kind = fields.text("messageType")
    if kind not in _REQUIRED:
        raise _fault(f"it is a {kind[:40]!r}")
    for name in _REQUIRED[kind]:
        if fields.values.get(name) is None:
            fields.fail(name, "is missing")
    wanted = "requestedCertificates"
    asked, certificates = fields.values.get(wanted), fields.values.get("certificates")
    if asked is not None:
        parse_asked(asked)
    if certificates is not None:
        fields.objects("certificates")
    message = Message(
        kind,
        parse_identity(fields.text("identityKey")),
        _nonce(fields, "initialNonce"),
        _nonce(fields, "nonce"),
        _nonce(fields, "yourNonce"),
        asked,
        certificates,
        fields.octets("payload", b""),
        fields.octets("signature", b""),
    )
    try:
        # What is signed must be what JavaScript would print for it; text it could not hold has no such form.
        jsontext.compact([asked, certificates])
    except (ValueError, RecursionError) as fault:
        raise _fault("it holds text that is not Unicode, or nests too deeply") from fault
    return message


def parse_asked(value: Json) -> Asked:
    """Which certificates a peer wants; RemoteProtocolError when it does not say so in the common form."""
    fields = jsontext.Fields.of(value, "requestedCertificates")
    types = fields.object("types") if fields.values.get("types") is not None else jsontext.Fields("types", {})
    names = {name: types.strings(name) for name in types.values}
    return Asked(fields.strings("certifiers", ()), names)


def parse_identity(text: str) -> bytes:
    """An identity key from hex33; RemoteProtocolError when it is no compressed key on the curve."""
    key = bytes.fromhex(text) if jsontext.is_hex(text, 33) else b""
    if not is_public_key(key):
        raise RemoteProtocolError(f"cannot use {text[:80]!r} as an identity key", code="bad-public-key", hint="hex, 33 bytes")
    return key


def parse_nonce(text: str) -> str:
    """The text, when it is the base64 of a plausible nonce; RemoteProtocolError otherwise."""
    if len(text) not in _NONCE_LENGTH or not text.isascii():
        raise _fault(f"a nonce has {len(text)} characters")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _fault("a nonce is not base64") from None
    if base64.b64encode(raw).decode() != text:
        raise _fault("a nonce is base64 with stray bits")
    return text


def _nonce(fields: jsontext.Fields, name: str) -> str:
    return parse_nonce(fields.text(name)) if fields.values.get(name) is not None else ""


def _octets(nonce: str) -> bytes:
    return base64.b64decode(nonce)


def _fault(detail: str, code: str = "bad-auth-message") -> RemoteProtocolError:
    return RemoteProtocolError(f"cannot accept the auth message: {detail}", code=code)
