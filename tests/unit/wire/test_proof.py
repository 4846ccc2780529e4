from dataclasses import replace

import pytest

from reconciler.model.errors import RemoteProtocolError
from reconciler.wire import proof
from reconciler.wire.beef import Beef, BeefTx, parse_beef
from reconciler.wire.bump import from_block
from reconciler.wire.keys import ANYONE, public_key, sha256, sign_digest
from reconciler.wire.proof import parse_header, roots_needed, unlocks, verify_beef
from reconciler.wire.script import push
from reconciler.wire.tx import Tx, TxIn, TxOut, parse_tx, sighash
from tests.unit.wire.chain import HEIGHT, OTHER, PURSE, SECRET, Ancestry, coinbase, diamond, pay, token, work
from tests.unit.wire.test_tx import GENESIS


def ask(ancestry: Ancestry, tx: Tx) -> None:
    verify_beef(parse_beef(ancestry.beef(tx)), ancestry.root_ok)


def mined(*satoshis: int, script: bytes = PURSE) -> tuple[Ancestry, Tx]:
    ancestry, coin = Ancestry(), coinbase(*satoshis, script=script)
    ancestry.mine(coinbase(1, tag=5), coin)
    return ancestry, coin


def child(coin: Tx, *outputs: TxOut, vout: int = 0) -> Tx:
    return pay([(coin, vout)], outputs)


# --- what holds ----------------------------------------------------------------------------------


@pytest.mark.row("C-24")
def test_a_payment_of_a_mined_coin_holds() -> None:
    ancestry, coin = mined(1000, 500)
    tx = pay([(coin, 0), (coin, 1)], [TxOut(1400, PURSE), TxOut(1, token(b"SHIP"))])
    again = pay([(tx, 1)], [TxOut(1, PURSE)])
    ancestry.add(tx, again)
    ask(ancestry, again)
    beef = parse_beef(ancestry.beef(again))
    assert roots_needed(beef) == {(HEIGHT, ancestry.root)}


def test_every_satoshi_may_be_spent() -> None:
    ancestry, coin = mined(1000)
    tx = child(coin, TxOut(1000, PURSE))
    ancestry.add(tx)
    ask(ancestry, tx)


def test_sixty_diamonds_are_linear_work(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, int]] = []
    real = proof._plainly_unlocks
    monkeypatch.setattr(
        proof, "_plainly_unlocks", lambda tx, index, source: (done.append((tx.txid, index)), real(tx, index, source))[1]
    )
    calls, roots = [], []
    for steps in (30, 60):
        ancestry, tip = diamond(steps)
        beef = parse_beef(ancestry.beef(tip))
        root = ancestry.root

        def root_ok(height: int, given: str, root: str = root) -> bool:
            roots.append(height)
            return given == root

        done.clear()
        calls.append(work(lambda beef=beef, root_ok=root_ok: verify_beef(beef, root_ok)))
        assert len(done) == len(set(done)) == 2 * steps
    assert roots == [HEIGHT, HEIGHT]
    assert calls[1] < 2.1 * calls[0]


def test_one_block_is_asked_for_once() -> None:
    ancestry, coin = mined(1000)
    other = coinbase(700, tag=8)
    ancestry.mine(other)
    tx = pay([(coin, 0), (other, 0)], [TxOut(1, PURSE)])
    ancestry.add(tx)
    asked: list[int] = []
    verify_beef(parse_beef(ancestry.beef(tx)), lambda height, root: bool(asked.append(height)) or ancestry.root_ok(height, root))
    assert asked == [HEIGHT]


# --- what does not -------------------------------------------------------------------------------


def refused(ancestry: Ancestry, tx: Tx, why: str) -> None:
    with pytest.raises(RemoteProtocolError, match=rf"^cannot believe transaction [0-9a-f]{{64}}: .*{why}"):
        ask(ancestry, tx)


def test_satoshis_from_nowhere() -> None:
    ancestry, coin = mined(1000)
    tx = child(coin, TxOut(1000, PURSE), TxOut(1, PURSE))
    ancestry.add(tx)
    refused(ancestry, tx, "it creates 1001 satoshis and spends 1000")


def test_more_than_will_ever_exist() -> None:
    ancestry, coin = mined(proof.MAX_SATOSHIS, proof.MAX_SATOSHIS)
    tx = pay([(coin, 0), (coin, 1)], [TxOut(proof.MAX_SATOSHIS, PURSE), TxOut(1, PURSE)])
    ancestry.add(tx)
    refused(ancestry, tx, "creates")


def test_money_without_inputs() -> None:
    ancestry, forged = Ancestry(), Tx((), (TxOut(proof.MAX_SATOSHIS, PURSE),))
    tx = child(forged, TxOut(5, PURSE))
    ancestry.add(forged, tx)
    refused(ancestry, tx, "it has 0 inputs and 1 outputs")


def test_an_unmined_coinbase() -> None:
    forged = coinbase(50)
    tx = child(forged, TxOut(5, PURSE))
    beef = Beef((), {forged.txid: BeefTx(forged), tx.txid: BeefTx(tx)}, tx.txid)
    with pytest.raises(RemoteProtocolError, match="it makes new coins"):
        verify_beef(beef, lambda height, root: True)


def test_a_transaction_without_outputs() -> None:
    ancestry, coin = mined(1000)
    tx = child(coin)
    ancestry.add(tx)
    refused(ancestry, tx, "it has 1 inputs and 0 outputs")


def test_an_output_that_is_not_there() -> None:
    ancestry, coin = mined(1000)
    tx = Tx((TxIn(coin.txid, 3),), (TxOut(1, PURSE),))
    ancestry.add(tx)
    refused(ancestry, tx, "that transaction has 1 outputs")


def test_a_signature_of_somebody_else() -> None:
    ancestry, coin = mined(1000)
    good = child(coin, TxOut(900, PURSE))
    tx = replace(good, outputs=(TxOut(900, b"\x51"),))
    ancestry.add(tx)
    refused(ancestry, tx, "the script of input 0 does not unlock")


def test_a_fault_deep_in_the_ancestry() -> None:
    ancestry, coin = mined(1000)
    forged = child(coin, TxOut(2000, PURSE))
    tip = child(forged, TxOut(1, PURSE))
    ancestry.add(forged, tip)
    refused(ancestry, tip, "it creates 2000 satoshis and spends 1000")


def test_one_output_spent_by_two_transactions() -> None:
    ancestry, coin = mined(1000)
    left, right = child(coin, TxOut(900, PURSE)), child(coin, TxOut(800, PURSE))
    both = pay([(left, 0), (right, 0)], [TxOut(1700, PURSE)])
    ancestry.add(left, right, both)
    refused(ancestry, both, f"it spends {coin.txid}.0, and so does")


def test_one_output_spent_by_two_inputs() -> None:
    ancestry, coin = mined(1000)
    tx = pay([(coin, 0), (coin, 0)], [TxOut(2000, PURSE)])
    ancestry.add(tx)
    refused(ancestry, tx, f"it spends {coin.txid}.0, and so does")


def test_an_output_a_mined_transaction_already_spent() -> None:
    ancestry, coin = mined(1000)
    settled = child(coin, TxOut(900, PURSE))
    ancestry.mine(settled)
    late = pay([(coin, 0), (settled, 0)], [TxOut(1, PURSE)])
    ancestry.add(late)
    refused(ancestry, late, "and so does")


def test_a_missing_parent() -> None:
    ancestry, coin = mined(1000)
    tx = child(coin, TxOut(900, PURSE))
    beef = Beef((), {tx.txid: BeefTx(tx)}, tx.txid)
    with pytest.raises(RemoteProtocolError, match=f"its parent {coin.txid} is missing"):
        verify_beef(beef, ancestry.root_ok)


def test_a_root_the_chain_does_not_have() -> None:
    ancestry, coin = mined(1000)
    beef = parse_beef(ancestry.beef(coin))
    for root_ok in (lambda height, root: False, lambda height, root: height != HEIGHT):
        with pytest.raises(RemoteProtocolError, match=f"block {HEIGHT} does not have the merkle root"):
            verify_beef(beef, root_ok)


def test_a_path_of_another_transaction() -> None:
    ancestry, coin = mined(1000)
    tx = child(coin, TxOut(900, PURSE))
    bump = from_block(HEIGHT, ancestry.block, 0)
    with pytest.raises(RemoteProtocolError, match="is not in it"):
        verify_beef(Beef((bump,), {tx.txid: BeefTx(tx, bump)}, tx.txid), ancestry.root_ok)


def test_two_merkle_nodes_posing_as_a_transaction() -> None:
    tx = Tx((TxIn("11" * 32, 0, b"\x51" * 3),), (TxOut(1, b"\x51"),))
    assert tx.size == 64
    ancestry = Ancestry()
    ancestry.mine(tx)
    refused(ancestry, tx, "64 bytes may be a pair of merkle nodes")


def test_an_envelope_that_lost_its_subject() -> None:
    ancestry, coin = mined(1)
    with pytest.raises(RemoteProtocolError, match="does not hold it"):
        verify_beef(replace(parse_beef(ancestry.beef(coin)), subject="11" * 32), ancestry.root_ok)


def test_two_proven_coinbases_do_not_spend_the_same_nothing() -> None:
    ancestry, coin = mined(1000)
    tx = pay([(coin, 0), (ancestry.txs[ancestry.block[0]], 0)], [TxOut(1, PURSE)])
    ancestry.add(tx)
    ask(ancestry, tx)


# --- what we know already ------------------------------------------------------------------------


def test_a_known_transaction_needs_no_proof_but_lends_its_amounts() -> None:
    ancestry, coin = mined(1000)
    good, greedy = child(coin, TxOut(1000, PURSE)), child(coin, TxOut(1001, PURSE))
    for tx, holds in ((good, True), (greedy, False)):
        beef = Beef((), {coin.txid: BeefTx(None), tx.txid: BeefTx(tx)}, tx.txid).fill({coin.txid: coin})
        if holds:
            verify_beef(beef, lambda height, root: False, known=coin.txid.__eq__)
        else:
            with pytest.raises(RemoteProtocolError, match="creates 1001"):
                verify_beef(beef, lambda height, root: False, known=coin.txid.__eq__)
    with pytest.raises(RemoteProtocolError, match="makes new coins"):
        verify_beef(beef, ancestry.root_ok)


# --- scripts -------------------------------------------------------------------------------------


def spend(lock: bytes, unlock: bytes, satoshis: int = 1000) -> bool:
    tx = Tx((TxIn("11" * 32, 0, unlock),), (TxOut(1, PURSE),))
    return unlocks(tx, 0, TxOut(satoshis, lock))


def signature(lock: bytes, secret: bytes = SECRET, flags: int = 0x41) -> bytes:
    tx = Tx((TxIn("11" * 32, 0),), (TxOut(1, PURSE),))
    return sign_digest(secret, sighash(tx, 0, lock, 1000, flags)) + bytes([flags])


@pytest.mark.parametrize("flags", [0x41, 0x42, 0x43, 0xC1, 0xC2, 0xC3])
def test_plain_scripts_are_decided_without_the_interpreter(flags: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "_interpret", lambda *_: pytest.fail("the interpreter was asked"))
    lock = token(b"SHIP")
    assert spend(PURSE, push(signature(PURSE, flags=flags)) + push(public_key(SECRET)))
    assert spend(lock, push(signature(lock, flags=flags)))


@pytest.mark.parametrize(
    "unlock",
    [
        b"",
        push(signature(PURSE)),
        push(public_key(SECRET)),
        push(signature(PURSE)) + push(public_key(OTHER)),
        push(signature(PURSE, OTHER)) + push(public_key(SECRET)),
        push(signature(PURSE, OTHER)) + push(public_key(OTHER)),  # a thief's own key, well signed
        b"\x4c" + push(signature(PURSE)) + push(public_key(SECRET)),  # not the shortest push
        push(signature(PURSE)[:-1]) + push(public_key(SECRET)),
        push(signature(PURSE)[:-1] + b"\x40") + push(public_key(SECRET)),
        push(signature(PURSE)[:-1] + b"\x01") + push(public_key(SECRET)),
        push(b"") + push(public_key(SECRET)),
        b"\x51" + push(signature(PURSE)) + push(public_key(SECRET)),
        b"\x61" + push(signature(PURSE)) + push(public_key(SECRET)),
        b"\x4c\x21" + public_key(SECRET),
        b"\x4e\xff\xff\xff\x7f",
    ],
)
def test_a_payment_is_not_unlocked_by(unlock: bytes) -> None:
    assert not spend(PURSE, unlock)


def test_the_amount_is_part_of_what_is_signed() -> None:
    unlock = push(signature(PURSE)) + push(public_key(SECRET))
    assert spend(PURSE, unlock)
    assert not spend(PURSE, unlock, 1001)


def test_other_scripts_are_executed() -> None:
    puzzle = b"\xa8" + push(sha256(b"secret")) + b"\x87"  # OP_SHA256 <hash> OP_EQUAL
    assert spend(puzzle, push(b"secret"))
    assert not spend(puzzle, push(b"guess"))
    either = b"\x51" + push(public_key(SECRET)) + push(ANYONE) + b"\x52\xae"  # 1 of 2
    assert spend(either, b"\x00" + push(signature(either)))
    assert not spend(either, b"\x00" + push(signature(either, OTHER)))
    assert not spend(b"\x00\x6a", b"\x51")  # a data output
    assert not spend(b"\x51\x51", b"")  # the stack is not clean


def test_a_script_hash_of_old_is_not_taken_for_a_puzzle() -> None:
    from reconciler.wire.keys import hash160

    redeem = b"\x51"
    assert not spend(b"\xa9\x14" + hash160(redeem) + b"\x87", push(redeem))


@pytest.mark.parametrize(
    "lock",
    [
        b"\x61" * 501 + b"\x51",  # more operations than we run
        push(bytes(50_000)) + b"\x76\x7e" * 8 + b"\x75\x51",  # doubling again and again
        push(bytes(90_000)) + b"\x76\xa8\x75" * 200 + b"\x75\x51",  # hashing again and again
        b"\x51" * 90_000,
        b"\x00\x63" + push(bytes(100_001)) + b"\x68\x51",
        b"\x4e\xff\xff\xff\x7f",
        b"\xba\xff",
        b"\x63",
    ],
    ids=["operations", "memory", "hashes", "stack", "size", "cut push", "no such opcode", "open branch"],
)
def test_a_hostile_script_is_false_and_costs_little(lock: bytes) -> None:
    assert not spend(lock, b"")


def puzzle(count: int) -> tuple[Ancestry, Tx]:
    """A transaction whose `count` inputs each need the interpreter."""
    lock = b"\xa8" + push(sha256(b"secret")) + b"\x87"
    ancestry, coin = mined(*[10] * count, script=lock)
    tx = Tx(tuple(TxIn(coin.txid, n, push(b"secret")) for n in range(count)), (TxOut(1, PURSE),))
    ancestry.add(tx)
    return ancestry, tx


def test_an_envelope_may_hold_only_so_many_unusual_scripts() -> None:
    ask(*puzzle(proof.MAX_INTERPRETED))
    refused(*puzzle(proof.MAX_INTERPRETED + 1), "more than 50 inputs with unusual scripts")


def test_a_large_transaction_is_not_interpreted_but_a_plain_one_is_checked() -> None:
    ancestry, tx = puzzle(1)
    ancestry.add(large := replace(tx, outputs=(*tx.outputs, TxOut(0, b"\x6a" + bytes(100_000)))))
    refused(ancestry, large, "the script of input 0 does not unlock")
    ancestry, coin = mined(1000)
    ancestry.add(plain := child(coin, TxOut(0, b"\x00\x6a" + push(bytes(200_000)))))
    ask(ancestry, plain)


# --- headers -------------------------------------------------------------------------------------

FIRST = bytes.fromhex(
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a"
    "51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
)


def test_the_first_header() -> None:
    header = parse_header(FIRST, 0)
    assert header.hash == "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
    assert header.merkle_root == parse_tx(GENESIS).txid
    assert (header.prev, header.time, header.bits, header.nonce) == ("00" * 32, 1231006505, 0x1D00FFFF, 2083236893)
    assert header.target == 0xFFFF << 208
    assert header.work_ok
    assert header.raw == FIRST


def test_a_header_without_its_work() -> None:
    assert not parse_header(FIRST[:-1] + b"\x00", 0).work_ok
    for bits in (0x1D80FFFF, 0xFF00FFFF, 0x0100FFFF):
        assert not parse_header(FIRST[:72] + bits.to_bytes(4, "little") + FIRST[76:], 0).work_ok
    for raw in (FIRST[:-1], FIRST + b"\x00", b""):
        with pytest.raises(RemoteProtocolError):
            parse_header(raw, 0)
