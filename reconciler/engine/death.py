"""When a transaction that had been accepted is certainly dead, and what its death does to the coins.

A broadcaster that rejects today what it took yesterday proves nothing: a block may still bring it. Only a rival that spends
one of the same inputs and lies deep in the longest chain does. Until then nothing is built on the transaction, and nothing
that it spends is spent again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from reconciler.engine.demands import answered, demand
from reconciler.engine.stale import OUTSIDE
from reconciler.engine.standing import state
from reconciler.kinds.network import Net
from reconciler.model.errors import RemoteProtocolError, Unavailable
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.model.status import Condition, Truth
from reconciler.ports import Coin, LedgerTransaction, Ports, StoredTx
from reconciler.wire.bump import parse_bump
from reconciler.wire.tx import parse_tx

# Blocks under which a rival must lie before the coins of the transaction that lost to it may be used again.
DEAD_DEPTH = 6


@dataclass(frozen=True, slots=True)
class Rival:
    """Another transaction that spends `outpoint`, which ours spends, too; `depth` 0 while no proven block holds it."""

    txid: str
    outpoint: Outpoint
    depth: int

    @property
    def proves(self) -> bool:
        """Whether it lies deep enough to be the death certificate of the other."""
        return self.depth >= DEAD_DEPTH


async def rival_of(ports: Ports, net: Net, stored: StoredTx) -> Rival | None:
    """Who else spends an input of the transaction; None when nobody does, or nobody can tell."""
    for one in parse_tx(stored.raw).inputs:
        outpoint = Outpoint(one.txid, one.vout)
        try:
            txid = await ports.chain.spender(outpoint, net.headers)
        except (Unavailable, RemoteProtocolError) as error:
            if error.code == "no-spend-index":
                return None
            raise
        if txid is not None and txid != stored.txid:
            return Rival(txid, outpoint, await _depth(ports, net, txid))
    return None


async def _depth(ports: Ports, net: Net, txid: str) -> int:
    """Blocks from the one that provably holds it to the tip, both counted."""
    status = await ports.chain.status(txid, net.broadcasters)
    if status is None or not status.proof:
        return 0
    bump = parse_bump(status.proof)
    header = await ports.chain.header(bump.height, net.headers)
    if header is None or bump.root(txid) != header.merkle_root:
        return 0
    return await ports.chain.tip(net.headers) - bump.height + 1


def contest(tx: LedgerTransaction, stored: StoredTx, why: str, now: datetime) -> bool:
    """It was accepted and is now in doubt: its change is held back and a person is told; whether that is news."""
    message = f"{stored.txid} was accepted and is now refused: {why}; nothing is built on it until that is settled"
    if not demand(tx, stored.run or stored.txid, "contested", message, now, stored.txid):
        return False
    for coin in tx.coins(chain=stored.chain, state="free"):
        if coin.outpoint.txid == stored.txid:
            tx.put_coin(replace(coin, state="pending", run=stored.run))
    _tell(tx, stored, "Contested", message, now, "transaction.contested", {"txid": stored.txid, "why": why})
    return True


def acquit(tx: LedgerTransaction, stored: StoredTx, now: datetime) -> None:
    """It stands after all: its change may be spent again."""
    if not answered(tx, stored.run or stored.txid):
        return
    for coin in tx.coins(chain=stored.chain, state="pending", run=stored.run):
        if coin.outpoint.txid == stored.txid:
            tx.put_coin(replace(coin, state="free", run=""))
    for ref in _touched(tx, stored):
        record = tx.record(ref)
        generation = record.generation if record else 0
        ready = Condition("Ready", Truth.TRUE, "Admitted", "its transaction stands after all", generation, now)
        state(tx, ref, [ready, Condition("Stalled", Truth.FALSE, "", "", generation, now)])
        tx.note(ref, now, "transaction.stands", {"txid": stored.txid})


def bury(tx: LedgerTransaction, stored: StoredTx, rival: Rival, now: datetime) -> list[str]:
    """Enter the death of a transaction and of everything of ours that is built on it; returns their txids.

    Coins they made have never been. Coins they spent are free again, but for what the rival has taken. Their tokens are gone:
    the next plan makes them anew, with its price.
    """
    dead = _line(tx, stored)
    ids = {one.txid for one in dead}
    for one in dead:
        tx.put_transaction(replace(one, state="rejected", proof=b"", height=0, block=""))
    for coin in tx.coins(chain=stored.chain):
        if coin.outpoint.txid in ids and coin.state in ("pending", "free"):
            tx.put_coin(replace(coin, state="spent", run=OUTSIDE))
    taken = [coin for coin in tx.coins(chain=stored.chain) if coin.outpoint == rival.outpoint]
    for run in sorted({one.run for one in dead if one.run}):
        _give_back(tx, run, ids, taken)
    for one in dead:
        answered(tx, one.run or one.txid)
        lost = (
            f"{one.txid} lost to {rival.txid}, which spent {rival.outpoint}"
            if one is stored
            else f"its parent {stored.txid} is dead"
        )
        _tell(
            tx,
            one,
            "DoubleSpent",
            lost,
            now,
            "transaction.dead",
            {"txid": one.txid, "rival": rival.txid},
            dead={one.txid: rival.txid},
        )
    return sorted(ids)


def _line(tx: LedgerTransaction, stored: StoredTx) -> list[StoredTx]:
    """The transaction and every live one of ours that spends an output of it, directly or not."""
    alive = [one for one in tx.transactions() if one.state != "rejected" and one.txid != stored.txid]
    found, ids = [stored], {stored.txid}
    grown = True
    while grown:
        heirs = [one for one in alive if one.txid not in ids and any(i.txid in ids for i in parse_tx(one.raw).inputs)]
        found, ids, grown = [*found, *heirs], ids | {one.txid for one in heirs}, bool(heirs)
    return found


def _give_back(tx: LedgerTransaction, run: str, dead: set[str], taken: list[Coin]) -> None:
    """The coins a dead run spent: free again, except what the rival took and what was never there."""
    tx.unspend(run)
    gone = {coin.outpoint for coin in taken}
    for coin in tx.coins(state="reserved", run=run):
        if coin.outpoint in gone or coin.outpoint.txid in dead:
            tx.spend([coin.outpoint], run)
    tx.free(run)


def _touched(tx: LedgerTransaction, stored: StoredTx) -> list[ResourceRef]:
    """The resource whose tokens the transaction made, if its record still rests on them."""
    run = tx.run(stored.run) if stored.run else None
    if run is None or not run.key.startswith("ref/"):
        return []
    ref = ResourceRef.parse(run.key.removeprefix("ref/"))
    record = tx.record(ref)
    tokens = record.outputs.get("tokens") or () if record else ()
    return [ref] if any(Outpoint.parse(token["outpoint"]).txid == stored.txid for token in tokens) else []


def _tell(
    tx: LedgerTransaction,
    stored: StoredTx,
    reason: str,
    message: str,
    now: datetime,
    event: str,
    detail: dict[str, str],
    dead: dict[str, str] | None = None,
) -> None:
    """On the resource whose tokens the transaction made, and in its history; without one, in the ledger's."""
    refs: list[ResourceRef] = _touched(tx, stored)
    for ref in refs:
        record = tx.record(ref)
        generation, facts = (record.generation, record.status.facts) if record else (0, {})
        said = [
            Condition("Ready", Truth.FALSE, reason, message, generation, now),
            Condition("Stalled", Truth.TRUE, reason, message, generation, now),
            Condition("Confirmed", Truth.FALSE, reason, message, generation, now),
        ]
        state(tx, ref, said, {"dead": {**(facts.get("dead") or {}), **dead}} if dead else None)
        tx.note(ref, now, event, {**detail, "run": stored.run})
    if not refs:
        tx.note(None, now, event, {**detail, "run": stored.run})
