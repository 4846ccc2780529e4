"""What a buyer finds: offers of content and of services, read out of signed documents. Values and pure readers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from reconciler.kinds.dataset import merkle_root
from reconciler.model.canonical import Json
from reconciler.wire.jsontext import MAX_SAFE, Fields

DATASET, SERVICE = "DatasetManifest", "ServiceDocument"
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Anchor:
    """The token that anchors a document: which, of what block and time; height 0 while it is in none."""

    outpoint: str
    digest: str
    version: int
    height: int
    published: datetime | None


@dataclass(frozen=True, slots=True)
class File:
    """One file on offer."""

    path: str
    size: int
    sha256: str
    media_type: str


@dataclass(frozen=True, slots=True)
class Service:
    """What an Advertisement offers: where its gateway is, what it speaks of (`Kind/name`), and its terms."""

    producer: str
    name: str
    url: str
    offers: tuple[str, ...]
    service_type: str
    capability: str
    regions: tuple[str, ...]
    price: Mapping[str, Json]
    anchor: Anchor


@dataclass(frozen=True, slots=True)
class Offer:
    """Content that a producer published. `service` is where it is sold, None while no advertisement of the producer says."""

    producer: str
    name: str
    title: str
    description: str
    tags: tuple[str, ...]
    license: str
    price: Mapping[str, Json]
    files: tuple[File, ...]
    merkle_root: str
    recall: str
    lineage: tuple[Mapping[str, Json], ...]
    previous: str
    anchor: Anchor
    service: Service | None = None

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(file.size for file in self.files)

    @property
    def content(self) -> str:
        """What it is called on any network: `<producer>/<name>`."""
        return f"{self.producer}/{self.name}"

    @property
    def satoshis(self) -> int | None:
        """What all of it costs by the published price, before tiers and discounts; None where that takes a quote."""
        return whole(self.price, self.size)


def whole(price: Mapping[str, Json], size: int) -> int | None:
    """The price of `size` bytes had once; None where the unit is time or a packet. Without a price it is free."""
    if not price:
        return 0
    rate = int(price["rate"])
    if price["model"] in ("per-item", "per-request"):
        return rate
    return rate * -(-size // MEGABYTE) if price["model"] == "per-mb" else None


def read_offer(document: Mapping[str, Json], signer: str, anchor: Anchor) -> Offer:
    """An offer out of a Dataset's document that `signer` signed; RemoteProtocolError when it is none, or lies about its files."""
    said = Fields.of(document, "dataset document")
    if said.text("type") != DATASET or said.hex("publisher", 33) != signer:
        said.fail("type", "is not a dataset's, published by who signed it")
    files = tuple(
        File(one.text("path"), one.integer("size"), one.hex("sha256", 32), one.text("mediaType", ""))
        for one in said.objects("files")
    )
    root = said.hex("merkleRoot", 32)
    if merkle_root([dict(one.values) for one in said.objects("files")]) != root:
        said.fail("merkleRoot", "is not that of the files")
    if said.integer("sequence", 1) != anchor.version:
        said.fail("sequence", "is not the version that its token names")
    recall = said.object("recall").text("reason") if document.get("recall") else ""
    inputs = said.object("lineage").objects("inputs") if document.get("lineage") else ()
    return Offer(
        producer=signer,
        name=said.text("name"),
        title=said.text("title", ""),
        description=said.text("description", ""),
        tags=said.strings("tags", ()),
        license=said.text("license", ""),
        price=_price(said),
        files=files,
        merkle_root=root,
        recall=recall,
        lineage=tuple(one.values for one in inputs),
        previous=said.text("previous", ""),
        anchor=anchor,
    )


def read_service(document: Mapping[str, Json], signer: str, anchor: Anchor) -> Service:
    """A service out of an Advertisement's document that `signer` signed; RemoteProtocolError when it is none."""
    said = Fields.of(document, "service document")
    if said.text("type") != SERVICE or said.hex("provider", 33) != signer:
        said.fail("type", "is not a service's, provided by who signed it")
    return Service(
        producer=signer,
        name=said.text("name"),
        url=said.text("url").rstrip("/"),
        offers=said.strings("offers", ()),
        service_type=said.text("serviceType", ""),
        capability=said.text("capability", ""),
        regions=said.strings("regions", ()),
        price=_price(said),
        anchor=anchor,
    )


def _price(said: Fields) -> Mapping[str, Json]:
    if not said.values.get("price"):
        return {}
    price = said.object("price")
    price.text("model")
    price.integer("rate", 0, MAX_SAFE)
    return price.values


def sold_by(offer: Offer, services: Iterable[Service]) -> Service | None:
    """The advertisement that sells it: one that names it, else any of the producer's with an address; the oldest of equals."""
    own = [one for one in services if one.producer == offer.producer and one.url]
    named = [one for one in own if f"Dataset/{offer.name}" in one.offers]
    return min(named or own, key=lambda one: (one.anchor.height or MAX_SAFE, one.anchor.outpoint), default=None)
