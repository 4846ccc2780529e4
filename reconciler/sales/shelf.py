"""What stands in the window: every offer with its price, its producer, and the services that announce it.

Read out of recorded records, so that it shows what was published and not what somebody intends to publish.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.model.canonical import Json
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.sales.offer import Offer, offers
from reconciler.sales.price import Priced, price, units_of
from reconciler.sales.quote import FOR_CONTENT

# A single unit of each model, as a price tag says it.
UNITS = {
    "per-item": "per item", "per-request": "per request", "per-second": "per second", "per-minute": "per minute",
    "per-mb": "per MB", "per-packet": "per packet", "subscription": "per period",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Producer:
    """Who sells: the identity key (hex33), the name of its Identity, and what its profile says."""

    key: str
    name: str
    title: str
    description: str = ""
    contact: str = ""
    capabilities: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    outpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """An Advertisement on record. `digest` is the SHA-256 of its signed document, which its descriptor token anchors."""

    name: str
    provider: str
    kind: str
    capability: str
    regions: tuple[str, ...]
    datasets: frozenset[str]
    availability: Mapping[str, Json]
    digest: str
    outpoint: str | None


@dataclass(frozen=True, slots=True)
class Item:
    """One offer as a visitor sees it.

    `price` is what the whole of it costs a stranger who has bought nothing yet; None where its plan counts time or packets.
    """

    offer: Offer
    producer: Producer
    price: Priced | None
    services: tuple[Service, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return self.offer.edition.size

    @property
    def satoshis(self) -> int | None:
        """What the whole of it costs, where that can be told."""
        return None if self.price is None else self.price.satoshis

    @property
    def unit(self) -> str:
        """What the rate of its plan is for, in words."""
        return UNITS[self.offer.plan["model"]]

    @property
    def regions(self) -> tuple[str, ...]:
        """Where its services say they are offered; where none says anything, where its producer serves."""
        said = dict.fromkeys(region for service in self.services for region in service.regions)
        return tuple(said) or self.producer.regions

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The abilities of the services that announce it."""
        return tuple(dict.fromkeys(service.capability for service in self.services if service.capability))


@dataclass(frozen=True, slots=True)
class Shelf:
    """Everything on sale, by dataset name; producers by identity key; services by the name of their Advertisement."""

    items: Mapping[str, Item] = field(default_factory=dict)
    producers: Mapping[str, Producer] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)

    def producer(self, word: str) -> Producer | None:
        """The producer with that identity key, or with that Identity name."""
        return self.producers.get(word) or next((one for one in self.producers.values() if one.name == word), None)

    def of(self, key: str) -> tuple[Item, ...]:
        """What the producer with that key sells."""
        return tuple(item for item in self.items.values() if item.producer.key == key)


def shelf(records: Mapping[ResourceRef, Record], place: tuple[str, str] | None = None) -> Shelf:
    """The window of a ledger's records; with a `place`, only of what that Identity sells on that Network."""
    known = (one for one in map(_producer, _of(records, "Identity")) if one is not None)
    producers = {one.key: one for one in known if place is None or one.name == place[0]}
    services = {one.name: one for one in map(_service, _of(records, "Advertisement")) if one is not None}
    items = {}
    for name, offer in sorted(offers(records).items()):
        if place not in (None, (offer.identity, offer.network)):
            continue
        announced = tuple(one for one in services.values() if name in one.datasets)
        seller = producers.get(offer.producer) or Producer(offer.producer, offer.identity, offer.identity)
        items[name] = Item(offer, seller, cost(offer), announced)
        producers.setdefault(seller.key, seller)
    return Shelf(items, producers, {name: one for name, one in services.items() if one.provider in producers})


def cost(offer: Offer, units: int | None = None, *, tier: str | None = None) -> Priced | None:
    """The price of an offer: of so many units, or of the whole of it, which not every plan can tell."""
    if units is None and offer.plan["model"] not in FOR_CONTENT:
        return None
    return price(offer.plan, units_of(offer.plan, bytes=offer.edition.size) if units is None else units, tier=tier)


def _of(records: Mapping[ResourceRef, Record], kind: str) -> list[Record]:
    """The standing records of a kind, in order of name."""
    return [record for ref, record in sorted(records.items()) if ref.kind == kind and not record.retiring]


def _producer(record: Record) -> Producer | None:
    spec, key = record.body["spec"], record.outputs.get("publicKey")
    if not key or "producer" not in (spec.get("roles") or ["producer"]):
        return None
    return Producer(
        key=key,
        name=record.ref.name,
        title=spec.get("displayName") or record.ref.name,
        description=spec.get("description") or "",
        contact=spec.get("contact") or "",
        capabilities=tuple(spec.get("capabilities") or ()),
        regions=tuple(spec.get("regions") or ()),
        outpoint=_anchor(record),
    )


def _service(record: Record) -> Service | None:
    spec, document = record.body["spec"], record.outputs.get("document")
    if not document:
        return None
    return Service(
        name=record.ref.name,
        provider=record.outputs["publicKey"],
        kind=spec.get("serviceType") or "",
        capability=spec.get("capability") or "",
        regions=tuple(spec.get("regions") or ()),
        datasets=frozenset(one["name"] for one in spec.get("for") or () if one["kind"] == "Dataset"),
        availability=spec.get("availability") or {},
        digest=document["digest"],
        outpoint=_anchor(record),
    )


def _anchor(record: Record) -> str | None:
    """The outpoint of the token that anchors a record's document."""
    found = [token["outpoint"] for token in record.outputs.get("tokens") or () if token.get("type") == "DESCRIPTOR"]
    return found[0] if found else None
