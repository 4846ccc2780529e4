"""Bytes made to hurt whoever reads them: each ends in one named error, and reading it takes little memory."""

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from reconciler.model.errors import RemoteProtocolError
from reconciler.wire import arc, headers, jsontext, overlay, proof
from reconciler.wire.beef import ATOMIC, V1, V2, Beef, parse_beef
from reconciler.wire.bump import Bump, Leaf, from_block, parse_bump
from reconciler.wire.bytesio import internal, varint
from reconciler.wire.proof import parse_header, verify_beef
from reconciler.wire.tx import Tx, TxIn, TxOut, parse_tx
from tests.unit.wire.chain import HEIGHT, PURSE, Ancestry, coinbase, diamond, pay

MIB = 1024 * 1024
# Reading may take this much and, on top, this many times the bytes that were sent.
FREE, TIMES = 4 * MIB, 5
U64 = b"\xff" * 9
NOWHERE = "ab" * 32
HEAD1, HEAD2, HEADA = (mark.to_bytes(4, "little") for mark in (V1, V2, ATOMIC))


@dataclass(frozen=True)
class Case:
    """Who reads which bytes, words of the error, its code, and the memory that reading may take whatever the size."""

    read: Callable[[bytes], Any]
    data: Callable[[], bytes]
    says: str
    code: str = "remote-protocol"
    free: int = FREE


@cache
def honest() -> tuple[Ancestry, Tx, bytes]:
    """A payment with a mined parent, and its envelope: what the liars below start from."""
    ancestry, coin = Ancestry(), coinbase(1000, 1000)
    ancestry.mine(coin, coinbase(7, tag=9))
    child = pay([(coin, 0)], [TxOut(400, PURSE), TxOut(600, PURSE)])
    ancestry.add(child)
    return ancestry, child, ancestry.beef(child)


def tx_of(inputs: bytes = b"\0", outputs: bytes = b"\0") -> bytes:
    return b"\1\0\0\0" + inputs + outputs + b"\0\0\0\0"


def chain_of(length: int) -> bytes:
    """An envelope whose transactions spend one another, the first of which spends what is not there."""
    entries, last = [], NOWHERE
    for _ in range(length):
        tx = Tx((TxIn(last, 0),), (TxOut(1, b"\x51"),))
        entries.append(tx.raw + b"\0")
        last = tx.txid
    return HEAD1 + varint(0) + varint(length) + b"".join(entries)


def twins() -> bytes:
    """A payment and another of the same coin, in one envelope."""
    ancestry, child, _ = honest()
    coin = ancestry.txs[child.inputs[0].txid]
    rival = pay([(coin, 0)], [TxOut(999, PURSE)])
    last = pay([(child, 0), (rival, 0)], [TxOut(1, PURSE)])
    ancestry = Ancestry({**ancestry.txs}, ancestry.block)
    ancestry.add(rival, last)
    return ancestry.beef(last)


def forged(change: Callable[[Tx], Tx]) -> bytes:
    """The honest envelope with the payment changed after it was signed."""
    ancestry, child, _ = honest()
    other = change(child)
    ancestry = Ancestry({**ancestry.txs}, ancestry.block)
    ancestry.add(other)
    return ancestry.beef(other)


def fat(count: int) -> bytes:
    """An answer of `count` tokens that have one long ancestor in common."""
    coin = Tx(coinbase().inputs, (*(TxOut(1, PURSE) for _ in range(count)), TxOut(0, b"\x6a" + bytes(MIB))))
    children = [Tx((TxIn(coin.txid, n),), (TxOut(1, b"\x51"),)) for n in range(count)]
    lines = b"".join(bytes.fromhex(one.txid) + b"\0\0" for one in children)
    entries = b"\1\0" + coin.raw + b"".join(b"\0" + one.raw for one in children)
    return varint(count) + lines + HEAD2 + b"\1" + from_block(1, [coin.txid], 0).raw + varint(count + 1) + entries


def believe(root_ok: Callable[[int, str], bool] | None = None) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        beef: Beef = parse_beef(data)
        verify_beef(beef, root_ok or honest()[0].root_ok)

    return read


def moved(bump: Bump) -> Bump:
    return Bump(bump.height + 1, bump.levels)


def with_bump(change: Callable[[Bump], Bump]) -> bytes:
    """The honest parent alone, with its path changed."""
    ancestry, child, _ = honest()
    coin = ancestry.txs[child.inputs[0].txid]
    bump = change(from_block(HEIGHT, ancestry.block, 0))
    return HEAD1 + b"\1" + bump.raw + b"\1" + coin.raw + b"\1\0"


def lookup(data: bytes) -> Any:
    return overlay.parse_lookup(overlay.OCTETS, data)


def as_json(data: bytes) -> Any:
    return overlay.parse_lookup(overlay.JSON, data)


def node_tx() -> bytes:
    """A transaction of 64 bytes with a path: it may be two nodes of a merkle tree."""
    tx = Tx((TxIn(NOWHERE, 0),), (TxOut(1, b"\x51" * 4),))
    assert tx.size == 64
    bump = Bump(HEIGHT, ((Leaf(0, internal(tx.txid), txid=True),),))
    return HEAD1 + b"\1" + bump.raw + b"\1" + tx.raw + b"\1\0"


GENESIS = bytes(80)
STRAY = bytes(4) + b"\x11" * 32 + bytes(44)

HOSTILE = {
    "an envelope of nothing": Case(parse_beef, lambda: HEAD1 + b"\0\0", "holds no transaction", "bad-beef"),
    "an envelope cut short": Case(parse_beef, lambda: honest()[2][:-1], "are left"),
    "an envelope with more behind it": Case(parse_beef, lambda: honest()[2] + b"\0", "follow the end"),
    "a count of 2**64 paths": Case(parse_beef, lambda: HEAD1 + U64, "are promised"),
    "a count of 2**64 transactions": Case(parse_beef, lambda: HEAD1 + b"\0" + U64, "are promised"),
    "a count of 2**64 inputs": Case(parse_tx, lambda: tx_of(inputs=U64), "are promised"),
    "a count of 2**64 outputs": Case(parse_tx, lambda: tx_of(outputs=U64), "are promised"),
    "a script of 2**64 bytes": Case(parse_tx, lambda: tx_of(outputs=b"\1" + bytes(8) + U64 + bytes(4)), "are promised"),
    "a count spelled too long": Case(parse_tx, lambda: tx_of(inputs=b"\xfd\1\0" + bytes(41)), "more bytes than it needs"),
    "a million empty outputs": Case(
        parse_beef, lambda: HEAD1 + b"\0\1" + tx_of(outputs=varint(10**6) + bytes(9 * 10**6)) + b"\0", "too many for"
    ),
    "half a million empty inputs": Case(
        parse_beef, lambda: HEAD1 + b"\0\1" + tx_of(inputs=varint(500_000) + bytes(41 * 500_000)) + b"\0", "too many for"
    ),
    "a path of a million duplicates": Case(
        parse_bump, lambda: b"\1\1" + varint(10**6) + b"".join(varint(2 * n + 1) + b"\1" for n in range(10**6)), "too many for"
    ),
    "a path of 255 levels": Case(parse_bump, lambda: b"\1\xff" + (b"\1\0\0" + bytes(32)) * 255, "levels", "bad-bump"),
    "a path with the same place twice": Case(
        parse_bump, lambda: b"\1\1\2" + (b"\0\0" + bytes(32)) * 2, "states an offset twice", "bad-bump"
    ),
    "a path from outside the tree": Case(
        parse_bump, lambda: b"\1\2\1\0\2" + bytes(32) + b"\1\x09\0" + bytes(32), "outside level", "bad-bump"
    ),
    "ten thousand ancestors": Case(parse_beef, lambda: chain_of(10_000), "more than the 1000 we read"),
    "a chain of a thousand that hangs in the air": Case(believe(), lambda: chain_of(1000), "is missing", "bad-proof"),
    "an atomic envelope with another's transactions": Case(
        parse_beef,
        lambda: HEADA + internal(honest()[1].txid) + ancestry_and_stranger(),
        "unrelated to its subject",
        "bad-beef",
    ),
    "an atomic envelope without its subject": Case(
        parse_beef, lambda: HEADA + bytes(32) + honest()[2], "does not hold its subject", "bad-beef"
    ),
    "a proof at a path that is not there": Case(
        parse_beef, lambda: HEAD1 + b"\0\1" + honest()[1].raw + b"\1\7", "points at path 7 of 0"
    ),
    "a transaction that spends itself": Case(
        believe(), lambda: HEAD2 + b"\0\1\2" + internal(NOWHERE), "only names it", "bad-proof"
    ),
    "a parent that is only named": Case(
        believe(),
        lambda: HEAD2 + b"\0\2\2" + internal(honest()[1].inputs[0].txid) + b"\0" + honest()[1].raw,
        "names it",
        "bad-proof",
    ),
    "two transactions that spend one coin": Case(believe(), twins, "so does", "bad-proof"),
    "more coming out than went in": Case(
        believe(), lambda: forged(lambda tx: Tx(tx.inputs, (TxOut(10**12, PURSE),))), "creates", "bad-proof"
    ),
    "outputs that overflow when they are added": Case(
        believe(), lambda: forged(lambda tx: Tx(tx.inputs, (TxOut(21 * 10**14, PURSE),) * 9000)), "creates", "bad-proof"
    ),
    "an output of 2**64-1 satoshis": Case(
        parse_tx, lambda: tx_of(outputs=b"\1" + b"\xff" * 8 + b"\0"), "more than exist"
    ),
    "a signature of another transaction": Case(
        believe(), lambda: forged(lambda tx: Tx(tx.inputs, (TxOut(1, PURSE),))), "does not unlock", "bad-proof"
    ),
    "a spend of an output that is not there": Case(
        believe(),
        lambda: forged(lambda tx: Tx((TxIn(tx.inputs[0].txid, 99, tx.inputs[0].script),), tx.outputs)),
        "has 2 outputs",
        "bad-proof",
    ),
    "coins made out of nothing": Case(
        believe(), lambda: HEAD1 + b"\0\1" + coinbase(1000).raw + b"\0", "only a mined transaction can", "bad-proof"
    ),
    "a proof into another block": Case(believe(), lambda: with_bump(moved), "does not have the merkle root", "bad-proof"),
    "a proof that nobody has the header of": Case(
        believe(lambda height, root: False), lambda: honest()[2], "does not have the merkle root", "bad-proof"
    ),
    "a proof with one bit wrong": Case(
        believe(),
        lambda: with_bump(lambda b: Bump(b.height, ((b.levels[0][0], Leaf(1, bytes(32))), *b.levels[1:]))),
        "does not have the merkle root",
        "bad-proof",
    ),
    "a proof of another transaction": Case(
        believe(),
        lambda: with_bump(lambda b: from_block(HEIGHT, [NOWHERE, "cd" * 32], 0)),
        "cannot follow the merkle path",
        "bad-bump",
    ),
    "a transaction that is two merkle nodes": Case(believe(lambda *_: True), node_tx, "pair of merkle nodes", "bad-proof"),
    "tokens with one long ancestor": Case(lookup, lambda: fat(2000), "unfold to too many", "too-large", 2 * overlay.UNFOLDED),
    "an answer of ten million outputs": Case(lookup, lambda: varint(10**7) + bytes(34), "are promised"),
    "ten million arrays": Case(as_json, lambda: b"[" + b"[]," * 10**6 + b"0]", "too many parts", "too-many-items"),
    "a million objects": Case(as_json, lambda: b"[" + b"{}," * 10**6 + b"0]", "too many parts", "too-many-items"),
    "a million texts": Case(as_json, lambda: b"[" + b'"",' * 10**6 + b"0]", "too many parts", "too-many-items"),
    "arrays in arrays": Case(lambda data: jsontext.parse(data, "it"), lambda: b"[" * 200_000, "not JSON"),
    "a number of a million digits": Case(lambda data: jsontext.parse(data, "it"), lambda: b"9" * 10**6, "not JSON"),
    "a key written twice": Case(lambda data: jsontext.parse(data, "it"), lambda: b'{"a":1,"a":2}', "written twice"),
    "a header that is not there": Case(lambda data: parse_header(data, 1), lambda: bytes(79), "are left"),
    "headers that do not build on one another": Case(
        lambda data: headers.parse_binary(data, 0), lambda: GENESIS + STRAY, "does not build on"
    ),
    "headers and a half": Case(lambda data: headers.parse_binary(data, 0), lambda: bytes(120), "no multiple of 80"),
    "a header whose hash is another's": Case(
        headers.parse_chaintracks,
        lambda: json.dumps({**headers.header_json(parse_header(GENESIS, 5)), "height": 5, "hash": NOWHERE}).encode(),
        "is not that of the header's fields",
    ),
    "a height beyond all chains": Case(headers.parse_height, lambda: b'{"height": 99999999999}', "must be an integer"),
    "a status about half a transaction": Case(
        lambda data: arc.parse_answer(200, data), lambda: b'{"txid":"ab","txStatus":"MINED"}', "txid"
    ),
    "a status with a proof that is no hex": Case(
        lambda data: arc.parse_answer(200, data),
        lambda: json.dumps({"txid": NOWHERE, "txStatus": "MINED", "merklePath": "zz"}).encode(),
        "must be hex",
    ),
    "a policy that costs a fortune": Case(
        arc.parse_policy, lambda: b'{"policy":{"miningFee":{"satoshis":9007199254740991,"bytes":1}}}', "satoshis"
    ),
    "a policy per no bytes": Case(arc.parse_policy, lambda: b'{"policy":{"miningFee":{"satoshis":1,"bytes":0}}}', "bytes"),
}  # fmt: skip


def ancestry_and_stranger() -> bytes:
    """The honest envelope with somebody's coin put in."""
    body = honest()[2][4:]
    bumps = body[: len(body) - len(b"".join(entries())) - 1]
    return HEAD1 + bumps + varint(len(entries()) + 1) + b"".join(entries()) + coinbase(5, tag=77).raw + b"\0"


def entries() -> list[bytes]:
    ancestry, child, _ = honest()
    return [ancestry.txs[child.inputs[0].txid].raw + b"\1\0", child.raw + b"\0"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_end_in_a_named_error_and_in_little_memory(name: str) -> None:
    case = HOSTILE[name]
    data = case.data()
    honest()
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError) as caught:
            case.read(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert case.says in caught.value.message
    assert caught.value.message.startswith("cannot ")
    assert caught.value.code == case.code
    assert peak < case.free + TIMES * len(data), f"{peak / MIB:.1f} MiB for {len(data) / MIB:.1f} MiB"


def test_the_honest_envelope_holds() -> None:
    """Else the table would show nothing."""
    believe()(honest()[2])
    believe()(HEADA + internal(honest()[1].txid) + honest()[2])


def test_shared_ancestry_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two to the fortieth paths lead to the coin, and each transaction is judged once."""
    ancestry, tip = diamond(40)
    judged: list[str] = []
    holds = proof._holds
    monkeypatch.setattr(proof, "_holds", lambda tx, *rest: (judged.append(tx.txid), holds(tx, *rest)))
    verify_beef(parse_beef(ancestry.beef(tip)), ancestry.root_ok)
    assert len(judged) == len(set(judged)) == 40


def test_a_long_unconfirmed_chain_holds_and_is_read_without_recursion() -> None:
    """Two hundred payments, each of the one before, back to a coin that a block holds."""
    ancestry, tx = Ancestry(), coinbase(1000)
    ancestry.mine(tx)
    for _ in range(200):
        tx = pay([(tx, 0)], [TxOut(1000, PURSE)])
        ancestry.add(tx)
    beef = parse_beef(ancestry.beef(tx))
    assert (len(beef.txs), beef.subject) == (201, tx.txid)
    verify_beef(beef, ancestry.root_ok)
    assert len(beef.about(tx.inputs[0].txid).txs) == 200
