"""A price in front of a route (BRC-105): 402 and what it takes, or the route with what was paid for it.

Stands behind `gateway.auth.Authenticated`, which says who pays. What a payment is worth, the till decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from reconciler.engine.till import Receipt, Sale, Till
from reconciler.gateway.auth import headers_of, target_of
from reconciler.gateway.problems import LATER, PROBLEMS, beside
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
        found = await collect(request, payer, till, due)
        if isinstance(found, Response):
            return found
        request.state.receipt = found
        return acknowledged(await endpoint(request), found)

    return paid


async def collect(
    request: Request,
    payer: bytes,
    till: Till,
    due: int | None,
    sale: Sale | None = None,
    refused: Callable[[str], None] = lambda code: None,
) -> Receipt | Response:
    """What the request paid; else the answer that it gets: the demand, or why its payment is not taken, which `refused` hears.

    Where nothing is due (None) the request shows a payment, and only one that was taken before is good.
    """
    text, named = payment_of(request), await _named(request)
    if text is None:
        assert due is not None, "nothing is due and nothing was paid"
        demand = till.ask(due, payer, named)
        body = payment.demand_body(demand) | beside("payment-required", "It must be paid for")
        return JSONResponse(body, 402, payment.demand_headers(demand))
    try:
        return await till.take(text, payer, named, due, sale)
    except RemoteProtocolError as error:
        refused(error.code)
        return _refused(400, error.code, error.code, error.message)
    except Unavailable as error:
        refused(error.code)
        status, _ = PROBLEMS.get(error.code, (503, ""))
        wait = getattr(error, "retry_after", None) or LATER
        return _refused(status, "ERR_PAYMENT_PENDING", error.code, error.message, {"retry-after": str(wait)})


def payment_of(request: Request) -> str | None:
    """The payment that a request shows, as it stands in its header."""
    return headers_of(request.scope).get(payment.HEADER)


def acknowledged(response: Response, receipt: Receipt) -> Response:
    """The answer, saying what was paid for it."""
    response.headers[payment.PAID] = str(receipt.satoshis)
    return response


def _refused(status: int, code: str, check: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    title = PROBLEMS.get(check, (0, "The payment is not accepted"))[1]
    name = check.removeprefix("ERR_").lower().replace("_", "-")
    body = {"status": "error", "code": code, "description": message, **beside(name, title, message)}
    return JSONResponse(body, status, headers)


async def _named(request: Request) -> str:
    """What is bought: method, address and body, as one digest."""
    parts = (request.method.encode(), target_of(request.scope).encode(), await request.body())
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
