"""Parameters of the lists, and the shapes of what the gateway takes and answers (JSON Schema 2020-12)."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.canonical import Json
from reconciler.sales.listing import MAX_PAGE, MAX_TEXT, PAGE, SORTS

Shape = Mapping[str, Json]

TEXT: Shape = {"type": "string"}
COUNT: Shape = {"type": "integer", "minimum": 0}
MAYBE_TEXT: Shape = {"type": ["string", "null"]}
MAYBE_COUNT: Shape = {"type": ["integer", "null"], "minimum": 0}
TEXTS: Shape = {"type": "array", "items": TEXT}
TIME: Shape = {"type": ["string", "null"], "format": "date-time"}
HASH: Shape = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
KEY: Shape = {"type": "string", "pattern": "^0[23][0-9a-f]{64}$"}
OBJECT: Shape = {"type": "object"}


def thing(required: Mapping[str, Json], optional: Mapping[str, Json] | None = None, *, closed: bool = False) -> dict[str, Json]:
    """An object with these members; a closed one has no others."""
    shape: dict[str, Json] = {"type": "object", "properties": {**required, **(optional or {})}}
    shape |= {"required": list(required)} if required else {}
    return shape | ({"additionalProperties": False} if closed else {})


def several(of: str) -> dict[str, Json]:
    """A list of a named shape."""
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{of}"}}


def _asked(name: str, shape: Shape, text: str) -> dict[str, Json]:
    return {"name": name, "in": "query", "description": text, "schema": dict(shape)}


_SHORT: Shape = {"type": "string", "maxLength": MAX_TEXT}
# What lists are searched, narrowed, ordered and cut by.
LISTING: tuple[Mapping[str, Json], ...] = (
    _asked("q", _SHORT, "Words that must all occur in title, tags, description, producer, license or file names."),
    _asked("tag", {"type": "array", "items": _SHORT, "maxItems": 8}, "Tags that an offer must all have."),
    _asked("license", _SHORT, "Its license."),
    _asked("producer", _SHORT, "Its producer, by identity key or name."),
    _asked("region", _SHORT, "A region it is offered in."),
    _asked("capability", _SHORT, "An ability of the service that announces it."),
    _asked("maxPrice", _SHORT, "The most that all of it may cost, in satoshis."),
    _asked("maxAge", _SHORT, "How long ago it may have been published, such as 7d."),
    _asked("sort", {"enum": list(SORTS)}, "The order; by relevance where words are searched, else the newest first."),
    _asked("limit", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE}, "Items on a page."),
    _asked("cursor", TEXT, "`next` of the page before."),
)

_FILE = thing({"path": TEXT, "size": COUNT, "sha256": HASH, "mediaType": TEXT, "url": TEXT})
_LINE = thing({"text": TEXT, "units": COUNT, "rate": COUNT, "satoshis": {"type": "integer"}})
_PRICE = thing(
    {"satoshis": MAYBE_COUNT, "lines": several("PriceLine"), "unit": TEXT, "plan": thing({"model": TEXT, "rate": COUNT})}
)
_PAGED: Shape = {"next": MAYBE_TEXT}

SCHEMAS: Mapping[str, Json] = {
    "Health": thing({"status": TEXT}),
    "Ready": thing({"ready": {"type": "boolean"}}),
    "Problem": thing({"type": TEXT, "title": TEXT, "status": {"type": "integer"}}, {"detail": TEXT, "hint": TEXT}),
    "Envelope": thing(
        {"document": OBJECT, "signature": thing({"scheme": {"const": "BRC-77"}, "signer": KEY, "value": TEXT}, closed=True)},
        closed=True,
    ),
    "JsonLd": thing({"@context": OBJECT, "@id": TEXT, "@type": TEXT}),
    "File": _FILE,
    "PriceLine": _LINE,
    "Price": _PRICE,
    "Item": thing(
        {
            "contentId": TEXT,
            "title": TEXT,
            "description": TEXT,
            "tags": TEXTS,
            "license": MAYBE_TEXT,
            "mediaType": MAYBE_TEXT,
            "sequence": COUNT,
            "version": MAYBE_TEXT,
            "digest": HASH,
            "merkleRoot": TEXT,
            "outpoint": MAYBE_TEXT,
            "published": TIME,
            "ageSeconds": MAYBE_COUNT,
            "size": COUNT,
            "files": several("File"),
            "price": {"$ref": "#/components/schemas/Price"},
            "sample": {"type": ["object", "null"]},
            "regions": TEXTS,
            "capabilities": TEXTS,
            "producer": thing({"id": KEY, "name": TEXT}),
            "links": OBJECT,
        }
    ),
    "RatedItem": {
        "allOf": [{"$ref": "#/components/schemas/Item"}, thing({"ratings": thing({"count": COUNT, "mean": MAYBE_TEXT})})]
    },
    "Catalog": thing({"items": several("Item"), **_PAGED, "total": COUNT}),
    "Producer": thing(
        {
            "id": KEY,
            "name": TEXT,
            "displayName": TEXT,
            "description": TEXT,
            "contact": TEXT,
            "capabilities": TEXTS,
            "regions": TEXTS,
            "outpoint": MAYBE_TEXT,
            "items": COUNT,
            "services": {"type": "array", "items": OBJECT},
            "serviceUrls": thing({"listing": TEXT, "pricing": TEXT, "streaming": TEXT}),
            "paymentEndpoints": thing({"http": TEXT, "native": TEXT}),
        }
    ),
    "Pricing": thing(
        {
            "producer": KEY,
            "items": {
                "type": "array",
                "items": thing(
                    {"contentId": TEXT, "title": TEXT, "sequence": COUNT, "price": {"$ref": "#/components/schemas/Price"}}
                ),
            },
            **_PAGED,
        }
    ),
    "Streams": thing({"items": {"type": "array", "items": OBJECT}, **_PAGED}),
    "AuthMessage": thing({"version": TEXT, "messageType": TEXT, "identityKey": KEY}),
    "AuthError": thing({"status": {"const": "error"}, "code": TEXT}),
    "PaymentError": thing({"status": {"const": "error"}, "code": TEXT, "type": TEXT, "title": TEXT}),
    "QuoteRequest": thing(
        {"contentId": {"type": "string", "minLength": 1, "maxLength": 400}},
        {
            "units": {"type": "integer", "minimum": 1, "maximum": 10**9},
            "maxSatoshis": {"type": "integer", "minimum": 0, "maximum": 2_100_000_000_000_000},
        },
        closed=True,
    ),
    "PurchaseRequest": thing(
        {"contentId": {"type": "string", "minLength": 1, "maxLength": 400}},
        {"quoteId": {"type": "string", "minLength": 1}},
        closed=True,
    ),
    "Purchase": thing(
        {
            "receiptId": TEXT,
            "receipt": {"$ref": "#/components/schemas/Envelope"},
            "contentId": TEXT,
            "files": {"type": "array", "items": thing({"path": TEXT, "size": COUNT, "sha256": HASH, "url": TEXT})},
            "access": thing({"token": TEXT, "expires": TEXT}),
        }
    ),
    "Waiting": thing({"receiptId": TEXT, "receipt": {"$ref": "#/components/schemas/Envelope"}, "confirmations": OBJECT}),
    "TransactionRequest": thing({}, {"beef": {"type": "string", "pattern": "^([0-9a-f]{2})+$"}}, closed=True),
    "RefundRequest": thing({}, {"reason": {"type": "string", "minLength": 1, "maxLength": 500}}, closed=True),
    "Refund": thing({"receiptId": TEXT, "state": {"enum": ["asked", "refunding", "refunded"]}, "satoshis": COUNT}),
    "Versions": thing({"versions": {"type": "array", "items": OBJECT}}),
    "RatingRequest": thing(
        {"score": {"type": "integer", "minimum": 1, "maximum": 5}},
        {"comment": {"type": "string", "minLength": 1, "maxLength": 2000}},
        closed=True,
    ),
    "Rating": thing({"receiptId": TEXT, "score": COUNT, "comment": MAYBE_TEXT}),
}
