"""Whether this ledger is the newest there is: before anything is spent, its coins are held against the chain.

A ledger restored from a backup has forgotten what it paid for since. Some coin that it takes for free is then spent, by a
transaction that it does not know; the same shows when a second ledger spends from the same purse. Either way the next
payment might be for something that exists, so nothing is spent until a person has looked (engine/readonly.py).

Coins are asked about a batch at a time, each pass going on where the last one stopped, so that in time every coin is asked
about; and every coin once more right before a transaction spends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.engine.readonly import Foreign, enter, leave
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused, RemoteProtocolError, Unavailable
from reconciler.model.intent import RunState
from reconciler.model.ref import Outpoint
from reconciler.ports import Coin, LedgerTransaction, Ports
from reconciler.wire.tx import parse_tx

# Coins asked about in one pass: enough to notice, few enough for a public service.
ASKED = 32
# No transaction is made for less than this many satoshis, so a smaller coin can pay for none.
USEFUL = 10
# What the books call whoever spends coins of ours without this ledger.
OUTSIDE = "outside"


async def require_newest(ports: Ports, chain: str, headers: Endpoint) -> None:
    """Attention when a coin was spent behind this ledger's back; Unavailable when the source that could tell is silent."""
    found = await foreign_spends(ports, chain, headers)
    if found:
        raise enter(ports, found)


async def vet(ports: Ports, coins: Sequence[Coin], headers: Endpoint) -> None:
    """The coins a transaction is about to spend are there still. Attention when a stranger has spent one.

    Unavailable when nobody can tell at the moment, and when a transaction of our own had one after all: then the step chooses
    other coins when it is tried again. A header source without an index of spends tells nothing, and the coins are believed.
    """
    found, answered, gone = await _ask(ports, coins, headers)
    if found:
        raise enter(ports, found)
    if gone:
        raise Unavailable("coin-gone", f"cannot spend {gone[0]}: a transaction of ours that was refused has spent it after all")
    if answered is not None and answered < len(coins):
        raise Unavailable("coin-unknown", f"cannot tell whether {coins[answered].outpoint} is there still", hint=_SILENT)


async def foreign_spends(ports: Ports, chain: str, headers: Endpoint) -> list[Foreign]:
    """Coins of the next batch that strangers' transactions spend; all of them at once as soon as there is one.

    Our own transactions, refused and mined all the same, are entered on the way. A header source without an index of spends
    tells nothing, and none are found.
    """
    with ports.ledger.begin() as tx:
        coins = sorted(_spendable(tx, chain), key=lambda coin: str(coin.outpoint))
        place = tx.get(_place(chain)) or ""
    ahead = [coin for coin in coins if str(coin.outpoint) > place] + [coin for coin in coins if str(coin.outpoint) <= place]
    batch, rest = ahead[:ASKED], ahead[ASKED:]
    found, answered, _ = await _ask(ports, batch, headers)
    if answered is None:
        return []
    if found:
        return found + (await _ask(ports, rest, headers))[0]
    if rest and answered:
        with ports.ledger.begin() as tx:
            tx.put(_place(chain), str(batch[answered - 1].outpoint))
    return found


async def _ask(ports: Ports, coins: Sequence[Coin], headers: Endpoint) -> tuple[list[Foreign], int | None, list[Outpoint]]:
    """(strangers' spends, how many coins were asked about, coins our own transactions had spent); None where nobody can tell.

    Unavailable when the source did not answer even once.
    """
    found: list[Foreign] = []
    gone: list[Outpoint] = []
    for answered, coin in enumerate(coins):
        try:
            txid = await ports.chain.spender(coin.outpoint, headers)
        except (Unavailable, RemoteProtocolError) as error:
            if error.code == "no-spend-index":
                return [], None, []
            if not answered:
                told = f"cannot tell whether this ledger is the newest: {error.message}"
                raise Unavailable(error.code, told, hint=_SILENT) from error
            return found, answered, gone
        except Refused:
            return [], None, []
        if txid is not None and _settled(ports, coin, txid):
            gone.append(coin.outpoint)
        elif txid is not None:
            found.append(Foreign(coin.outpoint, coin.satoshis, txid, coin.chain))
    return found, len(coins), gone


async def agrees(ports: Ports, chain: str, headers: Endpoint) -> list[Foreign] | None:
    """Every coin of a chain held against the index of spends: those that strangers spent; None where nobody can tell.

    Unavailable when the index fell silent before all were asked about.
    """
    with ports.ledger.begin() as tx:
        coins = _spendable(tx, chain)
    found, answered, _ = await _ask(ports, coins, headers)
    if answered is not None and answered < len(coins):
        raise Unavailable(
            "coin-unknown", f"cannot tell whether {coins[answered].outpoint} is there still", hint="try again later"
        )
    return None if answered is None else found


def write_off(ports: Ports, found: Sequence[Foreign], *, by: str = "", why: str = "") -> None:
    """A person's word that these coins are gone and that nothing they paid for is missing: they are spent from now on.

    Ends the read-only mode when nothing else is amiss.
    """
    gone = {one.outpoint for one in found}
    with ports.ledger.begin() as tx:
        for coin in tx.coins():
            if coin.outpoint in gone:
                _retire(tx, coin)
        detail = {str(one.outpoint): one.txid for one in found}
        said = {"by": by, "why": why} if by else {}
        tx.note(None, ports.clock.now(), "coins.written_off", {**detail, **said})
        leave(tx, ports.clock.now(), gone)


def _place(chain: str) -> str:
    """The name under which the ledger keeps how far the coins of a chain have been asked about."""
    return f"coins-asked/{chain}"


def _spendable(tx: LedgerTransaction, chain: str) -> list[Coin]:
    """The free coins, and those that a run left reserved when it ended: the next one would spend them."""
    ended = {run.id for run in tx.runs(state=RunState.STALLED)}
    held = [coin for coin in tx.coins(chain=chain, state="reserved") if coin.run in ended]
    return [coin for coin in (*tx.coins(chain=chain, state="free"), *held) if coin.satoshis >= USEFUL]


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


_SILENT = "nothing is spent while it is silent"
