"""Offers as others read them: the JSON of the catalog, and the few words in which a page says price, age and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from urllib.parse import quote

from reconciler.model.canonical import Json
from reconciler.sales.shelf import Item, Producer, Service, Shelf, cost

_DAY = 86_400
_STEPS = ((365 * _DAY, "year"), (30 * _DAY, "month"), (_DAY, "day"), (3600, "hour"), (60, "minute"))
_SIZES = ((1024**4, "TiB"), (1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


# --- addresses ------------------------------------------------------------------------------------


def content_path(name: str, tail: str = "") -> str:
    """Where the content of an offer is, below the gateway's address."""
    return f"/content/{quote(name)}{tail}"


def file_path(name: str, path: str) -> str:
    """Where one file of it is."""
    return content_path(name, f"/files/{quote(path)}")


def catalog_path(name: str) -> str:
    """Where an offer is shown."""
    return f"/catalog/{quote(name)}"


def producer_path(key: str, tail: str = "") -> str:
    """Where a producer is shown."""
    return f"/producers/{quote(key)}{tail}"


# --- JSON -----------------------------------------------------------------------------------------


def item_json(item: Item, now: datetime, base: str = "") -> dict[str, Json]:
    """An offer in the catalog. Addresses begin with `base`, which has no slash at its end."""
    offer = item.offer
    return {
        "contentId": offer.name,
        "title": offer.title,
        "description": offer.description,
        "tags": list(offer.tags),
        "license": offer.license,
        "mediaType": offer.media_type,
        "sequence": offer.sequence,
        "version": offer.version,
        "digest": offer.digest,
        "merkleRoot": offer.merkle_root,
        "outpoint": offer.outpoint,
        "published": rfc3339(offer.published),
        "ageSeconds": _age(offer.published, now),
        "size": item.size,
        "files": [
            {
                "path": file.path,
                "size": file.size,
                "sha256": file.sha256,
                "mediaType": file.media_type,
                "url": base + file_path(offer.name, file.path),
            }
            for file in offer.files
        ],
        "price": price_json(item),
        "sample": dict(offer.sample) if offer.sample else None,
        "regions": list(item.regions),
        "capabilities": list(item.capabilities),
        "producer": {"id": item.producer.key, "name": item.producer.title},
        "links": {
            "self": base + catalog_path(offer.name),
            "content": base + content_path(offer.name),
            "sample": base + content_path(offer.name, "/sample") if offer.sample else None,
            "proof": base + content_path(offer.name, "/proof"),
            "versions": base + content_path(offer.name, "/versions"),
            "producer": base + producer_path(item.producer.key),
            "quotes": f"{base}/quotes",
        },
    }


def price_json(item: Item, units: int | None = None, tier: str | None = None) -> dict[str, Json]:
    """What an offer costs, or so many units of it, with the arithmetic; and the plan, so that anybody can do it again.

    `satoshis` is None for the whole of something whose plan counts time or packets.
    """
    priced = item.price if units is None and tier is None else cost(item.offer, units, tier=tier)
    return {
        "satoshis": None if priced is None else priced.satoshis,
        "lines": [] if priced is None else [line.json() for line in priced.lines],
        "unit": item.unit,
        "plan": dict(item.offer.plan),
    }


def ratings_json(scores: Sequence[int]) -> dict[str, Json]:
    """How many buyers rated something, and the mean of what they gave, a decimal text; None while nobody did."""
    tenths = round(Fraction(10 * sum(scores), len(scores))) if scores else 0
    return {"count": len(scores), "mean": f"{tenths // 10}.{tenths % 10}" if scores else None}


def producer_json(producer: Producer, shelf: Shelf, base: str = "") -> dict[str, Json]:
    """A producer, with the addresses at which others deal with it."""
    return {
        "id": producer.key,
        "name": producer.name,
        "displayName": producer.title,
        "description": producer.description,
        "contact": producer.contact,
        "capabilities": list(producer.capabilities),
        "regions": list(producer.regions),
        "outpoint": producer.outpoint,
        "items": len(shelf.of(producer.key)),
        "services": [service_json(one, base) for one in shelf.services.values() if one.provider == producer.key],
        "serviceUrls": {
            "listing": base + producer_path(producer.key, "/catalog"),
            "pricing": base + producer_path(producer.key, "/pricing"),
            "streaming": base + producer_path(producer.key, "/streams"),
        },
        "paymentEndpoints": {"http": f"{base}/quotes", "native": f"{base}/payments/templates"},
    }


def service_json(service: Service, base: str = "") -> dict[str, Json]:
    """A service, with the digest that its token anchors and the address of the document that has it."""
    return {
        "name": service.name,
        "serviceType": service.kind,
        "capability": service.capability,
        "regions": list(service.regions),
        "availability": dict(service.availability),
        "datasets": sorted(service.datasets),
        "digest": service.digest,
        "outpoint": service.outpoint,
        "document": f"{base}/.well-known/overlay-producer.json?service={quote(service.name)}",
    }


def pricing_json(item: Item, units: int | None, tier: str | None) -> dict[str, Json]:
    """An offer's line in a price list."""
    offer = item.offer
    return {"contentId": offer.name, "title": offer.title, "sequence": offer.sequence, "price": price_json(item, units, tier)}


def how_to_buy(item: Item, base: str) -> tuple[tuple[str, str], ...]:
    """Commands that buy an offer, each after what it does; for somebody who has nothing yet but the program."""
    name = item.offer.name
    buy = f"reconciler consumer access \\\n  {name} \\\n  --at {base} \\\n  --cost {item.satoshis or 0}sat --to ."
    return (
        ("Make a buyer's repository, with a key and a budget, once", "reconciler consumer init"),
        ("Ask the price: it is signed, and nothing is owed", f"reconciler consumer quote \\\n  {name} \\\n  --at {base}"),
        ("Buy and fetch, for that price at most", buy),
        ("Look at the receipt, which proves it offline", "reconciler consumer receipts"),
    )


# --- words ----------------------------------------------------------------------------------------


def rfc3339(moment: datetime | None) -> str | None:
    """The second, in UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment is not None else None


def money(satoshis: int) -> str:
    """An amount with its thousands set apart."""
    return f"{satoshis:,}".replace(",", "\u202f") + " sat" if satoshis else "free"


def terms(plan: Mapping[str, Json], unit: str) -> str:
    """A plan on one line."""
    if not plan["rate"] and not plan.get("tiers"):
        return "no charge"
    said = f"{money(plan['rate'])} {unit}"
    if plan["model"] == "subscription":
        said = f"{money(plan['rate'])} for {_span(timedelta(milliseconds=plan['period']))}"
    free = (plan.get("free") or {}).get("units")
    return said + (f", the first {free} free" if free else "")


def age(moment: datetime | None, now: datetime) -> str:
    """How long ago, in one unit."""
    seconds = _age(moment, now)
    if seconds is None:
        return "not published yet"
    return f"{_span(timedelta(seconds=seconds))} ago" if seconds >= 60 else "just now"


def rated(scores: Sequence[int]) -> str:
    """What buyers gave; empty while nobody gave anything."""
    return f"{ratings_json(scores)['mean']} of 5, {len(scores)} time{'' if len(scores) == 1 else 's'}" if scores else ""


def size(count: int) -> str:
    """Bytes, to three digits or so."""
    for step, word in _SIZES:
        if count >= step:
            value = count / step
            return f"{value:.0f} {word}" if value >= 100 else f"{value:.1f} {word}"
    return f"{count} B"


def _age(moment: datetime | None, now: datetime) -> int | None:
    return None if moment is None else max(0, int((now - moment).total_seconds()))


def _span(length: timedelta) -> str:
    seconds = int(length.total_seconds())
    step, word = next(((step, word) for step, word in _STEPS if seconds >= step), (1, "second"))
    count = seconds // step
    return f"{count} {word}{'' if count == 1 else 's'}"
