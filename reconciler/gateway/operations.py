"""Every operation of the gateway's HTTP surface, once: its document, its cost, and the reference page are made from this table.

A route that is not here is served by mistake, and a test says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.gateway.listed import LISTING
from reconciler.model.canonical import Json

# Media types of answers.
JSON, PROBLEM, HTML, JSONLD, ANY = (
    "application/json", "application/problem+json", "text/html", "application/ld+json", "application/octet-stream",
)  # fmt: skip
# Who may ask: anybody; anybody, but who signs (BRC-104) may be told more; only who signs; who signs, or shows an access token.
OPEN, KNOWN, SIGNED, TOKEN = "open", "known", "signed", "token"


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes with a status: schemas by media type, {} for bytes of any shape."""

    text: str
    media: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `cost` are the units that it takes of an asker's budget.

    `problems` are statuses answered as RFC 9457 documents; `paid` says that it may ask for payment (BRC-105).
    """

    method: str
    path: str
    id: str
    text: str
    answers: Mapping[int, Answer]
    tag: str
    who: str = OPEN
    cost: int = 1
    query: tuple[Mapping[str, Json], ...] = ()
    body: Mapping[str, Json] | None = None
    problems: tuple[int, ...] = ()
    paid: bool = False

    @property
    def shown(self) -> bool:
        """Whether a browser that goes wrong here gets a page."""
        return self.path.startswith(("/catalog", "/producers"))

    @property
    def key(self) -> tuple[str, str]:
        """Method and path."""
        return self.method, self.path


def ref(name: str) -> dict[str, Json]:
    """A schema of the document, by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def json(text: str, schema: Json) -> Answer:
    """JSON of that shape."""
    return Answer(text, {JSON: schema})


def page(text: str, schema: Json) -> Answer:
    """JSON of that shape for programs, HTML for people."""
    return Answer(text, {JSON: schema, HTML: {"type": "string"}})


def asked(name: str, schema: Json, text: str) -> dict[str, Json]:
    """A parameter of the address."""
    return {"name": name, "in": "query", "description": text, "schema": schema}


KEPT = Answer("What the asker has is current.", {})
FORMAT = asked("format", {"enum": ["html", "json"]}, "Settles what Accept leaves open.")
BYTES = Answer("The bytes.", {"*/*": {}})
PART = Answer("The part that Range asked for.", {"*/*": {}})
UNITS = asked("units", {"type": "integer", "minimum": 1, "maximum": 10**9}, "Price so many units instead of the whole.")
SERVICE = asked("service", {"type": "string"}, "The Advertisement whose document is wanted; the first by name without it.")
ACCESS = asked("access", {"type": "string"}, "An access token of a purchase, instead of signing.")
FILE = asked("file", {"type": "string"}, "Prove this file, too.")
TIER = asked("tier", {"type": "string"}, "Price for buyers of this tier.")
ONLY = asked("contentId", {"type": "string"}, "This dataset only.")

OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/health", "health", "Whether the process answers", {200: json("It does.", ref("Health"))}, "state", cost=0),
    Operation(
        "GET", "/readyz", "ready", "Whether the shop can sell", {200: json("It can.", ref("Ready"))}, "state", cost=0,
        problems=(503,),
    ),
    Operation("GET", "/", "home", "To the catalog", {307: Answer("The catalog.", {})}, "catalog"),
    Operation(
        "GET", "/.well-known/overlay-producer.json", "serviceDocument",
        "The signed service document (BRC-77) whose SHA-256 a token on the chain anchors, byte for byte",
        {200: json("The envelope.", ref("Envelope")), 304: KEPT}, "catalog", query=(SERVICE,), problems=(404,),
    ),
    Operation(
        "GET", "/catalog", "catalog", "What is on sale, a page at a time",
        {200: page("A page.", ref("Catalog")), 304: KEPT}, "catalog", query=(*LISTING, FORMAT), problems=(422,),
    ),
    Operation(
        "GET", "/catalog.jsonld", "catalogDcat", "The whole catalog as DCAT 3",
        {200: Answer("A dcat:Catalog.", {JSONLD: ref("JsonLd")}), 304: KEPT}, "catalog", cost=5,
    ),
    Operation(
        "GET", "/catalog/{name}", "dataset", "One dataset: its files, price, sample and proofs",
        {200: page("The offer.", ref("RatedItem")), 304: KEPT}, "catalog", query=(FORMAT,), problems=(404,),
    ),
    Operation(
        "GET", "/producers/{id}", "producer", "Who sells, by identity key or name, with service addresses",
        {200: page("The producer.", ref("Producer")), 304: KEPT}, "catalog", query=(FORMAT,), problems=(404,),
    ),
    Operation(
        "GET", "/producers/{id}/catalog", "producerCatalog", "What one producer sells",
        {200: page("A page.", ref("Catalog")), 304: KEPT}, "catalog", query=(*LISTING, FORMAT), problems=(404, 422),
    ),
    Operation(
        "GET", "/producers/{id}/pricing", "pricing", "What everything costs, by the arithmetic of quotes",
        {200: page("A page of the price list.", ref("Pricing")), 304: KEPT}, "catalog",
        query=(*LISTING, UNITS, TIER, ONLY, FORMAT), problems=(404, 422),
    ),
    Operation(
        "GET", "/producers/{id}/streams", "streams", "Live streams with their state",
        {200: json("The streams.", ref("Streams")), 304: KEPT}, "catalog", problems=(404,),
    ),
    Operation(
        "GET", "/openapi.json", "openapi", "This document", {200: json("OpenAPI 3.1.", {"type": "object"}), 304: KEPT}, "state",
    ),
    Operation(
        "GET", "/schemas/{kind}.json", "kindSchema", "The JSON Schema of a kind of manifest",
        {200: Answer("The schema.", {"application/schema+json": {"type": "object"}}), 304: KEPT}, "state", problems=(404,),
    ),
    Operation(
        "POST", "/.well-known/auth", "handshake", "Introduce yourself (BRC-103)",
        {200: json("Our half of the handshake.", ref("AuthMessage")), 401: json("It cannot be accepted.", ref("AuthError"))},
        "sale", cost=2, body=ref("AuthMessage"),
    ),
    Operation(
        "POST", "/quotes", "quote", "A signed price that stands for a while", {201: json("The quote.", ref("Envelope"))},
        "sale", KNOWN, 2, body=ref("QuoteRequest"), problems=(400, 403, 404, 409, 413, 422),
    ),
    Operation(
        "GET", "/quotes/{quote}", "quoteById", "A quote again, the same bytes", {200: json("The quote.", ref("Envelope"))},
        "sale", problems=(404,),
    ),
    Operation(
        "POST", "/purchases", "purchase", "Buy: 402 says what it takes, the payment comes with the same request again",
        {201: json("Bought.", ref("Purchase")), 200: json("Bought before.", ref("Purchase"))},
        "sale", SIGNED, 2, body=ref("PurchaseRequest"), problems=(403, 404, 409, 413, 422, 503), paid=True,
    ),
    Operation(
        "GET", "/content/{content}", "content", "The bytes of a dataset of one file; of several, where each is",
        {200: BYTES, 206: PART, 304: KEPT}, "content", TOKEN, 1, (ACCESS,), problems=(403, 404, 406, 409, 416, 503), paid=True,
    ),
    Operation(
        "GET", "/content/{content}/files/{path}", "file", "The bytes of one file",
        {200: BYTES, 206: PART, 304: KEPT}, "content", TOKEN, 1, (ACCESS,), problems=(403, 404, 406, 409, 416, 503), paid=True,
    ),
    Operation(
        "GET", "/content/{content}/sample", "sample", "The first rows or bytes, where the producer gives them away",
        {200: BYTES}, "content", problems=(404, 503),
    ),
    Operation(
        "GET", "/content/{content}/proof", "proof", "A bundle (reconciler-proof/1) that proves the dataset offline",
        {200: json("The bundle.", {"type": "object"})}, "content", cost=5, query=(FILE,), problems=(404, 409, 503),
    ),
    Operation(
        "GET", "/content/{content}/versions", "versions", "Every version that was ever on sale",
        {200: json("The versions.", ref("Versions"))}, "content", problems=(404,),
    ),
    Operation(
        "GET", "/receipts/{receipt}", "receipt", "A receipt with its payment: a bundle to be checked offline",
        {200: json("The bundle (reconciler-receipt/1).", {"type": "object"})}, "sale", SIGNED, 2, problems=(403, 404, 503),
    ),
    Operation(
        "POST", "/receipts/{receipt}/rating", "rate", "Rate what a receipt bought",
        {201: json("The rating.", ref("Rating"))}, "sale", SIGNED, 2, body=ref("RatingRequest"),
        problems=(400, 403, 404, 413, 422),
    ),
    Operation(
        "POST", "/receipts/{receipt}/refund", "refund", "Ask for the money back, and hear how that stands",
        {200: json("It went back.", ref("Refund")), 202: json("The seller knows.", ref("Refund"))}, "sale", SIGNED, 2,
        body=ref("RefundRequest"), problems=(400, 403, 404, 409, 413, 422),
    ),
    Operation(
        "POST", "/payments/templates", "template", "Outputs that a wallet can pay at once, with everybody's share: signed",
        {201: json("The template.", ref("Envelope"))}, "sale", SIGNED, 2, body=ref("PurchaseRequest"),
        problems=(403, 404, 409, 413, 422, 503),
    ),
    Operation(
        "POST", "/payments/templates/{template}/tx", "templatePaid", "The transaction that pays a template",
        {
            200: json("Taken before.", ref("Purchase")), 201: json("Taken.", ref("Purchase")),
            202: json("Taken; blocks are lacking.", ref("Waiting")),
        },
        "sale", SIGNED, 2, body=ref("TransactionRequest"), problems=(403, 404, 409, 413, 422, 503),
    ),
)  # fmt: skip
