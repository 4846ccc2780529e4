"""The purse that pays hosts: one transaction a purchase, in the ledger before it leaves, the same one however often it is shown.

Theory of operation. A purchase has a name (what is asked of whom) and a row in the ledger. One commit picks the coin, signs the
transaction and writes row, bytes and change down; only then is anything sent. The row stays OPEN until the host's signed answer:
TAKEN ends the purchase, and the next one of that name is another; UNTAKEN means that the host refused the payment, for a reason
that a new one can mend. What replaces an untaken payment spends the same coin, so that at most one of the two can ever be mined.
Silence, and every other answer, leaves the row OPEN, and the next attempt shows the same bytes.

A buyer's purse has a budget. It is judged, and what is paid is booked, in that very commit: two processes that pay at once judge
one after the other, and what a killed process signed counts, whoever saw it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from reconciler.adapters.wallet import LocalWallet
from reconciler.consumer import budget as budgets
from reconciler.engine.ancestry import beef_of
from reconciler.engine.confirm import PAYMENT, let_out
from reconciler.model.canonical import Json
from reconciler.model.effect import Draft, PaymentOutput
from reconciler.model.errors import Conflict, Refused, Unavailable
from reconciler.ports import Clock, Coin, Entropy, Ledger, LedgerTransaction, StoredTx
from reconciler.wire import auth, payment
from reconciler.wire import draft as drafts
from reconciler.wire.speaker import Speaker

OPEN, TAKEN, UNTAKEN, MOVED = "open", "taken", "untaken", "moved"
# Written before the books are read, so that on every store the next payment waits for this one.
_TURN = "consumer/turn"
# Under which name a purchase was last paid for.
_PAYING = "consumer/paying/"


class Purse:
    """Payments out of the ledger's free coins, signed with the wallet's keys, in the name of `speak`."""

    def __init__(
        self,
        ledger: Ledger,
        wallet: LocalWallet,
        speak: Callable[[], Speaker | None],
        clock: Clock,
        entropy: Entropy,
        budget: budgets.Budget | None = None,
    ) -> None:
        self._ledger, self._wallet, self._speak, self._clock, self._entropy = ledger, wallet, speak, clock, entropy
        self._budget = budget

    def pay(
        self, name: str, demand: payment.Demand, payee: bytes, limit: int, chain: str, purchase: str = ""
    ) -> tuple[int, str] | None:
        """Satoshis and the header that pays a demand: what is open under this name, else a new payment.

        None when a new one would be more than `limit`. Unavailable when no coin suffices: funding the purse is all it needs.
        GuardRefused when a budget does not allow it. A `purchase` is booked under its id, sum and fee; Conflict("bought") when
        somebody else has just paid for that very one.
        """
        with self._ledger.begin() as tx:
            row = tx.get(_row(name))
            if row is not None and purchase and (row["state"], row.get("purchase")) == (TAKEN, purchase):
                told = f"cannot pay for purchase {purchase}: it is paid for since it was asked for"
                raise Conflict("bought", told, hint="ask for it again, free of charge")
            if row is None and purchase:
                row = _inherited(tx, name, purchase)
            if row is None or row["state"] != OPEN:
                if demand.satoshis > limit:
                    return None
                row = self._made(tx, name, demand, payee, chain, row, purchase)
        beef = beef_of(self._ledger, row["txid"], atomic=True)
        return int(row["satoshis"]), payment.write_payment(payment.Payment(row["prefix"], row["suffix"], beef))

    def taken(self, name: str) -> None:
        """The host gave what was paid for: the transaction is out, and its change is ours to spend."""
        with self._ledger.begin() as tx:
            row = tx.get(_row(name))
            if row is None or row["state"] != OPEN:
                return
            let_out(tx, row["txid"])
            tx.put(_row(name), {**row, "state": TAKEN})
            tx.note(None, self._clock.now(), "payment.taken", {"txid": row["txid"], "satoshis": row["satoshis"]})

    def untaken(self, name: str) -> None:
        """The host refused the payment itself; the next attempt makes another of the same coin."""
        with self._ledger.begin() as tx:
            row = tx.get(_row(name))
            if row is not None and row["state"] == OPEN:
                tx.put(_row(name), {**row, "state": UNTAKEN})

    def made_for(self, purchase: str) -> Mapping[str, Json] | None:
        """The last payment for a purchase: {"state", "txid", "satoshis", ...}."""
        with self._ledger.view() as tx:
            name = tx.get(_PAYING + purchase)
            return None if name is None else tx.get(_row(name))

    def acknowledged(self, purchase: str, txid: str) -> None:
        """The host's receipt names this transaction: it was taken, though the answer that said so was lost."""
        with self._ledger.view() as tx:
            name = str(tx.get(_PAYING + purchase) or "")
            row = tx.get(_row(name))
        if row is not None and row["txid"] == txid:
            self.taken(name)

    def _made(
        self, tx: LedgerTransaction, name: str, demand: payment.Demand, payee: bytes, chain: str, before: Json, purchase: str
    ) -> dict[str, Json]:
        speaker = self._speak()
        assert speaker is not None, "whoever talks to a host has a key to talk with"
        old = tx.transaction(before["txid"]) if before is not None and before["state"] == UNTAKEN else None
        chain = old.chain if old is not None else chain or _only_chain(tx)
        suffix = speaker.nonce(self._entropy.bytes(auth.SEED_SIZE))
        script = speaker.script_to(payee, demand.prefix, suffix)
        draft = Draft(chain, (PaymentOutput(demand.satoshis, script),))
        run = old.run if old is not None else f"{PAYMENT}{name}/{suffix[:16]}"
        coins = _coins(tx, draft, run, old)
        signed = self._wallet.sign(draft, coins, {})
        tx.put_transaction(StoredTx(signed.txid, signed.raw, chain, run=run))
        tx.spend([coin.outpoint for coin in coins], run)
        for coin in signed.coins:
            tx.put_coin(replace(coin, state="pending", run=run))
        row: dict[str, Json] = {"state": OPEN, "run": run, "txid": signed.txid, "prefix": demand.prefix, "suffix": suffix}
        row = {**row, "satoshis": demand.satoshis, "payee": payee.hex()}
        if purchase or self._budget is not None:
            row["purchase"] = purchase or name[:16]
            tx.put(_PAYING + row["purchase"], name)
            row["line"] = self._charge(tx, before if old is not None else None, row, signed.fee)
        else:
            # The sum itself is booked by the run that bought something; the miners' part belongs to nobody else.
            tx.book(run, None, self._clock.now(), signed.fee, 0, 0)
        tx.put(_row(name), row)
        told = {"txid": signed.txid, "satoshis": demand.satoshis, "fee": signed.fee, "payee": payee.hex()}
        tx.note(None, self._clock.now(), "payment.made", told)
        return row

    def _charge(self, tx: LedgerTransaction, before: Json, row: Mapping[str, Json], fee: int) -> str:
        """Judge a payment by the budget and book it; of one that it replaces nothing stays booked."""
        now = self._clock.now()
        tx.put(_TURN, row["txid"])
        if before is not None and before.get("line"):
            tx.book(before["line"], None, now, 0, 0, 0)
        if self._budget is not None:
            known = budgets.spent(tx.bookings(now - budgets.DAY), now)
            budgets.require(self._budget, known, str(row["payee"]), int(row["satoshis"]), fee)
        line = budgets.line(str(row["payee"]), str(row["purchase"]), str(row["txid"]))
        tx.book(line, None, now, fee, int(row["satoshis"]), 0)
        return line


def _coins(tx: LedgerTransaction, draft: Draft, run: str, old: StoredTx | None) -> tuple[Coin, ...]:
    """The coin that pays, reserved; one of those that the untaken payment spends, where there is one."""
    if old is not None and old.state != "signed":
        told = f"cannot pay again: {old.txid} is out, though the host denies it"
        raise Refused("payment-untaken", told, hint="use another host")
    if old is not None:
        tx.put_transaction(replace(old, state="rejected"))
        tx.unspend(run)
    held = {coin.outpoint for coin in tx.coins(state="reserved", run=run)}
    try:
        coins = tuple(tx.reserve(draft.chain, [drafts.price(draft, ()).need], run))
    except Refused as error:
        raise Unavailable(error.code, error.message, hint=error.hint) from error
    if old is not None and held.isdisjoint(coin.outpoint for coin in coins):
        told = f"cannot replace payment {old.txid}: its coin does not cover the new price"
        raise Refused("payment-untaken", told, hint="use another host")
    return coins


def _row(name: str) -> str:
    return PAYMENT + name


def _inherited(tx: LedgerTransaction, name: str, purchase: str) -> Json:
    """The payment of a purchase that another request was to show: it moves, so that a purchase has one payment at a time."""
    other = str(tx.get(_PAYING + purchase) or "")
    row = tx.get(_row(other))
    if row is None:
        return None
    if row["state"] == TAKEN:
        told = f"cannot pay for purchase {purchase}: it is paid for"
        raise Conflict("bought", told, hint="ask for it again, free of charge")
    tx.put(_row(other), {**row, "state": MOVED})
    tx.put(_row(name), row)
    tx.put(_PAYING + purchase, name)
    return row


def _only_chain(tx: LedgerTransaction) -> str:
    """The chain of the purse, where it holds coins of one chain only."""
    chains = {coin.chain for state in ("free", "reserved", "pending") for coin in tx.coins(state=state)}
    if len(chains) == 1:
        return chains.pop()
    if not chains:
        raise Unavailable("insufficient-funds", "cannot pay: the purse holds no coin", hint="fund it")
    told = f"cannot pay: the purse holds coins of {' and '.join(sorted(chains))}"
    raise Refused("which-chain", told, hint="declare maxPayment for the host in its Network: that says which chain it is paid on")
