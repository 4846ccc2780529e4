"""Native payments (D21): a template is given, its transaction is taken, and what it bought is served once it is deep enough.

Theory of operation. Until its transaction is in the ledger, a template can be paid until it expires; whatever is shown for it
after that is answered from the ledger. The commit that makes the producer's coin also makes the row of revenue, the receipt and
the buyer's right. Where blocks must stand on the payment first, the right is kept beside it, and entered when its buyer asks
again and they do.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

from reconciler.engine.grouped import Write
from reconciler.model.codec import decode, encode
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused, Unavailable
from reconciler.model.sale import Entitlement, Method, Payment, PaymentState, Quote
from reconciler.ports import LedgerTransaction
from reconciler.sales import quote as quotes
from reconciler.sales import template as templates
from reconciler.sales.paywall import Goods, Purchase, Shop, as_mined
from reconciler.sales.routing import confirmations
from reconciler.sales.split import divide
from reconciler.wire.auth import SEED_SIZE
from reconciler.wire.beef import parse_beef
from reconciler.wire.payment import MAX_ANCESTRY, Income


@dataclass(frozen=True, slots=True)
class Taken:
    """A payment that was entered: what it bought, the blocks that stand on it and those that have to.

    `fresh` if it was entered now, `served` if the buyer may have it.
    """

    payment: Payment
    right: Entitlement
    goods: Goods
    depth: int
    needed: int
    fresh: bool
    served: bool


@dataclass(slots=True)
class Native:
    """The native side of a shop."""

    shop: Shop
    _taking: set[str] = field(default_factory=set)

    async def give(self, content: str, quote_id: str | None, buyer: str) -> Quote:
        """A signed template for what a content id or a quote names, kept until it expires; Refused where it is not sold so."""
        shop, now = self.shop, self.shop.ports.clock.now()
        goods = shop.goods(content, quote_id, buyer)
        found = shop.terms(goods, buyer, shop.admitted(goods, buyer))
        offer = goods.offer
        if offer is None:
            raise Refused("not-for-sale", f"cannot sell {goods.edition.id}: it is not on sale any more")
        ways = shop.methods(offer, found.satoshis)
        if Method.NATIVE.value not in ways or not found.satoshis:
            hint = f"ways to pay: {', '.join(ways) or 'none'}"
            raise Refused("not-for-sale", f"cannot take {found.satoshis} satoshis by a transaction of its own", hint=hint)
        if shop.right(buyer, goods.edition) is not None:
            told = f"cannot sell {goods.edition.id} again: it was bought"
            raise Refused("bought-already", told, hint="POST /purchases gives it, free of charge")
        prefix = shop.till.speaker.nonce(shop.ports.entropy.bytes(SEED_SIZE))
        made = templates.outputs(divide(offer.policy, found.satoshis).shares, shop.till.speaker, bytes.fromhex(buyer), prefix)
        quoted = quotes.document(offer, found, shop.producer, buyer, now, [Method.NATIVE.value])
        expires = now + timedelta(milliseconds=int((offer.policy or {})["native"]["templateExpiry"]))
        said = templates.document(quoted, made, prefix, confirmations(offer.policy, found.satoshis), expires)
        kept = quotes.kept(said, shop.sealed(said))
        await shop.till.commits.commit(lambda tx: tx.put_quote(kept))
        return kept

    async def take(self, template_id: str, buyer: str, envelope: bytes) -> Taken:
        """Take a template's transaction (Atomic BEEF), once, and say how it stands.

        Refused for a template that cannot be paid, RemoteProtocolError for a transaction that does not pay it, both before
        anybody else has heard of it; Unavailable while it cannot be told.
        """
        known = self._known(template_id, buyer)
        fresh = known is None
        if known is None:
            if template_id in self._taking:
                raise Unavailable("payment-in-progress", "cannot take this payment: it is being taken", hint="ask again for it")
            self._taking.add(template_id)
            try:
                await self._enter(template_id, buyer, envelope)
            finally:
                self._taking.discard(template_id)
            known = self._known(template_id, buyer)
            assert known is not None, "what was committed is there"
        return await self._standing(*known, fresh)

    def _known(self, template_id: str, buyer: str) -> tuple[Payment, Entitlement, int] | None:
        """The payment that a template was paid by, what it buys, and the blocks it needs; Refused("not-yours")."""
        with self.shop.ports.ledger.begin() as tx:
            row = tx.get(_row(template_id))
            payment = tx.payment(row["payment"]) if row is not None else None
        if row is None or payment is None:
            return None
        if payment.consumer != buyer:
            raise Refused("not-yours", f"cannot show template {template_id}: another key paid it")
        return payment, decode(Entitlement, row["right"]), int(row["needed"])

    async def _enter(self, template_id: str, buyer: str, envelope: bytes) -> None:
        shop, now = self.shop, self.shop.ports.clock.now()
        with shop.ports.ledger.sales() as rows:
            template = templates.read(rows.quote(template_id), buyer, now)
        beef = parse_beef(envelope, MAX_ANCESTRY)
        places = templates.found_in(template, beef.tx)
        income = templates.income_of(template, beef.tx, places, bytes.fromhex(buyer))
        quote = template.quote
        goods = Goods(shop.edition(quote.digest), shop.offers().get(quote.content), quote)
        purchase = Purchase(shop, goods, quotes.of_quote(quote, goods.edition, now), buyer)
        payment, right = purchase.rows(income, quote.satoshis, Method.NATIVE, template=template_id, others=places[1:])
        splits = tuple(
            {"party": one.party, "satoshis": one.satoshis, "vout": vout}
            for one, vout in zip(template.outputs, places, strict=True)
        )
        waits = template.confirmations > 0
        sale = _Sale(purchase, replace(payment, splits=splits), None if waits else right)
        told = {"payment": payment.id, "needed": template.confirmations, "price": quote.satoshis, "right": encode(right)}
        try:
            await shop.till.enter(_row(template_id), envelope, income, told, sale, self._via(goods))
        finally:
            purchase.leave()

    def _via(self, goods: Goods) -> tuple[Endpoint, ...]:
        """The broadcasters that the policy names, in its order; none where it names none."""
        policy = (goods.offer.policy if goods.offer is not None else None) or {}
        named = {one.name: one for one in self.shop.till.net.broadcasters}
        return tuple(named[name] for name in (policy.get("native") or {}).get("broadcasters") or () if name in named)

    async def _standing(self, payment: Payment, bought: Entitlement, needed: int, fresh: bool) -> Taken:
        """What the payment bought, which is good from now on where enough blocks stand on it."""
        shop = self.shop
        if payment.state not in (PaymentState.PENDING, PaymentState.CONFIRMED):
            raise Refused("payment-lost", f"cannot serve template {payment.template}: its payment is {payment.state}")
        with shop.ports.ledger.begin() as tx:
            right, stored = tx.entitlement(payment.id), tx.transaction(payment.txid)
        assert stored is not None, "it is entered with the payment"
        depth = 0
        if stored.state == "mined":
            depth = 1 if needed <= 1 else max(1, await shop.ports.chain.tip(shop.till.net.headers) - stored.height + 1)
        if right is None and depth >= needed:
            right = bought
            await shop.till.commits.commit(lambda tx: tx.put_entitlement(bought))
        goods = Goods(shop.edition(bought.digest), shop.offers().get(bought.content))
        return Taken(payment, bought, goods, depth, needed, fresh, right is not None and right.revoked is None)


@dataclass(frozen=True, slots=True)
class _Sale:
    """A template's sale, as the till sees it (engine.till.Sale)."""

    purchase: Purchase
    payment: Payment
    right: Entitlement | None

    @property
    def window(self) -> timedelta:
        """As of any other sale; a template says itself how long it may be paid."""
        return self.purchase.window

    def admit(self, income: Income, mined: bool) -> None:
        """As any other sale of that sum; what waits for blocks is not taken on trust."""
        self.purchase.admit(replace(income, satoshis=self.payment.satoshis), mined or self.right is None)

    def sell(self, income: Income) -> Write:
        """The rows, as they were made."""

        def write(tx: LedgerTransaction) -> None:
            tx.put_payment(as_mined(tx, self.payment))
            if self.right is not None:
                tx.put_entitlement(self.right)

        return write


def _row(template_id: str) -> str:
    return f"native/{template_id}"
