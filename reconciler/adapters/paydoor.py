"""Asking our own door for its price, as a buyer would, and paying nothing."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.adapters.auth import Introduced
from reconciler.adapters.http import Answer, Http, Paid, Request, host_of
from reconciler.model.errors import Refused, RemoteProtocolError
from reconciler.ports import Entropy
from reconciler.wire import authhttp, payment
from reconciler.wire.speaker import Speaker


class _Looking(Introduced):
    """A conversation that reads the demand of a 402 and walks away."""

    demand: payment.Demand | None = None
    payee = ""

    async def pay(self, request: Request, answer: Answer, limit: int) -> Paid | None:
        """Never; RemoteProtocolError when the demand could not be paid by anybody."""
        stamp = authhttp.parse_stamp(answer.headers)
        if stamp is None:
            raise RemoteProtocolError(f"cannot pay {host_of(request.url)}: its 402 is not signed", code="unsigned")
        self.demand, self.payee = payment.parse_demand(answer.headers), stamp.identity.hex()
        return None


class PayDoor:
    """Looks at prices in the name of `speak`. `http` is a client of its own, because it pays nobody."""

    def __init__(self, http: Http, speak: Callable[[], Speaker | None], entropy: Entropy) -> None:
        self._http, self._speak, self._entropy = http, speak, entropy

    async def asks(self, url: str) -> tuple[int, str]:
        """Satoshis that a signed GET is asked for (BRC-105), and the key, hex33, that would be paid.

        Refused when it asks for nothing: what is answered instead is said.
        """
        looking = self._http.conversation = _Looking(self._http, self._speak, self._entropy)
        try:
            answer = await self._http.send(Request("GET", url), talk=True)
        except Refused:
            if looking.demand is None:
                raise
            return looking.demand.satoshis, looking.payee
        told = f"cannot find a price at {url}: it answers {answer.status}"
        raise Refused("no-price", told, hint="is the gateway running, and does it sell this?")

    async def close(self) -> None:
        """Close its connections."""
        await self._http.close()
