"""Whether this ledger is the newest there is: before anything is spent, its coins are held against the chain.

A ledger restored from a backup has forgotten what it paid for since. Some coin that it takes for free is then spent, by a
transaction that it does not know; the same shows when a second ledger spends from the same purse. Either way the next
payment might be for something that exists, so nothing is spent until a person has looked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reconciler.model.effect import Endpoint
from reconciler.model.errors import Conflict, Refused, RemoteProtocolError, Unavailable
from reconciler.model.intent import RunState
from reconciler.model.ref import Outpoint
from reconciler.ports import Coin, LedgerTransaction, Ports
from reconciler.wire.tx import parse_tx

# Coins asked about, the largest and the smallest useful ones: enough to notice, few enough for a public service.
ASKED = 32
# No transaction is made for less than this many satoshis, so a smaller coin can pay for none.
USEFUL = 10
# What the books call whoever spends coins of ours without this ledger.
OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Foreign:
    """A coin that the ledger takes for its own to spend, and the transaction that has spent it."""

    outpoint: Outpoint
    satoshis: int
    txid: str


async def require_newest(ports: Ports, chain: str, headers: Endpoint) -> None:
    """Conflict when a coin was spent behind this ledger's back; Unavailable when the source that could tell is silent."""
    found = await foreign_spends(ports, chain, headers)
    if found:
        raise Conflict(
            "stale-ledger",
            f"cannot spend from this ledger: coin {found[0].outpoint} was spent by {found[0].txid}, which it does not know",
            hint="restore the newest copy of the ledger, or stop whoever else spends from this purse",
        )


async def foreign_spends(ports: Ports, chain: str, headers: Endpoint) -> list[Foreign]:
    """Coins of the purse that strangers' transactions spend. Our own, refused and mined all the same, are entered on the way.

    A header source without an index of spends tells nothing, and none are found.
    """
    with ports.ledger.begin() as tx:
        coins = _chosen(_spendable(tx, chain))
    found = []
    for answered, coin in enumerate(coins):
        try:
            txid = await ports.chain.spender(coin.outpoint, headers)
        except (Unavailable, RemoteProtocolError) as error:
            if error.code == "no-spend-index":
                return []
            if not answered:
                hint = "nothing is spent while it is silent"
                raise Unavailable(
                    error.code, f"cannot tell whether this ledger is the newest: {error.message}", hint=hint
                ) from error
            break
        except Refused:
            return []
        if txid is not None and not _settled(ports, coin, txid):
            found.append(Foreign(coin.outpoint, coin.satoshis, txid))
    return found


def write_off(ports: Ports, found: Sequence[Foreign]) -> None:
    """A person's word that these coins are gone and that nothing they paid for is missing: they are spent from now on."""
    gone = {one.outpoint for one in found}
    with ports.ledger.begin() as tx:
        for coin in tx.coins():
            if coin.outpoint in gone:
                _retire(tx, coin)
        detail = {str(one.outpoint): one.txid for one in found}
        tx.note(None, ports.clock.now(), "coins.written_off", detail)


def _spendable(tx: LedgerTransaction, chain: str) -> list[Coin]:
    """The free coins, and those that a run left reserved when it ended: the next one would spend them."""
    ended = {run.id for run in tx.runs(state=RunState.STALLED)}
    held = [coin for coin in tx.coins(chain=chain, state="reserved") if coin.run in ended]
    return [coin for coin in (*tx.coins(chain=chain, state="free"), *held) if coin.satoshis >= USEFUL]


def _chosen(coins: Sequence[Coin]) -> list[Coin]:
    if len(coins) <= ASKED:
        return list(coins)
    ranked = sorted(coins, key=lambda coin: (-coin.satoshis, coin.outpoint))
    return [*ranked[: ASKED // 2], *ranked[-ASKED // 2 :]]


def _settled(ports: Ports, coin: Coin, txid: str) -> bool:
    """Whether the spend is our own after all. One that was refused and lives nevertheless is taken back into the books."""
    with ports.ledger.begin() as tx:
        now = next((one for one in tx.coins(chain=coin.chain) if one.outpoint == coin.outpoint), None)
        if now is None or (now.state, now.run) != (coin.state, coin.run):
            return True
        stored = tx.transaction(txid)
        if stored is None:
            return False
        _retire(tx, now)
        if stored.state == "rejected":
            tx.put_transaction(replace(stored, state="seen"))
        for vout, output in enumerate(parse_tx(stored.raw).outputs):
            change = replace(coin, outpoint=Outpoint(txid, vout), satoshis=output.satoshis, state="free", run="")
            if output.script == coin.script and all(one.outpoint != change.outpoint for one in tx.coins(chain=coin.chain)):
                tx.put_coin(change)
        return True


def _retire(tx: LedgerTransaction, coin: Coin) -> None:
    if coin.state == "reserved":
        tx.spend([coin.outpoint], coin.run)
    elif coin.state != "spent":
        tx.put_coin(replace(coin, state="spent", run=OUTSIDE))
