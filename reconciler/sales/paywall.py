"""The shop: from a visitor who wants something to a buyer who may have it. Money is the till's, bytes are the gateway's.

Theory of operation. What is on sale are records of the ledger, looked at again when they may have changed. A sale is about one
edition and makes a right to it (an entitlement), a receipt that the producer signs, and a row of revenue, all in the commit that
makes the coin. What was bought before is had again for nothing, and so is what a running subscription covers. Nothing is
remembered of a visitor who does not pay: demands and access tokens carry what they need themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

from reconciler.engine.grouped import Write
from reconciler.engine.till import ASKED_FOR, Till
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused, Unavailable
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.model.sale import Due, Edition, Entitlement, Method, Payment, PaymentState, Quote
from reconciler.ports import LedgerTransaction, Ports
from reconciler.sales import quote as quotes
from reconciler.sales import receipt as receipts
from reconciler.sales.access import Allowed, Denied, Meter, decide
from reconciler.sales.offer import Offer, offers, parse_content
from reconciler.sales.quote import Terms
from reconciler.sales.routing import confirmations, ways
from reconciler.sales.split import divide
from reconciler.sales.states import followed
from reconciler.sales.tally import Tally
from reconciler.sales.token import Access, read_token, write_token
from reconciler.trade import TradeRows
from reconciler.wire.document import seal, signed_bytes
from reconciler.wire.payment import Income

# How long an access token is good: a download of hundreds of gigabytes may begin with it, and it may leak into a log.
TOKEN_FOR = timedelta(hours=1)
# Records are looked at this often at most: a price, or a blocked key, comes into force within it.
LOOKED_FOR = timedelta(milliseconds=250)
MINUTE = timedelta(minutes=1)
# What a payment was refused for -> the check that it did not pass, as it is counted.
CHECKS: Mapping[str, str] = {
    "ERR_MALFORMED_PAYMENT": "malformed", "ERR_MALFORMED_TRANSACTION": "malformed", "ERR_NO_PAYMENT_OUTPUT": "malformed",
    "ERR_INVALID_DERIVATION_PREFIX": "derivation", "ERR_WRONG_SCRIPT": "derivation", "ERR_PAYMENT_REUSED": "replayed",
    "ERR_UNDERPAID": "underpaid", "ERR_DOUBLE_SPEND": "double-spend", "ERR_UNPROVEN": "unproven", "ERR_NOT_DUE": "not-due",
    "exposure": "exposure", "too-fast": "velocity", "quote-expired": "expired-quote",
    "quote-of-another": "quote-of-another", "quote-of-other-content": "quote-of-other-content",
}  # fmt: skip
# Editions never change, so those that are fetched are remembered, at about a kilobyte each.
REMEMBERED = 1000


class Barred(Refused):
    """An access policy says no; `retry_after` are seconds until it may say yes, None when time does not help."""

    def __init__(self, denied: Denied) -> None:
        super().__init__(denied.code, f"cannot serve this: {denied.message}")
        self.retry_after = denied.retry_after


@dataclass(frozen=True, slots=True)
class Goods:
    """What is asked for: an edition, the offer it is sold under (None where it is on sale no more), the quote that is shown."""

    edition: Edition
    offer: Offer | None
    quote: Quote | None = None


@dataclass(slots=True)
class Shop:
    """What one Identity sells on one Network. `refused` hears the name of every check that a payment did not pass."""

    ports: Ports
    identity: str
    till: Till
    base: str = ""
    refused: Callable[[str], None] = lambda check: None
    meter: Meter = field(default_factory=Meter)
    tally: Tally = field(init=False)
    _looked: datetime | None = None
    _records: Mapping[ResourceRef, Record] = field(default_factory=dict, repr=False)
    _offers: Mapping[str, Offer] = field(default_factory=dict, repr=False)
    _editions: dict[str, Edition] = field(default_factory=dict, repr=False)
    _buying: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary, repr=False)
    entering: dict[int, tuple[str, int]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.tally = Tally(self.ports.ledger, self.ports.clock)

    @property
    def producer(self) -> str:
        """The identity key (hex) that sells."""
        return self.till.speaker.identity.hex()

    # --- what there is ------------------------------------------------------------------------

    def offers(self) -> Mapping[str, Offer]:
        """What is on sale here, by name."""
        now = self.ports.clock.now()
        if self._looked is None or abs(now - self._looked) >= LOOKED_FOR:
            records = self.ports.ledger.read(now).records
            if records is not self._records:
                found = offers(records).items()
                self._offers = {name: one for name, one in found if (one.identity, one.network) == self._place}
                self._records = records
            self._looked = now
        return self._offers

    @property
    def _place(self) -> tuple[str, str]:
        return self.identity, self.till.net.name

    def edition(self, digest: str) -> Edition:
        """An edition that was sold here by its digest; Refused("no-content")."""
        known = self._editions.get(digest)
        if known is None:
            with self.ports.ledger.sales() as rows:
                known = rows.edition_of(digest)
            if known is None or known.producer != f"Identity/{self.identity}":
                raise Refused("no-content", f"cannot find the edition {digest}")
            if len(self._editions) >= REMEMBERED:
                self._editions.clear()
            self._editions[digest] = known
        return known

    def goods(self, content: str, quote_id: str | None = None, buyer: str = "") -> Goods:
        """What a content id names, or what a quote about it does; Refused where there is no such thing, or no such quote."""
        name, sequence = parse_content(content)
        offer = self.offers().get(name)
        if quote_id is not None:
            quote = self.quote(quote_id)
            quotes.usable(quote, buyer, name, sequence)
            return Goods(self.edition(quote.digest), offer, quote)
        if offer is not None and sequence in (None, offer.sequence):
            return Goods(offer.edition, offer)
        found = None
        if sequence is not None:
            with self.ports.ledger.sales() as rows:
                found = rows.edition(name, sequence)
        if found is None or found.producer != f"Identity/{self.identity}":
            raise Refused("no-content", f"cannot find content {content[:80]!r}", hint="GET /catalog lists what there is")
        return Goods(found, offer)

    def editions(self, content: str) -> list[Edition]:
        """Every version that was ever on sale here under the name, the newest first; Refused("no-content") without any."""
        name, _ = parse_content(content)
        with self.ports.ledger.sales() as rows:
            found = [one for one in rows.editions(name) if one.producer == f"Identity/{self.identity}"]
        if not found:
            raise Refused("no-content", f"cannot find content {content[:80]!r}", hint="GET /catalog lists what there is")
        return found

    def record(self, offer: Offer) -> Record:
        """The record behind an offer."""
        return self._records[offer.ref]

    # --- who may ------------------------------------------------------------------------------

    def admitted(self, goods: Goods, buyer: str | None, wanted: int = 0) -> Allowed:
        """What the access policy says of a request for `wanted` bytes; Barred where it says no. The request is counted here,
        bytes where they are served.
        """
        now, who = self.ports.clock.now(), buyer or ""
        usage = self.meter.usage(who, now, wanted)
        access = goods.offer.access if goods.offer is not None else None
        verdict = decide(access, bytes.fromhex(buyer) if buyer else None, usage)
        if isinstance(verdict, Denied):
            raise Barred(verdict)
        self.meter.count(who, now, requests=1)
        return verdict

    def right(self, buyer: str, edition: Edition) -> Entitlement | None:
        """What entitles the buyer to the edition now."""
        now = self.ports.clock.now()
        with self.ports.ledger.sales() as rows:
            found = rows.rights(buyer, edition.content)
        return next((one for one in found if one.covers(edition) and one.holds(now)), None)

    def buying(self, buyer: str, edition: Edition) -> asyncio.Lock:
        """One purchase of an edition by a buyer at a time, so that the second finds what the first one bought."""
        return self._buying.setdefault(f"{buyer} {edition.digest}", asyncio.Lock())

    async def begin(self, right: Entitlement) -> Entitlement:
        """The first byte is about to be served: from now on its period runs. Durable when it returns."""
        if right.period is None or right.began is not None:
            return right
        began = replace(right, began=self.ports.clock.now())

        def write(tx: LedgerTransaction) -> None:
            current = tx.entitlement(right.id)
            if current is not None and current.began is None:
                tx.put_entitlement(began)

        await self.till.commits.commit(write)
        return began

    # --- tokens -------------------------------------------------------------------------------

    def token(self, right: Entitlement, edition: Edition) -> tuple[str, datetime]:
        """A text that fetches the edition for a while, and until when."""
        expires = (self.ports.clock.now() + TOKEN_FOR).replace(microsecond=0)
        if right.period is not None and right.began is not None:
            expires = min(expires, (right.began + right.period).replace(microsecond=0))
        return write_token(Access(expires, right.consumer, edition.digest, right.id), self.till.speaker.mac), expires

    def opened(self, token: str, content: str) -> tuple[Edition, Entitlement]:
        """What a token entitles to, if that is the content asked for; Refused."""
        access = read_token(token, self.till.speaker.mac, self.ports.clock.now())
        name, sequence = parse_content(content)
        edition = self.edition(access.digest)
        if edition.content != name or sequence not in (None, edition.sequence):
            raise Refused("bad-token", f"cannot serve {content[:80]!r} for this token: it is about {edition.id}")
        with self.ports.ledger.sales() as rows:
            right = rows.entitlement(access.receipt)
        if right is None or right.consumer != access.consumer or not right.holds(self.ports.clock.now()):
            raise Refused("bad-token", "cannot accept the access token: what it rests on has ended", hint="POST /purchases")
        return edition, right

    # --- prices -------------------------------------------------------------------------------

    def terms(self, goods: Goods, buyer: str | None, allowed: Allowed, units: int | None = None) -> Terms:
        """What the goods cost this buyer: as quoted, or now; Refused("not-for-sale") where nobody sells them any more."""
        if goods.quote is not None:
            return quotes.of_quote(goods.quote, goods.edition, self.ports.clock.now())
        offer = goods.offer
        if offer is None:
            raise Refused("not-for-sale", f"cannot sell {goods.edition.id}: it is not on sale any more")
        used = 0
        if buyer is not None and offer.plan.get("free"):
            with self.ports.ledger.sales() as rows:
                used = len(rows.entitlements(buyer, offer.name))
        return quotes.terms(offer, goods.edition, units, tier=allowed.tier, discount=allowed.discount, used=used)

    def methods(self, offer: Offer | None, satoshis: int) -> list[str]:
        """The ways in which so much can be paid for an offer, by its policy.

        What is paid with a request is served at once, so an amount that blocks must stand on is not paid like that.
        """
        policy = offer.policy if offer is not None else None
        at_once = not confirmations(policy, satoshis)
        return [way.value for way in ways(policy, satoshis) if at_once or way is not Method.BRC105]

    def count(self, code: str) -> None:
        """A payment was refused, or put off, for this reason; what is no check is not counted."""
        if code in CHECKS:
            self.refused(CHECKS[code])

    def quote(self, quote_id: str) -> Quote:
        """A quote that was given; Refused("no-quote")."""
        with self.ports.ledger.sales() as rows:
            found = rows.quote(quote_id)
        if found is None:
            raise Refused("no-quote", f"cannot find quote {quote_id[:40]!r}", hint="POST /quotes gives one")
        return found

    async def give_quote(self, content: str, buyer: str | None, units: int | None, most: int | None) -> Quote:
        """A signed price that stands for a while; Refused("over-max") when it is more than `most`."""
        goods = self.goods(content)
        found = self.terms(goods, buyer, self.admitted(goods, buyer), units)
        assert goods.offer is not None, "what has terms and no quote is on sale"
        if most is not None and found.satoshis > most:
            told = f"cannot quote {goods.edition.id} at {most} satoshis: it costs {found.satoshis}"
            raise Refused("over-max", told, hint="raise maxSatoshis")
        now = self.ports.clock.now()
        said = quotes.document(goods.offer, found, self.producer, buyer, now, self.methods(goods.offer, found.satoshis))
        quote = quotes.kept(said, self.sealed(said))
        await self.till.commits.commit(lambda tx: tx.put_quote(quote))
        return quote

    def sealed(self, document: Mapping[str, Json]) -> bytes:
        """A statement of the producer's, signed."""
        return seal(document, self.producer, self.ports.wallet.attest(self.till.key, signed_bytes(document)))

    # --- sales --------------------------------------------------------------------------------

    async def give(self, goods: Goods, found: Terms, buyer: str) -> Entitlement:
        """What costs nothing, to a buyer who is known: with a receipt, like any other sale."""
        sale = Purchase(self, goods, found, buyer)
        await self.till.commits.commit(sale.sell(None))
        right = self.right(buyer, goods.edition)
        assert right is not None, "what was committed is there"
        return right


@dataclass(frozen=True, slots=True)
class Purchase:
    """One sale to one buyer, as the till sees it (engine.till.Sale)."""

    shop: Shop
    goods: Goods
    terms: Terms
    buyer: str

    @property
    def window(self) -> timedelta:
        """How long a demand for it may be paid: as the policy says, or an hour."""
        policy = (self.goods.offer.policy if self.goods.offer is not None else None) or {}
        said = (policy.get("http") or {}).get("window")
        return timedelta(milliseconds=int(said)) if said is not None else ASKED_FOR

    def admit(self, income: Income, mined: bool) -> None:
        """Unavailable where the policy's limits say: not now. Payments that are being entered count."""
        policy = (self.goods.offer.policy if self.goods.offer is not None else None) or {}
        limits = policy.get("limits") or {}
        fastest, most = limits.get("perIdentityPerMinute"), limits.get("unconfirmedExposure")
        if fastest is None and most is None:
            return
        entering = self.shop.entering
        others = [one for sale, one in entering.items() if sale != id(self)]
        now = self.shop.ports.clock.now()
        with self.shop.ports.ledger.sales() as rows:
            recent, open_now = rows.paid_since(self.buyer, now - MINUTE), rows.pending()
        if fastest is not None and recent + sum(who == self.buyer for who, _ in others) >= fastest:
            raise Unavailable("too-fast", f"cannot take more than {fastest} payments a minute from one identity")
        if most is not None and not mined and open_now + sum(n for _, n in others) + income.satoshis > most:
            told = f"cannot take the payment now: more than {most} satoshis would be in no block yet"
            raise Unavailable("exposure", told, hint="show it again after the next block, or pay with a mined transaction")
        entering[id(self)] = (self.buyer, income.satoshis)

    def leave(self) -> None:
        """It was entered, or it will not be."""
        self.shop.entering.pop(id(self), None)

    def sell(self, income: Income | None) -> Write:
        """Receipt, revenue, shares and right, as what writes them; `income` is None where nothing was due."""
        payment, right = self.rows(income, income.satoshis if income is not None else 0)
        policy = self.goods.offer.policy if self.goods.offer is not None else None

        def write(tx: LedgerTransaction) -> None:
            splits = _divided(tx, policy, payment)
            tx.put_payment(replace(as_mined(tx, payment), splits=splits))
            tx.put_entitlement(right)

        return write

    def rows(
        self,
        income: Income | None,
        satoshis: int,
        method: Method = Method.BRC105,
        *,
        template: str | None = None,
        others: Sequence[int] = (),
    ) -> tuple[Payment, Entitlement]:
        """Revenue and right, with a receipt over so many satoshis; `others` are outputs beside that of `income` that paid."""
        shop, edition, now = self.shop, self.goods.edition, self.shop.ports.clock.now()
        said = receipts.document(
            shop.producer, self.buyer, edition, satoshis, self.terms.lines, now,
            quote=self.terms.quote, method=method, income=income, others=others,
        )  # fmt: skip
        payment = Payment(
            id=str(said["id"]),
            producer=f"Identity/{shop.identity}",
            consumer=self.buyer,
            satoshis=satoshis,
            method=method,
            created=now,
            content=edition.content,
            sequence=edition.sequence,
            outpoint=f"{income.txid}.{income.vout}" if income is not None else None,
            template=template,
            state=PaymentState.PENDING if income is not None else PaymentState.CONFIRMED,
            receipt=shop.sealed(said),
        )
        right = Entitlement(payment.id, self.buyer, edition.content, edition.sequence, edition.digest, now, self.terms.period)
        return payment, right


def as_mined(tx: LedgerTransaction, payment: Payment) -> Payment:
    """The payment as it is entered: confirmed where its transaction came with a block."""
    stored = tx.transaction(payment.txid) if payment.txid else None
    return (followed(payment, stored.state, payment.created) if stored is not None else None) or payment


def _divided(tx: LedgerTransaction, policy: Mapping[str, Json] | None, payment: Payment) -> tuple[Mapping[str, Json], ...]:
    """Whose money it is. What parties other than the producer have of it is owed to them from now on."""
    if not (policy or {}).get("splits") or not payment.satoshis:
        return ()
    name = f"carried/{payment.producer}/{payment.content}"
    found = divide(policy, payment.satoshis, tx.get(name))
    tx.put(name, dict(found.carried))
    for share in found.shares:
        if share.terms:
            tx.put_due(Due(payment.id, share.party, share.satoshis, payment.created, share.terms))
    return tuple(share.json() for share in found.shares)


def payment_of(rows: TradeRows, receipt_id: str, buyer: str) -> Payment:
    """The payment behind a receipt; Refused where there is none, or where it is another buyer's."""
    found = rows.payment(receipt_id)
    if found is None:
        raise Refused("no-receipt", f"cannot find receipt {receipt_id[:40]!r}")
    if found.consumer != buyer:
        raise Refused("not-yours", f"cannot show receipt {receipt_id[:40]!r}: another key bought it")
    return found
