"""Whether the purse can pay for a plan, and the one transaction that makes it so when its coins are too few or too big.

Every paying transaction takes one coin of its own, the smallest that suffices, so that all of them can be made at once
and none waits for another's change. Needs can be met by a set of coins, in whatever order they are served, exactly when
for every amount there are as many coins of at least that amount as needs: serving a need with its smallest sufficient
coin never breaks that (it takes a coin only from amounts up to that coin, where the need itself stood as well).

Everyone who checks a payment reads the transaction that made its coin, and in full. One transaction with a coin for each
of n payments would be read n times: n squared outputs. So a split has at most `WIDEST` outputs, and a larger one is a tree:
the first transaction makes one coin for each group of coins, and each of those is split in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

from reconciler.model.change import Cost, FeeRate
from reconciler.model.plan import Funding
from reconciler.model.record import Purse

# (inputs, coin outputs, rate) -> fee of a transaction that also has one change output.
SplitFee = Callable[[int, int, FeeRate], int]
# The change output of a split holds at least this much.
_CHANGE = 1
# A coin for a dozen or so small transactions in a row, each paying from the change of the last.
ROOMY = 2_000
# So many coins may be as roomy as that. Of more, each holds two payments: every payment from change is one more unproven
# ancestor that whoever checks it has to read, and a plan of many changes would string them up by the dozen.
_FEW = 25
# The most outputs of one split, its change aside: some 3.4 kilobytes, a few times what a payment of it takes itself.
WIDEST = 100
# The price of one more input is measured over so many, because fees are whole satoshis.
_SPAN = 1_000


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A purse that cannot pay: one more coin of `missing` satoshis would do."""

    chain: str
    needs: int
    available: int
    missing: int


def fund(
    needs: Mapping[str, Sequence[int]],
    purses: Mapping[str, Purse],
    rates: Mapping[str, FeeRate],
    split_fee: SplitFee,
    widest: int = WIDEST,
) -> tuple[tuple[Funding, ...], tuple[Shortfall, ...]]:
    """The splits a plan needs, chain by chain and in the order they are to be made, and the chains whose purse does not suffice.

    Each split has at most `widest` outputs, 2 or more.
    """
    splits: list[Funding] = []
    shortfalls: list[Shortfall] = []
    whole = _whole(split_fee, widest)
    for chain in sorted(needs):
        purse = purses.get(chain, Purse())
        coins, wanted = _descending(purse.coins), _descending(max(1, need) for need in needs[chain])
        if not uncovered(wanted, coins):
            continue
        rate = rates.get(chain, FeeRate(0))
        found = split(wanted, coins, rate, whole)
        if found is None:
            shortfalls.append(Shortfall(chain, len(wanted), purse.total, _missing(wanted, coins, rate, whole)))
        else:
            inputs, outputs, fee = found
            outputs = roomy(outputs, sum(coins[:inputs]) - sum(outputs) - fee - _CHANGE)
            for made, merged, own in _tree(outputs, inputs, rate, split_fee, widest):
                splits.append(Funding(chain, made, merged, rate, Cost(transactions=1, fees=own)))
    return tuple(splits), tuple(shortfalls)


def _groups(count: int, widest: int) -> tuple[int, ...]:
    """How many of `count` coins each split of the last row makes: as few groups as will do, about equal."""
    parts = -(-count // widest)
    return tuple(count // parts + (number < count % parts) for number in range(parts)) if parts else ()


def _tree(
    outputs: tuple[int, ...], inputs: int, rate: FeeRate, split_fee: SplitFee, widest: int
) -> list[tuple[tuple[int, ...], int, int]]:
    """(outputs, inputs, fee) of each split of a tree that ends in `outputs`, parents first.

    A split below the first spends one coin, which was made to its measure.
    """
    rows = []
    while len(outputs) > widest:
        first, row = 0, []
        for size in _groups(len(outputs), widest):
            row.append((outputs[first : first + size], 1, split_fee(1, size, rate)))
            first += size
        outputs = tuple(sum(made) + fee + _CHANGE for made, _, fee in row)
        rows.append(row)
    return [(outputs, inputs, split_fee(inputs, len(outputs), rate)), *(one for row in reversed(rows) for one in row)]


def _whole(split_fee: SplitFee, widest: int) -> SplitFee:
    """What a tree of splits takes from the purse besides its coins and the change of its first: fees, and the least change of
    every other split.
    """

    @cache
    def rest(outputs: int, rate: FeeRate) -> tuple[int, int]:
        """How many outputs the first split has, and what the others take."""
        taken = 0
        while outputs > widest:
            sizes = _groups(outputs, widest)
            taken += sum(split_fee(1, size, rate) + _CHANGE for size in sizes)
            outputs = len(sizes)
        return outputs, taken

    def whole(inputs: int, outputs: int, rate: FeeRate) -> int:
        first, others = rest(outputs, rate)
        return split_fee(inputs, first, rate) + others

    return whole


def roomy(outputs: Sequence[int], spare: int) -> tuple[int, ...]:
    """Coins raised to a size whose change is still a coin, as far as half of what is left over allows.

    An exact coin leaves a change of one satoshi, which no later transaction can use, and the next plan has to split again.
    """
    left, raised = spare // 2, []
    for output in outputs:
        more = min(max(0, (ROOMY if len(outputs) <= _FEW else 2 * output) - output), left)
        left -= more
        raised.append(output + more)
    return _descending(raised)


def uncovered(needs: Sequence[int], coins: Sequence[int]) -> tuple[int, ...]:
    """The needs left without a coin when as much as possible has one; both descending, and so is the answer."""
    left, served = [], 0
    for need in needs:
        if served < len(coins) and coins[served] >= need:
            served += 1
        else:
            left.append(need)
    return tuple(left)


def split(
    needs: Sequence[int], coins: Sequence[int], rate: FeeRate, split_fee: SplitFee
) -> tuple[int, tuple[int, ...], int] | None:
    """(inputs, outputs, fee) of the split that merges the fewest of the largest coins; None when none suffices."""
    for inputs, outputs, fee, spare in _splits(needs, coins, rate, split_fee):
        if spare >= 0:
            return inputs, outputs, fee
    return None


def _splits(
    needs: Sequence[int], coins: Sequence[int], rate: FeeRate, split_fee: SplitFee
) -> Iterator[tuple[int, tuple[int, ...], int, int]]:
    """Every split worth a look, fewest inputs first, with the satoshis it leaves over (negative: it lacks them).

    Merging more coins never shortens the list of outputs, so no split pays for less than what is uncovered now; and
    once a coin is worth less than the bytes that spend it, no further coin helps.
    """
    bare = uncovered(needs, coins)
    owed = sum(bare) + _CHANGE
    for inputs, merged in enumerate(accumulate(coins), start=1):
        dearer = split_fee(inputs + _SPAN, len(bare), rate) - split_fee(inputs, len(bare), rate)
        if coins[inputs - 1] * _SPAN < dearer:
            return
        if merged < owed + split_fee(inputs, len(bare), rate):
            continue
        outputs = uncovered(needs, coins[inputs:])
        fee = split_fee(inputs, len(outputs), rate)
        yield inputs, outputs, fee, merged - sum(outputs) - fee - _CHANGE


def _missing(needs: Sequence[int], coins: Sequence[int], rate: FeeRate, split_fee: SplitFee) -> int:
    """The smallest coin found that would make the needs fundable; it always does, were it paid in now."""

    def suffices(satoshis: int) -> bool:
        more = _descending((*coins, satoshis))
        return not uncovered(needs, more) or split(needs, more, rate, split_fee) is not None

    bare = uncovered(needs, coins)
    low = 0
    high = max(*coins[:1], sum(bare) + split_fee(1, len(bare), rate) + _CHANGE, 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def _descending(amounts: Iterator[int] | Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(amounts, reverse=True))
