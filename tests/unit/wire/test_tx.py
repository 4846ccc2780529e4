import pytest

from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire.tx import MAX_SATOSHIS, Tx, TxIn, TxOut, extended, parse_extended, parse_tx, sighash
from tests.unit.wire.chain import PURSE, coinbase, pay, work

GENESIS = bytes.fromhex(
    "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d04ffff001d0104455468652054696d65"
    "732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b206f66207365636f6e64206261696c6f757420666f722062"
    "616e6b73ffffffff0100f2052a01000000434104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4c"
    "ef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000"
)


def payment() -> tuple[Tx, tuple[TxOut, ...]]:
    coin = coinbase(500, 700)
    return pay([(coin, 0), (coin, 1)], [TxOut(300, PURSE), TxOut(800, b"\x51")]), coin.outputs


def test_the_first_transaction_of_the_chain() -> None:
    tx = parse_tx(GENESIS)
    assert tx.txid == "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
    assert tx.is_coinbase
    assert (tx.size, tx.outputs[0].satoshis) == (len(GENESIS), 50 * 10**8)


def test_written_and_read_again() -> None:
    tx, sources = payment()
    assert parse_tx(tx.raw) == tx
    assert parse_tx(tx.raw).txid == tx.txid
    assert parse_extended(extended(tx, sources)) == (tx, sources)
    assert tx.inputs[1].outpoint == Outpoint(coinbase(500, 700).txid, 1)
    assert not tx.is_coinbase


def test_the_extended_form_is_not_mistaken_for_an_empty_transaction() -> None:
    with pytest.raises(RemoteProtocolError):
        parse_tx(extended(*payment()))
    with pytest.raises(RemoteProtocolError, match="mark"):
        parse_extended(payment()[0].raw)


def test_every_input_needs_its_source_to_be_extended() -> None:
    tx, sources = payment()
    with pytest.raises(LocalProtocolError):
        extended(tx, sources[:1])


@pytest.mark.parametrize("cut", [1, 4, 40, 100])
def test_cut_or_continued_bytes_are_refused(cut: int) -> None:
    tx, _ = payment()
    for raw in (tx.raw[:-cut], tx.raw[:cut], tx.raw + bytes(cut)):
        with pytest.raises(RemoteProtocolError, match=r"^cannot read the transaction"):
            parse_tx(raw)


def test_an_output_holds_no_more_than_exists() -> None:
    assert parse_tx(Tx((), (TxOut(MAX_SATOSHIS, b""),)).raw).outputs[0].satoshis == MAX_SATOSHIS
    with pytest.raises(RemoteProtocolError, match="more than exist"):
        parse_tx(Tx((), (TxOut(MAX_SATOSHIS + 1, b""),)).raw)


def test_a_promise_of_many_inputs_costs_nothing() -> None:
    raw = b"\x01\0\0\0\xff" + (2**62).to_bytes(8, "little") + bytes(60)
    with pytest.raises(RemoteProtocolError, match="promised"):
        parse_tx(raw)


def test_what_each_sighash_type_covers() -> None:
    tx, sources = payment()

    def digests(other: Tx) -> dict[int, bool]:
        flags = (0x41, 0x42, 0x43, 0xC1, 0xC2, 0xC3)
        return {flag: sighash(tx, 0, PURSE, 500, flag) == sighash(other, 0, PURSE, 500, flag) for flag in flags}

    moved = Tx(tx.inputs, (tx.outputs[0], TxOut(799, b"\x51")))
    assert digests(moved) == {0x41: False, 0x42: True, 0x43: True, 0xC1: False, 0xC2: True, 0xC3: True}
    lonely = Tx(tx.inputs[:1], tx.outputs)
    assert digests(lonely) == {0x41: False, 0x42: False, 0x43: False, 0xC1: True, 0xC2: True, 0xC3: True}
    delayed = Tx((tx.inputs[0], TxIn(tx.inputs[1].txid, 1, b"", 7)), tx.outputs)
    assert digests(delayed) == {0x41: False, 0x42: True, 0x43: True, 0xC1: True, 0xC2: True, 0xC3: True}
    assert sighash(tx, 0, PURSE, 500) != sighash(tx, 0, PURSE, 501)
    assert sighash(tx, 0, PURSE, 500) != sighash(tx, 0, PURSE[:-1], 500)
    assert sources[0].satoshis == 500


def test_single_beyond_the_outputs_hashes_zeros_and_not_an_error() -> None:
    tx = Tx((TxIn("11" * 32, 0), TxIn("22" * 32, 0)), (TxOut(1, b""),))
    assert sighash(tx, 1, b"", 1, 0x43) != sighash(tx, 1, b"", 1, 0x42)


@pytest.mark.parametrize(("index", "flags"), [(0, 0x01), (2, 0x41), (-1, 0x41)])
def test_what_cannot_be_hashed(index: int, flags: int) -> None:
    with pytest.raises(LocalProtocolError):
        sighash(payment()[0], index, PURSE, 500, flags)


def test_hashing_every_input_is_linear() -> None:
    def hashed(count: int) -> int:
        tx = Tx(tuple(TxIn("11" * 32, n) for n in range(count)), (TxOut(1, b""),))
        return work(lambda: [sighash(tx, n, PURSE, 1) for n in range(count)])

    assert hashed(200) < 2.2 * hashed(100)
