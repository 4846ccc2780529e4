"""Payments for requests, received (BRC-105): nothing is accepted twice, and what is accepted becomes a coin of the purse.

Theory of operation. A price is asked for under a prefix that only we can have made and that carries its own time, so that nothing
has to be remembered of whoever does not pay. A payment is judged against the price of the request it comes with, verified (SPV),
broadcast unless it is mined, and entered in one commit: the coin, its ancestry, and a row that says what was bought. Only then is
anything given. The same payment shown again with the very same request is honoured for a while, because the answer may have been
lost on its way; with any other request it is refused.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from reconciler.engine.receive import keep, verified
from reconciler.kinds.network import Net
from reconciler.model.canonical import Json
from reconciler.model.codec import timestamp
from reconciler.model.effect import Lock
from reconciler.model.errors import Refused, Unavailable, Uncertain
from reconciler.model.ref import Outpoint
from reconciler.ports import Coin, Ports
from reconciler.wire import arc, auth, payment
from reconciler.wire.keys import sha256
from reconciler.wire.speaker import Speaker

# How long a demand may be paid, and how long what was paid for is given again.
ASKED_FOR = timedelta(hours=1)
GIVEN_AGAIN_FOR = timedelta(days=1)
# The first bytes of a prefix are unix seconds; the rest of its seed is random.
_MOMENT = 5


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was paid; `again` when this payment bought this very request before."""

    satoshis: int
    txid: str
    payer: bytes
    again: bool = False


@dataclass(slots=True)
class Till:
    """Takes payments to `speaker`, the wallet's key `key`, on the chain of `net`."""

    ports: Ports
    net: Net
    speaker: Speaker
    key: str
    _taking: set[str] = field(default_factory=set)

    def ask(self, satoshis: int) -> payment.Demand:
        """A demand, good for a while."""
        moment = int(self.ports.clock.now().timestamp()).to_bytes(_MOMENT, "big")
        return payment.Demand(satoshis, self.speaker.nonce(moment + self.ports.entropy.bytes(auth.SEED_SIZE - _MOMENT)))

    async def take(self, text: str, payer: bytes, request: str, price: int) -> Receipt:
        """What the payment header of a request bought; `request` names everything of it that was signed for.

        RemoteProtocolError with a code of `payment.REFUSALS` when it is not accepted; Unavailable while that cannot be told.
        """
        paid = payment.parse_payment(text)
        row_name = "income/" + sha256(payment.key_id(paid.prefix, paid.suffix).encode()).hex()
        with self.ports.ledger.begin() as tx:
            row = tx.get(row_name)
        income, _ = self.speaker.judge(
            paid,
            payer,
            price if row is None else int(row["price"]),
            asked=self.speaker.knows(paid.prefix) and (row is not None or self._is_recent(paid.prefix)),
            used=lambda prefix, suffix, txid: row is not None and not self._given_again(row, txid, request),
        )
        receipt = Receipt(income.satoshis, income.txid, payer)
        if row is not None:
            return replace(receipt, again=True)
        if row_name in self._taking:
            raise Unavailable("payment-in-progress", "cannot take this payment: it is being taken", hint="ask again for it")
        self._taking.add(row_name)
        try:
            await self._enter(row_name, paid, income, request, price)
        finally:
            self._taking.discard(row_name)
        return receipt

    async def _enter(self, row_name: str, paid: payment.Payment, income: payment.Income, request: str, price: int) -> None:
        try:
            beef, headers = await verified(self.ports, paid.beef, self.net)
            if beef.txs[income.txid].bump is None:
                status = await self.ports.chain.broadcast(paid.beef, income.txid, self.net.broadcasters)
                if arc.verdict(status.status, status.detail) is not arc.Verdict.ACCEPTED:
                    raise payment.refusal("ERR_UNPROVEN", status.detail or status.status)
        except Uncertain as error:
            # It was not told whether the network has it. Shown again, the same bytes are sent again.
            raise Unavailable(error.code, error.message, hint=error.hint) from error
        except Refused as error:
            raise payment.refusal("ERR_UNPROVEN", error.message) from error
        now = self.ports.clock.now()
        names = payment.key_id(income.prefix, income.suffix)
        lock = Lock(self.key, payment.PROTOCOL, names, income.payer.hex())
        outpoint = Outpoint(income.txid, income.vout)
        told = {"txid": income.txid, "request": request, "price": price, "satoshis": income.satoshis, "at": timestamp(now)}
        with self.ports.ledger.begin() as tx:
            if tx.get(row_name) is not None:
                raise payment.refusal("ERR_PAYMENT_REUSED")
            keep(tx, beef, headers, self.net)
            tx.put_coin(Coin(outpoint, self.net.chain, income.satoshis, income.script, lock))
            tx.put(row_name, {**told, "payer": income.payer.hex()})
            tx.note(None, now, "payment.received", {**told, "payer": income.payer.hex()})

    def _is_recent(self, prefix: str) -> bool:
        asked = int.from_bytes(base64.b64decode(prefix)[:_MOMENT], "big")
        return abs(self.ports.clock.now().timestamp() - asked) <= ASKED_FOR.total_seconds()

    def _given_again(self, row: Json, txid: str, request: str) -> bool:
        age = self.ports.clock.now() - datetime.fromisoformat(row["at"])
        return (row["txid"], row["request"]) == (txid, request) and abs(age) <= GIVEN_AGAIN_FOR
