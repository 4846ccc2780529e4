"""Laws of the wire codecs, and what other implementations say about the same bytes.

bsv-sdk and bitcoinx are oracles here: where they are right we must agree, and where they accept what is forged
(the tripwires at the end) we must not. A tripwire that no longer trips says that the oracle was mended.
"""

import asyncio
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.model.change import FeeRate
from reconciler.model.effect import CoinOutput, DataOutput, Draft, Lock, TokenInput, TokenOutput
from reconciler.model.errors import RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire import keys, proof, script
from reconciler.wire.beef import parse_beef, write_beef
from reconciler.wire.bump import Bump, bump_from_json, bump_json, from_block, parse_bump
from reconciler.wire.bytesio import Reader, varbytes, varint
from reconciler.wire.draft import assemble, price, sign_inputs, size
from reconciler.wire.tx import MAX_SATOSHIS, Tx, TxIn, TxOut, extended, parse_extended, parse_tx, sighash
from tests.unit.wire.chain import HEIGHT, PURSE, SECRET, Ancestry, coinbase, diamond, pay, token

laws = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

scripts = st.binary(max_size=80)
u32 = st.integers(0, 0xFFFFFFFF)
txids = st.binary(min_size=32, max_size=32).map(bytes.hex)
outputs = st.builds(TxOut, st.integers(0, MAX_SATOSHIS), scripts)
inputs = st.builds(TxIn, txids, u32, scripts, u32)
txs = st.builds(Tx, st.lists(inputs, max_size=4).map(tuple), st.lists(outputs, max_size=4).map(tuple), u32, u32)
full_txs = txs.filter(lambda tx: bool(tx.inputs and tx.outputs))
secrets = st.binary(min_size=32, max_size=32).filter(lambda b: 0 < int.from_bytes(b, "big") < 2**255)
blocks = st.lists(txids, min_size=1, max_size=33, unique=True)
FLAGS = (0x41, 0x42, 0x43, 0xC1, 0xC2, 0xC3)


# --- round trips ---------------------------------------------------------------------------------


@laws
@given(st.integers(0, 2**64 - 1), st.binary(max_size=300))
def test_counts_and_bytes_read_back(number: int, data: bytes) -> None:
    reader = Reader(varint(number) + varbytes(data))
    assert (reader.varint(), reader.varbytes()) == (number, data)
    reader.done()


@laws
@given(txs, st.lists(outputs, min_size=4, max_size=4))
def test_transactions_read_back(tx: Tx, sources: list[TxOut]) -> None:
    assert parse_tx(tx.raw) == tx
    spent = tuple(sources[: len(tx.inputs)])
    assert parse_extended(extended(tx, spent)) == (tx, spent)
    assert parse_tx(tx.raw).txid == tx.txid


@laws
@given(blocks, st.data(), u32)
def test_merkle_paths_read_back_and_lead_to_one_root(block: list[str], data: st.DataObject, height: int) -> None:
    index = data.draw(st.integers(0, len(block) - 1))
    bump = from_block(height, block, index)
    assert parse_bump(bump.raw) == bump == bump_from_json(bump_json(bump))
    assert Bump(bump.height, bump.levels).raw == bump.raw
    assert bump.root(block[index]) == from_block(height, block, 0).root(block[0])


@laws
@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=9))
def test_tokens_read_back(fields: list[bytes]) -> None:
    read = script.decode_pushdrop(token(*fields))
    assert read.fields == tuple(fields)
    assert keys.verify(read.key, read.signed, read.signature)


@laws
@given(st.lists(st.binary(max_size=300).filter(bool), max_size=9))
def test_pushes_read_back(items: list[bytes]) -> None:
    assert script.pushes(b"".join(map(script.push, items))) == tuple(items)


@laws
@given(st.binary(max_size=60))
def test_base58_reads_back(payload: bytes) -> None:
    if payload:
        assert keys.base58check_decode(keys.base58check_encode(payload)) == payload


def random_family(data: st.DataObject) -> tuple[Ancestry, Tx]:
    """Up to eight transactions that spend each other's outputs, some mined; the last one is the tip."""
    ancestry, coin = Ancestry(), coinbase(*[5000] * 4)
    ancestry.mine(coin, coinbase(1, tag=7))  # bsv-sdk cannot read the path of a block of one
    free = [(coin, n) for n in range(4)]
    tx = coin
    for _ in range(data.draw(st.integers(1, 7))):
        take = data.draw(st.integers(1, min(3, len(free))))
        picked = [free.pop(data.draw(st.integers(0, len(free) - 1))) for _ in range(take)]
        held = sum(source.outputs[vout].satoshis for source, vout in picked)
        tx = pay(picked, [TxOut(held // 2, PURSE), TxOut(held - held // 2, PURSE)])
        free += [(tx, 0), (tx, 1)]
        if data.draw(st.booleans()):
            ancestry.mine(tx)
        else:
            ancestry.add(tx)
    return ancestry, tx


@laws
@given(st.data(), st.sampled_from([1, 2]), st.booleans())
def test_envelopes_read_back_and_hold(data: st.DataObject, version: int, atomic: bool) -> None:
    ancestry, tip = random_family(data)
    raw = ancestry.beef(tip, version=version, atomic=atomic)
    beef = parse_beef(raw)
    assert beef.tx == tip
    assert write_beef(tip.txid, beef.part, version=version, atomic=atomic) == raw
    proof.verify_beef(beef, ancestry.root_ok)
    proof.verify_beef(beef.about(tip.txid), ancestry.root_ok)
    assert proof.roots_needed(beef) == {(HEIGHT, ancestry.root)}


# --- nothing but RemoteProtocolError -------------------------------------------------------------


def read_beef(raw: bytes) -> None:
    beef = parse_beef(raw)
    proof.roots_needed(beef)
    proof.verify_beef(beef, lambda height, root: True)


DECODERS: list[Callable[[bytes], object]] = [
    parse_tx,
    parse_extended,
    parse_bump,
    read_beef,
    script.pushes,
    script.decode_pushdrop,
    lambda raw: proof.parse_header(raw, 0),
    lambda raw: keys.base58check_decode(raw.decode("latin-1")),
    lambda raw: keys.wif_decode(raw.decode("latin-1")),
]


def only_remote_faults(decode: Callable[[bytes], object], raw: bytes) -> None:
    try:
        decode(raw)
    except RemoteProtocolError as error:
        assert error.message.startswith("cannot ")


@laws
@given(st.sampled_from(DECODERS), st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing_else(decode: Callable[[bytes], object], raw: bytes) -> None:
    only_remote_faults(decode, raw)


@cache
def samples() -> list[tuple[Callable[[bytes], object], bytes]]:
    ancestry, tip = diamond(2)
    tx, sources = ancestry.txs[tip.txid], (TxOut(1000, PURSE), TxOut(1000, PURSE))
    bump = ancestry.part(ancestry.block[0])
    assert bump is not None
    five = from_block(HEIGHT, [keys.sha256(bytes([n])).hex() for n in range(5)], 3).raw
    return [
        (parse_tx, tx.raw),
        (parse_extended, extended(tx, sources)),
        (parse_bump, bump[1]),
        (lambda raw: parse_bump(raw).root(keys.sha256(b"\x03").hex()), five),
        (read_beef, ancestry.beef(tip)),
        (read_beef, ancestry.beef(tip, version=2)),
        (read_beef, ancestry.beef(tip, atomic=True)),
        (script.decode_pushdrop, token(b"SHIP", b"x" * 80)),
    ]


edits = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(0, 255), st.sampled_from(["set", "cut", "insert", "drop"])),
    min_size=1,
    max_size=4,
)


def mutate(raw: bytes, changes: list[tuple[int, int, str]]) -> bytes:
    for place, value, how in changes:
        at = place % (len(raw) + 1)
        middle = {"set": bytes([value]), "insert": bytes([value]) + raw[at : at + 1], "drop": b"", "cut": b""}[how]
        raw = raw[:at] + middle + (b"" if how == "cut" else raw[at + 1 :])
    return raw


@settings(laws, max_examples=200)
@given(st.integers(0, 7), edits)
def test_mutated_bytes_raise_nothing_else(which: int, changes: list[tuple[int, int, str]]) -> None:
    decode, raw = samples()[which]
    decode(raw)
    only_remote_faults(decode, mutate(raw, changes))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["blockHeight", "path", "offset", "hash", "duplicate", "txid"]), inner)
    ),
    max_leaves=12,
)


@laws
@given(json_values)
def test_arbitrary_json_raises_nothing_else(value: Any) -> None:
    try:
        bump_from_json(value)
    except RemoteProtocolError:
        pass


@settings(laws, max_examples=200)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_no_changed_byte_makes_another_payment_hold(place: int, flip: int) -> None:
    ancestry, tip = diamond(2)
    raw = bytearray(ancestry.beef(tip))
    raw[place % len(raw)] ^= flip
    try:
        beef = parse_beef(bytes(raw))
        proof.verify_beef(beef, ancestry.root_ok)
    except RemoteProtocolError:
        return
    assert set(beef.txs) == set(ancestry.txs)  # only marks that change no meaning may differ


@laws
@given(st.binary(max_size=80), st.binary(max_size=40), st.binary(max_size=80))
def test_verify_answers_and_never_raises(public: bytes, message: bytes, signature: bytes) -> None:
    assert keys.verify(public, message, signature) is False
    assert keys.verify_digest(public, message, signature) is False
    assert keys.verify(keys.public_key(SECRET), message, signature) is False


# --- money ---------------------------------------------------------------------------------------

lock = Lock("producer", "tests of drafts", "1")
drafted = st.one_of(
    st.builds(
        lambda fields: TokenOutput(tuple(fields), lock), st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6)
    ),
    st.builds(lambda items: DataOutput(tuple(items)), st.lists(st.binary(max_size=300), max_size=4)),
    st.builds(CoinOutput, st.integers(1, 10_000)),
)


@laws
@given(
    st.lists(drafted, max_size=5),
    st.lists(st.integers(1, 500), max_size=3),
    st.integers(1, 4),
    st.integers(0, 500),
    st.integers(0, 9999),
    secrets,
)
def test_a_draft_costs_what_was_said_and_is_never_larger(
    wanted: list[Any], spent: list[int], coins: int, rate: int, spare: int, secret: bytes
) -> None:
    olds = tuple(TokenInput(Outpoint("33" * 32, n), lock) for n in range(len(spent)))
    plan = Draft("devnet", tuple(wanted), olds, FeeRate(rate), coins)
    cost = price(plan, spent)
    purse = script.p2pkh(keys.public_key(secret))
    funding = [(Outpoint("22" * 32, n), 0, purse) for n in range(1, coins)]
    funding.insert(0, (Outpoint("22" * 32, 0), cost.need + spare, purse))
    old = token(b"old", secret=secret)
    fresh = [token(*output.fields, secret=secret) for output in wanted if isinstance(output, TokenOutput)]
    tx, sources = assemble(plan, funding, [(satoshis, old) for satoshis in spent], fresh, purse)
    signed = sign_inputs(tx, sources, [secret] * len(sources))
    assert signed.size <= size(plan)
    assert sum(s.satoshis for s in sources) - sum(o.satoshis for o in signed.outputs) == cost.fee == FeeRate(rate).fee(size(plan))
    assert signed.outputs[-1].satoshis >= 1
    assert all(proof.unlocks(signed, index, source) for index, source in enumerate(sources))


# --- the interpreter agrees ----------------------------------------------------------------------


@settings(laws, max_examples=200)
@given(
    st.booleans(),
    st.sampled_from(FLAGS),
    st.one_of(st.none(), st.tuples(st.sampled_from(["lock", "unlock", "amount"]), edits)),
    full_txs,
)
def test_the_fast_paths_accept_nothing_the_interpreter_refuses(payment: bool, flags: int, change: Any, around: Tx) -> None:
    source = TxOut(1000, PURSE if payment else token(b"SHIP", b"x" * 80))
    bare = Tx((TxIn("11" * 32, 0), *around.inputs), around.outputs, around.version, around.locktime)
    signature = keys.sign_digest(SECRET, sighash(bare, 0, source.script, 1000, flags)) + bytes([flags])
    public = keys.public_key(SECRET)
    unlock = script.unlock_p2pkh(signature, public) if payment else script.unlock_pushdrop(signature)
    if change:
        what, changes = change
        if what == "unlock":
            unlock = mutate(unlock, changes)
        elif what == "lock":
            source = TxOut(1000, mutate(source.script, changes))
        else:
            source = TxOut(1000 + changes[0][1], source.script)
    tx = Tx((TxIn("11" * 32, 0, unlock), *around.inputs), around.outputs, around.version, around.locktime)
    fast, slow = proof._plainly_unlocks(tx, 0, source), proof._interpret(tx, 0, source)
    assert slow or not fast
    if change is None:
        assert fast and slow
    assert proof.unlocks(tx, 0, source) is (fast or slow)


@laws
@given(full_txs, st.sampled_from(FLAGS), scripts, st.integers(0, MAX_SATOSHIS))
def test_bitcoinx_hashes_the_same(tx: Tx, flags: int, code: bytes, satoshis: int) -> None:
    import bitcoinx

    theirs = bitcoinx.Tx.from_bytes(tx.raw)
    assert theirs.hex_hash() == tx.txid
    for index in range(len(tx.inputs)):
        assert theirs.signature_hash(index, satoshis, bitcoinx.Script(code), bitcoinx.SigHash(flags)) == sighash(
            tx, index, code, satoshis, flags
        )


# --- bsv-sdk agrees ------------------------------------------------------------------------------


@laws
@given(full_txs)
def test_bsv_sdk_reads_and_writes_the_same_transactions(tx: Tx) -> None:
    import bsv

    theirs = bsv.Transaction.from_hex(tx.raw)
    assert (theirs.txid(), theirs.serialize()) == (tx.txid, tx.raw)
    assert parse_tx(theirs.serialize()) == tx


@laws
@given(full_txs, st.sampled_from(FLAGS), scripts, st.integers(0, MAX_SATOSHIS))
def test_bsv_sdk_signs_the_same_preimage(tx: Tx, flags: int, code: bytes, satoshis: int) -> None:
    import bsv
    from bsv.constants import SIGHASH

    for index in range(len(tx.inputs)):
        theirs = bsv.Transaction.from_hex(tx.raw)
        for one in theirs.inputs:
            one.satoshis, one.locking_script, one.sighash = satoshis, bsv.Script(code), SIGHASH(flags)
        assert keys.sha256d(theirs.preimage(index)) == sighash(tx, index, code, satoshis, flags)


@laws
@given(blocks.filter(lambda block: len(block) > 1), st.data())
def test_bsv_sdk_computes_the_same_root(block: list[str], data: st.DataObject) -> None:
    import bsv

    index = data.draw(st.integers(0, len(block) - 1))
    bump = from_block(9, block, index)
    theirs = bsv.MerklePath.from_binary(bump.raw)
    assert theirs.compute_root(block[index]) == bump.root(block[index])
    assert theirs.to_binary() == bump.raw


@pytest.mark.row("P-ID-18")
@laws
@given(secrets, secrets, st.text(min_size=1, max_size=60))
def test_bsv_sdk_derives_and_signs_the_same(mine: bytes, theirs: bytes, inv: str) -> None:
    import bsv

    me, you = bsv.PrivateKey(mine), bsv.PrivateKey(theirs)
    assert me.derive_child(you.public_key(), inv).serialize() == keys.child_secret(mine, keys.public_key(theirs), inv)
    assert you.public_key().derive_child(me, inv).serialize() == keys.child_public(keys.public_key(theirs), mine, inv)
    assert me.sign(inv.encode(), hasher=keys.sha256) == keys.sign(mine, inv.encode())


@laws
@given(st.data())
def test_bsv_sdk_reads_our_envelopes(data: st.DataObject) -> None:
    import bsv

    ancestry, tip = random_family(data)
    raw = ancestry.beef(tip)
    theirs = bsv.Transaction.from_beef(raw)
    assert (theirs.txid(), theirs.serialize()) == (tip.txid, tip.raw)
    if len(parse_beef(raw).bumps) <= 1:  # it breaks paths of one block when it merges them
        back = parse_beef(theirs.to_beef())
        assert back.tx == tip
        proof.verify_beef(back, ancestry.root_ok)


# --- tripwires: what bsv-sdk 2.4.0 believes and we do not ----------------------------------------


def believes(check: Callable[[Any], Any], answer: bool) -> bool:
    """The oracle's verdict, with a header source that answers every question alike."""
    from bsv.chaintracker import ChainTracker

    class Oracle(ChainTracker):  # type: ignore[misc]
        async def is_valid_root_for_height(self, root: str, height: int) -> bool:
            return answer

        async def current_height(self) -> int:
            return HEIGHT

    return bool(asyncio.run(check(Oracle())))


def test_tripwire_outputs_worth_more_than_inputs() -> None:
    import bsv

    ancestry, coin = Ancestry(), coinbase(1000, 1000)
    ancestry.mine(coin, coinbase(1, tag=7))
    inflated = pay([(coin, 0)], [TxOut(999_000, PURSE)])
    ancestry.add(inflated)
    raw = ancestry.beef(inflated)
    assert believes(bsv.Transaction.from_beef(raw).verify, True)
    with pytest.raises(RemoteProtocolError, match="it creates 999000 satoshis and spends 1000"):
        proof.verify_beef(parse_beef(raw), lambda height, root: True)


def test_tripwire_money_from_a_transaction_without_inputs() -> None:
    import bsv

    ancestry, forged = Ancestry(), Tx((), (TxOut(MAX_SATOSHIS, PURSE),))
    child = pay([(forged, 0)], [TxOut(MAX_SATOSHIS, PURSE)])
    ancestry.add(forged, child)
    raw = ancestry.beef(child)
    assert believes(bsv.Transaction.from_beef(raw).verify, False)
    with pytest.raises(RemoteProtocolError, match="it has 0 inputs"):
        proof.verify_beef(parse_beef(raw), lambda height, root: True)


def test_tripwire_a_forged_v1_envelope() -> None:
    from bsv.transaction.beef import parse_beef as their_parse

    ancestry, coin = Ancestry(), coinbase(1000)
    ancestry.mine(coin, coinbase(1, tag=7))
    honest = pay([(coin, 0)], [TxOut(900, PURSE)])
    forged = Tx(honest.inputs, (TxOut(900, b"\x51"),))  # redirected: the signature does not cover this output
    ancestry.add(forged)
    raw = ancestry.beef(forged)
    assert believes(their_parse(raw).verify, False)
    with pytest.raises(RemoteProtocolError, match="does not unlock"):
        proof.verify_beef(parse_beef(raw), lambda height, root: True)
