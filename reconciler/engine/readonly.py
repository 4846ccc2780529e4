"""Read-only: what a process may do once a coin was spent behind its ledger's back, which is to look.

A ledger that was restored from a backup, or is not the only one that spends from its purse, no longer knows what was paid
for. From the moment that shows, no run begins, goes on or is funded, in this process and in every later one: the mode is
written in the ledger. It ends when the newest ledger is put back in its place, or when a person says that what the coins
paid for is not missed (`stale.write_off`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from reconciler.engine.standing import state
from reconciler.model.canonical import Json
from reconciler.model.codec import timestamp
from reconciler.model.errors import Attention
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.model.status import Condition, Truth
from reconciler.ports import LedgerTransaction, LedgerView, Ports

log = logging.getLogger("reconciler.engine")

# The name under which the ledger keeps the mode.
_NAME = "read-only"


@dataclass(frozen=True, slots=True)
class Foreign:
    """A coin that the ledger takes for its own to spend, and the transaction that has spent it."""

    outpoint: Outpoint
    satoshis: int
    txid: str
    chain: str = ""


@dataclass(frozen=True, slots=True)
class Behind:
    """Since when nothing is spent, the coins that show why, and the Networks whose condition says so."""

    since: datetime
    coins: tuple[Foreign, ...]
    networks: tuple[ResourceRef, ...] = ()

    @property
    def message(self) -> str:
        """Why, in a sentence."""
        first, more = self.coins[0], len(self.coins) - 1
        others = f" (and {more} more)" if more else ""
        return f"coin {first.outpoint}{others} was spent by {first.txid}, which this ledger does not know"

    @property
    def hint(self) -> str:
        """The ways out."""
        names = " ".join(sorted({f"coins/{coin.chain}" for coin in self.coins}))
        return (
            "restore the newest copy of the ledger, or stop whoever else spends from this purse; "
            f"to go on without what it bought: reconciler journal resolve {names}"
        )


def behind(tx: LedgerView) -> Behind | None:
    """Why nothing may be spent; None while all is well."""
    kept = tx.get(_NAME)
    if not kept:
        return None
    coins = tuple(Foreign(Outpoint.parse(outpoint), satoshis, txid, chain) for outpoint, satoshis, txid, chain in kept["coins"])
    return Behind(datetime.fromisoformat(kept["since"]), coins, tuple(map(ResourceRef.parse, kept["networks"])))


def require_writable(tx: LedgerTransaction) -> None:
    """Attention while the ledger is behind."""
    found = behind(tx)
    if found is not None:
        raise refusal(found)


def refusal(found: Behind) -> Attention:
    """What whoever would spend is told."""
    return Attention("stale-ledger", f"cannot spend from this ledger: {found.message}", hint=found.hint)


def enter(ports: Ports, found: Sequence[Foreign]) -> Attention:
    """Write the mode down, tell it in the history, the log and the condition of the Networks; returns the error to raise."""
    now = ports.clock.now()
    networks = tuple(ref for ref in ports.ledger.read(now).records if ref.kind == "Network")
    with ports.ledger.begin() as tx:
        old = behind(tx)
        known = old.coins if old else ()
        fresh = tuple(coin for coin in found if coin.outpoint not in {one.outpoint for one in known})
        whole = Behind(old.since if old else now, (*known, *fresh), networks)
        if fresh:
            _write(tx, whole)
            tx.note(None, now, "ledger.behind", {str(coin.outpoint): coin.txid for coin in fresh})
            _state(tx, whole, Truth.TRUE, now)
    if fresh:
        log.error("ledger.behind", extra={"error": whole.message, "hint": whole.hint})
    return refusal(whole)


def leave(tx: LedgerTransaction, now: datetime, settled: Collection[Outpoint]) -> None:
    """The coins named are settled; with none left the mode ends."""
    old = behind(tx)
    if old is None:
        return
    left = replace(old, coins=tuple(coin for coin in old.coins if coin.outpoint not in settled))
    _write(tx, left)
    if not left.coins:
        _state(tx, old, Truth.FALSE, now)


def _write(tx: LedgerTransaction, whole: Behind) -> None:
    coins: list[Json] = [[str(coin.outpoint), coin.satoshis, coin.txid, coin.chain] for coin in whole.coins]
    shown = {"since": timestamp(whole.since), "coins": coins, "networks": [str(ref) for ref in whole.networks]}
    tx.put(_NAME, shown if coins else None)


def _state(tx: LedgerTransaction, whole: Behind, truth: Truth, now: datetime) -> None:
    reason, message = ("CoinSpentElsewhere", whole.message) if truth is Truth.TRUE else ("Newest", "")
    for ref in whole.networks:
        record = tx.record(ref)
        generation = record.generation if record else 0
        state(tx, ref, [Condition("ReadOnly", truth, reason, message, generation, now)])
