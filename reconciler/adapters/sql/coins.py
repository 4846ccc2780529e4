"""Which coin pays for what, and how a coin may move: the money rules of the ledger, as pure functions.

    pending -> free -> reserved -> spent

A coin is `pending` until the transaction that makes it has left, `reserved` from the moment one run holds it,
and `spent` once that run's bytes name it. It goes back only on proof that nothing can spend it: released
before any such bytes were sent, reserved again when they were refused for good, handed on when the run that
reserved it has ended.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from reconciler.model.errors import Invariant, Refused
from reconciler.model.ref import Outpoint
from reconciler.ports import Coin

# What `put_coin` may make of a coin that is already known. Whatever leads back from `reserved` or `spent` has a verb of its own.
_PUTS = {
    "pending": {"pending", "free", "spent"},
    "free": {"free", "pending", "reserved", "spent"},
    "reserved": {"reserved"},
    "spent": {"spent"},
}


def check_put(old: Coin, new: Coin) -> None:
    """Invariant unless `new` may be written over `old`: the same output, in a state that may follow."""
    if (old.chain, old.satoshis, old.script) != (new.chain, new.satoshis, new.script):
        raise Invariant("coin-changed", f"cannot rewrite coin {new.outpoint}: an output never changes its value or script")
    if new.state not in _PUTS[old.state] or (new.state == "reserved" and not new.run):
        raise Invariant("coin-state", f"cannot make coin {new.outpoint} {new.state}: it is {said(old)}")


def check_spend(coin: Coin, run: str) -> bool:
    """Whether the coin is still to be marked spent by `run`; Invariant when another run holds or spent it."""
    if coin.run == run and coin.state in ("reserved", "spent"):
        return coin.state == "reserved"
    raise Invariant("double-spend", f"cannot spend coin {coin.outpoint} in {run}: it is {said(coin)}")


def said(coin: Coin) -> str:
    """The state of a coin in words."""
    return f"{coin.state} by {coin.run}" if coin.run and coin.state in ("reserved", "spent") else coin.state


def is_inside(outpoint: Outpoint, raw: bytes) -> bool:
    """Whether the bytes of a transaction name the outpoint: its txid in wire order and its index, little-endian."""
    return bytes.fromhex(outpoint.txid)[::-1] + outpoint.vout.to_bytes(4, "little") in raw


def assign(needs: Sequence[int], held: Iterable[tuple[int, str]], free: Iterable[tuple[int, str]]) -> list[str] | int:
    """The outpoint for each need, in the order of the needs; or the first need that no coin is large enough for.

    Coins are (satoshis, outpoint). The largest need chooses first and takes the smallest sufficient coin, one
    that is already held before a free one. So a repeated call finds each need its old coin.
    """
    if any(need <= 0 for need in needs):
        raise Invariant("bad-need", f"cannot reserve {list(needs)}: a need is at least 1 satoshi")
    purses = (sorted(held), sorted(free))
    chosen: dict[int, str] = {}
    for index in sorted(range(len(needs)), key=lambda i: (-needs[i], i)):
        for purse in purses:
            at = bisect_left(purse, (needs[index], ""))
            if at < len(purse):
                chosen[index] = purse.pop(at)[1]
                break
        else:
            return needs[index]
    return [chosen[index] for index in range(len(needs))]


def insufficient(chain: str, needs: Sequence[int], short: int, available: Sequence[int]) -> Refused:
    """The refusal that says what is missing and how to bring it."""
    total = sum(available)
    largest = max(available, default=0)
    want = f"{sum(needs)} satoshis" if len(needs) == 1 else f"{sum(needs)} satoshis in {len(needs)} coins"
    have = f"{total} satoshis are free in {len(available)} coins, the largest {largest}"
    missing = max(short, sum(needs) - total)
    return Refused(
        "insufficient-funds",
        f"cannot fund this on {chain}: it needs {want}, {short} of them in one coin; {have}",
        hint=f"send at least {missing} satoshis to the funding address of the wallet, or wait until pending change is free",
    )
