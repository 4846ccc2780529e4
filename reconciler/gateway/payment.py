"""A price in front of a route (BRC-105): 402 and what it takes, or the route with what was paid for it.

Stands behind `gateway.auth.Authenticated`, which says who pays. What a payment is worth, the till decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from reconciler.engine.till import Receipt, Till
from reconciler.gateway.auth import headers_of, target_of
from reconciler.model.errors import RemoteProtocolError, Unavailable
from reconciler.wire import payment

Endpoint = Callable[[Request], Awaitable[Response]]
Price = Callable[[Request], Awaitable[int]]


def priced(endpoint: Endpoint, price: Price, till: Till) -> Endpoint:
    """The endpoint, given only to who pays `price` satoshis for the request; 0 is free.

    The endpoint finds the `Receipt` in `request.state.receipt`, None where nothing was due.
    """

    async def paid(request: Request) -> Response:
        payer = getattr(request.state, "identity", None)
        if payer is None:
            told = {"status": "error", "code": "ERR_SERVER_MISCONFIGURED", "description": "Nobody said who pays."}
            return JSONResponse(told, 500)
        due = await price(request)
        request.state.receipt = None
        if due <= 0:
            return await endpoint(request)
        text = headers_of(request.scope).get(payment.HEADER)
        if text is None:
            demand = till.ask(due)
            return JSONResponse(payment.demand_body(demand), 402, payment.demand_headers(demand))
        try:
            receipt: Receipt = await till.take(text, payer, await _named(request), due)
        except RemoteProtocolError as error:
            return JSONResponse({"status": "error", "code": error.code, "description": error.message}, 400)
        except Unavailable as error:
            return JSONResponse({"status": "error", "code": "ERR_PAYMENT_PENDING", "description": error.message}, 503)
        request.state.receipt = receipt
        response = await endpoint(request)
        response.headers[payment.PAID] = str(receipt.satoshis)
        return response

    return paid


async def _named(request: Request) -> str:
    """What is bought: method, address and body, as one digest."""
    parts = (request.method.encode(), target_of(request.scope).encode(), await request.body())
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
