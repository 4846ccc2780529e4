"""Buying: a quote, then a purchase that is paid once, whatever is lost on the way.

Theory of operation. A purchase is a row before it is a request, and it has one payment at a time: what was signed for it is shown
until the producer's signed answer, whichever request it is in by then. So a crash or a lost answer at any point is mended by
buying again: the purchase under way is taken up, and either its payment is shown once more, or the producer, who has it, gives
what was bought free of charge. A payment that the producer refused as such is replaced by one that spends the same coin. Only
where nothing was ever signed does a refusal end the purchase.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from reconciler.consumer import pins, purchases
from reconciler.consumer.said import Goods, Quote, numbered, read_goods, read_quote, refusal
from reconciler.model.canonical import Json
from reconciler.model.codec import timestamp
from reconciler.model.errors import Attention, Conflict, GuardRefused, Refused, RemoteProtocolError
from reconciler.ports import Ports
from reconciler.web import Asking, Reply, Web
from reconciler.wire.jsontext import Fields
from reconciler.wire.receipt import Receipt, open_receipt
from reconciler.wire.succession import Period

# How often a purchase that somebody else has just paid for is asked for again.
_AGAIN = 2
# While its payment stands so, a purchase is what it is.
_BINDING = ("open", "taken")
# And so stands one that the producer would not have.
_REFUSED = "untaken"


class Payments(Protocol):
    """What the purse knows of payments by purchase."""

    def made_for(self, purchase: str) -> Mapping[str, Json] | None:
        """The last one that was signed for it: {"state": open, taken or untaken, "txid", "satoshis", ...}."""
        ...

    def acknowledged(self, purchase: str, txid: str) -> None:
        """A receipt names this transaction."""
        ...


@dataclass(slots=True)
class Till:
    """Deals with producers on one chain."""

    ports: Ports
    web: Web
    chain: str
    purse: Payments

    def standing(self, purchase: str) -> str:
        """Whether a payment for it is open, taken or untaken; "" where none was signed."""
        row = self.purse.made_for(purchase)
        return "" if row is None else str(row["state"])

    # --- who it is ------------------------------------------------------------------------------------------------

    def pinned(self, url: str) -> str:
        """The key that an address must show; "" when nobody has dealt with it."""
        with self.ports.ledger.begin() as tx:
            known = pins.pinned(tx, url)
        return known.key if known is not None else ""

    def check(self, url: str, key: str, known: Sequence[Period] = ()) -> None:
        """GuardRefused unless the key is the one that is pinned for the address, or follows it, or none is pinned."""
        with self.ports.ledger.begin() as tx:
            pins.require(pins.pinned(tx, url), url, key, known)

    def pin(self, url: str, key: str) -> None:
        """Remember a key that the address has proven."""
        with self.ports.ledger.begin() as tx:
            pins.pin(tx, url, key, self.ports.clock.now())

    # --- what it costs --------------------------------------------------------------------------------------------

    async def quote(self, url: str, producer: str, content: str, most: int | None, digest: str = "") -> Quote:
        """A signed price. GuardRefused when it is above `most`; nothing is paid, nothing is owed."""
        body = {"contentId": content, **({"maxSatoshis": most} if most is not None else {})}
        reply = await self.web.ask(Asking("POST", f"{url}/quotes", body, peer=producer, chain=self.chain))
        if reply.status not in (200, 201):
            raise refusal(reply, f"get a quote for {content}")
        quote = read_quote(reply.body, url, producer, self.web.who())
        name, _, sequence = content.partition("@")
        if quote.content != name or sequence not in ("", str(quote.sequence)):
            raise RemoteProtocolError(
                f"cannot accept the quote: it is for {numbered(quote.content, quote.sequence)}, not {content}"
            )
        if digest and quote.digest != digest:
            told = f"cannot accept the quote: it is for another version of {name} than the one that was found"
            raise Refused("other-version", told, hint="look again: the producer may have published a new one")
        self._within(quote, most)
        if quote.expires <= self.ports.clock.now():
            raise RemoteProtocolError("cannot accept the quote: it has run out already")
        with self.ports.ledger.begin() as tx:
            purchases.put_quote(tx, quote.id, url, producer, reply.body)
            pins.pin(tx, url, producer, self.ports.clock.now())
        return quote

    def known_quote(self, known: str) -> Quote:
        """A quote that was asked for before, by its id."""
        with self.ports.ledger.begin() as tx:
            url, producer, envelope = purchases.quote(tx, known)
        return read_quote(envelope, url, producer, self.web.who())

    def _within(self, quote: Quote, most: int | None) -> None:
        if most is not None and quote.satoshis > most:
            told = f"cannot buy {quote.content}: {quote.satoshis} satoshis are asked for, at most {most} are allowed"
            raise GuardRefused("over-cost", told, hint="nothing was paid; allow more (--cost), or look elsewhere")

    # --- buying ---------------------------------------------------------------------------------------------------

    async def pay(self, quote: Quote, most: int | None = None) -> purchases.Purchase:
        """What the quote is for: bought now, or brought to its end if it was begun, or as it was had before."""
        self._within(quote, most)
        wanted = purchases.Purchase(
            id=purchases.purchase_id(quote.producer, quote.content, quote.id),
            producer=quote.producer,
            url=quote.url,
            content=quote.content,
            sequence=quote.sequence,
            digest=quote.digest,
            body={"contentId": numbered(quote.content, quote.sequence), "quoteId": quote.id},
            most=quote.satoshis,
            opened=timestamp(self.ports.clock.now()),
        )
        now = self.ports.clock.now()
        with self.ports.ledger.begin() as tx:
            known = purchases.purchase(tx, wanted.id) or wanted
            if known.state == purchases.HAD:
                return known
            begun = purchases.under_way(tx, wanted.producer, wanted.content)
            bound = begun if begun is not None and self.standing(begun.id) in _BINDING else None
            if bound is not None and bound.sequence != wanted.sequence:
                told = f"cannot buy {quote.content}@{quote.sequence}: a payment for version {bound.sequence} is under way"
                raise Conflict(
                    "under-way", told, hint=f"get that first: reconciler consumer quote {quote.content}@{bound.sequence}"
                )
            if quote.expires > now:
                # What was begun goes on under its own name, so that it keeps the payment that was signed for it.
                one = purchases.open_purchase(tx, wanted if begun is None else replace(wanted, id=begun.id))
            elif bound is not None:
                one = bound
            else:
                told = f"cannot pay quote {quote.id}: it ran out {quote.expires:%Y-%m-%d %H:%M:%S} UTC"
                raise Refused("quote-expired", told, hint=f"ask for another: reconciler consumer quote {quote.content}")
        return await self.finish(one)

    async def finish(self, one: purchases.Purchase) -> purchases.Purchase:
        """Ask for a purchase under way until it is known how it ended."""
        reply = await self._asked(one)
        if reply.status == 400 and self.standing(one.id) == _REFUSED:
            reply = await self._asked(one)  # with another payment of the same coin
        if reply.status in (200, 201):
            return self._had(one, reply)
        error = refusal(reply, f"buy {numbered(one.content, one.sequence)}")
        if isinstance(error, Refused):
            self._end(one, error)
        raise error

    def _end(self, one: purchases.Purchase, error: Refused) -> None:
        """Close a purchase that was refused; Attention where money may be on its way."""
        if self.standing(one.id):
            hint = (
                f"a payment for it is signed; a new quote goes on with it: reconciler consumer quote {one.content}@{one.sequence}"
            )
            raise Attention(error.code, error.message, hint=hint) from error
        with self.ports.ledger.begin() as tx:
            purchases.settle(tx, replace(one, state=purchases.REFUSED, fault=error.message), self.ports.clock.now())

    async def _asked(self, one: purchases.Purchase) -> Reply:
        asking = Asking("POST", f"{one.url}/purchases", dict(one.body), one.producer, one.id, self.chain)
        for _ in range(_AGAIN):
            try:
                return await self.web.ask(asking, one.most)
            except Conflict as error:
                if error.code != "bought":
                    raise
            except GuardRefused as error:
                # The price or a budget is in the way.
                self._end(one, error)
                raise
        told = f"cannot get {one.content}: it is paid for, and {one.url} asks for money again"
        raise Attention(
            "paid-not-given", told, hint="the receipt or the transaction shows the payment: reconciler consumer status"
        )

    def _had(self, one: purchases.Purchase, reply: Reply) -> purchases.Purchase:
        """Write down what was bought; Attention when the receipt is not one for it, which is written down as well."""
        goods = read_goods(reply)
        now = self.ports.clock.now()
        try:
            receipt = self._receipt(one, goods)
        except RemoteProtocolError as error:
            with self.ports.ledger.begin() as tx:
                purchases.keep(tx, replace(one, fault=error.message, receipt=goods.receipt.decode()))
            raise Attention(
                "bad-receipt", error.message, hint="keep it: it is signed; ask the producer for a right one"
            ) from error
        had = replace(
            one,
            state=purchases.HAD,
            paid=receipt.satoshis,
            receipt_id=receipt.id,
            receipt=goods.receipt.decode(),
            token=goods.token,
            files=tuple({"path": f.path, "size": f.size, "sha256": f.sha256, "url": f.url} for f in goods.files),
            fault="",
        )
        if receipt.txid:
            self.purse.acknowledged(one.id, receipt.txid)
        with self.ports.ledger.begin() as tx:
            return purchases.settle(tx, had, now)

    def _receipt(self, one: purchases.Purchase, goods: Goods) -> Receipt:
        """The receipt, if it is the producer's word that we bought this."""
        receipt = open_receipt(goods.receipt)
        faults = {
            "producer": receipt.producer == one.producer,
            "buyer": receipt.buyer == self.web.who(),
            "content": receipt.content.partition("@")[0] == one.content,
            "version": (receipt.sequence, receipt.digest) == (one.sequence, one.digest),
            "id": receipt.id == goods.receipt_id,
        }
        wrong = [name for name, good in faults.items() if not good]
        if wrong:
            raise RemoteProtocolError(
                f"cannot accept the receipt: its {', '.join(wrong)} is not what was bought", code="bad-receipt"
            )
        return receipt

    async def opened(self, one: purchases.Purchase) -> purchases.Purchase:
        """A purchase that was had, with a token that opens its files now; it is asked for again, and costs nothing."""
        asking = Asking("POST", f"{one.url}/purchases", dict(one.body), one.producer, one.id, self.chain)
        reply = await self.web.ask(asking)
        if reply.status not in (200, 201):
            raise refusal(reply, f"open {one.content}")
        goods = read_goods(reply)
        files = tuple({"path": f.path, "size": f.size, "sha256": f.sha256, "url": f.url} for f in goods.files)
        fresh = replace(one, token=goods.token, files=files)
        with self.ports.ledger.begin() as tx:
            purchases.keep(tx, fresh)
        return fresh

    # --- afterwards -----------------------------------------------------------------------------------------------

    async def refund(self, one: purchases.Purchase, reason: str) -> dict[str, object]:
        """What the producer says to a request for the money back."""
        url = f"{one.url}/receipts/{one.receipt_id}/refund"
        reply = await self.web.ask(Asking("POST", url, {"reason": reason} if reason else {}, one.producer, chain=self.chain))
        if reply.status not in (200, 201, 202):
            raise refusal(reply, f"get a refund for {one.content}")
        return dict(Fields.parse(reply.body, "refund").values)

    async def bundle(self, one: purchases.Purchase) -> bytes:
        """The receipt with the payment's proof, as the producer hands it over."""
        reply = await self.web.ask(Asking("GET", f"{one.url}/receipts/{one.receipt_id}", peer=one.producer, chain=self.chain))
        if reply.status != 200:
            raise refusal(reply, f"get receipt {one.receipt_id}")
        return reply.body

    # --- anything that has a price --------------------------------------------------------------------------------

    async def get(self, url: str, most: int) -> Reply:
        """One paid GET of any BRC-105 host, for `most` satoshis at most; whose key it is, the first time decides."""
        key = await self.web.knows(url)
        if not key:
            raise Refused("no-mutual-auth", f"cannot buy {url}: the host does not say who it is", hint="nothing was paid")
        self.check(url, key)
        self.pin(url, key)
        known = self.ports.entropy.bytes(8).hex()
        reply = await self.web.ask(Asking("GET", url, None, key, known, self.chain), most)
        if reply.status != 200:
            raise refusal(reply, f"get {url}")
        now = self.ports.clock.now()
        one = purchases.Purchase(known, key, url, url, 0, "", {}, most, timestamp(now), purchases.HAD, reply.paid)
        with self.ports.ledger.begin() as tx:
            purchases.keep(tx, one)
        return reply
