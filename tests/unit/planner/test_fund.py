"""A coin for every paying transaction."""

from reconciler.model.change import Cost, FeeRate
from reconciler.model.record import Purse
from reconciler.planner.fund import ROOMY, fund, roomy, split, uncovered

RATE = FeeRate(100)


def fee_of(inputs: int, outputs: int, rate: FeeRate) -> int:
    return rate.fee(10 + 148 * inputs + 34 * (outputs + 1))


def test_a_purse_with_a_coin_for_each_need_is_left_as_it_is() -> None:
    assert fund({"main": [50, 60]}, {"main": Purse((60, 50))}, {"main": RATE}, fee_of) == ((), ())


def test_needs_are_met_by_as_many_coins_as_are_large_enough() -> None:
    assert uncovered((60, 50, 10), (55, 9, 5)) == (60, 10)
    assert uncovered((60,), ()) == (60,)
    assert uncovered((), (60,)) == ()


def test_one_large_coin_is_split_for_what_is_missing_and_no_more() -> None:
    (made,), short = fund({"main": [500, 400, 300]}, {"main": Purse((1_000, 350))}, {"main": RATE}, fee_of)
    assert short == ()
    assert (made.chain, made.inputs, len(made.outputs)) == ("main", 1, 2)
    assert made.cost == Cost(transactions=1, fees=fee_of(1, 2, RATE))


def test_a_split_makes_coins_whose_change_is_still_a_coin_when_the_purse_allows() -> None:
    (made,), _ = fund({"main": [500, 400, 300]}, {"main": Purse((10_000, 350))}, {"main": RATE}, fee_of)
    assert made.outputs == (ROOMY, ROOMY)
    assert roomy((500, 400), 0) == (500, 400)
    assert roomy((500, 400), 1_000) == (1_000, 400)
    assert roomy((5_000, 400), 10_000) == (5_000, ROOMY)


def test_of_many_coins_each_holds_two_payments_and_no_long_chain() -> None:
    (made,), _ = fund({"main": [50] * 40}, {"main": Purse((100_000,))}, {"main": RATE}, fee_of)
    assert made.outputs == (100,) * 40


def test_a_split_wider_than_the_limit_is_a_tree_of_splits_with_its_exact_price() -> None:
    made, short = fund({"main": [50] * 7}, {"main": Purse((10_000,))}, {"main": RATE}, fee_of, widest=3)
    assert short == () and [(one.inputs, len(one.outputs)) for one in made] == [(1, 3), (1, 3), (1, 2), (1, 2)]
    root, *leaves = made
    assert root.outputs == tuple(sum(leaf.outputs) + leaf.cost.fees + 1 for leaf in leaves)
    assert [one.cost.fees for one in made] == [fee_of(1, len(one.outputs), RATE) for one in made]
    deep, _ = fund({"main": [50] * 10}, {"main": Purse((10_000,))}, {"main": RATE}, fee_of, widest=2)
    assert [len(one.outputs) for one in deep] == [2, *(2, 1), *(2, 2, 1), *(2, 2, 2, 2, 2)]


def test_a_purse_one_satoshi_short_of_a_tree_of_splits_is_refused() -> None:
    needs = [50] * 7
    made, _ = fund({"main": needs}, {"main": Purse((10_000,))}, {"main": RATE}, fee_of, widest=3)
    least = 7 * 50 + sum(one.cost.fees for one in made) + len(made)
    (root, *_), short = fund({"main": needs}, {"main": Purse((least,))}, {"main": RATE}, fee_of, widest=3)
    assert short == () and sum(root.outputs) + root.cost.fees + 1 == least
    none, (lack,) = fund({"main": needs}, {"main": Purse((least - 1,))}, {"main": RATE}, fee_of, widest=3)
    assert none == () and lack.available == least - 1


def test_as_few_coins_as_possible_are_merged() -> None:
    coins = (300, 300, 300, 300)
    fee = fee_of(2, 1, RATE)
    assert split((600 - fee - 1,), coins, RATE, fee_of) == (2, (600 - fee - 1,), fee)
    inputs, _, _ = split((600 - fee,), coins, RATE, fee_of) or (0, (), 0)
    assert inputs == 3


def test_a_need_below_one_satoshi_still_takes_a_coin() -> None:
    assert fund({"main": [-900]}, {"main": Purse((1,))}, {"main": RATE}, fee_of) == ((), ())
    _, (short,) = fund({"main": [-900]}, {"main": Purse(())}, {"main": RATE}, fee_of)
    assert short.missing == 1
    (made,), _ = fund({"main": [-900, -900]}, {"main": Purse((1000,))}, {"main": RATE}, fee_of)
    assert len(made.outputs) == 2


def test_a_purse_that_cannot_pay_says_what_one_coin_would_mend() -> None:
    needs, coins = (500, 400), (300, 200)
    made, (short,) = fund({"main": list(needs)}, {"main": Purse(coins)}, {"main": RATE}, fee_of)
    assert made == ()
    assert (short.chain, short.needs, short.available) == ("main", 2, 500)
    enough = sorted((*coins, short.missing), reverse=True)
    assert split(needs, enough, RATE, fee_of) is not None
    less = sorted((*coins, short.missing - 1), reverse=True)
    assert uncovered(needs, less) and split(needs, less, RATE, fee_of) is None


def test_coins_worth_less_than_their_bytes_are_no_money() -> None:
    made, (short,) = fund({"main": [1000]}, {"main": Purse((2,) * 5000)}, {"main": RATE}, fee_of)
    assert made == () and short.available == 10_000 and short.missing == 1000


def test_small_coins_are_merged_as_long_as_each_is_worth_its_bytes() -> None:
    coins = (20,) * 400
    found = split((1000,), coins, RATE, fee_of)
    assert found is not None and 190 < found[0] < 210
    assert sum(coins[: found[0]]) >= 1000 + found[2] + 1


def test_each_chain_pays_for_itself() -> None:
    purses = {"main": Purse((5000,)), "test": Purse((9000,))}
    made, short = fund({"main": [100, 100], "test": [100], "other": [7]}, purses, {"main": RATE, "other": RATE}, fee_of)
    assert [funding.chain for funding in made] == ["main"]
    assert [lack.chain for lack in short] == ["other"]
