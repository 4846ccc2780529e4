"""Tokens whose owner anyone can check: PushDrop (BRC-48) locked to a BRC-42 child key towards "anyone".

Field and key are linked twice. The identity key stands in a field; the lock is the child that this identity derives for
the token's protocol and key ID; and that child signed the fields. With counterparty "anyone" all of it is recomputed from
the identity key alone, which is what overlay nodes do before they admit a token.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire.keys import anyone_public, invoice, is_public_key, verify
from reconciler.wire.script import PushDrop, decode_pushdrop

# What every token of ours holds; nodes check no value.
TOKEN_SATOSHIS = 1


def link_ok(identity: bytes, protocol: str, key_id: str, fields: Sequence[bytes], signature: bytes, locking_key: bytes) -> bool:
    """Whether `identity` locked and signed these fields; the key derives at level 2 for anyone, the signature is over the
    fields joined without lengths.
    """
    if not is_public_key(identity):
        return False
    expected = anyone_public(identity, invoice(protocol, key_id))
    return expected == locking_key and verify(expected, b"".join(fields), signature)


def open_token(script: bytes, what: str, count: int) -> PushDrop:
    """The token in a locking script, with exactly `count` fields besides the signature; `what` names it in errors."""
    token = decode_pushdrop(script)
    if len(token.fields) != count:
        raise RemoteProtocolError(f"cannot read {what}: {len(token.fields) + 1} items where {count + 1} belong")
    if any(map(fragile, token.fields)):
        raise RemoteProtocolError(f"cannot read {what}: a field holds the single byte 10, which deployed nodes misread")
    return token


def require_link(token: PushDrop, what: str, identity: bytes, protocol: str, key_id: str) -> None:
    """RemoteProtocolError unless `link_ok` holds for the token."""
    if not link_ok(identity, protocol, key_id, token.fields, token.signature, token.key):
        raise RemoteProtocolError(
            f"cannot trust {what}: its key and signature do not belong to the identity it names",
            code="token-link",
            hint="tokens are locked and signed with counterparty 'anyone'; 'self' is not checkable by others",
        )


def checked(fields: tuple[bytes, ...], what: str) -> tuple[bytes, ...]:
    """The fields, when every deployed decoder reads them back; LocalProtocolError otherwise."""
    if any(not field or fragile(field) for field in fields):
        raise LocalProtocolError("token-field", f"cannot write {what}: a field is empty or the single byte 10, and would be lost")
    return fields


def fragile(field: bytes) -> bool:
    """Whether the reference decoder loses the field: OP_16 comes back empty there."""
    return field == b"\x10"


def utf8(field: bytes, what: str) -> str:
    """Text of a field; RemoteProtocolError when it is not UTF-8."""
    try:
        return field.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise RemoteProtocolError(f"cannot read {what}: not UTF-8") from fault
