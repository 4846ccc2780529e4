"""Locking and unlocking scripts: P2PKH, PushDrop (BRC-48, lock first) and unspendable data.

Pushes are always minimal. One thing cannot be told apart on the wire: an empty item and a single zero byte
are both OP_0; reading gives one zero byte, as the reference decoder does, so fields are never empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire.bytesio import Reader
from reconciler.wire.keys import hash160, is_public_key

OP_0, OP_PUSHDATA1, OP_PUSHDATA2, OP_PUSHDATA4, OP_1NEGATE, OP_1, OP_16 = 0x00, 0x4C, 0x4D, 0x4E, 0x4F, 0x51, 0x60
OP_RETURN, OP_2DROP, OP_DROP, OP_DUP, OP_EQUALVERIFY, OP_HASH160, OP_CHECKSIG = 0x6A, 0x6D, 0x75, 0x76, 0x88, 0xA9, 0xAC

_P2PKH_HEAD = bytes([OP_DUP, OP_HASH160, 20])
_P2PKH_TAIL = bytes([OP_EQUALVERIFY, OP_CHECKSIG])


def push(data: bytes) -> bytes:
    """The minimal script that pushes `data`."""
    length = len(data)
    if length == 1 and 1 <= data[0] <= 16:
        return bytes([OP_1 - 1 + data[0]])
    if data in (b"", b"\x00"):
        return bytes([OP_0])
    if data == b"\x81":
        return bytes([OP_1NEGATE])
    if length < OP_PUSHDATA1:
        return bytes([length]) + data
    if length <= 0xFF:
        return bytes([OP_PUSHDATA1, length]) + data
    if length <= 0xFFFF:
        return bytes([OP_PUSHDATA2]) + length.to_bytes(2, "little") + data
    return bytes([OP_PUSHDATA4]) + length.to_bytes(4, "little") + data


def chunks(script: bytes) -> Iterator[tuple[int, bytes | None]]:
    """Every opcode in order, with the item it pushes, or None when it is not a push."""
    reader = Reader(script, "script")
    while reader.left:
        opcode = reader.u8()
        if opcode == OP_0:
            yield opcode, b"\x00"
        elif opcode < OP_PUSHDATA1:
            yield opcode, reader.take(opcode)
        elif opcode <= OP_PUSHDATA4:
            width = 1 << (opcode - OP_PUSHDATA1)
            yield opcode, reader.take(int.from_bytes(reader.take(width), "little"))
        elif opcode == OP_1NEGATE:
            yield opcode, b"\x81"
        elif OP_1 <= opcode <= OP_16:
            yield opcode, bytes([opcode - OP_1 + 1])
        else:
            yield opcode, None


def pushes(script: bytes) -> tuple[bytes, ...]:
    """The items of a script that only pushes; RemoteProtocolError when it does anything else."""
    items = []
    for opcode, item in chunks(script):
        if item is None:
            raise RemoteProtocolError(f"cannot read the script: opcode {opcode:#04x} is not a push", code="bad-script")
        items.append(item)
    return tuple(items)


# --- P2PKH ---------------------------------------------------------------------------------------


def p2pkh(public: bytes) -> bytes:
    """Pay to the hash of this public key."""
    return p2pkh_hash(hash160(public))


def p2pkh_hash(key_hash: bytes) -> bytes:
    """Pay to this 20-byte key hash."""
    if len(key_hash) != 20:
        raise LocalProtocolError("bad-key-hash", f"cannot lock to a hash of {len(key_hash)} bytes", hint="hash160 gives 20")
    return _P2PKH_HEAD + key_hash + _P2PKH_TAIL


def is_p2pkh(script: bytes) -> bool:
    """Whether the script is exactly pay-to-public-key-hash."""
    return len(script) == 25 and script.startswith(_P2PKH_HEAD) and script.endswith(_P2PKH_TAIL)


def unlock_p2pkh(signature: bytes, public: bytes) -> bytes:
    """The unlocking script; `signature` ends with its sighash byte."""
    return push(signature) + push(public)


# --- PushDrop ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PushDrop:
    """A token: the key that may spend it, its fields, and that key's signature over their concatenation."""

    key: bytes
    fields: tuple[bytes, ...]
    signature: bytes

    @property
    def signed(self) -> bytes:
        """What the signature is made over: the fields joined without lengths."""
        return b"".join(self.fields)


def _drops(count: int) -> bytes:
    return bytes([OP_2DROP]) * (count // 2) + bytes([OP_DROP]) * (count % 2)


def pushdrop(fields: Sequence[bytes], public: bytes, signature: bytes) -> bytes:
    """The locking script `key OP_CHECKSIG field... signature drops`."""
    if not fields or not all(fields) or not signature:
        raise LocalProtocolError("bad-token", "cannot write a token with an empty field", hint="an empty field reads back as 00")
    if not is_public_key(public):
        raise LocalProtocolError("bad-token", "cannot lock a token to bytes that are no compressed public key")
    items = [*fields, signature]
    return push(public) + bytes([OP_CHECKSIG]) + b"".join(map(push, items)) + _drops(len(items))


def decode_pushdrop(script: bytes) -> PushDrop:
    """Read a token; RemoteProtocolError unless `pushdrop` of the result is `script` again."""
    if len(script) < 35 or script[0] != 33 or script[34] != OP_CHECKSIG:
        raise _bad_token("it does not begin with a key and OP_CHECKSIG")
    items: list[bytes] = []
    end = 35
    for opcode, item in chunks(script[35:]):
        if item is None:
            break
        if push(item)[0] != opcode:
            raise _bad_token("a push is not minimal")
        items.append(item)
        end += len(push(item))
    if len(items) < 2:
        raise _bad_token("it has no fields")
    if script[end:] != _drops(len(items)):
        raise _bad_token("it does not end by dropping every item")
    if not is_public_key(script[1:34]):
        raise _bad_token("its key is not a point of the curve")
    return PushDrop(script[1:34], tuple(items[:-1]), items[-1])


def _bad_token(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"cannot read the script as a token: {detail}", code="bad-token")


def unlock_pushdrop(signature: bytes) -> bytes:
    """The unlocking script; `signature` ends with its sighash byte."""
    return push(signature)


# --- data ----------------------------------------------------------------------------------------


def op_return(items: Sequence[bytes]) -> bytes:
    """An unspendable OP_FALSE OP_RETURN output that carries the items."""
    return bytes([OP_0, OP_RETURN]) + b"".join(map(push, items))
