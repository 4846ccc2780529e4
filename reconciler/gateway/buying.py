"""A request that wants what is sold: let in, asked to pay, or told why not. What decides is the shop's (sales/paywall.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from reconciler.engine.till import Receipt
from reconciler.gateway.payment import acknowledged, collect, payment_of
from reconciler.gateway.problems import beside, problem
from reconciler.model.canonical import Json
from reconciler.model.codec import timestamp
from reconciler.model.errors import Refused
from reconciler.model.sale import ONE_REQUEST, Entitlement
from reconciler.sales.access import Allowed
from reconciler.sales.once import bought_with
from reconciler.sales.paywall import Goods, Purchase, Shop
from reconciler.sales.quote import Terms

RECEIPT = "x-receipt-id"
# The same once more, for clients of BRC-104 that show their callers signed headers only.
_RECEIPT_SIGNED = "x-bsv-receipt-id"
MAX_BODY = 64 * 1024


@dataclass(frozen=True, slots=True)
class Bought:
    """What the request may have, and what it paid just now, if anything."""

    goods: Goods
    right: Entitlement
    paid: Receipt | None = None
    fresh: bool = False


def buyer_of(request: Request) -> str | None:
    """The identity key (hex) of who asks; None for a stranger."""
    identity: bytes | None = getattr(request.state, "identity", None)
    return identity.hex() if identity is not None else None


def receipted(response: Response, found: Bought) -> Response:
    """The answer, saying under which receipt it is given and, where this request paid, how much."""
    response.headers[RECEIPT] = response.headers[_RECEIPT_SIGNED] = found.right.id
    return acknowledged(response, found.paid) if found.paid is not None else response


def stranger(detail: str = "cannot serve this to somebody unknown") -> Response:
    """The answer to who must introduce himself first: the body of BRC-104, and a problem."""
    hint = "ask under BRC-104 mutual authentication, or with ?access=<token>"
    body = {"status": "error", "code": "UNAUTHORIZED", "message": "Mutual-authentication failed!", "hint": hint}
    return JSONResponse({**body, **beside("unauthorized", "Nobody said who asks", detail)}, 401)


async def bought(shop: Shop, request: Request, buyer: str, goods: Goods, wanted: int = 0) -> Bought | Response:
    """The buyer's right to the goods: an old one, or one that this request pays for; else what the request is answered."""
    allowed = shop.admitted(goods, buyer, wanted)
    async with shop.buying(buyer, goods.edition):
        found = await _right(shop, request, buyer, goods, allowed)
        if isinstance(found, Bought) and found.right.period == ONE_REQUEST and request.method == "GET":
            # Used before the lock goes, or two requests at once would have one payment.
            return replace(found, right=await shop.begin(found.right))
        return found


async def _right(shop: Shop, request: Request, buyer: str, goods: Goods, allowed: Allowed) -> Bought | Response:
    right = shop.right(buyer, goods.edition)
    if right is not None:
        return await _again(shop, request, buyer, goods, right)
    terms = shop.terms(goods, buyer, allowed)
    if not terms.satoshis:
        return Bought(goods, await shop.give(goods, terms, buyer), fresh=True)
    return await _sold(shop, request, buyer, goods, terms)


async def _again(shop: Shop, request: Request, buyer: str, goods: Goods, right: Entitlement) -> Bought | Response:
    """Bought before, so free; a payment that comes all the same is the one it was bought with, whose answer was lost, or none."""
    if payment_of(request) is None:
        return Bought(goods, right)
    found = await collect(request, bytes.fromhex(buyer), shop.till, None, refused=shop.count)
    return found if isinstance(found, Response) else Bought(goods, right, found, fresh=True)


async def _sold(shop: Shop, request: Request, buyer: str, goods: Goods, terms: Terms) -> Bought | Response:
    methods = shop.methods(goods.offer, terms.satoshis)
    if "brc105" not in methods:
        told = f"cannot take {terms.satoshis} satoshis with a request"
        raise Refused("not-for-sale", told, hint=f"ways to pay: {', '.join(methods) or 'none'}")
    sale = Purchase(shop, goods, terms, buyer)
    try:
        found = await collect(request, bytes.fromhex(buyer), shop.till, terms.satoshis, sale, shop.count)
    finally:
        sale.leave()
    if isinstance(found, Response):
        return found
    right = shop.right(buyer, goods.edition) or bought_with(shop.ports.ledger, found.txid)
    if right is None:  # the payment was taken before, and what it bought has ended since
        return problem("not-for-sale", "cannot serve this again: what the payment bought has ended")
    return Bought(goods, right, found, fresh=True)


def found_at(shop: Shop, content: str, path: str | None = None, access: str | None = None) -> str:
    """The address of content, or of one of its files."""
    place = f"{shop.base}/content/{quote(content)}" + (f"/files/{quote(path)}" if path is not None else "")
    return f"{place}?access={access}" if access else place


def delivery(shop: Shop, found: Bought) -> dict[str, Json]:
    """What a buyer needs to fetch what he bought: where each file is, and a token that opens it for a while."""
    edition = found.goods.edition
    token, expires = shop.token(found.right, edition)
    files = [
        {"path": one.path, "size": one.size, "sha256": one.sha256, "url": found_at(shop, edition.id, one.path)}
        for one in edition.files
    ]
    return {"contentId": edition.id, "files": files, "access": {"token": token, "expires": timestamp(expires)}}


async def members(request: Request, *known: str, most: int = MAX_BODY) -> Mapping[str, Json]:
    """The members of a JSON body, of which no other than the `known` ones are taken; Refused."""
    body = await request.body()
    if len(body) > most:
        raise Refused("too-large", f"cannot read a body of {len(body)} bytes", hint=f"at most {most}")
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise Refused("bad-request", "cannot read the body: it is no JSON") from error
    if not isinstance(found, dict):
        raise Refused("bad-request", "cannot read the body: it is no object")
    strange = sorted(found.keys() - set(known))
    if strange:
        raise Refused("bad-member", f"cannot take {strange[0][:40]!r}", hint=f"known: {', '.join(known)}")
    return found


def text_in(found: Mapping[str, Json], name: str, most: int = 400) -> str | None:
    """A text member; None where it is missing or null; Refused("bad-member")."""
    value = found.get(name)
    if value is not None and (not isinstance(value, str) or not 0 < len(value) <= most):
        raise Refused("bad-member", f"cannot read {name}: it is a text of at most {most} characters")
    return value


def number_in(found: Mapping[str, Json], name: str, low: int, high: int) -> int | None:
    """An integer member; None where it is missing or null; Refused("bad-member")."""
    value = found.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high):
        raise Refused("bad-member", f"cannot read {name}: it is an integer from {low} to {high}")
    return value
