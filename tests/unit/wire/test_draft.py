import pytest

from reconciler.model.change import FeeRate
from reconciler.model.effect import CoinOutput, DataOutput, Draft, Lock, TokenInput, TokenOutput
from reconciler.model.errors import Invariant, LocalProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire.draft import SIGNATURE_SIZE, Priced, assemble, price, sign_inputs, size
from reconciler.wire.proof import unlocks
from reconciler.wire.script import p2pkh
from reconciler.wire.tx import TxOut
from tests.unit.wire.chain import OTHER, PURSE, SECRET, token

LOCK = Lock("producer", "service host interconnect", "1")
COIN = Outpoint("22" * 32, 4)
OLD = Outpoint("33" * 32, 0)
AD = TokenOutput((b"SHIP", b"https://example.com"), LOCK)


def draft(*outputs: TokenOutput | DataOutput | CoinOutput, inputs: int = 0, coins: int = 1, rate: int = 100) -> Draft:
    olds = tuple(TokenInput(Outpoint(OLD.txid, n), LOCK) for n in range(inputs))
    return Draft("devnet", outputs, olds, FeeRate(rate), coins)


def test_the_smallest_draft_by_hand() -> None:
    # version, 1 input of outpoint + 107 bytes of unlocking + sequence, 1 output of 34, locktime
    assert size(draft()) == 4 + 1 + (36 + 1 + 107 + 4) + 1 + 34 + 4
    assert price(draft(), []) == Priced(20, 0, 21)


def test_a_token_by_hand() -> None:
    script = 34 + 1 + (5 + 20) + (SIGNATURE_SIZE + 1) + 2
    assert size(draft(AD)) - size(draft()) == 8 + 1 + script
    assert size(draft(AD, inputs=1)) - size(draft(AD)) == 36 + 1 + 73 + 4


def test_data_and_coins_by_hand() -> None:
    assert size(draft(DataOutput((b"hello",)))) - size(draft()) == 8 + 1 + 2 + 6
    assert size(draft(DataOutput((bytes(300),)))) - size(draft()) == 8 + 3 + 2 + 303
    assert size(draft(CoinOutput(7))) - size(draft()) == 34
    assert size(draft(coins=3)) - size(draft()) == 2 * 148


def test_many_outputs_need_a_longer_count() -> None:
    assert size(draft(*[CoinOutput(1)] * 252)) - size(draft(*[CoinOutput(1)] * 251)) == 34 + 2


def test_what_is_locked_and_what_is_needed() -> None:
    cost = price(draft(AD, TokenOutput((b"x",), LOCK, 10), CoinOutput(500), DataOutput((b"d",)), inputs=2), [3, 4])
    assert cost.locked == 1 + 10 - 7
    assert cost.need == cost.fee + 1 + 10 + 500 - 7 + 1
    assert price(draft(inputs=1), [1_000_000]).need == 1  # the token pays for everything; a coin stands by
    with pytest.raises(LocalProtocolError):
        price(draft(inputs=1), [])


@pytest.mark.parametrize(("rate", "fee"), [(0, 0), (1, 1), (100, 20), (500, 96)])
def test_the_fee_is_rounded_up_per_transaction(rate: int, fee: int) -> None:
    assert price(draft(rate=rate), []).fee == fee


def test_a_rotation_is_built_signed_and_unlocks_everything() -> None:
    old, new = token(b"SHIP", b"https://old.example"), token(*AD.fields)
    plan = draft(AD, CoinOutput(77), DataOutput((b"note",)), inputs=1, coins=2)
    cost = price(plan, [1])
    funding = [(COIN, cost.need - 5, PURSE), (Outpoint(COIN.txid, 5), 5, PURSE)]
    tx, sources = assemble(plan, funding, [(1, old)], [new], PURSE)
    assert [one.outpoint for one in tx.inputs] == [OLD, COIN, Outpoint(COIN.txid, 5)]
    assert [(one.satoshis, one.script) for one in tx.outputs] == [(1, new), (77, PURSE), (0, b"\x00\x6a\x04note"), (1, PURSE)]
    signed = sign_inputs(tx, sources, [SECRET] * 3)
    assert all(unlocks(signed, index, source) for index, source in enumerate(sources))
    assert size(plan) - 4 <= signed.size <= size(plan)
    assert sum(one.satoshis for one in sources) - sum(one.satoshis for one in signed.outputs) == cost.fee
    assert sign_inputs(tx, sources, [SECRET] * 3).raw == signed.raw


def test_change_is_what_is_left() -> None:
    cost = price(draft(), [])
    tx, _ = assemble(draft(), [(COIN, cost.need + 999, PURSE)], [], [], PURSE)
    assert tx.outputs == (TxOut(1000, PURSE),)
    rich, _ = assemble(draft(inputs=1), [(COIN, 1, PURSE)], [(1_000_000, token(b"x"))], [], PURSE)
    assert rich.outputs == (TxOut(1_000_001 - price(draft(inputs=1), [1_000_000]).fee, PURSE),)


def test_a_coin_one_satoshi_short_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="cannot pay 21 satoshis with coins of 20"):
        assemble(draft(), [(COIN, 20, PURSE)], [], [], PURSE)


def test_a_draft_gets_the_coins_and_scripts_it_asked_for() -> None:
    with pytest.raises(LocalProtocolError):
        assemble(draft(), [], [], [], PURSE)
    with pytest.raises(LocalProtocolError):
        assemble(draft(AD), [(COIN, 9999, PURSE)], [], [], PURSE)
    with pytest.raises(Invariant, match="drafted fields"):
        assemble(draft(AD), [(COIN, 9999, PURSE)], [], [token(b"SLAP", b"other")], PURSE)


def test_nothing_is_spent_twice() -> None:
    with pytest.raises(Invariant, match="twice"):
        assemble(draft(coins=2), [(COIN, 9999, PURSE), (COIN, 9999, PURSE)], [], [], PURSE)


def test_a_negative_amount_is_our_bug() -> None:
    with pytest.raises(Invariant):
        assemble(draft(CoinOutput(-5)), [(COIN, 9999, PURSE)], [], [], PURSE)


def test_only_the_right_key_signs() -> None:
    tx, sources = assemble(draft(), [(COIN, 9999, PURSE)], [], [], PURSE)
    with pytest.raises(LocalProtocolError, match="another key"):
        sign_inputs(tx, sources, [OTHER])
    with pytest.raises(LocalProtocolError):
        sign_inputs(tx, sources, [])
    with pytest.raises(LocalProtocolError, match="another key"):
        sign_inputs(tx, [TxOut(9999, token(b"x", secret=OTHER))], [SECRET])
    for script in (b"\x51", p2pkh(b"\x02" + bytes(32))[:-1]):
        with pytest.raises(LocalProtocolError, match="cannot sign for this output"):
            sign_inputs(tx, [TxOut(9999, script)], [SECRET])
