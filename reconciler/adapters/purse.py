"""The purse that pays hosts: one transaction a purchase, in the ledger before it leaves, the same one however often it is shown.

Theory of operation. A purchase has a name (what is asked of whom) and a row in the ledger. One commit picks the coin, signs the
transaction and writes row, bytes and change down; only then is anything sent. The row stays OPEN until the host's signed answer:
TAKEN ends the purchase, and the next one of that name is another; UNTAKEN means that the host refused the payment, for a reason
that a new one can mend. What replaces an untaken payment spends the same coin, so that at most one of the two can ever be mined.
Silence, and every other answer, leaves the row OPEN, and the next attempt shows the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reconciler.adapters.wallet import LocalWallet
from reconciler.engine.ancestry import beef_of
from reconciler.engine.confirm import PAYMENT, let_out
from reconciler.model.canonical import Json
from reconciler.model.effect import Draft, PaymentOutput
from reconciler.model.errors import Refused, Unavailable
from reconciler.ports import Clock, Coin, Entropy, Ledger, LedgerTransaction, StoredTx
from reconciler.wire import auth, payment
from reconciler.wire import draft as drafts
from reconciler.wire.speaker import Speaker

OPEN, TAKEN, UNTAKEN = "open", "taken", "untaken"


class Purse:
    """Payments out of the ledger's free coins, signed with the wallet's keys, in the name of `speak`."""

    def __init__(
        self, ledger: Ledger, wallet: LocalWallet, speak: Callable[[], Speaker | None], clock: Clock, entropy: Entropy
    ) -> None:
        self._ledger, self._wallet, self._speak, self._clock, self._entropy = ledger, wallet, speak, clock, entropy

    def pay(self, name: str, demand: payment.Demand, payee: bytes, limit: int, chain: str) -> tuple[int, str] | None:
        """Satoshis and the header that pays a demand: what is open under this name, else a new payment.

        None when a new one would be more than `limit`. Unavailable when no coin suffices: funding the purse is all it needs.
        """
        with self._ledger.begin() as tx:
            row = tx.get(_row(name))
            if row is None or row["state"] != OPEN:
                if demand.satoshis > limit:
                    return None
                row = self._made(tx, name, demand, payee, chain, row)
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

    def _made(
        self, tx: LedgerTransaction, name: str, demand: payment.Demand, payee: bytes, chain: str, before: Json
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
        tx.put(_row(name), row)
        # The sum itself is booked by the run that bought something; the miners' part belongs to nobody else.
        tx.book(run, None, self._clock.now(), signed.fee, 0, 0)
        told = {"txid": signed.txid, "satoshis": demand.satoshis, "fee": signed.fee, "payee": payee.hex()}
        tx.note(None, self._clock.now(), "payment.made", told)
        return row


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


def _only_chain(tx: LedgerTransaction) -> str:
    """The chain of the purse, where it holds coins of one chain only."""
    chains = {coin.chain for state in ("free", "reserved", "pending") for coin in tx.coins(state=state)}
    if len(chains) == 1:
        return chains.pop()
    if not chains:
        raise Unavailable("insufficient-funds", "cannot pay: the purse holds no coin", hint="fund it")
    told = f"cannot pay: the purse holds coins of {' and '.join(sorted(chains))}"
    raise Refused("which-chain", told, hint="declare maxPayment for the host in its Network: that says which chain it is paid on")
