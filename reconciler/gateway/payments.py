"""Quotes, purchases, receipts and ratings."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from reconciler.engine.ancestry import beef_of
from reconciler.engine.evidence import headers_of_beef
from reconciler.gateway.buying import bought, buyer_of, delivery, members, number_in, receipted, stranger, text_in
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused
from reconciler.model.sale import Rating
from reconciler.sales.paywall import Shop, payment_of
from reconciler.wire.jsontext import Fields
from reconciler.wire.receipt import write_receipt
from reconciler.wire.tx import MAX_SATOSHIS

JSON = "application/json"
MAX_UNITS = 10**9
MAX_COMMENT = 2000


def routes(shop: Shop) -> list[BaseRoute]:
    """The routes of this family."""
    here = Payments(shop)
    return [
        Route("/quotes", here.ask, methods=["POST"]),
        Route("/quotes/{quote}", here.quote, methods=["GET"]),
        Route("/purchases", here.buy, methods=["POST"]),
        Route("/receipts/{receipt}", here.receipt, methods=["GET"]),
        Route("/receipts/{receipt}/rating", here.rate, methods=["POST"]),
    ]


@dataclass(frozen=True, slots=True)
class Payments:
    """The handlers, over one shop."""

    shop: Shop

    async def ask(self, request: Request) -> Response:
        """201 with a signed price."""
        asked = await members(request, "contentId", "units", "maxSatoshis")
        content, units = _named(text_in(asked, "contentId")), number_in(asked, "units", 1, MAX_UNITS)
        most = number_in(asked, "maxSatoshis", 0, MAX_SATOSHIS)
        found = await self.shop.give_quote(content, buyer_of(request), units, most)
        return Response(found.envelope, 201, {"location": f"{self.shop.base}/quotes/{found.id}"}, JSON)

    async def quote(self, request: Request) -> Response:
        """The same bytes, to whoever knows the id."""
        return Response(self.shop.quote(request.path_params["quote"]).envelope, media_type=JSON)

    async def buy(self, request: Request) -> Response:
        """402 and what it takes; 201 once it is paid; 200 where it was bought before."""
        buyer = buyer_of(request)
        if buyer is None:
            return stranger("cannot sell to somebody unknown")
        asked = await members(request, "contentId", "quoteId")
        content, quote = _named(text_in(asked, "contentId")), text_in(asked, "quoteId")
        try:
            found = await bought(self.shop, request, buyer, self.shop.goods(content, quote, buyer))
        except Refused as error:
            self.shop.count(error.code)
            raise
        if isinstance(found, Response):
            return found
        body: dict[str, Json] = {"receiptId": found.right.id, "receipt": self._envelope(found.right.id)}
        body |= delivery(self.shop, found)
        return receipted(JSONResponse(body, 201 if found.fresh else 200), found)

    def _envelope(self, receipt_id: str) -> Json:
        with self.shop.ports.ledger.sales() as rows:
            found = rows.payment(receipt_id)
        assert found is not None, "a right has the id of its payment"
        return Fields.parse(found.receipt, "receipt").values

    async def receipt(self, request: Request) -> Response:
        """The signed receipt with the payment and the headers that prove it: a bundle to be checked offline."""
        buyer, shop = buyer_of(request), self.shop
        if buyer is None:
            return stranger()
        with shop.ports.ledger.sales() as rows:
            found = payment_of(rows, request.path_params["receipt"], buyer)
        beef, headers = b"", {}
        if found.txid:
            beef = beef_of(shop.ports.ledger, found.txid, atomic=True)
            headers = {one.height: one.raw for one in await headers_of_beef(shop.ports, beef, shop.till.net)}
        return Response(write_receipt(found.receipt, beef, headers), media_type=JSON)

    async def rate(self, request: Request) -> Response:
        """201 with the rating of what a receipt bought; another one replaces it."""
        buyer, shop = buyer_of(request), self.shop
        if buyer is None:
            return stranger()
        asked = await members(request, "score", "comment")
        score, comment = number_in(asked, "score", 1, 5), text_in(asked, "comment", MAX_COMMENT)
        if score is None:
            raise Refused("bad-member", "cannot rate without a score", hint="score is an integer from 1 to 5")
        with shop.ports.ledger.sales() as rows:
            found = payment_of(rows, request.path_params["receipt"], buyer)
        said = Rating(found.id, found.content or "", buyer, score, shop.ports.clock.now(), comment)
        await shop.till.commits.commit(lambda tx: tx.put_rating(said))
        return JSONResponse({"receiptId": found.id, "score": score, "comment": comment}, 201)


def _named(content: str | None) -> str:
    if content is None:
        raise Refused("bad-member", "cannot tell what is asked for", hint="contentId is a name, or name@sequence")
    return content
