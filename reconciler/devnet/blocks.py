"""Blocks of a private chain: real 80-byte headers whose proof of work is trivial and true.

The target is the easiest one Bitcoin's compact form can express (bits 0x207fffff): every second hash meets it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.wire.bump import merkle_root
from reconciler.wire.keys import sha256d
from reconciler.wire.proof import BlockHeader, parse_header
from reconciler.wire.script import push
from reconciler.wire.tx import Tx, TxIn, TxOut

BITS = 0x207FFFFF
_TARGET = 0x7FFFFF << 8 * (0x20 - 3)
_VERSION = 0x20000000
_NO_HASH = "00" * 32
# What a block pays its miner, for ever: 50 coins, as at height 0 of every chain.
SUBSIDY = 5_000_000_000
# Consensus: a coinbase may be spent 100 blocks later, so that no ordinary reorganisation can unmake money.
MATURITY = 100


@dataclass(frozen=True, slots=True)
class Block:
    """A block; hashes in display order, `raw` the 80-byte header, coinbase first in `txids`."""

    height: int
    raw: bytes
    hash: str
    prev: str
    merkle_root: str
    time: int
    txids: tuple[str, ...]

    @property
    def header(self) -> BlockHeader:
        """The header field by field."""
        return parse_header(self.raw, self.height)


def build(height: int, prev: str, txids: Sequence[str], moment: int) -> Block:
    """Mine a block over these transactions at that Unix time."""
    root = merkle_root(txids)
    prefix = (
        struct.pack("<I", _VERSION) + bytes.fromhex(prev)[::-1] + bytes.fromhex(root)[::-1] + struct.pack("<II", moment, BITS)
    )
    nonce = 0
    while True:
        raw = prefix + struct.pack("<I", nonce)
        digest = sha256d(raw)
        if int.from_bytes(digest, "little") <= _TARGET:
            return Block(height, raw, digest[::-1].hex(), prev, root, moment, tuple(txids))
        nonce += 1


def genesis_parent() -> str:
    """What the first header names as its predecessor."""
    return _NO_HASH


def coinbase(height: int, tag: str, script: bytes, satoshis: int) -> Tx:
    """The transaction that pays the miner. Height (BIP34) and `tag` keep coinbases of rival blocks apart."""
    unlocking = push(height.to_bytes(5, "little")) + push(tag.encode())
    return Tx((TxIn(_NO_HASH, 0xFFFFFFFF, unlocking),), (TxOut(satoshis, script),))
