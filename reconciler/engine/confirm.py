"""Seen, mined, deep, and back again: follow every transaction of ours until a proof is k blocks deep.

A broadcaster's word is only a hint. A proof counts when its root stands in a header of the longest chain;
while a transaction is shallow its header is asked for again, so that a reorg revokes what it revoked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from reconciler.engine.agreement import note_agreement
from reconciler.engine.ancestry import beef_of
from reconciler.engine.death import acquit, bury, contest, rival_of
from reconciler.engine.standing import state
from reconciler.kinds.network import Net
from reconciler.model.canonical import Json
from reconciler.model.errors import ReconcilerError, Refused, RemoteProtocolError, Uncertain
from reconciler.model.intent import RunState
from reconciler.model.record import RecordedState
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.model.status import Condition, Truth
from reconciler.ports import LedgerTransaction, Ports, StoredTx
from reconciler.wire import arc
from reconciler.wire.bump import parse_bump

# Blocks after which a proof is taken as final and no longer looked at.
FINAL_DEPTH = 100
# What the runs of payments to hosts are called: signed, handed over inside a request, and sent by the host.
PAYMENT = "payment/"
# What a broadcaster says of a transaction that may never be mined.
_DOUBTFUL = (arc.Verdict.REJECTED, arc.Verdict.DOUBLE_SPEND)


@dataclass(frozen=True, slots=True)
class Moved:
    """A transaction whose standing changed: from -> to is one of signed, seen, mined, lost, contested, rejected."""

    txid: str
    before: str
    after: str
    height: int = 0


async def confirm(ports: Ports, nets: Mapping[str, Net]) -> list[Moved]:
    """Look at every transaction that is not final; `nets` maps a chain name to the network to ask. Silence changes nothing."""
    await note_agreement(ports, nets)
    with ports.ledger.begin() as tx:
        ours = [t for t in tx.transactions() if t.chain in nets]
    pending = [t for t in ours if t.state in ("seen", "mined")]
    silent = [t for t in ours if t.state == "signed" and t.run.startswith(PAYMENT)]
    moved = [step for t in silent for step in await _unanswered(ports, nets[t.chain], t)]
    tips: dict[str, int] = {}
    # Transactions share blocks; one pass asks for each header once.
    blocks: dict[tuple[str, int], str | None] = {}
    buried: frozenset[str] = frozenset()
    for stored in pending:
        if stored.txid in buried:
            continue
        net = nets[stored.chain]
        try:
            if net.name not in tips:
                tips[net.name] = await ports.chain.tip(net.headers)
            if stored.state == "mined" and tips[net.name] - stored.height + 1 >= FINAL_DEPTH:
                continue
            if stored.state == "mined" and await _block_at(ports, net, stored.height, blocks) == stored.block:
                continue
            step = await _look(ports, net, stored)
        except (ReconcilerError, OSError):
            continue
        if step is not None:
            moved.append(step)
            buried = _rejected(ports) if step.after == "rejected" else buried
    return moved


async def _block_at(ports: Ports, net: Net, height: int, known: dict[tuple[str, int], str | None]) -> str | None:
    """The block of that height on the longest chain, None above its tip; asked for unless it is among the `known`."""
    if (net.name, height) not in known:
        header = await ports.chain.header(height, net.headers)
        known[net.name, height] = None if header is None else header.hash
    return known[net.name, height]


async def _unanswered(ports: Ports, net: Net, stored: StoredTx) -> list[Moved]:
    """A payment that was handed to a host which did not answer: once the network has it, its change is ours to spend.

    It is never sent by us: a host that did not get it is not to be paid.
    """
    try:
        status = await ports.chain.status(stored.txid, net.broadcasters)
    except (ReconcilerError, OSError):
        return []
    if status is None or arc.verdict(status.status, status.detail) is not arc.Verdict.ACCEPTED:
        return []
    with ports.ledger.begin() as tx:
        let_out(tx, stored.txid)
    return [Moved(stored.txid, "signed", "seen")]


def let_out(tx: LedgerTransaction, txid: str) -> None:
    """Enter that a signed payment is out: it is followed from now on, and its change is free. Nothing where that was done."""
    stored = tx.transaction(txid)
    if stored is None or stored.state != "signed":
        return
    tx.put_transaction(replace(stored, state="seen"))
    for coin in tx.coins(state="pending", run=stored.run):
        tx.put_coin(replace(coin, state="free", run=""))


def _rejected(ports: Ports) -> frozenset[str]:
    """What is dead by now: a transaction takes with it what was built on it."""
    with ports.ledger.begin() as tx:
        return frozenset(one.txid for one in tx.transactions(state="rejected"))


async def _look(ports: Ports, net: Net, stored: StoredTx) -> Moved | None:
    """What has become of a transaction that is not in the block that the ledger has it in, or in none."""
    status = await ports.chain.status(stored.txid, net.broadcasters)
    if status is not None and status.proof:
        proven = await _proven(ports, net, stored, status.proof)
        if proven is not None:
            _write(ports, proven)
            return Moved(stored.txid, stored.state, "mined", proven.height)
    verdict = arc.verdict(status.status, status.detail) if status is not None else None
    if stored.state == "mined":
        _write(ports, _unproven(stored))
    if verdict in _DOUBTFUL and status is not None:
        step = await _doubted(ports, net, stored, status.detail or status.status)
        if stored.state != "mined" and (step is None or step.after != "rejected"):
            # Nothing is known that could be mined in its place, so the no may have been a mistake: the same bytes again.
            with contextlib.suppress(ReconcilerError):
                await ports.chain.broadcast(beef_of(ports.ledger, stored.txid), stored.txid, net.broadcasters)
        return step
    if stored.state == "mined" or status is None or "ORPHAN" in f"{status.status} {status.detail}".upper():
        # Accepted once and now without its block, unknown everywhere, or without its parents: the same bytes again, never others.
        return await _again(ports, net, stored, "seen" if status is not None or stored.state == "mined" else "lost")
    if verdict is arc.Verdict.ACCEPTED:
        with ports.ledger.begin() as tx:
            acquit(tx, stored, ports.clock.now())
    return None


async def _again(ports: Ports, net: Net, stored: StoredTx, after: str) -> Moved | None:
    try:
        await ports.chain.broadcast(beef_of(ports.ledger, stored.txid), stored.txid, net.broadcasters)
    except (Refused, Uncertain) as error:
        if error.code in ("tx-rejected", "double-spend"):
            return await _doubted(ports, net, stored, error.message)
    except ReconcilerError:
        # It is tried again at the next look; that its block is gone is written down already.
        pass
    return Moved(stored.txid, stored.state, after) if after != stored.state else None


async def _doubted(ports: Ports, net: Net, stored: StoredTx, why: str) -> Moved | None:
    """It was accepted and somebody now says no: dead when a rival is deep in the chain, else in doubt and for a person to see."""
    rival = await rival_of(ports, net, stored)
    now = ports.clock.now()
    with ports.ledger.begin() as tx:
        # What is in the ledger now: its proof may have been taken back a moment ago.
        current = tx.transaction(stored.txid) or stored
        if rival is not None and rival.proves:
            bury(tx, current, rival, now)
            return Moved(stored.txid, stored.state, "rejected")
        return Moved(stored.txid, stored.state, "contested") if contest(tx, current, why, now) else None


def _unproven(stored: StoredTx) -> StoredTx:
    return replace(stored, state="seen", proof=b"", height=0, block="")


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
        if stored.proof:
            acquit(tx, stored, ports.clock.now())


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
