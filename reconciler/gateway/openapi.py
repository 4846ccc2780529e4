"""The gateway's surface as OpenAPI 3.1, built from the table of operations and nothing else; and what each request costs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from reconciler import __version__
from reconciler.gateway.listed import SCHEMAS
from reconciler.gateway.operations import HTML, JSON, KNOWN, OPEN, OPERATIONS, PROBLEM, SIGNED, TOKEN, Operation, ref
from reconciler.gateway.problems import problem
from reconciler.gateway.showcase import unless_known
from reconciler.manifest.schema import packaged
from reconciler.model.canonical import Json
from reconciler.wire import auth

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
# Statuses and what stands behind them, wherever they are a problem document.
_PROBLEMS = {
    400: "The request cannot be read.",
    403: "An access policy says no, or it is somebody else's.",
    404: "There is no such thing.",
    406: "It is too large for a signed answer.",
    409: "It contradicts what is there, such as the most that was to be paid.",
    413: "The body is too large.",
    416: "There is no such range.",
    422: "A member or a parameter is wrong.",
    429: "The budget is spent, or a quota is; Retry-After says when to come again.",
    503: "It cannot be done now; Retry-After says when to come again.",
}
_PARAMETERS = {
    "name": "The name of a dataset.",
    "content": "A content id: the name of a dataset, or name@sequence for one version of it.",
    "path": "The path of a file of the dataset.",
    "id": "The identity key (66 hex digits) of a producer, or the name of its Identity.",
    "template": "The id of a template.",
    "kind": "A kind of manifest, in lower case.",
    "quote": "The id of a quote.",
    "receipt": "The id of a receipt.",
}
_SECURITY: Mapping[str, list[Json]] = {
    OPEN: [{}],
    KNOWN: [{}, {"brc104": []}],
    SIGNED: [{"brc104": []}],
    TOKEN: [{"brc104": []}, {"access": []}],
}


def plain(path: str) -> str:
    """A route's path as OpenAPI writes it: parameters without their kind."""
    return _PARAMETER.sub(r"{\1}", path)


def served(routes: Iterable[BaseRoute]) -> frozenset[tuple[str, str]]:
    """Method and path of everything the routes serve; HEAD comes with GET and is not told."""
    found = (route for route in routes if isinstance(route, Route))
    return frozenset((method, plain(route.path)) for route in found for method in (route.methods or ()) if method != "HEAD")


def document(only: Collection[tuple[str, str]] | None = None, base: str = "") -> dict[str, Json]:
    """OpenAPI 3.1 of the whole table, or of those operations that are served."""
    paths: dict[str, dict[str, Json]] = {}
    for one in OPERATIONS:
        if only is None or one.key in only:
            paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "reconciler gateway",
            "version": __version__,
            "summary": "A shop for data: catalog, quotes, payment, content, receipts, proofs",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": base or "/"}],
        "tags": [
            {"name": "catalog", "description": "What is on sale. Anybody may look."},
            {"name": "sale", "description": "Quotes, payments (BRC-105), receipts. Requests are signed (BRC-104)."},
            {"name": "content", "description": "What was bought, and what shows that it is worth it."},
            {"name": "state", "description": "How the gateway is, and its contracts."},
        ],
        "paths": paths,
        "components": {
            "schemas": dict(SCHEMAS),
            "securitySchemes": {
                "brc104": {"type": "apiKey", "in": "header", "name": "x-bsv-auth-signature", "description": "BRC-103/104"},
                "access": {"type": "apiKey", "in": "query", "name": "access", "description": "A token of POST /purchases"},
            },
        },
    }


def _operation(one: Operation) -> dict[str, Json]:
    said: dict[str, Json] = {
        "operationId": one.id,
        "summary": one.text,
        "tags": [one.tag],
        "parameters": [*_path_parameters(one), *map(_described, one.query), *_headers(one)],
        "responses": _responses(one),
        "x-cost": one.cost,
    }
    if one.who != OPEN:
        said["security"] = _SECURITY[one.who]
    if one.body is not None:
        said["requestBody"] = {"required": True, "content": {JSON: {"schema": one.body}}}
    return said


def _path_parameters(one: Operation) -> list[Json]:
    names = _PARAMETER.findall(one.path)
    shape = {"type": "string", "minLength": 1}
    return [{"name": name, "in": "path", "required": True, "description": _PARAMETERS[name], "schema": shape} for name in names]


def _described(parameter: Mapping[str, Json]) -> dict[str, Json]:
    lists = parameter["schema"].get("type") == "array"
    return {**parameter, "required": False, **({"style": "form", "explode": True} if lists else {})}


def _headers(one: Operation) -> list[Json]:
    found: list[Json] = []
    if one.method == "POST" and one.tag != "state":
        text = "The same request under the same key has one answer."
        found.append(
            {"name": "Idempotency-Key", "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
        )
    if 206 in one.answers:
        text = "A range of bytes (RFC 9110)."
        found.append({"name": "Range", "in": "header", "required": False, "description": text, "schema": {"type": "string"}})
    return found


def _responses(one: Operation) -> dict[str, Json]:
    found: dict[int, Json] = {
        status: {
            "description": answer.text,
            **(
                {"content": {media: {"schema": schema} if schema else {} for media, schema in answer.media.items()}}
                if answer.media
                else {}
            ),
        }
        for status, answer in one.answers.items()
    }
    brc = {JSON: {"schema": ref("PaymentError")}}
    both = {**brc, PROBLEM: {"schema": ref("Problem")}}
    statuses = {*one.problems, *((429,) if one.cost else ()), *((400, 409, 413, 422) if one.method == "POST" else ())}
    for status in statuses - found.keys():
        content = both if one.paid and status in (400, 503) else {PROBLEM: {"schema": ref("Problem")}}
        if status in (404, 422) and one.shown:
            content |= {HTML: {"schema": {"type": "string"}}}
        found[status] = {"description": _PROBLEMS[status], "content": content}
    if one.who in (SIGNED, TOKEN):
        found[401] = {"description": "Nobody said who asks (BRC-104).", "content": {JSON: {"schema": ref("AuthError")}}}
    if one.paid:
        found[400] = {"description": "The payment is not accepted, or the request cannot be read.", "content": both}
        found[402] = {"description": "It must be paid for (BRC-105).", "content": brc}
    return {str(status): found[status] for status in sorted(found)}


# --- cost -----------------------------------------------------------------------------------------


@cache
def _costs() -> tuple[tuple[str, re.Pattern[str], int], ...]:
    return tuple((one.method, _pattern(one.path), one.cost) for one in OPERATIONS)


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\w+\})", path)
    return re.compile(
        "".join(r".+" if part == "{path}" else r"[^/]+" if part.startswith("{") else re.escape(part) for part in parts)
    )


def cost(method: str, path: str) -> int:
    """Units that a request takes of its asker's budget; what is not served costs one, too."""
    asked = "GET" if method == "HEAD" else method
    return next((units for one, pattern, units in _costs() if one == asked and pattern.fullmatch(path)), 1)


def greeting(method: str, path: str) -> int:
    """Units that a handshake takes; everything else is counted where it is known who asks."""
    return cost(method, path) if path == auth.PATH else 0


# --- routes ---------------------------------------------------------------------------------------


def routes(others: Iterable[BaseRoute], base: str = "") -> list[BaseRoute]:
    """The contracts: the document of everything that is served, the other routes included, and the schemas of the kinds."""
    told: dict[str, bytes] = {}

    async def openapi(request: Request) -> Response:
        """The document."""
        return _kept(request, told["openapi"], JSON)

    async def schema(request: Request) -> Response:
        """The schema of a kind."""
        kind = request.path_params["kind"]
        found = _schemas().get(kind.lower())
        if found is None:
            return problem("no-document", f"cannot find a kind called {kind[:80]!r}", hint=f"known: {', '.join(_schemas())}")
        return _kept(request, found, "application/schema+json")

    own: list[BaseRoute] = [
        Route("/openapi.json", openapi, methods=["GET"]),
        Route("/schemas/{kind}.json", schema, methods=["GET"]),
    ]
    only = served([*others, *own]) | {("POST", "/.well-known/auth")}
    told["openapi"] = json.dumps(document(only, base), ensure_ascii=False).encode()
    return own


def _kept(request: Request, body: bytes, media_type: str) -> Response:
    headers = {"cache-control": "public, max-age=300", "access-control-allow-origin": "*"}
    return unless_known(request, Response(body, media_type=media_type, headers=headers), hashlib.sha256(body).hexdigest()[:32])


@cache
def _schemas() -> dict[str, bytes]:
    """Schemas of the kinds by their name in lower case."""
    return {kind.lower(): json.dumps(schema).encode() for kind, schema in sorted(packaged().items())}
