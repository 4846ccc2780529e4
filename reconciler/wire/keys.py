"""secp256k1 keys: BRC-42 derivation under BRC-43 names, ECDSA as Bitcoin uses it, and the text forms of keys.

Secrets are 32 bytes, public keys the 33-byte compressed form; nothing else is accepted. A message is signed
over its SHA-256, once. Signatures are DER with RFC 6979 nonces and low S, so equal input gives equal bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import re

import coincurve

from reconciler.model.errors import Invariant, LocalProtocolError, RemoteProtocolError

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# The longest Base58Check text we read: decoding takes quadratic time, and every form we know is far shorter.
_BASE58_LIMIT = 120
_PROTOCOL = re.compile(r"[a-z0-9]+( [a-z0-9]+)*")
# BRC-43: lengths of the two free parts of an invoice number, and the security levels.
_PROTOCOL_LENGTH = range(5, 401)
_KEY_ID_LENGTH = range(1, 801)
_LEVELS = (0, 1, 2)


def sha256(data: bytes) -> bytes:
    """SHA-256, once."""
    return hashlib.sha256(data).digest()


def sha256d(data: bytes) -> bytes:
    """SHA-256 of the SHA-256: the hash of transactions, headers and merkle nodes."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def hash160(data: bytes) -> bytes:
    """RIPEMD-160 of the SHA-256: what P2PKH scripts and addresses hold."""
    try:
        return hashlib.new("ripemd160", sha256(data), usedforsecurity=False).digest()
    except ValueError:
        hint = "use an OpenSSL 3.0.7 or newer, where it is part of the default provider"
        raise Invariant("no-ripemd160", "cannot compute RIPEMD-160: this OpenSSL does not offer it", hint=hint) from None


# --- pairs ---------------------------------------------------------------------------------------

# BRC-43 "anyone": the key pair whose secret everybody knows.
ANYONE_SECRET = (1).to_bytes(32, "big")
ANYONE: bytes = coincurve.PublicKey.from_valid_secret(ANYONE_SECRET).format(compressed=True)


def _point(public: bytes) -> coincurve.PublicKey:
    if len(public) == 33:
        try:
            return coincurve.PublicKey(bytes(public))
        except ValueError:
            pass
    raise RemoteProtocolError(
        f"cannot use {public.hex()[:80]} as a public key", code="bad-public-key", hint="33 bytes, compressed, on the curve"
    )


def _scalar(secret: bytes) -> bytes:
    if len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < _ORDER:
        raise LocalProtocolError(
            "bad-secret", "cannot use these bytes as a secret key", hint="32 bytes, not 0, below the curve order"
        )
    return bytes(secret)


def public_key(secret: bytes) -> bytes:
    """The public half of a secret."""
    return bytes(coincurve.PublicKey.from_valid_secret(_scalar(secret)).format(compressed=True))


def is_public_key(public: bytes) -> bool:
    """Whether the bytes are a compressed point of the curve."""
    try:
        _point(public)
    except RemoteProtocolError:
        return False
    return True


# --- BRC-42 and BRC-43 ---------------------------------------------------------------------------


def invoice(protocol: str, key_id: str, level: int = 2) -> str:
    """The BRC-43 invoice number `level-protocol-keyID`; the protocol name is trimmed and lower-cased first."""
    name = protocol.strip(" \t\r\n\f\v").lower()
    if level not in _LEVELS:
        raise LocalProtocolError("bad-invoice", f"cannot derive at security level {level}", hint="BRC-43 knows 0, 1 and 2")
    if len(name) not in _PROTOCOL_LENGTH or not _PROTOCOL.fullmatch(name) or name.endswith(" protocol"):
        hint = '5 to 400 of a-z, 0-9 and single spaces, not ending in " protocol"'
        raise LocalProtocolError("bad-invoice", f"cannot derive under the protocol name {protocol[:80]!r}", hint=hint)
    if len(key_id) not in _KEY_ID_LENGTH:
        raise LocalProtocolError("bad-invoice", f"cannot derive under a key ID of {len(key_id)} characters", hint="1 to 800")
    return f"{level}-{name}-{key_id}"


def _link(secret: bytes, counterparty: bytes, inv: str) -> bytes:
    """The BRC-42 scalar both sides can compute: HMAC of the invoice number under their shared point, modulo the order."""
    shared = _point(counterparty).multiply(_scalar(secret)).format(compressed=True)
    code = hmac.digest(shared, inv.encode(), "sha256")
    return (int.from_bytes(code, "big") % _ORDER).to_bytes(32, "big")


def child_secret(secret: bytes, counterparty: bytes, inv: str) -> bytes:
    """My child secret towards `counterparty`; its public half is what they compute with `child_public`."""
    child = (int.from_bytes(_link(secret, counterparty, inv), "big") + int.from_bytes(secret, "big")) % _ORDER
    return _scalar(child.to_bytes(32, "big"))


def child_public(counterparty: bytes, secret: bytes, inv: str) -> bytes:
    """The child public key of `counterparty` towards me, the holder of `secret`."""
    try:
        child = _point(counterparty).add(_link(secret, counterparty, inv))
    except ValueError:
        # The sum is the point at infinity: the counterparty is the negation of a hash of itself.
        raise RemoteProtocolError("cannot derive a child key: the sum is not a point", code="bad-public-key") from None
    return bytes(child.format(compressed=True))


def anyone_public(identity: bytes, inv: str) -> bytes:
    """The child key `identity` uses towards anyone: what makes a token checkable from the identity key alone."""
    return child_public(identity, ANYONE_SECRET, inv)


def symmetric_key(secret: bytes, counterparty: bytes, inv: str) -> bytes:
    """The 32-byte key both sides can compute (BRC-42): the x coordinate of the point their two child keys share."""
    child = child_secret(secret, counterparty, inv)
    return bytes(_point(child_public(counterparty, secret, inv)).multiply(child).format(compressed=True)[1:])


# --- ECDSA ---------------------------------------------------------------------------------------


def sign(secret: bytes, message: bytes) -> bytes:
    """DER signature over SHA-256(message)."""
    return sign_digest(secret, sha256(message))


def sign_digest(secret: bytes, digest: bytes) -> bytes:
    """DER signature over a 32-byte digest; at most 71 bytes, because S is low."""
    if len(digest) != 32:
        raise LocalProtocolError("bad-digest", f"cannot sign a digest of {len(digest)} bytes", hint="32 bytes")
    return bytes(coincurve.PrivateKey(_scalar(secret)).sign(bytes(digest), hasher=None))


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature over SHA-256(message) is good; False, never an error, for anything malformed."""
    return verify_digest(public, sha256(message), signature)


def verify_digest(public: bytes, digest: bytes, signature: bytes) -> bool:
    """Whether the DER signature over the digest is good: strict DER, low S, compressed key."""
    if len(digest) != 32 or len(public) != 33:
        return False
    try:
        return bool(coincurve.PublicKey(bytes(public)).verify(bytes(signature), bytes(digest), hasher=None))
    except ValueError:
        return False


# --- text forms ----------------------------------------------------------------------------------


def base58check_encode(payload: bytes) -> str:
    """Base58Check text of `payload`, which begins with its version bytes."""
    data = payload + sha256d(payload)[:4]
    number = int.from_bytes(data, "big")
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_BASE58[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(digits))


def base58check_decode(text: str) -> bytes:
    """The payload, version bytes included; RemoteProtocolError when the text or its checksum is wrong."""
    if len(text) > _BASE58_LIMIT:
        raise RemoteProtocolError(f"cannot read Base58Check text of {len(text)} characters", code="bad-base58")
    number = 0
    for character in text:
        digit = _BASE58.find(character)
        if digit < 0:
            raise RemoteProtocolError(
                f"cannot read {text!r} as Base58Check", code="bad-base58", hint="a letter is not in the alphabet"
            )
        number = number * 58 + digit
    zeros = len(text) - len(text.lstrip("1"))
    data = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    payload, checksum = data[:-4], data[-4:]
    if len(data) < 5 or sha256d(payload)[:4] != checksum:
        raise RemoteProtocolError(f"cannot read {text!r} as Base58Check", code="bad-base58", hint="the checksum does not match")
    return payload


def address(public: bytes, chain: str) -> str:
    """The P2PKH address of a key; `main` has its own version byte, every other chain that of the test network."""
    _point(public)
    return base58check_encode((b"\x00" if chain == "main" else b"\x6f") + hash160(public))


def wif_encode(secret: bytes, chain: str) -> str:
    """Wallet import format, compressed."""
    return base58check_encode((b"\x80" if chain == "main" else b"\xef") + _scalar(secret) + b"\x01")


def wif_decode(text: str) -> bytes:
    """The secret of a compressed WIF of any chain; the message of a failure does not repeat the text."""
    try:
        payload = base58check_decode(text.strip())
    except RemoteProtocolError:
        payload = b""
    if len(payload) != 34 or payload[:1] not in (b"\x80", b"\xef") or payload[33:] != b"\x01":
        raise RemoteProtocolError("cannot read a secret key from this text", code="bad-wif", hint="expected a compressed WIF")
    if not 0 < int.from_bytes(payload[1:33], "big") < _ORDER:
        raise RemoteProtocolError("cannot use this secret key: it is out of range", code="bad-wif")
    return payload[1:33]
