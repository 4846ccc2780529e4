"""Hosts that were left behind and did not answer: they list tokens that are spent, and are told until they have heard it.

The list is one value in the ledger. No run waits for it, for a host that is gone for good would never let one end; it is
worked off whenever a process settles what is open, ever more rarely for a host that stays silent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from reconciler.engine.backoff import retry_at
from reconciler.engine.submit import retract
from reconciler.model.canonical import Json
from reconciler.model.codec import decode, encode, timestamp
from reconciler.model.effect import Retract
from reconciler.ports import LedgerTransaction, Ports

# The name under which the ledger keeps the list.
_NAME = "farewells"
# Tries after which a host is believed to be gone for good: about a month at the longest pause.
TRIES = 4000


@dataclass(frozen=True, slots=True)
class _Farewell:
    """What is still to be told, when next, and how often it was tried."""

    effect: Retract
    due: datetime
    tries: int = 0


def remember(tx: LedgerTransaction, results: Sequence[Mapping[str, Json]], now: datetime) -> None:
    """Take over what the Retracts of a finished run left to be told."""
    late = [_Farewell(decode(Retract, result["late"]), now, 1) for result in results if result.get("late")]
    if late:
        _write(tx, [*_read(tx), *late])


def owe(tx: LedgerTransaction, effects: Sequence[Retract], now: datetime) -> None:
    """Take over what hosts are to be told as soon as may be, one after another."""
    if effects:
        _write(tx, [*_read(tx), *(_Farewell(effect, now) for effect in effects)])


async def bid(ports: Ports) -> int:
    """Tell whoever is due; how many have heard it."""
    now = ports.clock.now()
    with ports.ledger.begin() as tx:
        due = [one for one in _read(tx) if one.due <= now]
    heard = 0
    for one in due:
        left = (await retract(one.effect, ports))["late"]
        heard += len(one.effect.hosts) - (len(left["hosts"]) if left else 0)
        again = [_Farewell(decode(Retract, left), retry_at(now, one.tries, ports.entropy), one.tries + 1)] if left else []
        with ports.ledger.begin() as tx:
            if again and one.tries >= TRIES:
                hosts = [host.name for host in again[0].effect.hosts]
                tx.note(None, now, "retraction.given_up", {"txid": one.effect.txid, "hosts": hosts})
                again = []
            # Another process may have added to the list meanwhile, or told this one.
            _write(tx, [*[known for known in _read(tx) if known.effect != one.effect], *again])
    return heard


def _read(tx: LedgerTransaction) -> list[_Farewell]:
    kept = tx.get(_NAME) or []
    return [_Farewell(decode(Retract, one["effect"]), datetime.fromisoformat(one["due"]), one["tries"]) for one in kept]


def _write(tx: LedgerTransaction, all_: Sequence[_Farewell]) -> None:
    tx.put(_NAME, [{"effect": encode(one.effect), "due": timestamp(one.due), "tries": one.tries} for one in all_])
