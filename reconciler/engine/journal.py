"""Open, perform, settle: the only road to an irreversible port.

Theory of operation. A run is a list of intents numbered from 0. An intent is OPEN from the commit before its
effect may touch the world until the commit that learned its fate; each arrow is one durable commit that
carries the fence of the lease it was made under, so a worker that lost its lease can write nothing. The
bytes of a transaction are stored when `Sign` settles; from then on its txid is a fact, and recovery can only
repeat them. Coins stay reserved for the run until the transaction spends them. Coins of a run that ended
without spending pass to the next run of the same key, so a replacement always spends the same inputs and
at most one of the two transactions can ever be mined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reconciler.model.canonical import Json
from reconciler.model.effect import Broadcast, Draft, Effect, Sign, TokenInput, fingerprint
from reconciler.model.errors import GuardRefused, Invariant, Refused, Unavailable
from reconciler.model.intent import Intent, IntentState, Run, RunState
from reconciler.ports import Coin, Lease, Ledger, LedgerTransaction, Signed, StoredTx
from reconciler.wire import draft as drafting


@dataclass(slots=True)
class Budget:
    """Satoshis a run was approved to move. Checked before coins are reserved, so an overrun signs nothing."""

    approved: int
    moved: int = 0

    def charge(self, satoshis: int) -> None:
        """Book an amount; GuardRefused when it would pass the approved sum."""
        if self.moved + satoshis > self.approved:
            raise GuardRefused(
                "over-approved",
                f"cannot move {self.moved + satoshis} sat: the plan approved {self.approved} sat",
                hint="plan again; the price has changed",
            )
        self.moved += satoshis


class Journal:
    """The journal of one run, under one lease."""

    def __init__(self, ledger: Ledger, run: Run, lease: Lease) -> None:
        self.ledger = ledger
        self.run = run
        self.lease = lease
        with ledger.begin() as tx:
            self.known = {intent.seq: intent for intent in tx.intents(run.id)}

    @property
    def signed(self) -> bool:
        """As `has_signed`, of this run."""
        return any(intent.effect == Sign.__name__ for intent in self.known.values())

    def recall(self, seq: int, effect: Effect) -> Intent | None:
        """What the journal already knows of this step; Invariant when it knows a different effect."""
        intent = self.known.get(seq)
        if intent is not None and intent.fingerprint != fingerprint(effect):
            raise Invariant(
                "replay-divergence",
                f"cannot replay {self.run.id}: step {seq} was {intent.effect}, and is now another {type(effect).__name__}",
                hint="the run began under another version; nothing was sent, see `reconciler journal show`",
            )
        return intent

    def open(self, seq: int, effect: Effect) -> tuple[Coin, ...]:
        """Write the intent down before anything happens; for `Sign`, reserve its coins in the same commit.

        Unavailable when no coin suffices: nothing is journaled, and funding the purse is all that is needed.
        """
        coins: tuple[Coin, ...] = ()
        intent = self.known.get(seq) or Intent(
            self.run.id, seq, type(effect).__name__, fingerprint(effect), IntentState.OPEN, {}, self.lease.fence
        )
        try:
            with self.ledger.begin() as tx:
                tx.check_fence(self.lease.key, self.lease.fence)
                if seq not in self.known:
                    tx.open_intent(intent)
                if isinstance(effect, Sign):
                    coins = self._reserve(tx, effect.draft)
        except Refused as error:
            raise Unavailable(error.code, error.message, hint=error.hint) from error
        self.known[seq] = intent
        return coins

    def settle(self, seq: int, effect: Effect, result: Mapping[str, Json]) -> None:
        """Write down that it happened; an accepted broadcast frees the coins it made in the same commit."""
        with self.ledger.begin() as tx:
            if isinstance(effect, Broadcast):
                self._accepted(tx, effect.txid)
            self._settle(tx, seq, result, IntentState.DONE)

    def refuse(self, seq: int, effect: Effect, error: Refused) -> None:
        """Write down a final no; a refused transaction gives its coins back to this run and makes none."""
        with self.ledger.begin() as tx:
            if isinstance(effect, Broadcast):
                stored = tx.transaction(effect.txid)
                if stored is not None and stored.run == self.run.id:
                    tx.put_transaction(replace(stored, state="rejected"))
                    tx.unspend(self.run.id)
            said = {"code": error.code, "message": error.message, "hint": error.hint}
            self._settle(tx, seq, said, IntentState.REFUSED)

    def settle_signed(self, seq: int, signed: Signed, used: Sequence[Coin], chain: str, result: Mapping[str, Json]) -> None:
        """The one commit in which a transaction becomes a fact: bytes, spent inputs, coins to come.

        Coins that were inherited beyond those used are free again: the transaction shares an input with whatever
        once named them, so at most one of the two can be mined.
        """
        with self.ledger.begin() as tx:
            tx.put_transaction(StoredTx(signed.txid, signed.raw, chain, run=self.run.id))
            tx.spend([coin.outpoint for coin in used], self.run.id)
            tx.free(self.run.id)
            for coin in signed.coins:
                tx.put_coin(replace(coin, state="pending", run=self.run.id))
            self._settle(tx, seq, result, IntentState.DONE)

    def _accepted(self, tx: LedgerTransaction, txid: str) -> None:
        stored = tx.transaction(txid)
        if stored is None:
            return
        if stored.state in ("signed", "sent", "rejected"):
            tx.put_transaction(replace(stored, state="seen"))
        for coin in tx.coins(state="pending", run=stored.run):
            if coin.outpoint.txid == txid:
                tx.put_coin(replace(coin, state="free", run=""))

    def _settle(self, tx: LedgerTransaction, seq: int, result: Mapping[str, Json], state: IntentState) -> None:
        tx.check_fence(self.lease.key, self.lease.fence)
        tx.settle(self.run.id, seq, state, result)
        self.known[seq] = replace(self.known[seq], state=state, result=dict(result))

    def _reserve(self, tx: LedgerTransaction, draft: Draft) -> tuple[Coin, ...]:
        for run in tx.runs(state=RunState.STALLED, key=self.run.key):
            for coin in tx.coins(run=run.id, state="reserved"):
                tx.put_coin(replace(coin, run=self.run.id))
        priced = drafting.price(draft, [1] * len(draft.inputs))
        if draft.coins == 1:
            return tuple(tx.reserve(draft.chain, [priced.need], self.run.id))
        return self._reserve_largest(tx, draft, priced.need)

    def _reserve_largest(self, tx: LedgerTransaction, draft: Draft, need: int) -> tuple[Coin, ...]:
        # What a refused split left behind comes first; as many more are taken as this one merges.
        inherited = sorted(tx.coins(run=self.run.id, state="reserved"), key=lambda c: (-c.satoshis, c.outpoint))
        free = sorted(tx.coins(chain=draft.chain, state="free"), key=lambda c: (-c.satoshis, c.outpoint))
        more = [replace(coin, state="reserved", run=self.run.id) for coin in free[: max(0, draft.coins - len(inherited))]]
        for coin in more:
            tx.put_coin(coin)
        held = (*inherited, *more)[: draft.coins]
        if len(held) != draft.coins or sum(c.satoshis for c in held) < need:
            raise Refused(
                "insufficient-funds", f"cannot split coins: {need} sat needed in {draft.coins} coins", hint="plan again"
            )
        return held


def has_signed(tx: LedgerTransaction, run_id: str) -> bool:
    """Whether coins were ever reserved for a run. Until then it has only made keys, statements and copies."""
    return any(intent.effect == Sign.__name__ for intent in tx.intents(run_id))


def parents_of(ledger: Ledger, inputs: tuple[TokenInput, ...]) -> dict[str, bytes]:
    """The raw transactions whose tokens a draft spends; Invariant when the ledger lacks one."""
    raws = {}
    with ledger.begin() as tx:
        for token in inputs:
            stored = tx.transaction(token.outpoint.txid)
            if stored is None:
                raise Invariant("no-parent", f"cannot spend {token.outpoint}: its transaction is not in the ledger")
            raws[stored.txid] = stored.raw
    return raws
