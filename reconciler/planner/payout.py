"""Which coins leave the purse together, and which are merged: pure, and in integers.

A coin is worth moving when it holds more than its own place in a transaction costs. One satoshi never is: a token that
somebody sent to our address may ride on it, and it would be lost as money. What is not worth moving stays where it is.

Two rules. A *sweep* takes every coin that is worth it, the largest first. A *merge* takes every coin below a bound that is
worth it, the smallest first, and only when fewer coins come out than went in. Either takes `MOST` coins a transaction, and the
coins that an earlier transaction of the kind was refused with always in the first: so at most one of the two can be mined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

# Inputs of one transaction: some 30 kilobytes, well below what any broadcaster takes.
MOST = 200

# (inputs, outputs) -> fee of a transaction with one output more, P2PKH all of them.
Fee = Callable[[int, int], int]


@dataclass(frozen=True, slots=True)
class Money:
    """A coin as far as the choice goes. `held`: an earlier, refused transaction named it."""

    satoshis: int
    outpoint: str
    held: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """One transaction: the coins it spends, its fee, and the satoshis of its outputs but the last, which takes the rest."""

    coins: tuple[str, ...]
    total: int
    fee: int
    outputs: tuple[int, ...] = ()

    @property
    def sent(self) -> int:
        """What arrives, all outputs together."""
        return self.total - self.fee


def sweep(coins: Sequence[Money], fee: Fee) -> list[Batch]:
    """Everything that is worth moving, in as few transactions as `MOST` allows."""
    return [batch for group in _groups(_worth(coins, fee), largest=True) if (batch := _batch(group, 1, fee)).sent > 0]


def merge(coins: Sequence[Money], below: int, into: int, fee: Fee) -> list[Batch]:
    """The coins of less than `below` satoshis, made into `into` coins a transaction, about equal ones; none where that gains
    nothing.
    """
    small = [coin for coin in _worth(coins, fee) if coin.satoshis < below or coin.held]
    groups = [group for group in _groups(small, largest=False) if len(group) > into]
    return [batch for group in groups if (batch := _batch(group, into, fee)).sent >= 2 * into]


def _worth(coins: Sequence[Money], fee: Fee) -> list[Money]:
    # The price of one more input is measured over so many, because fees are whole satoshis.
    own = -(-(fee(1 + MOST, 0) - fee(1, 0)) // MOST)
    return [coin for coin in coins if coin.satoshis > max(1, own) or coin.held]


def _groups(coins: Sequence[Money], *, largest: bool) -> Iterator[list[Money]]:
    ordered = sorted(coins, key=lambda coin: (not coin.held, -coin.satoshis if largest else coin.satoshis, coin.outpoint))
    for first in range(0, len(ordered), MOST):
        yield ordered[first : first + MOST]


def _batch(group: Sequence[Money], into: int, fee: Fee) -> Batch:
    total, cost = sum(coin.satoshis for coin in group), fee(len(group), into - 1)
    return Batch(tuple(coin.outpoint for coin in group), total, cost, ((total - cost) // into,) * (into - 1))
