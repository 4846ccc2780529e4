"""A buyer wants his money back: `POST /receipts/{id}/refund` asks the seller for it, and says how that stands."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from reconciler.gateway.buying import buyer_of, members, stranger, text_in
from reconciler.ports import LedgerTransaction
from reconciler.sales import refund
from reconciler.sales.paywall import Shop, payment_of

MAX_REASON = 500


def routes(shop: Shop) -> list[BaseRoute]:
    """The routes of this family."""

    async def ask(request: Request) -> Response:
        """202 once the seller can see it; 200 when the money went back, with what the buyer needs to find it."""
        buyer = buyer_of(request)
        if buyer is None:
            return stranger()
        reason = text_in(await members(request, "reason"), "reason", MAX_REASON) or ""
        receipt, now = request.path_params["receipt"], shop.ports.clock.now()

        def write(tx: LedgerTransaction) -> None:
            refund.ask(tx, payment_of(tx, receipt, buyer), reason, now)

        await shop.till.commits.commit(write)
        with shop.ports.ledger.begin() as tx:
            said = refund.told(tx, payment_of(tx, receipt, buyer))
        return JSONResponse(said, 200 if said["state"] == "refunded" else 202)

    return [Route("/receipts/{receipt}/refund", ask, methods=["POST"])]
