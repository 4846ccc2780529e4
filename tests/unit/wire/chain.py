"""A miniature chain for tests: coins that a block holds, payments that spend them, and envelopes about both."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.wire.beef import write_beef
from reconciler.wire.bump import from_block, merkle_root
from reconciler.wire.draft import sign_inputs
from reconciler.wire.keys import public_key, sha256, sign
from reconciler.wire.script import p2pkh, pushdrop
from reconciler.wire.tx import Tx, TxIn, TxOut

SECRET = sha256(b"a purse for tests")
OTHER = sha256(b"somebody else")
PURSE = p2pkh(public_key(SECRET))
HEIGHT = 812


def token(*fields: bytes, secret: bytes = SECRET) -> bytes:
    """A signed PushDrop script."""
    return pushdrop(fields, public_key(secret), sign(secret, b"".join(fields)))


def coinbase(*satoshis: int, script: bytes = PURSE, tag: int = 0) -> Tx:
    """A transaction that makes coins; `tag` makes it another one."""
    return Tx((TxIn("00" * 32, 0xFFFFFFFF, b"\x03" + tag.to_bytes(3, "little")),), tuple(TxOut(n, script) for n in satoshis))


def pay(sources: Sequence[tuple[Tx, int]], outputs: Sequence[TxOut], secret: bytes = SECRET) -> Tx:
    """A signed payment that spends outputs of `sources`."""
    spent = [tx.outputs[vout] for tx, vout in sources]
    return sign_inputs(Tx(tuple(TxIn(tx.txid, vout) for tx, vout in sources), tuple(outputs)), spent, [secret] * len(spent))


@dataclass
class Ancestry:
    """Transactions by id, and the one block that holds the mined ones."""

    txs: dict[str, Tx] = field(default_factory=dict)
    block: list[str] = field(default_factory=list)

    def mine(self, *txs: Tx) -> None:
        """Put transactions into the block."""
        self.add(*txs)
        self.block += [tx.txid for tx in txs]

    def add(self, *txs: Tx) -> None:
        """Know transactions that no block holds."""
        self.txs |= {tx.txid: tx for tx in txs}

    @property
    def root(self) -> str:
        """The merkle root of the block."""
        return merkle_root(self.block)

    def root_ok(self, height: int, root: str) -> bool:
        """What a header source would say."""
        return (height, root) == (HEIGHT, self.root)

    def part(self, txid: str) -> tuple[bytes, bytes] | None:
        """The source `write_beef` wants."""
        if txid not in self.txs:
            return None
        proof = from_block(HEIGHT, self.block, self.block.index(txid)).raw if txid in self.block else b""
        return self.txs[txid].raw, proof

    def beef(self, tx: Tx, **options: Any) -> bytes:
        """The envelope of `tx`."""
        return write_beef(tx.txid, self.part, **options)


def diamond(steps: int) -> tuple[Ancestry, Tx]:
    """A coin split in two and then `steps` times spent whole into two: 2**steps paths lead to the coin."""
    ancestry = Ancestry()
    tx = coinbase(1000, 1000)
    ancestry.mine(tx)
    for _ in range(steps):
        tx = pay([(tx, 0), (tx, 1)], [TxOut(1000, PURSE), TxOut(1000, PURSE)])
        ancestry.add(tx)
    return ancestry, tx


def work(act: Callable[[], object]) -> int:
    """How many calls, of Python and of C, an action makes: a measure of time that a busy machine cannot blur."""
    count = 0

    def tick(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(tick)
    try:
        act()
    finally:
        sys.setprofile(before)
    return count
