"""Overlay nodes behind the Overlay port: BRC-22 submit, BRC-24 lookup, health.

What comes back is parsed, not believed: whether a token is what it claims, and its proof good, is the caller's to check.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta

from reconciler.adapters.http import Answer, Http, Request, host_of, refusal, retry_after
from reconciler.adapters.secret import bearer
from reconciler.model.canonical import Json
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import ReconcilerError, Refused, RemoteProtocolError, Unavailable
from reconciler.model.ref import Outpoint
from reconciler.ports import Found
from reconciler.wire import overlay as wire

# Nodes verify the whole ancestry and may broadcast before they answer.
SUBMIT_DEADLINE = 60.0
LOOKUP_DEADLINE = 20.0
# The time nodes themselves allow each other when they decide whom to drop.
HEALTH_DEADLINE = 10.0
# A service that pages badly answers with everything it has; this is tens of thousands of tokens with their ancestry.
MAX_LOOKUP = 128 * 1024 * 1024
# Of hosts that nobody declared many are asked at once.
MAX_STRANGERS_LOOKUP = 8 * 1024 * 1024


class HttpOverlay:
    """The Overlay port over HTTP."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def submit(self, host: Endpoint, beef: bytes, topics: Sequence[str]) -> Mapping[str, Sequence[int]]:
        """Topic -> admitted output indices, for every topic the node hosts; an empty list says nothing, so ask by lookup.

        Sending again is harmless, so silence is Unavailable. One topic a node does not host fails all of them there, so what it
        refuses is sent again for those alone that it lists; Refused when it lists none of them, or refuses even so.
        """
        try:
            return await self._submit(host, beef, topics)
        except Refused as refusal:
            if refusal.code != "overlay-refused" or len(topics) < 2:
                raise
            served = await self._served(host, topics)
            if not served or len(served) == len(topics):
                raise
        return await self._submit(host, beef, served)

    async def _served(self, host: Endpoint, topics: Sequence[str]) -> Sequence[str]:
        """Which of these topics the node says it hosts; none when it does not say."""
        request = Request("GET", _url(host, "/listTopicManagers"), bearer(host), stranger=host.stranger)
        try:
            answer = await self._http.send(request, deadline=LOOKUP_DEADLINE)
            listed = wire.parse_listing(answer.body) if answer.status == 200 else ()
        except (Unavailable, RemoteProtocolError, Refused):
            return ()
        return [topic for topic in topics if topic in listed]

    async def _submit(self, host: Endpoint, beef: bytes, topics: Sequence[str]) -> Mapping[str, Sequence[int]]:
        asked = wire.submission(beef, topics)
        request = Request("POST", _url(host, "/submit"), asked.headers | bearer(host), asked.body, stranger=host.stranger)
        answer = await self._http.send(request, deadline=SUBMIT_DEADLINE)
        if answer.status != 200:
            raise self._refusal(answer, f"submit to {', '.join(topics)}")
        steak = wire.parse_steak(answer.body)
        return {topic: steak[topic].admit if topic in steak else () for topic in topics}

    async def lookup(self, host: Endpoint, service: str, query: Json) -> Sequence[Found]:
        """What the service finds, each with a BEEF of its own whatever form the node answered in."""
        body = json.dumps(wire.lookup_request(service, query), ensure_ascii=False, separators=(",", ":")).encode()
        headers, limit = (
            wire.lookup_headers(aggregated=True) | bearer(host),
            MAX_STRANGERS_LOOKUP if host.stranger else MAX_LOOKUP,
        )
        request = Request("POST", _url(host, "/lookup"), headers, body, stranger=host.stranger)
        answer = await self._http.send(request, deadline=LOOKUP_DEADLINE, limit=limit)
        if answer.status != 200:
            raise self._refusal(answer, f"look up {service}")
        found = wire.parse_lookup(answer.headers.get("content-type", ""), answer.body)
        return tuple(Found(Outpoint(one.txid, one.vout), one.beef, one.context) for one in found)

    async def health(self, host: Endpoint) -> Mapping[str, Json]:
        """{"healthy": by the rule nodes apply to each other, "status": HTTP status, "ms": int, "report": its own words}."""
        began = self._http.clock.now()
        answer = await self._http.send(Request("GET", _url(host, "/health"), stranger=host.stranger), deadline=HEALTH_DEADLINE)
        took = max(timedelta(0), self._http.clock.now() - began)
        try:
            report = answer.json()
        except Refused:
            report = None
        return {
            "healthy": wire.healthy(answer.status, answer.body),
            "status": answer.status,
            "ms": round(took / timedelta(milliseconds=1)),
            "report": report if isinstance(report, dict) else {},
        }

    def _refusal(self, answer: Answer, what: str) -> ReconcilerError:
        """Nodes say 400 for whatever is wrong with us, and 500 for what is wrong with them; the text is all there is."""
        said = wire.parse_refusal(answer.body)
        if answer.status != 400:
            return refusal(answer, what, self._http.clock)
        message = f"cannot {what}: {host_of(answer.url)} says: {said[:200] or 'bad request'}"
        if "too many" in said.lower():
            return Unavailable("overlay-busy", message, **retry_after(answer, self._http.clock))
        return Refused("overlay-refused", message, hint="check the topic and service names the node hosts, and the proofs sent")


def _url(host: Endpoint, path: str) -> str:
    """Without this, an address with a trailing slash would ask for //submit, which nodes do not serve."""
    return host.url.rstrip("/") + path
