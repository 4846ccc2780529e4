"""Authrite (BRC-31), the predecessor of BRC-103/104: messages and signatures, for verifying clients that still speak it.

It proves who sent a message, once, and little else: method, path and headers are bound by nothing, so whoever sits between two
parties may turn a signed body into another request. TRAP: the key of a general message is named by the receiver's session nonce
and then the sender's message nonce, which is the reverse of BRC-103.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.model.canonical import Json
from reconciler.model.errors import RemoteProtocolError
from reconciler.wire import jsontext
from reconciler.wire.auth import parse_identity, parse_nonce
from reconciler.wire.keys import child_public, child_secret, invoice, sign, verify

VERSION = "0.1"
PATH = "/authrite/initialRequest"
PROTOCOL = "authrite message signature"
PREFIX = "x-authrite"
MAX_HELLO = 64 * 1024


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of a client: its identity key and its session nonce."""

    identity: bytes
    nonce: str


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the headers of a message say. `your_nonce` is the receiver's session nonce, `nonce` fresh."""

    identity: bytes
    nonce: str
    your_nonce: str
    signature: bytes

    def headers(self) -> dict[str, str]:
        """As they are written."""
        return {
            PREFIX: VERSION,
            f"{PREFIX}-identity-key": self.identity.hex(),
            f"{PREFIX}-nonce": self.nonce,
            f"{PREFIX}-yournonce": self.your_nonce,
            f"{PREFIX}-certificates": "[]",
            f"{PREFIX}-signature": self.signature.hex(),
        }


def signed(secret: bytes, peer: bytes, first: str, second: str, data: bytes) -> bytes:
    """A DER signature for `peer`, under the key that two nonces name in this order."""
    return sign(child_secret(secret, peer, invoice(PROTOCOL, f"{first} {second}")), data)


def holds(secret: bytes, peer: bytes, first: str, second: str, data: bytes, signature: bytes) -> bool:
    """Whether `peer` signed this for us."""
    return verify(child_public(peer, secret, invoice(PROTOCOL, f"{first} {second}")), data, signature)


def parse_hello(body: bytes) -> Hello:
    """An initialRequest; RemoteProtocolError when it is none."""
    if len(body) > MAX_HELLO:
        raise RemoteProtocolError("cannot read an Authrite message: it is too large", code="too-large")
    fields = jsontext.Fields.parse(body, "Authrite message")
    if fields.text("authrite") != VERSION or fields.text("messageType") != "initialRequest":
        raise RemoteProtocolError("cannot read an Authrite message: it is no initialRequest of version 0.1")
    return Hello(parse_identity(fields.text("identityKey")), parse_nonce(fields.text("nonce")))


def welcome(secret: bytes, identity: bytes, hello: Hello, nonce: str) -> dict[str, Json]:
    """The initialResponse: our session nonce, and a signature over both."""
    data = base64.b64decode(hello.nonce) + base64.b64decode(nonce)
    return {
        "authrite": VERSION,
        "messageType": "initialResponse",
        "identityKey": identity.hex(),
        "nonce": nonce,
        "certificates": [],
        "signature": signed(secret, hello.identity, hello.nonce, nonce, data).hex(),
    }


def parse_stamp(headers: Mapping[str, str]) -> Stamp | None:
    """The stamp of a message, by lower-case header names; None when it has none, RemoteProtocolError when it is broken."""
    if PREFIX not in headers:
        return None
    names = ("identity-key", "nonce", "yournonce", "signature")
    identity, nonce, your_nonce, signature = (headers.get(f"{PREFIX}-{name}", "") for name in names)
    if headers[PREFIX] != VERSION or not jsontext.is_hex(signature) or not signature:
        raise RemoteProtocolError("cannot read an Authrite message: its headers are not those of version 0.1")
    return Stamp(parse_identity(identity), parse_nonce(nonce), parse_nonce(your_nonce), bytes.fromhex(signature))
