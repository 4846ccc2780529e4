"""UHRP (BRC-26): content addressed by its SHA-256, and the tokens by which hosts promise to serve it.

A URL is Base58Check(ce00 || hash), 52 characters that begin with XU. Lookup services index the bare form and match it
literally, so `uhrp_url` never adds a scheme; `parse_uhrp` takes all three spellings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.model.canonical import Json
from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire import token
from reconciler.wire.bytesio import Reader, varint
from reconciler.wire.jsontext import MAX_SAFE, is_hex
from reconciler.wire.keys import base58check_decode, base58check_encode, is_public_key
from reconciler.wire.names import plain_url

PREFIX = b"\xce\x00"
PROTOCOL, KEY_ID = "uhrp advertisement", "1"
TOPIC, SERVICE = "tm_uhrp", "ls_uhrp"


def uhrp_url(sha256: str) -> str:
    """The bare URL of content with this SHA-256 (64 lower-case hex digits)."""
    if not is_hex(sha256, 32):
        raise LocalProtocolError("uhrp-hash", f"cannot make a UHRP URL of {sha256[:80]!r}", hint="SHA-256 in lower-case hex")
    return base58check_encode(PREFIX + bytes.fromhex(sha256))


def parse_uhrp(text: str) -> str:
    """The SHA-256 hex a UHRP URL names; `uhrp:` and `uhrp://` in any case may precede it, the rest is case-sensitive."""
    bare = text
    for scheme in ("uhrp://", "uhrp:"):
        if text.lower().startswith(scheme):
            bare = text[len(scheme) :]
            break
    payload = base58check_decode(bare)
    if payload[:2] != PREFIX or len(payload) != 34:
        raise RemoteProtocolError(f"cannot read {text[:80]!r} as a UHRP URL", hint="it looks like XUT6PqWb3G...")
    return payload[2:].hex()


@dataclass(frozen=True, slots=True)
class UhrpToken:
    """A host's promise: `identity` serves the content at `url` until `expires` (unix seconds); `size` in bytes."""

    identity: bytes
    sha256: str
    url: str
    expires: int
    size: int


def lock() -> tuple[str, str]:
    """The protocol and key ID that lock the token, at level 2 with counterparty anyone."""
    return PROTOCOL, KEY_ID


def fault(promise: UhrpToken) -> str | None:
    """Why nodes would not admit the token (signature aside), or None."""
    if not is_public_key(promise.identity):
        return "the identity is not a compressed public key"
    if not is_hex(promise.sha256, 32):
        return "the hash is not a SHA-256"
    if not plain_url(promise.url, "https"):
        return "the download URL must be https"
    if not 1 <= promise.expires <= MAX_SAFE or not 1 <= promise.size <= MAX_SAFE:
        return "expiry and size must be at least 1"
    return None


def fields(promise: UhrpToken) -> tuple[bytes, ...]:
    """The five fields to be signed and locked; LocalProtocolError when no node would admit them (16-byte content included)."""
    if why := fault(promise):
        raise LocalProtocolError("uhrp-token", f"cannot advertise content: {why}")
    raw = (promise.identity, bytes.fromhex(promise.sha256), promise.url.encode(), varint(promise.expires), varint(promise.size))
    return token.checked(raw, "a UHRP token")


def parse_uhrp_token(script: bytes) -> UhrpToken:
    """The promise in a locking script; RemoteProtocolError unless a node would admit it. Expired ones parse too."""
    what = "a UHRP token"
    opened = token.open_token(script, what, 5)
    identity, content, url, expires, size = opened.fields
    promise = UhrpToken(identity, content.hex(), token.utf8(url, what), _number(expires), _number(size))
    if why := fault(promise):
        raise RemoteProtocolError(f"cannot admit a UHRP token: {why}")
    token.require_link(opened, what, identity, *lock())
    return promise


def query(*, sha256: str = "", host: bytes | None = None, outpoint: str = "") -> Mapping[str, Json]:
    """The `ls_uhrp` query; other keys would make it match nothing, and an empty one is refused."""
    if outpoint:
        return {"outpoint": outpoint}
    out: dict[str, Json] = {}
    if sha256:
        out["uhrpUrl"] = uhrp_url(sha256)
    if host is not None:
        out["hostIdentityKey"] = host.hex()
    if not out:
        raise LocalProtocolError("uhrp-query", "cannot ask ls_uhrp for everything", hint="name content, host or outpoint")
    return out


def _number(field: bytes) -> int:
    reader = Reader(field, "UHRP token number")
    value = reader.varint()
    reader.done()
    return value
