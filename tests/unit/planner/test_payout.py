"""Which coins leave or merge, and that no satoshi is lost over it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.model.change import FeeRate
from reconciler.planner import payout
from reconciler.planner.payout import Batch, Money, merge, sweep

PURSE = st.lists(st.tuples(st.integers(1, 5_000), st.booleans()), max_size=30).map(
    lambda coins: [Money(satoshis, f"c{index:02}", held and index < 3) for index, (satoshis, held) in enumerate(coins)]
)
RATES = st.sampled_from([FeeRate(1), FeeRate(100), FeeRate(500)])


def fee_at(rate: FeeRate) -> payout.Fee:
    return lambda inputs, outputs: rate.fee(10 + 149 * inputs + 34 * (outputs + 1))


def sound(purse: list[Money], batches: list[Batch], fee: payout.Fee) -> None:
    """What holds of every choice: no coin twice, no satoshi from nowhere, and what was held is spent first."""
    worth = {coin.outpoint: coin.satoshis for coin in purse}
    named = [outpoint for batch in batches for outpoint in batch.coins]
    assert len(named) == len(set(named)) and set(named) <= set(worth)
    for batch in batches:
        assert batch.total == sum(worth[outpoint] for outpoint in batch.coins)
        assert batch.fee == fee(len(batch.coins), len(batch.outputs))
        assert batch.sent - sum(batch.outputs) >= 1
    held = {coin.outpoint for coin in purse if coin.held}
    assert not batches or held <= set(batches[0].coins)


@given(purse=PURSE, rate=RATES)
@settings(max_examples=150, deadline=None)
def test_a_sweep_leaves_only_what_is_not_worth_its_fee(purse: list[Money], rate: FeeRate) -> None:
    fee = fee_at(rate)
    batches = sweep(purse, fee)
    sound(purse, batches, fee)
    moved = {outpoint for batch in batches for outpoint in batch.coins}
    left = [coin for coin in purse if coin.outpoint not in moved]
    assert all(coin.satoshis > 1 or coin.held for coin in purse if coin.outpoint in moved)
    if batches:
        # One more input costs 149 bytes, rounded up over many.
        assert all(coin.satoshis <= max(1, -(-149 * rate.satoshis // rate.bytes)) for coin in left)
    else:
        assert sum(coin.satoshis for coin in left) <= fee(len(left), 0) or all(coin.satoshis <= 149 for coin in left)


@given(purse=PURSE, rate=RATES, below=st.integers(2, 5_000), into=st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_a_merge_touches_small_coins_only_and_leaves_fewer(purse: list[Money], rate: FeeRate, below: int, into: int) -> None:
    fee = fee_at(rate)
    batches = merge(purse, below, into, fee)
    sound(purse, batches, fee)
    worth = {coin.outpoint: coin for coin in purse}
    for batch in batches:
        assert len(batch.outputs) + 1 == into < len(batch.coins)
        assert len(set(batch.outputs)) <= 1
        assert all(worth[outpoint].satoshis < below or worth[outpoint].held for outpoint in batch.coins)


def test_what_is_too_much_for_one_transaction_is_several() -> None:
    fee = fee_at(FeeRate(1))
    purse = [Money(100 + index, f"c{index:03}") for index in range(payout.MOST + 1)]
    first, last = sweep(purse, fee)
    assert (len(first.coins), last.coins) == (payout.MOST, ("c000",))
    only, *rest = merge(purse, 10_000, 1, fee)
    assert (len(only.coins), rest) == (payout.MOST, [])


def test_one_satoshi_stays_at_any_rate() -> None:
    assert sweep([Money(1, "token"), Money(2, "coin")], lambda inputs, outputs: 0) == [Batch(("coin",), 2, 0)]
    assert sweep([], fee_at(FeeRate(1))) == [] == merge([Money(500, "alone")], 1_000, 1, fee_at(FeeRate(1)))
