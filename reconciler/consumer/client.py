"""A buyer: finds, compares, pays within a budget, fetches, and proves what it bought.

    async with client(Path("buyer")) as buyer:
        best, *_ = await buyer.search(tags=["fx"])
        purchase = await buyer.pay(await buyer.quote(best.offer, cost=5000))
        files = await buyer.fetch(purchase, Path("data"))

`reconciler.compose.client` opens one. Every method may raise the errors of reconciler.web; none of them pays twice for one thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from reconciler.consumer import lineage as lineages
from reconciler.consumer import probing, purchases, rank, ready, verify
from reconciler.consumer.budget import DAY, read_budget, spent
from reconciler.consumer.ceiling import Ceiling
from reconciler.consumer.discover import Finder, Market, matching
from reconciler.consumer.fetch import Fetched, Told, bring, chosen, untold
from reconciler.consumer.offers import Anchor, Offer, Service, read_offer
from reconciler.consumer.pay import Till
from reconciler.consumer.pins import followed, origin_of
from reconciler.consumer.purchases import Line, Purchase
from reconciler.consumer.report import Report, summed
from reconciler.consumer.said import Quote
from reconciler.engine.confirm import confirm
from reconciler.model.canonical import Json
from reconciler.model.errors import ReconcilerError, Refused, Unavailable
from reconciler.ports import StoredTx
from reconciler.web import Reply
from reconciler.wire.bundle import Check
from reconciler.wire.receipt import Receipt
from reconciler.wire.succession import Period

# The ways to pay that are built, in order of preference.
METHODS = ("brc105",)


@dataclass(frozen=True, slots=True)
class Ranked:
    """An offer, and how it compares with the others that were found with it."""

    offer: Offer
    score: rank.Score


@dataclass(frozen=True, slots=True)
class RankedService:
    """A service, and how it compares."""

    service: Service
    score: rank.Score


@dataclass(frozen=True, slots=True)
class Status:
    """How a purchase and its transaction stand; confirmations count the block it is in, 0 while it is in none."""

    purchase: Purchase | None
    payment: str
    txid: str
    transaction: str
    height: int
    confirmations: int


@dataclass(slots=True)
class Client:
    """One buyer on one network. `consumer` is that block of its Identity: budget, methods, readiness."""

    finder: Finder
    till: Till
    consumer: Mapping[str, Json]
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The key that buys, hex33."""
        return self.till.web.who()

    # --- finding --------------------------------------------------------------------------------------------------

    async def search(
        self,
        words: str = "",
        *,
        tags: Sequence[str] = (),
        producer: str = "",
        terms: str = "",
        most: Ceiling | None = None,
        regions: Sequence[str] = (),
        measure: bool = True,
    ) -> list[Ranked]:
        """Content on offer that fits, best first; what is left out, and why, stands in `notes`."""
        market = await self.finder.market(producer=producer)
        found = matching(market.offers, tags=tags, words=words, terms=terms)
        dear = {one.content: f"recalled by its producer: {one.recall}" for one in found if one.recall}
        dear |= {one.content: fault for one in found if most and (fault := most.fault(one.price, one.satoshis))}
        found = [one for one in found if one.content not in dear]
        self.notes = (*market.notes, *(f"{content}: {fault}" for content, fault in sorted(dear.items())))
        places = {one.content: one.service for one in found}
        facts = await self._facts(market, [(one.producer, places[one.content], one.satoshis) for one in found], measure)
        ranked = [Ranked(one, score) for one, score in zip(found, rank.scores(facts, regions), strict=True)]
        return sorted(ranked, key=lambda one: (-one.score.points, one.offer.content))

    async def discover(
        self,
        *,
        service_type: str = "",
        capability: str = "",
        producer: str = "",
        most: Ceiling | None = None,
        regions: Sequence[str] = (),
        measure: bool = True,
    ) -> list[RankedService]:
        """Services on offer that fit, best first; what is left out, and why, stands in `notes`."""
        market = await self.finder.market(producer=producer)
        found = [
            one
            for one in market.services
            if service_type in ("", one.service_type) and capability.casefold() in one.capability.casefold()
        ]
        dear = {one.anchor.outpoint: fault for one in found if most and (fault := most.fault(one.price, None))}
        self.notes = (*market.notes, *(f"{s.name} {dear[o]}" for s in found if (o := s.anchor.outpoint) in dear))
        found = [one for one in found if one.anchor.outpoint not in dear]
        rows = [(one.producer, one, int(one.price["rate"]) if one.price else None) for one in found]
        facts = await self._facts(market, rows, measure)
        ranked = [RankedService(one, score) for one, score in zip(found, rank.scores(facts, regions), strict=True)]
        return sorted(ranked, key=lambda one: (-one.score.points, one.service.producer, one.service.name))

    async def _facts(
        self, market: Market, rows: Iterable[tuple[str, Service | None, int | None]], measure: bool
    ) -> list[rank.Facts]:
        """What scores are made of, for (producer, service, price)."""
        rows = list(rows)
        urls = [one.url for _, one, _ in rows if one is not None]
        ledger, now = self.till.ports.ledger, self.till.ports.clock.now()
        probed = await probing.probe(ledger, self.till.web, urls) if measure else {}
        with ledger.begin() as tx:
            bought = purchases.lines(tx, purchases.EVER)
        revoked = await self._revoked() if rows else frozenset()
        first: dict[str, datetime] = {}
        anchors = [(o.producer, o.anchor) for o in market.offers] + [(s.producer, s.anchor) for s in market.services]
        for producer, anchor in anchors:
            if anchor.published is not None:
                first[producer] = min(anchor.published, first.get(producer, anchor.published))
        facts = []
        for producer, service, price in rows:
            seen = probed.get(origin_of(service.url)) if service is not None else None
            own = [line for line in bought if line.producer == producer and line.satoshis]
            facts.append(
                rank.Facts(
                    price=price,
                    regions=service.regions if service is not None else (),
                    ms=seen.ms if seen is not None else -1,
                    asked=seen.asked if seen is not None else 0,
                    answered=seen.answered if seen is not None else 0,
                    age=max(0, (now - first[producer]).days) if producer in first else None,
                    paid=len(own),
                    kept=sum(bool(line.purchase and line.purchase.receipt_id) for line in own),
                    revoked=producer in revoked,
                )
            )
        return facts

    async def _revoked(self) -> frozenset[str]:
        """Keys whose owners said, with the key that followed, that they are not to be trusted."""
        try:
            told = [period for profile in await self._profiles() for period in profile]
        except ReconcilerError:
            return frozenset()
        return frozenset(period.key for period in told if period.compromised)

    async def _profiles(self, producer: str = "") -> list[tuple[Period, ...]]:
        found = []
        for one in await self.finder.described("Identity", producer):
            try:
                document = await self.finder.document(one.token.digest, one.owner)
            except ReconcilerError:
                continue
            found.append(followed(document, one.owner))
        return found

    async def offer(self, content: str) -> Offer:
        """The offer that `name`, or `<producer>/name`, names; Refused when there is none, or when several producers have one."""
        producer, _, rest = content.rpartition("/")
        name = rest.partition("@")[0]
        market = await self.finder.market(producer=producer if len(producer) == 66 else "", name=name)
        self.notes = market.notes
        found = [one for one in market.offers if one.name == name and one.producer.startswith(producer)]
        if not found:
            hint = "; ".join(market.notes) or "reconciler consumer search shows what there is"
            raise Refused("no-offer", f"cannot find {content}: nobody offers it", hint=hint)
        if len(found) > 1:
            names = ", ".join(f"{one.producer[:16]}…/{one.name}" for one in found)
            raise Refused("ambiguous", f"cannot tell which {content} is meant: {names}", hint="write PRODUCER/NAME")
        return found[0]

    # --- buying ---------------------------------------------------------------------------------------------------

    async def quote(self, content: str | Offer, cost: int | None = None, *, at: str = "") -> Quote:
        """A signed price for an offer; GuardRefused above `cost`. `at` is where its producer is reached, if not where it says."""
        offer = await self.offer(content) if isinstance(content, str) else content
        sequence = content.partition("@")[2] if isinstance(content, str) else ""
        url = self._address(offer, at)
        known: Sequence[Period] = ()
        if self.till.pinned(url) not in ("", offer.producer):
            known = next((keys for keys in await self._profiles(offer.producer) if keys), ())
        self.till.check(url, offer.producer, known)
        name = f"{offer.name}@{sequence}" if sequence else offer.name
        return await self.till.quote(url, offer.producer, name, cost, "" if sequence else offer.anchor.digest)

    def _address(self, offer: Offer, at: str) -> str:
        url = (at or (offer.service.url if offer.service is not None else "")).rstrip("/")
        if not url:
            hint = "name its gateway (--at URL); its key is proven in any case"
            raise Refused("no-gateway", f"cannot buy {offer.name}: its producer advertises no gateway", hint=hint)
        if urlsplit(url).scheme != "https" and self.till.chain != "devnet":
            raise Refused("in-the-clear", f"cannot buy at {url}: purchases go over https", hint="only a devnet may do without")
        return url

    async def pay(self, quote: Quote | str, cost: int | None = None) -> Purchase:
        """Pay a quote, or one that was asked for before, by its id. Doing it again is harmless."""
        found = self.till.known_quote(quote) if isinstance(quote, str) else quote
        allowed = self.consumer.get("methods") or METHODS
        if found.satoshis and not {*allowed} & {*found.methods} & {*METHODS}:
            told = f"cannot pay for {found.content}: it is sold by {', '.join(found.methods) or 'no method'}"
            raise Refused("no-method", told, hint=f"this buyer pays by {', '.join(m for m in METHODS if m in allowed) or 'none'}")
        return await self.till.pay(found, cost)

    async def fetch(self, what: Purchase | str, target: Path, *, paths: Sequence[str] = (), told: Told = untold) -> list[Fetched]:
        """Bring what was bought to disk, each file proven by its hash; from its producer, or else from any host that has it."""
        one = self.purchase(what) if isinstance(what, str) else what
        if one.state != purchases.HAD:
            hint = "bring the purchase to its end first: reconciler consumer pay"
            raise Refused("not-bought", f"cannot fetch {one.content}: purchase {one.id} is {one.state}", hint=hint)
        files = chosen((await self.manifest(one)).files, paths)
        web = self.till.web
        try:
            return await bring(web, one, files, target, self.finder.replicas, told)
        except (Refused, Unavailable) as error:
            if error.code not in ("no-copy", "no-host"):
                raise
            try:
                one = await self.till.opened(one)
            except ReconcilerError:
                raise error from None
            return await bring(web, one, files, target, self.finder.replicas, told)

    async def get(self, url: str, cost: int) -> Reply:
        """One paid GET of any host that takes BRC-105 payments, for `cost` satoshis at most."""
        return await self.till.get(url, cost)

    async def manifest(self, one: Purchase) -> Offer:
        """What was bought, out of the document that its receipt names."""
        document = await self.finder.document(one.digest, one.producer)
        return read_offer(document, one.producer, Anchor("", one.digest, one.sequence, 0, None))

    # --- afterwards -----------------------------------------------------------------------------------------------

    def purchase(self, known: str) -> Purchase:
        """A purchase by its id, its receipt's id, or what was bought (`name`, `<producer>/name`); Refused when there is none."""
        producer, _, name = known.rpartition("/")
        with self.till.ports.ledger.begin() as tx:
            one = purchases.purchase(tx, known)
            if one is not None:
                return one
            found = [line.purchase for line in purchases.lines(tx, purchases.EVER) if line.purchase is not None]
        for one in reversed(found):
            names = (one.content, f"{one.content}@{one.sequence}")
            if known == one.receipt_id or (name in names and one.producer.startswith(producer)):
                return one
        hint = "reconciler consumer receipts lists what was"
        raise Refused("not-bought", f"cannot find a purchase of {known}: it was not bought here", hint=hint)

    def receipts(self, since: datetime = purchases.EVER) -> list[Line]:
        """Everything that was bought since then, oldest first."""
        with self.till.ports.ledger.begin() as tx:
            return purchases.lines(tx, since)

    def report(self, since: datetime) -> Report:
        """What was bought since then, by producer, and what is left of the budget."""
        now = self.till.ports.clock.now()
        with self.till.ports.ledger.begin() as tx:
            lines, known = purchases.lines(tx, since), spent(tx.bookings(now - DAY), now)
        return summed(lines, read_budget(self.consumer), known)

    async def receipt(self, known: str) -> bytes:
        """The receipt of a purchase with the payment's proof, for `reconciler verify receipt`."""
        return await self.till.bundle(self.purchase(known))

    async def status(self, known: str) -> Status:
        """How final a purchase, or a transaction of this purse, is by now."""
        ports, net = self.till.ports, self.finder.net
        await confirm(ports, {net.chain: net})
        tip = await ports.chain.tip(net.headers)
        with ports.ledger.begin() as tx:
            stored: StoredTx | None = tx.transaction(known)
        one = None if stored is not None else self.purchase(known)
        paid = self.till.purse.made_for(one.id) if one is not None else None
        txid = str(paid["txid"]) if paid else known if stored is not None else ""
        with ports.ledger.begin() as tx:
            stored = tx.transaction(txid) if txid else None
        height = stored.height if stored is not None else 0
        depth = tip - height + 1 if height else 0
        return Status(one, str(paid["state"]) if paid else "", txid, stored.state if stored is not None else "", height, depth)

    async def refund(self, known: str, reason: str = "") -> Mapping[str, object]:
        """Ask the producer for the money back; what it says."""
        return await self.till.refund(self.purchase(known), reason)

    async def lineage(self, content: str) -> lineages.Lineage:
        """The versions of an offer, each proven to follow the one before, and what it is said to be made of."""
        return await lineages.lineage(self.till.ports, self.finder.net, await self.offer(content))

    async def verify(self, known: str, target: Path | None = None) -> list[Check]:
        """Whether a purchase is what its receipt says: manifest, files, bytes."""
        one = self.purchase(known)
        return await self._checked(one, await self.manifest(one), target)

    async def _checked(self, one: Purchase, offer: Offer, target: Path | None = None) -> list[Check]:
        def paid(receipt: Receipt) -> Check:
            with self.till.ports.ledger.begin() as tx:
                stored = tx.transaction(receipt.txid) if receipt.txid else None
            return verify.payment(receipt, stored.raw if stored is not None else None, self.till.web.script_to)

        return await verify.verify(one, offer, self.key, paid, target)

    async def ready(self, content: str) -> ready.Verdict:
        """Whether content may be used by the policy of this buyer; of what was bought, else of what is on offer."""
        offer = await self.offer(content)
        with self.till.ports.ledger.begin() as tx:
            one = purchases.bought(tx, offer.producer, offer.name)
        tip = await self.till.ports.chain.tip(self.finder.net.headers)
        version, height, published = offer.anchor.version, offer.anchor.height, offer.anchor.published
        faults: tuple[str, ...] = ()
        subject = offer
        if one is not None:
            subject = await self.manifest(one)
            faults = tuple(c.detail for c in await self._checked(one, subject) if c.ok is False)
            if one.sequence != version:
                past = await lineages.lineage(self.till.ports, self.finder.net, offer)
                at = next((old for old in past.versions if old.digest == one.digest), None)
                height, published = (at.height, at.published) if at is not None else (0, None)
        standing = ready.Standing(
            producer=offer.producer,
            license=subject.license,
            price=one.paid if one is not None else offer.satoshis,
            confirmations=tip - height + 1 if height else 0,
            published=published,
            recall=offer.recall,
            newest=one is None or one.sequence == version,
            faults=faults,
        )
        return ready.judge(ready.read_policy(self.consumer), standing, self.till.ports.clock.now())
