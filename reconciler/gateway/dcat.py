"""The catalog for other catalogs: DCAT 3 as JSON-LD, and schema.org's Dataset for search engines that read pages.

Terms: DCAT 3 (W3C), DCMI terms, SPDX checksums, ODRL offers. The context is written out, so that nobody has to fetch one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import quote

from reconciler.model.canonical import Json
from reconciler.sales import showing
from reconciler.sales.shelf import Item, Producer, Service, Shelf

CONTEXT = {
    "dcat": "http://www.w3.org/ns/dcat#",
    "dcterms": "http://purl.org/dc/terms/",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "odrl": "http://www.w3.org/ns/odrl/2/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "spdx": "http://spdx.org/rdf/terms#",
    "vcard": "http://www.w3.org/2006/vcard/ns#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}
_SPDX = "http://spdx.org/licenses/"
_MEDIA = "https://www.iana.org/assignments/media-types/"
# Identifiers of the SPDX list under which data is published; another word is told as it stands.
_IDS = (
    "0BSD AGPL-3.0-only AGPL-3.0-or-later Apache-2.0 BSD-2-Clause BSD-3-Clause C-UDA-1.0 CC-BY-2.0 CC-BY-2.5 CC-BY-3.0 CC-BY-4.0 "
    "CC-BY-NC-3.0 CC-BY-NC-4.0 CC-BY-NC-ND-3.0 CC-BY-NC-ND-4.0 CC-BY-NC-SA-3.0 CC-BY-NC-SA-4.0 CC-BY-ND-3.0 CC-BY-ND-4.0 "
    "CC-BY-SA-2.0 CC-BY-SA-2.5 CC-BY-SA-3.0 CC-BY-SA-4.0 CC-PDDC CC0-1.0 CDLA-Permissive-1.0 CDLA-Permissive-2.0 "
    "CDLA-Sharing-1.0 DL-DE-BY-2.0 DL-DE-ZERO-2.0 etalab-2.0 EUPL-1.2 GFDL-1.3-only GPL-2.0-only GPL-2.0-or-later GPL-3.0-only "
    "GPL-3.0-or-later ISC LGPL-3.0-only MIT MPL-2.0 NLOD-1.0 NLOD-2.0 O-UDA-1.0 ODbL-1.0 ODC-By-1.0 OGL-Canada-2.0 OGL-UK-1.0 "
    "OGL-UK-2.0 OGL-UK-3.0 PDDL-1.0 Unlicense"
)
SPDX_IDS = frozenset(_IDS.split())


def catalog(shelf: Shelf, base: str, title: str, now: datetime) -> dict[str, Json]:
    """A dcat:Catalog of everything on the shelf; `base` is the gateway's public address without a slash at the end."""
    publishers = [publisher(one, base) for one in shelf.producers.values()]
    return {
        "@context": CONTEXT,
        "@id": f"{base}/catalog.jsonld",
        "@type": "dcat:Catalog",
        "dcterms:title": title,
        "dcterms:description": f"{len(shelf.items)} datasets with prices in satoshis, each file with its hash",
        "foaf:homepage": {"@id": f"{base}/catalog"},
        "dcterms:modified": _moment(_newest(shelf, now)),
        **({"dcterms:publisher": publishers if len(publishers) > 1 else publishers[0]} if publishers else {}),
        "dcat:dataset": [dataset(item, base) for item in shelf.items.values()],
        "dcat:service": [service(one, base) for one in shelf.services.values()],
    }


def dataset(item: Item, base: str) -> dict[str, Json]:
    """A dcat:Dataset with one distribution a file."""
    offer, here = item.offer, base + showing.catalog_path(item.offer.name)
    return _without_gaps(
        {
            "@id": here,
            "@type": "dcat:Dataset",
            "dcterms:identifier": offer.name,
            "dcterms:title": offer.title,
            "dcterms:description": offer.description,
            "dcat:keyword": list(offer.tags),
            "dcterms:modified": _moment(offer.published) if offer.published else None,
            "dcterms:publisher": {"@id": base + showing.producer_path(item.producer.key)},
            "dcat:landingPage": {"@id": here},
            "dcat:version": offer.version or str(offer.sequence),
            "dcat:contactPoint": _contact(item.producer),
            "dcterms:spatial": [_region(region) for region in item.regions],
            "odrl:hasPolicy": policy(item, base),
            "dcat:distribution": [distribution(item, index, base) for index in range(len(offer.files))],
            **license_of(offer.license),
        }
    )


def distribution(item: Item, index: int, base: str) -> dict[str, Json]:
    """A dcat:Distribution: one file, where it is sold, and the hash that proves it."""
    offer, file = item.offer, item.offer.files[index]
    address = base + showing.file_path(offer.name, file.path)
    return {
        "@id": address,
        "@type": "dcat:Distribution",
        "dcterms:title": file.path,
        "dcat:accessURL": {"@id": base + showing.content_path(offer.name)},
        "dcat:downloadURL": {"@id": address},
        "dcat:mediaType": {"@id": _MEDIA + file.media_type.partition(";")[0].strip()},
        "dcat:byteSize": {"@type": "xsd:nonNegativeInteger", "@value": str(file.size)},
        "spdx:checksum": {
            "@type": "spdx:Checksum",
            "spdx:algorithm": {"@id": "spdx:checksumAlgorithm_sha256"},
            "spdx:checksumValue": {"@type": "xsd:hexBinary", "@value": file.sha256},
        },
        **license_of(offer.license),
    }


def policy(item: Item, base: str) -> dict[str, Json]:
    """An odrl:Offer: who has paid may use it."""
    target = base + showing.catalog_path(item.offer.name)
    permission: dict[str, Json] = {"odrl:target": {"@id": target}, "odrl:action": {"@id": "odrl:use"}}
    if item.satoshis:
        amount = {"@type": "xsd:decimal", "@value": str(item.satoshis)}
        payment = {
            "@type": "odrl:Constraint",
            "odrl:leftOperand": {"@id": "odrl:payAmount"},
            "odrl:operator": {"@id": "odrl:eq"},
            "odrl:rightOperand": amount,
            "odrl:unit": "satoshi",
        }
        permission["odrl:duty"] = {
            "odrl:action": {"rdf:value": {"@id": "odrl:compensate"}, "odrl:refinement": payment},
            "odrl:compensatedParty": {"@id": base + showing.producer_path(item.producer.key)},
        }
    return {
        "@id": f"{target}#offer",
        "@type": "odrl:Offer",
        "odrl:assigner": {"@id": base + showing.producer_path(item.producer.key)},
        "odrl:permission": permission,
    }


def publisher(producer: Producer, base: str) -> dict[str, Json]:
    """A foaf:Agent known by its identity key."""
    return {
        "@id": base + showing.producer_path(producer.key),
        "@type": "foaf:Agent",
        "foaf:name": producer.title,
        "dcterms:identifier": producer.key,
    }


def service(one: Service, base: str) -> dict[str, Json]:
    """A dcat:DataService: an Advertisement, described by its signed document."""
    document = showing.service_json(one, base)["document"]
    return _without_gaps(
        {
            "@id": document,
            "@type": "dcat:DataService",
            "dcterms:title": one.name,
            "dcterms:type": one.kind,
            "dcat:keyword": [one.capability] if one.capability else [],
            "dcat:endpointURL": {"@id": base or "/"},
            "dcat:endpointDescription": {"@id": f"{base}/openapi.json"},
            "dcat:servesDataset": [{"@id": base + showing.catalog_path(name)} for name in sorted(one.datasets)],
            "dcterms:spatial": [_region(region) for region in one.regions],
        }
    )


def license_of(name: str | None) -> dict[str, Json]:
    """dcterms:license by its SPDX address; words that are no SPDX identifier are a statement of rights."""
    if not name:
        return {}
    if name in SPDX_IDS:
        return {"dcterms:license": {"@id": _SPDX + quote(name)}}
    return {"dcterms:rights": {"@type": "dcterms:RightsStatement", "dcterms:description": name}}


def schema_org(item: Item, base: str, scores: Sequence[int] = ()) -> dict[str, Json]:
    """schema.org's Dataset, as it stands in the page of an offer; `scores` are what buyers gave it."""
    given = showing.ratings_json(scores)
    rating = {"@type": "AggregateRating", "ratingValue": given["mean"], "ratingCount": given["count"], "bestRating": 5}
    offer, here = item.offer, base + showing.catalog_path(item.offer.name)
    licensed = offer.license and (f"https://spdx.org/licenses/{offer.license}" if offer.license in SPDX_IDS else offer.license)
    return _without_gaps(
        {
            "@context": "https://schema.org/",
            "@type": "Dataset",
            "@id": here,
            "url": here,
            "identifier": offer.name,
            "name": offer.title,
            "description": offer.description,
            "keywords": list(offer.tags),
            "license": licensed or None,
            "version": offer.version or str(offer.sequence),
            "dateModified": showing.rfc3339(offer.published),
            "isAccessibleForFree": item.satoshis == 0,
            "creator": {
                "@type": "Organization",
                "name": item.producer.title,
                "identifier": item.producer.key,
                "url": base + showing.producer_path(item.producer.key),
            },
            "spatialCoverage": list(item.regions),
            "aggregateRating": rating if scores else None,
            "distribution": [
                {
                    "@type": "DataDownload",
                    "name": file.path,
                    "contentUrl": base + showing.file_path(offer.name, file.path),
                    "encodingFormat": file.media_type,
                    "contentSize": f"{file.size} B",
                    "sha256": file.sha256,
                }
                for file in offer.files
            ],
        }
    )


def schema_catalog(items: Sequence[Item], base: str, title: str) -> dict[str, Json]:
    """schema.org's DataCatalog, as it stands in the page of the catalog."""
    return {
        "@context": "https://schema.org/",
        "@type": "DataCatalog",
        "@id": f"{base}/catalog",
        "name": title,
        "dataset": [
            {"@type": "Dataset", "@id": base + showing.catalog_path(one.offer.name), "name": one.offer.title} for one in items
        ],
    }


def _newest(shelf: Shelf, now: datetime) -> datetime:
    return max((item.offer.published for item in shelf.items.values() if item.offer.published), default=now)


def _moment(moment: datetime) -> dict[str, Json]:
    return {"@type": "xsd:dateTime", "@value": showing.rfc3339(moment)}


def _region(label: str) -> dict[str, Json]:
    """Labels are the producer's own words, so that is all that is claimed of them."""
    return {"@type": "dcterms:Location", "dcterms:title": label}


def _contact(producer: Producer) -> dict[str, Json] | None:
    if not producer.contact:
        return None
    mail = "@" in producer.contact and "/" not in producer.contact
    where = {"vcard:hasEmail": {"@id": f"mailto:{producer.contact}"}} if mail else {"vcard:hasURL": producer.contact}
    return {"@type": "vcard:Organization", "vcard:fn": producer.title, **where}


def _without_gaps(value: dict[str, Json]) -> dict[str, Json]:
    """Terms of which nothing is known are left out."""
    return {name: one for name, one in value.items() if one not in (None, "", [], {})}
