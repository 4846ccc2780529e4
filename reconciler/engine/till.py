"""Payments for requests, received (BRC-105): nothing is accepted twice, and what is accepted becomes a coin of the purse.

Theory of operation. A price is asked for under a prefix that only we can have made, that carries its own time, and that is good
for one payer and one request, so that nothing has to be remembered of whoever does not pay. A payment is judged against the price
of the request it comes with, verified (SPV), broadcast unless it is mined, and entered in one commit: the coin, its ancestry, a
row that says what was bought, and whatever else the sale writes down. Payments that come together share that commit (grouped.py).
Only then is anything given. The same payment shown again with the very same request is honoured for a while, because the answer
may have been lost on its way; with any other request it is refused.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from reconciler.engine.grouped import Grouped, Write
from reconciler.engine.receive import keep, verified
from reconciler.kinds.network import Net
from reconciler.model.canonical import Json
from reconciler.model.codec import timestamp
from reconciler.model.effect import Lock
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused, Unavailable, Uncertain
from reconciler.model.ref import Outpoint
from reconciler.ports import Coin, Header, LedgerTransaction, Ports
from reconciler.wire import arc, payment
from reconciler.wire.keys import sha256
from reconciler.wire.speaker import Speaker

# How long a demand may be paid, and how long what was paid for is given again.
ASKED_FOR = timedelta(hours=1)
GIVEN_AGAIN_FOR = timedelta(days=1)
# How long a header is believed that was asked for, and how many of them: payments of one moment stand on the same few blocks.
BELIEVED_FOR, REMEMBERED = timedelta(seconds=10), 1000
# A prefix is made of unix seconds, random bytes, and a mark of whom and of what it was asked.
_MOMENT, _RANDOM, _MARK = 5, 4, 7


class Sale(Protocol):
    """What is bought with a payment, as the till sees it."""

    @property
    def window(self) -> timedelta:
        """How long a demand for it may be paid."""
        ...

    def admit(self, income: payment.Income, mined: bool) -> None:
        """Raise unless such a payment may be taken; called before the network hears of it."""
        ...

    def sell(self, income: payment.Income) -> Write:
        """What enters the ledger in the commit of the coin."""
        ...


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
    commits: Grouped = field(init=False)
    _taking: set[str] = field(default_factory=set)
    _headers: dict[int, tuple[datetime, Header]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commits = Grouped(self.ports.ledger)

    def ask(self, satoshis: int, payer: bytes, request: str) -> payment.Demand:
        """A demand, good for a while, to this payer for this request."""
        moment = int(self.ports.clock.now().timestamp()).to_bytes(_MOMENT, "big")
        seed = moment + self.ports.entropy.bytes(_RANDOM)
        return payment.Demand(satoshis, self.speaker.nonce(seed + self._mark(seed, payer, request)))

    def _mark(self, seed: bytes, payer: bytes, request: str) -> bytes:
        return self.speaker.mac("demand", seed + payer + request.encode())[:_MARK]

    async def take(self, text: str, payer: bytes, request: str, price: int | None, sale: Sale | None = None) -> Receipt:
        """What the payment header of a request bought; `request` names everything of it that was signed for.

        RemoteProtocolError with a code of `payment.REFUSALS` when it is not accepted; Unavailable while that cannot be told.
        Where nothing is due (`price` None) only a payment that was taken before is known.
        """
        paid = payment.parse_payment(text)
        row_name = "income/" + sha256(payment.key_id(paid.prefix, paid.suffix).encode()).hex()
        with self.ports.ledger.view() as view:
            row = view.get(row_name)
        income, _ = self.speaker.judge(
            paid,
            payer,
            (price or 0) if row is None else int(row["price"]),
            asked=self.speaker.knows(paid.prefix) and (row is not None or self._was_asked(paid.prefix, payer, request, sale)),
            used=lambda prefix, suffix, txid: row is not None and not self._given_again(row, txid, request),
        )
        receipt = Receipt(income.satoshis, income.txid, payer)
        if row is not None:
            return replace(receipt, again=True)
        if price is None:
            raise payment.refusal("ERR_NOT_DUE")
        if row_name in self._taking:
            raise Unavailable("payment-in-progress", "cannot take this payment: it is being taken", hint="ask again for it")
        self._taking.add(row_name)
        try:
            await self.enter(row_name, paid.beef, income, {"request": request, "price": price}, sale)
        finally:
            self._taking.discard(row_name)
        return receipt

    async def enter(
        self,
        row_name: str,
        envelope: bytes,
        income: payment.Income,
        asked: Mapping[str, Json],
        sale: Sale | None,
        via: Sequence[Endpoint] = (),
    ) -> None:
        """Verify, broadcast and enter a payment that was judged, under the name of a row that is there once it was.

        `via` are broadcasters, in the order in which they are asked; those of the network where none is named.
        """
        try:
            beef, headers = await verified(self.ports, envelope, self.net, self._header)
            mined = beef.txs[income.txid].bump is not None
            if sale is not None:
                sale.admit(income, mined)
            if not mined:
                status = await self.ports.chain.broadcast(envelope, income.txid, via or self.net.broadcasters)
                if arc.verdict(status.status, status.detail) is not arc.Verdict.ACCEPTED:
                    raise payment.refusal("ERR_UNPROVEN", status.detail or status.status)
        except Uncertain as error:
            if error.code == "double-spend":
                raise payment.refusal("ERR_DOUBLE_SPEND", error.message) from error
            # It was not told whether the network has it. Shown again, the same bytes are sent again.
            raise Unavailable(error.code, error.message, hint=error.hint) from error
        except Refused as error:
            if error.code in payment.REFUSALS:
                raise
            raise payment.refusal("ERR_UNPROVEN", error.message) from error
        now = self.ports.clock.now()
        lock = Lock(self.key, payment.PROTOCOL, payment.key_id(income.prefix, income.suffix), income.payer.hex())
        coin = Coin(Outpoint(income.txid, income.vout), self.net.chain, income.satoshis, income.script, lock)
        told = {"txid": income.txid, **asked, "satoshis": income.satoshis, "at": timestamp(now), "payer": income.payer.hex()}
        also = sale.sell(income) if sale is not None else None

        def write(tx: LedgerTransaction) -> None:
            if tx.get(row_name) is not None:
                raise payment.refusal("ERR_PAYMENT_REUSED")
            keep(tx, beef, headers, self.net)
            tx.put_coin(coin)
            tx.put(row_name, told)
            tx.note(None, now, "payment.received", told)
            if also is not None:
                also(tx)

        await self.commits.commit(write)

    async def _header(self, height: int) -> Header | None:
        """The block of a height, asked for now or a moment ago. A reorg within that moment is found out like any later one."""
        now, known = self.ports.clock.now(), self._headers.get(height)
        if known is not None and abs(now - known[0]) < BELIEVED_FOR:
            return known[1]
        found = await self.ports.chain.header(height, self.net.headers)
        if found is not None:
            if len(self._headers) >= REMEMBERED:
                self._headers.clear()
            self._headers[height] = now, found
        return found

    def _was_asked(self, prefix: str, payer: bytes, request: str, sale: Sale | None) -> bool:
        """Whether we asked this payer for this request, and not long ago."""
        seed = base64.b64decode(prefix)[: _MOMENT + _RANDOM + _MARK]
        asked = int.from_bytes(seed[:_MOMENT], "big")
        within = sale.window if sale is not None else ASKED_FOR
        recent = abs(self.ports.clock.now().timestamp() - asked) <= within.total_seconds()
        mark = self._mark(seed[: _MOMENT + _RANDOM], payer, request)
        return recent and hmac.compare_digest(seed[_MOMENT + _RANDOM :], mark)

    def _given_again(self, row: Json, txid: str, request: str) -> bool:
        age = self.ports.clock.now() - datetime.fromisoformat(row["at"])
        return (row["txid"], row["request"]) == (txid, request) and abs(age) <= GIVEN_AGAIN_FOR
