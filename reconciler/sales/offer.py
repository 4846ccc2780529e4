"""What is on sale, read out of the records: pure. A record that lacks what a sale needs is no offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reconciler.model.canonical import Json
from reconciler.model.errors import Refused
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.model.sale import Edition, EditionFile

# A Dataset that names no price is given to whoever asks.
FREE: Mapping[str, Json] = {"model": "per-item", "rate": 0}


@dataclass(frozen=True, slots=True)
class Offer:
    """One dataset on sale. `edition` is its current version; `older` are those that it keeps beside that one."""

    name: str
    ref: ResourceRef
    title: str
    description: str
    tags: tuple[str, ...]
    license: str | None
    media_type: str | None
    edition: Edition
    plan: Mapping[str, Json]
    policy: Mapping[str, Json] | None
    access: Mapping[str, Json] | None
    sample: Mapping[str, Json] | None
    producer: str
    identity: str
    network: str
    published: datetime | None
    older: tuple[Edition, ...] = ()

    @property
    def sequence(self) -> int:
        """Of the current version."""
        return self.edition.sequence

    @property
    def version(self) -> str | None:
        """What the producer calls the current version."""
        return self.edition.version

    @property
    def digest(self) -> str:
        """SHA-256 of the signed manifest."""
        return self.edition.digest

    @property
    def merkle_root(self) -> str:
        """Over the list of files."""
        return self.edition.merkle_root

    @property
    def files(self) -> tuple[EditionFile, ...]:
        """Of the current version."""
        return self.edition.files

    @property
    def outpoint(self) -> str | None:
        """The token that anchors the manifest."""
        return self.edition.outpoint


def offers(records: Mapping[ResourceRef, Record]) -> dict[str, Offer]:
    """Every dataset that is published and neither retiring nor recalled, by name."""
    found = (offer_of(record) for ref, record in sorted(records.items()) if ref.kind == "Dataset")
    return {offer.name: offer for offer in found if offer is not None}


def offer_of(record: Record) -> Offer | None:
    """The offer a Dataset's record makes; None when it makes none."""
    edition = edition_of(record)
    spec, using = record.body.get("spec") or {}, record.body.get("using") or {}
    if edition is None or record.retiring or spec.get("recall") or not spec.get("identityRef"):
        return None
    ready = record.status.condition("Ready")
    types = {file.media_type for file in edition.files}
    return Offer(
        name=record.ref.name,
        ref=record.ref,
        title=spec.get("title") or record.ref.name,
        description=_description(record),
        tags=tuple(spec.get("tags") or ()),
        license=spec.get("license"),
        media_type=types.pop() if len(types) == 1 else None,
        edition=edition,
        plan=plan_of(spec, using),
        policy=_used(using, "PaymentPolicy", spec.get("paymentPolicyRef")),
        access=_used(using, "AccessPolicy", spec.get("accessPolicyRef")),
        sample=spec.get("sample"),
        producer=str(record.outputs["publicKey"]),
        identity=str(spec["identityRef"]),
        network=str(spec.get("networkRef") or ""),
        published=ready.since if ready is not None else None,
        older=tuple(_older(record, edition, one) for one in record.outputs.get("versions") or ()),
    )


def edition_of(record: Record) -> Edition | None:
    """The version that a Dataset's record shows; None before there is one."""
    outputs, spec = record.outputs, record.body.get("spec") or {}
    document = outputs.get("document")
    if not document or not outputs.get("files") or not outputs.get("publicKey"):
        return None
    tokens = outputs.get("tokens") or ()
    return Edition(
        content=record.ref.name,
        sequence=int(document["sequence"]),
        digest=document["digest"],
        merkle_root=str(outputs.get("merkleRoot") or ""),
        files=_files(outputs["files"]),
        producer=f"Identity/{spec.get('identityRef')}",
        version=spec.get("version"),
        license=spec.get("license"),
        outpoint=next((token["outpoint"] for token in tokens if token.get("outpoint")), None),
    )


def plan_of(spec: Mapping[str, Json], using: Mapping[str, Json]) -> Mapping[str, Json]:
    """What it costs: the price it states itself, else its PricePlan, else nothing."""
    if spec.get("price") is not None:
        return {"model": "per-item", "rate": int(spec["price"])}
    return _used(using, "PricePlan", spec.get("pricePlanRef")) or FREE


def parse_content(text: str) -> tuple[str, int | None]:
    """The name and, where one is given, the sequence of a content id; Refused("no-content") when it is none."""
    name, at, sequence = text.partition("@")
    if not name or (at and not (sequence.isascii() and sequence.isdecimal() and len(sequence) <= 9)):
        hint = "a content id is a name, or name@sequence"
        raise Refused("no-content", f"cannot find content {text[:80]!r}", hint=hint)
    return name, int(sequence) if at else None


def _used(using: Mapping[str, Any], kind: str, name: str | None) -> Mapping[str, Json] | None:
    return using.get(f"{kind}/{name}") if name else None


def _description(record: Record) -> str:
    spec = record.body["spec"]
    if spec.get("describe") == "auto":
        from reconciler.kinds.dataset import describe  # only where a text is made of the files

        return describe(record.body)
    return str(spec.get("description") or "")


def _older(record: Record, current: Edition, one: Mapping[str, Any]) -> Edition:
    return Edition(record.ref.name, int(one["sequence"]), one["digest"], "", _files(one["files"]), current.producer)


def _files(entries: Sequence[Mapping[str, Any]]) -> tuple[EditionFile, ...]:
    return tuple(EditionFile(one["path"], int(one["size"]), one["sha256"], one["mediaType"]) for one in entries)
