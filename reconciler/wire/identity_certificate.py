"""Identity certificates (BRC-52): what a certifier signed of a subject, read and verified, and the fields it shows a verifier.

Field values are ciphertexts. Whoever holds a certificate shows single fields to one verifier by a keyring: for each of them the
field's key, encrypted by the BRC-42 key that only subject and verifier share. Opening both takes AES-256-GCM, which is handed in.

A certificate is revoked when its revocation outpoint is spent; that is the chain's to say. TRAP: the signed fields are sorted by
name, in byte order by some implementations and as dictionaries sort by others; either is accepted.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reconciler.model.canonical import Json
from reconciler.model.errors import RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire.auth import Asked, parse_identity
from reconciler.wire.bytesio import varbytes, varint
from reconciler.wire.jsontext import Fields, is_hex
from reconciler.wire.keys import anyone_public, invoice, symmetric_key, verify

PROTOCOL = "certificate signature"
FIELD_PROTOCOL = "certificate field encryption"
MAX_FIELDS = 100
MAX_NAME = 50
_NEVER = "00" * 32

# The inverse: (key, plaintext) -> nonce, ciphertext and tag.
Sealing = Callable[[bytes, bytes], bytes]
# AES-256-GCM: (key, 32 bytes of nonce | ciphertext | 16 bytes of tag) -> plaintext; ValueError when it does not open.
Unseal = Callable[[bytes, bytes], bytes]


@dataclass(frozen=True, slots=True)
class Certificate:
    """The parts. `type` and `serial` are base64 of 32 bytes, field values and keyring base64 ciphertexts."""

    type: str
    serial: str
    subject: bytes
    certifier: bytes
    outpoint: Outpoint
    fields: Mapping[str, str]
    keyring: Mapping[str, str]
    signature: bytes

    @property
    def revocable(self) -> bool:
        """Whether there is an outpoint whose spending revokes it."""
        return self.outpoint.txid != _NEVER


def parse_certificate(value: Json) -> Certificate:
    """Read one and check its form; RemoteProtocolError. Nothing is believed yet: see `check`."""
    fields = Fields.of(value, "certificate")
    values, ring = _texts(fields, "fields"), _texts(fields, "keyring")
    for name in ring.keys() - values.keys():
        fields.fail("keyring", f"opens {name!r}, which is no field of it")
    signature = fields.text("signature")
    if not is_hex(signature) or not signature:
        fields.fail("signature", "must be hex")
    return Certificate(
        _octets32(fields, "type"),
        _octets32(fields, "serialNumber"),
        parse_identity(fields.text("subject")),
        parse_identity(fields.text("certifier")),
        _outpoint(fields),
        values,
        ring,
        bytes.fromhex(signature),
    )


def check(certificate: Certificate) -> None:
    """RemoteProtocolError unless its certifier signed it."""
    key = anyone_public(certificate.certifier, invoice(PROTOCOL, f"{certificate.type} {certificate.serial}"))
    names = certificate.fields
    orders = {tuple(sorted(names)), tuple(sorted(names, key=lambda name: (name.lower(), name.swapcase())))}
    if not any(verify(key, _signed(certificate, order), certificate.signature) for order in orders):
        raise RemoteProtocolError("cannot accept the certificate: its certifier did not sign it", code="bad-signature")


def shown(asked: Asked, peer: bytes, certificates: Sequence[Json]) -> tuple[Certificate, ...]:
    """The certificates a peer shows, each verified, about the peer, and asked for; RemoteProtocolError when there is none such.

    The keyring must open every field that was asked for.
    """
    found = tuple(parse_certificate(one) for one in certificates)
    for one in found:
        check(one)
        wanted = (asked.types or {}).get(one.type)
        if one.subject != peer:
            raise RemoteProtocolError("cannot accept the certificate: it is about somebody else", code="other-subject")
        if one.certifier.hex() not in asked.certifiers or wanted is None:
            raise RemoteProtocolError("cannot accept the certificate: it is not of a kind that was asked for", code="not-asked")
        if not set(wanted) <= one.keyring.keys():
            raise RemoteProtocolError("cannot accept the certificate: it hides a field that was asked for", code="hidden-field")
    if not found:
        raise RemoteProtocolError("cannot accept no certificate: one was asked for", code="no-certificate")
    return found


def revealed(certificate: Certificate, secret: bytes, unseal: Unseal) -> dict[str, str]:
    """The fields its keyring opens for the holder of `secret`, in the clear; RemoteProtocolError when one does not open."""
    out = {}
    for name, sealed in certificate.keyring.items():
        key = symmetric_key(secret, certificate.subject, invoice(FIELD_PROTOCOL, f"{certificate.serial} {name}"))
        try:
            field_key = unseal(key, base64.b64decode(sealed))
            out[name] = unseal(field_key, base64.b64decode(certificate.fields[name])).decode()
        except ValueError as fault:
            raise RemoteProtocolError(f"cannot open the field {name!r} of the certificate", code="sealed-field") from fault
    return out


def keyring_for(
    certificate: Certificate, master: Mapping[str, str], secret: bytes, verifier: bytes, names: Sequence[str], unseal: Unseal,
    seal: Sealing,
) -> dict[str, str]:  # fmt: skip
    """Keys that show these fields to one verifier. `master` is the subject's own keyring, as the certifier made it for `secret`.

    RemoteProtocolError when the keyring does not open, or lacks a field.
    """
    ring = {}
    for name in names:
        own = symmetric_key(secret, certificate.certifier, invoice(FIELD_PROTOCOL, name))
        theirs = symmetric_key(secret, verifier, invoice(FIELD_PROTOCOL, f"{certificate.serial} {name}"))
        try:
            field_key = unseal(own, base64.b64decode(master[name]))
        except (ValueError, KeyError) as fault:
            raise RemoteProtocolError(f"cannot show the field {name!r} of the certificate", code="sealed-field") from fault
        ring[name] = base64.b64encode(seal(theirs, field_key)).decode()
    return ring


def _signed(certificate: Certificate, names: Sequence[str]) -> bytes:
    """What the certifier signs."""
    head = base64.b64decode(certificate.type) + base64.b64decode(certificate.serial)
    head += certificate.subject + certificate.certifier
    head += bytes.fromhex(certificate.outpoint.txid) + varint(certificate.outpoint.vout)
    lines = [varbytes(name.encode()) + varbytes(certificate.fields[name].encode()) for name in names]
    return head + varint(len(lines)) + b"".join(lines)


def _texts(fields: Fields, member: str) -> dict[str, str]:
    """Names of at most 50 bytes, each with base64."""
    if fields.values.get(member) is None:
        return {}
    found = fields.object(member)
    if len(found.values) > MAX_FIELDS:
        fields.fail(member, f"has more than {MAX_FIELDS} entries")
    for name in found.values:
        found.base64(name)
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            size = 0
        if not 0 < size <= MAX_NAME:
            fields.fail(member, f"has a name that is not of 1 to {MAX_NAME} bytes")
    return {name: found.text(name) for name in found.values}


def _octets32(fields: Fields, member: str) -> str:
    if len(fields.base64(member)) != 32:
        fields.fail(member, "must be the base64 of 32 bytes")
    return fields.text(member)


def _outpoint(fields: Fields) -> Outpoint:
    txid, dot, vout = fields.text("revocationOutpoint").partition(".")
    if not is_hex(txid, 32) or not dot or not (vout.isascii() and vout.isdecimal()) or len(vout) > 10 or int(vout) > 2**32 - 1:
        fields.fail("revocationOutpoint", "must be txid.vout")
    return Outpoint(txid, int(vout))
