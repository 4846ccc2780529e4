"""Native payments: `POST /payments/templates` names the outputs, `POST /payments/templates/{id}/tx` takes their transaction."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from reconciler.gateway.buying import RECEIPT, Bought, buyer_of, delivery, members, stranger, text_in
from reconciler.gateway.problems import problem
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused, RemoteProtocolError
from reconciler.sales.native import Native, Taken
from reconciler.sales.paywall import Shop
from reconciler.wire.jsontext import Fields

# BEEF in hex inside JSON: what a payment header may hold (wire/payment.py), and more ancestors.
MAX_BEEF = 1024 * 1024
# Seconds after which a payment without enough blocks is worth asking about again.
BLOCK = 60


def routes(shop: Shop) -> list[BaseRoute]:
    """The routes of this family."""
    here = Templates(shop, Native(shop))
    return [
        Route("/payments/templates", here.make, methods=["POST"]),
        Route("/payments/templates/{template}/tx", here.pay, methods=["POST"]),
    ]


@dataclass(frozen=True, slots=True)
class Templates:
    """The handlers, over one shop."""

    shop: Shop
    native: Native

    async def make(self, request: Request) -> Response:
        """201 with a signed template."""
        buyer = buyer_of(request)
        if buyer is None:
            return stranger("cannot sell to somebody unknown")
        asked = await members(request, "contentId", "quoteId")
        content = text_in(asked, "contentId")
        if content is None:
            raise Refused("bad-member", "cannot tell what is asked for", hint="contentId is a name, or name@sequence")
        found = await self.native.give(content, text_in(asked, "quoteId"), buyer)
        place = f"{self.shop.base}/payments/templates/{found.id}/tx"
        return Response(found.envelope, 201, {"location": place}, "application/json")

    async def pay(self, request: Request) -> Response:
        """201 with what was bought; 202 while blocks are lacking; 200 once it was taken before."""
        buyer, template = buyer_of(request), request.path_params["template"]
        if buyer is None:
            return stranger("cannot sell to somebody unknown")
        text = text_in(await members(request, "beef", most=2 * MAX_BEEF + 64), "beef", 2 * MAX_BEEF) or ""
        try:
            beef = bytes.fromhex(text)
        except ValueError as error:
            raise Refused("bad-member", "cannot read beef: it is BEEF in hex") from error
        try:
            taken = await self.native.take(template, buyer, beef)
        except RemoteProtocolError as error:
            name = error.code.removeprefix("ERR_").lower().replace("_", "-")
            self.shop.count(error.code)
            return problem("payment-refused", error.message, check=name)
        return self._answer(taken)

    def _answer(self, taken: Taken) -> Response:
        body: dict[str, Json] = {
            "receiptId": taken.payment.id,
            "receipt": Fields.parse(taken.payment.receipt, "receipt").values,
            "confirmations": {"standing": taken.depth, "needed": taken.needed},
        }
        headers = {RECEIPT: taken.payment.id}
        if not taken.served:
            return JSONResponse(body, 202, {**headers, "retry-after": str(BLOCK)})
        return JSONResponse(body | delivery(self.shop, Bought(taken.goods, taken.right)), 201 if taken.fresh else 200, headers)
