"""The chain of a world: blocks on demand, a mempool, reorganisations, and a faucet.

What is true of a transaction is one `Standing`, in ARC's words. The longest chain and the mempool share one index of
spent outputs, so an output has one spender or none. A transaction that conflicts with one in the mempool is remembered
as an attempt and loses for good when its rival is mined.

Differences from mainnet, all deliberate: blocks appear when asked for, difficulty never changes, there are no size
limits, and locktime is not enforced. Coinbase maturity is: the chain is born deep enough for the faucet to pay at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from statistics import median

from reconciler.devnet.blocks import MATURITY, SUBSIDY, Block, build, coinbase, genesis_parent
from reconciler.devnet.purse import Purse
from reconciler.model.change import FeeRate
from reconciler.model.errors import Refused
from reconciler.model.ref import Outpoint
from reconciler.ports import Clock
from reconciler.wire.bump import from_block
from reconciler.wire.keys import sha256
from reconciler.wire.tx import Tx, TxOut

# What miners of the deployed networks and the SDKs fall back to: 100 satoshis for 1000 bytes.
DEFAULT_RATE = FeeRate(100)
# How many faucet calls a newborn chain serves before its own blocks must mature; each call also mines one.
_READY_COINS = 10

SEEN = "SEEN_ON_NETWORK"
ORPHAN = "SEEN_IN_ORPHAN_MEMPOOL"
CONTESTED = "DOUBLE_SPEND_ATTEMPTED"
REJECTED = "REJECTED"
STALE = "MINED_IN_STALE_BLOCK"
MINED = "MINED"


@dataclass(frozen=True, slots=True)
class Standing:
    """What the network says of a transaction, and since when; `status` is an ARC status."""

    status: str
    at: datetime
    block: str = ""
    height: int = 0
    detail: str = ""
    competing: tuple[str, ...] = ()


@dataclass(slots=True)
class ChainState:
    """Everything a chain remembers, as containers of immutable values, so that a copy is cheap and complete.

    `unsettled` are the transactions whose standing another one's can change: orphans, and attempts on spent outputs.
    """

    blocks: list[Block] = field(default_factory=list)
    stale: dict[str, Block] = field(default_factory=dict)
    txs: dict[str, Tx] = field(default_factory=dict)
    standings: dict[str, Standing] = field(default_factory=dict)
    pool: dict[str, None] = field(default_factory=dict)
    spent: dict[Outpoint, tuple[str, int]] = field(default_factory=dict)
    changes: list[tuple[str, Standing]] = field(default_factory=list)
    coins: int = 0
    forks: int = 0
    unsettled: dict[str, None] = field(default_factory=dict)

    def copy(self) -> ChainState:
        """An independent state that is equal now."""
        return ChainState(
            list(self.blocks),
            dict(self.stale),
            dict(self.txs),
            dict(self.standings),
            dict(self.pool),
            dict(self.spent),
            list(self.changes),
            self.coins,
            self.forks,
            dict(self.unsettled),
        )


class Chain:
    """Headers, mempool and miner in one. `rate` is the least fee the mempool accepts; the faucet pays it too."""

    def __init__(self, clock: Clock, *, seed: int = 0, rate: FeeRate = DEFAULT_RATE) -> None:
        self.clock, self.rate = clock, rate
        self.state = ChainState()
        self._tag = f"devnet {seed}"
        self._purse = Purse(sha256(f"faucet of {self._tag}".encode()))
        for _ in range(MATURITY + _READY_COINS):
            self._append(())
        self.state.changes.clear()

    # --- what is known -----------------------------------------------------------------------------------------

    @property
    def tip(self) -> Block:
        """The last block of the longest chain."""
        return self.state.blocks[-1]

    def block(self, height: int) -> Block | None:
        """The block of that height on the longest chain."""
        return self.state.blocks[height] if 0 <= height < len(self.state.blocks) else None

    def root_ok(self, height: int, root: str) -> bool:
        """Whether the longest chain has that Merkle root at that height."""
        block = self.block(height)
        return block is not None and block.merkle_root == root

    def standing(self, txid: str) -> Standing | None:
        """What the network says of it; None when it never heard of it, or forgot."""
        return self.state.standings.get(txid)

    def live(self, txid: str) -> Tx | None:
        """The transaction, when it is in the mempool or on the longest chain."""
        standing = self.state.standings.get(txid)
        alive = standing is not None and (standing.status == MINED or txid in self.state.pool)
        return self.state.txs[txid] if alive else None

    def output(self, outpoint: Outpoint) -> TxOut | None:
        """An output of a live transaction, spent or not."""
        tx = self.live(outpoint.txid)
        return tx.outputs[outpoint.vout] if tx is not None and outpoint.vout < len(tx.outputs) else None

    def spender(self, outpoint: Outpoint) -> tuple[str, int] | None:
        """(txid, input index) of the live transaction that spends it."""
        return self.state.spent.get(outpoint)

    def mature(self, outpoint: Outpoint) -> bool:
        """False for an output of a coinbase with fewer than 100 blocks on top of it."""
        standing = self.state.standings[outpoint.txid]
        if standing.status != MINED or self.state.blocks[standing.height].txids[0] != outpoint.txid:
            return True
        return self.tip.height - standing.height >= MATURITY

    def proof(self, txid: str) -> bytes:
        """The BUMP (BRC-74) of a mined transaction; empty otherwise."""
        standing = self.state.standings.get(txid)
        if standing is None or standing.status != MINED:
            return b""
        return _path(standing.height, self.state.blocks[standing.height].txids, txid)

    def source(self, txid: str) -> tuple[bytes, bytes] | None:
        """(raw, proof or empty) of a live transaction: what BEEF is written from."""
        tx = self.live(txid)
        return None if tx is None else (tx.raw, self.proof(txid))

    # --- what happens ------------------------------------------------------------------------------------------

    def enter(self, tx: Tx) -> None:
        """Take a checked transaction into the mempool; mempool.py decides which ones."""
        self.state.txs[tx.txid] = tx
        self.state.pool[tx.txid] = None
        for index, entry in enumerate(tx.inputs):
            self.state.spent[entry.outpoint] = (tx.txid, index)

    def set_standing(self, txid: str, status: str, **facts: object) -> Standing:
        """Say something new of a transaction and note the change for whoever asked to be told."""
        standing = Standing(status, self.clock.now(), **facts)  # type: ignore[arg-type]
        self.state.standings[txid] = standing
        if status in (ORPHAN, CONTESTED):
            self.state.unsettled[txid] = None
        else:
            self.state.unsettled.pop(txid, None)
        self.state.changes.append((txid, standing))
        return standing

    def mine(self, blocks: int = 1) -> tuple[Block, ...]:
        """Append blocks; the first one takes the whole mempool, in an order where parents come first."""
        return tuple(self._append(tuple(self.state.pool)) for _ in range(blocks))

    def faucet(self, script: bytes, satoshis: int) -> Outpoint:
        """Pay `satoshis` to `script`, mined at once in a block of its own that leaves the mempool alone."""
        if not 0 < satoshis <= SUBSIDY // 2:
            raise Refused("faucet-amount", f"cannot pay {satoshis} satoshis at once", hint=f"ask for 1 to {SUBSIDY // 2}")
        block = self.state.blocks[self.state.coins]
        if self.tip.height - block.height < MATURITY:
            self._append(())
        self.state.coins += 1
        coin = Outpoint(block.txids[0], 0)
        tx = self._purse.pay(coin, SUBSIDY, (TxOut(satoshis, script),), self.rate)
        self.enter(tx)
        self._append((tx.txid,))
        return Outpoint(tx.txid, 0)

    def reorg(self, depth: int, drop: Sequence[str] = ()) -> tuple[Block, ...]:
        """Replace the last `depth` blocks by one more than that, all empty.

        Their transactions return to the mempool as MINED_IN_STALE_BLOCK, to be mined again by the next `mine`; those
        in `drop`, and whatever spends them, are forgotten as if they had never been sent.
        """
        if not 0 < depth < MATURITY:
            raise Refused("reorg-depth", f"cannot replace {depth} blocks", hint=f"choose a depth from 1 to {MATURITY - 1}")
        branch = len(self.state.blocks) - depth
        for txid in drop:
            at = self.standing(txid)
            if at is not None and at.status == MINED and at.height < branch:
                told = f"cannot forget {txid}: it is mined at height {at.height}, below the branch"
                raise Refused("reorg-drop", told, hint=f"choose a depth of at least {len(self.state.blocks) - at.height}")
        gone, self.state.blocks = self.state.blocks[-depth:], self.state.blocks[:-depth]
        self.state.forks += 1
        returning = [(txid, block) for block in gone for txid in block.txids[1:]]
        for txid, block in returning:
            self.set_standing(txid, STALE, block=block.hash, height=block.height)
        self.state.pool = dict.fromkeys([txid for txid, _ in returning] + list(self.state.pool))
        self.state.stale.update((block.hash, block) for block in gone)
        self._forget([block.txids[0] for block in gone] + list(drop))
        return tuple(self._append(()) for _ in range(depth + 1))

    def _append(self, txids: Sequence[str]) -> Block:
        height = len(self.state.blocks)
        reward = coinbase(height, f"{self._tag} fork {self.state.forks}", self._purse.script, SUBSIDY)
        recent = [block.time for block in self.state.blocks[-11:]]
        # Consensus wants a time above the median of eleven; a devnet mines faster than its clock ticks.
        moment = max(int(self.clock.now().timestamp()), int(median(recent)) + 1 if recent else 0)
        prev = self.state.blocks[-1].hash if self.state.blocks else genesis_parent()
        block = build(height, prev, (reward.txid, *txids), moment)
        self.state.blocks.append(block)
        self.state.txs[reward.txid] = reward
        for txid in block.txids:
            self.state.pool.pop(txid, None)
            self.set_standing(txid, MINED, block=block.hash, height=height)
        self._settle_rivals(txids)
        return block

    def _settle_rivals(self, mined: Iterable[str]) -> None:
        """Attempts on outputs that a block has now given to somebody else are over."""
        winners = set(mined)
        for txid in list(self.state.unsettled):
            standing = self.state.standings[txid]
            if standing.status == CONTESTED and txid not in self.state.pool and not winners.isdisjoint(standing.competing):
                self.set_standing(
                    txid, REJECTED, detail="double spend: the competing transaction was mined", competing=standing.competing
                )

    def _forget(self, txids: Iterable[str]) -> None:
        """Drop transactions and everything that spends them from memory."""
        doomed = list(txids)
        while doomed:
            txid = doomed.pop()
            tx = self.state.txs.pop(txid, None)
            if tx is None:
                continue
            self.state.standings.pop(txid, None)
            self.state.unsettled.pop(txid, None)
            self.state.pool.pop(txid, None)
            for entry in tx.inputs:
                if self.state.spent.get(entry.outpoint, ("", 0))[0] == txid:
                    del self.state.spent[entry.outpoint]
            children = [self.state.spent.get(Outpoint(txid, vout)) for vout in range(len(tx.outputs))]
            doomed += [child[0] for child in children if child is not None]


@lru_cache(maxsize=4096)
def _path(height: int, txids: tuple[str, ...], txid: str) -> bytes:
    """The merkle path of a transaction in a block of these; asked for again whenever somebody sends a child of it."""
    return from_block(height, txids, txids.index(txid)).raw
