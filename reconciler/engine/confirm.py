"""Seen, mined, deep, and back again: follow every transaction of ours until a proof is k blocks deep.

A broadcaster's word is only a hint. A proof counts when its root stands in a header of the longest chain;
while a transaction is shallow its header is asked for again, so that a reorg revokes what it revoked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from reconciler.engine.ancestry import beef_of
from reconciler.engine.standing import state
from reconciler.kinds.network import Net
from reconciler.model.canonical import Json
from reconciler.model.errors import ReconcilerError, RemoteProtocolError
from reconciler.model.intent import RunState
from reconciler.model.record import RecordedState
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.model.status import Condition, Truth
from reconciler.ports import Ports, StoredTx
from reconciler.wire.bump import parse_bump

# Blocks after which a proof is taken as final and no longer looked at.
FINAL_DEPTH = 100


@dataclass(frozen=True, slots=True)
class Moved:
    """A transaction whose standing changed: from -> to is one of seen, mined, lost."""

    txid: str
    before: str
    after: str
    height: int = 0


async def confirm(ports: Ports, nets: Mapping[str, Net]) -> list[Moved]:
    """Look at every transaction that is not final; `nets` maps a chain name to the network to ask. Silence changes nothing."""
    with ports.ledger.begin() as tx:
        pending = [t for t in tx.transactions() if t.state in ("seen", "mined") and t.chain in nets]
    moved = []
    tips: dict[str, int] = {}
    for stored in pending:
        net = nets[stored.chain]
        try:
            if net.name not in tips:
                tips[net.name] = await ports.chain.tip(net.headers)
            if stored.state == "mined" and tips[net.name] - stored.height + 1 >= FINAL_DEPTH:
                continue
            step = await _look(ports, net, stored)
        except (ReconcilerError, OSError):
            continue
        if step is not None:
            moved.append(step)
    return moved


async def _look(ports: Ports, net: Net, stored: StoredTx) -> Moved | None:
    if stored.state == "mined":
        header = await ports.chain.header(stored.height, net.headers)
        if header is not None and header.hash == stored.block:
            return None
    status = await ports.chain.status(stored.txid, net.broadcasters)
    if status is not None and status.proof:
        proven = await _proven(ports, net, stored, status.proof)
        if proven is not None:
            _write(ports, proven)
            return Moved(stored.txid, stored.state, "mined", proven.height)
    if stored.state == "mined":
        _write(ports, replace(stored, state="seen", proof=b"", height=0, block=""))
        await ports.chain.broadcast(beef_of(ports.ledger, stored.txid), stored.txid, net.broadcasters)
        return Moved(stored.txid, "mined", "seen")
    if status is None:
        # Accepted once and now unknown everywhere: the same bytes again, never others.
        await ports.chain.broadcast(beef_of(ports.ledger, stored.txid), stored.txid, net.broadcasters)
        return Moved(stored.txid, "seen", "lost")
    return None


async def _proven(ports: Ports, net: Net, stored: StoredTx, raw: bytes) -> StoredTx | None:
    bump = parse_bump(raw)
    header = await ports.chain.header(bump.height, net.headers)
    if header is None:
        return None
    if bump.root(stored.txid) != header.merkle_root:
        raise RemoteProtocolError(f"proof of {stored.txid} does not lead to the header at height {bump.height}")
    return replace(stored, state="mined", proof=raw, height=bump.height, block=header.hash)


def _write(ports: Ports, stored: StoredTx) -> None:
    with ports.ledger.begin() as tx:
        tx.put_transaction(stored)


def depths(ports: Ports, recorded: RecordedState, tips: Mapping[str, int]) -> dict[ResourceRef, int]:
    """Confirmations of the shallowest transaction behind each record that has tokens; `tips` by chain."""
    found: dict[ResourceRef, int] = {}
    with ports.ledger.begin() as tx:
        for ref, record in recorded.records.items():
            txids = {Outpoint.parse(t["outpoint"]).txid for t in record.outputs.get("tokens") or ()}
            stored = [s for txid in sorted(txids) if (s := tx.transaction(txid))]
            if stored:
                found[ref] = min(tips[s.chain] - s.height + 1 if s.height and s.chain in tips else 0 for s in stored)
    return found


def note_depths(ports: Ports, recorded: RecordedState, depth: Mapping[ResourceRef, int]) -> None:
    """State the Confirmed condition of every record whose depth is known."""
    now = ports.clock.now()
    with ports.ledger.begin() as tx:
        for ref, blocks in depth.items():
            record = recorded.records[ref]
            truth, reason = (Truth.TRUE, "Mined") if blocks else (Truth.FALSE, "Seen")
            said = "in a block of the longest chain" if blocks else "seen by a broadcaster, not in a block yet"
            shown = {"confirmations": min(blocks, FINAL_DEPTH)}
            state(tx, ref, [Condition("Confirmed", truth, reason, said, record.generation, now)], shown)


def open_runs(ports: Ports) -> Mapping[str, Json]:
    """Open runs by key, for status lines."""
    with ports.ledger.begin() as tx:
        return {run.key: run.id for run in tx.runs(state=RunState.OPEN)}
