"""Requests to producers behind the Web port: one identity's conversation, and downloads from whatever address has the bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from reconciler.adapters.auth import Introduced
from reconciler.adapters.fetching import Ask, fetch
from reconciler.adapters.http import Answer, Http, Request, Sink, host_of, refusal
from reconciler.adapters.uhrp import CHUNK, SLOWEST, TRANSFER_DEADLINE
from reconciler.model.canonical import Json
from reconciler.model.errors import GuardRefused, ReconcilerError, Refused, Unavailable
from reconciler.web import Asking, Progress, Reply, unwatched
from reconciler.wire import authhttp
from reconciler.wire.speaker import Speaker

# One small question, by which hosts are compared.
PACE_DEADLINE = 5.0


class HttpWeb:
    """The Web port over HTTP. `speak` is who asks, in the `conversation` of that identity.

    `reached(url)` says at which address it is reached from here, and whether nobody but a stranger named it.
    """

    def __init__(
        self, http: Http, conversation: Introduced, speak: Callable[[], Speaker], reached: Callable[[str], tuple[str, bool]]
    ) -> None:
        self._http, self._conversation, self._speak, self._reached = http, conversation, speak, reached

    def _request(self, method: str, url: str, headers: Mapping[str, str], body: bytes, terms: Mapping[str, Json]) -> Request:
        address, stranger = self._reached(url)
        return Request(method, address, headers, body, terms, stranger)

    async def ask(self, asking: Asking, most: int = 0, *, plain: bool = False) -> Reply:
        """One request; a body is sent as JSON in the spelling that every implementation of BRC-104 signs alike."""
        body = b"" if asking.body is None else json.dumps(asking.body, separators=(",", ":"), ensure_ascii=False).encode()
        headers = {"content-type": "application/json"} if body else {}
        named = {"identityKey": asking.peer, "chain": asking.chain, "purchase": asking.purchase}
        request = self._request(asking.method, asking.url, headers, body, {k: v for k, v in named.items() if v})
        try:
            answer = await self._http.send(request, talk=not plain, max_payment=most)
        except Refused as error:
            if error.code != "payment-limit":
                raise
            told = f"cannot pay {host_of(request.url)}: it asks for more than the {most} satoshis that it may cost"
            raise GuardRefused("over-cost", told, hint="nothing was paid; allow more (--cost), or look elsewhere") from error
        stamp = None if plain else authhttp.parse_stamp(answer.headers)
        peer = stamp.identity.hex() if stamp is not None else ""
        return Reply(answer.status, answer.headers, answer.body, asking.url, peer, answer.paid)

    async def download(
        self, urls: Sequence[str], sha256: str, size: int, place: Path, told: Progress = unwatched
    ) -> tuple[str, Mapping[str, str]]:
        """The first address whose bytes have the hash; the file is there only then."""
        passed: dict[str, str] = {}
        later = False
        for url in urls:
            try:
                answer = await fetch(place, sha256, self._asker(url, size, told))
                if answer is None:
                    return url, passed
                error: ReconcilerError = refusal(answer, f"fetch {sha256[:12]}", self._http.clock)
            except (Unavailable, Refused) as fault:
                if fault.code == "disk":
                    raise
                error = fault
            later = later or isinstance(error, Unavailable)
            passed[url] = error.message
        message = f"cannot fetch {sha256[:12]} from any host: " + ("; ".join(passed.values()) or "none is known")
        if later:
            raise Unavailable("no-host", message, hint="run it again; it goes on where it stopped")
        raise Refused("no-copy", message, hint="ask the producer where it is served")

    def _asker(self, url: str, size: int, told: Progress) -> Ask:
        deadline = TRANSFER_DEADLINE + size / SLOWEST

        async def ask(headers: Mapping[str, str], sink: Sink) -> Answer:
            done = 0

            def begin(status: int, said: Mapping[str, str]) -> None:
                nonlocal done
                sink.begin(status, said)
                done = int(headers["range"][len("bytes=") : -1]) if status == 206 and "range" in headers else 0

            def write(block: bytes) -> None:
                nonlocal done
                sink.write(block)
                done += len(block)
                told(done, size)

            request = self._request("GET", url, headers, b"", {})
            return await self._http.send(request, deadline=deadline, limit=max(size, CHUNK), sink=Sink(write, begin))

        return ask

    async def pace(self, url: str) -> int | None:
        """One GET, timed; an answer of any status is one, but trouble is none."""
        began = self._http.clock.now()
        try:
            answer = await self._http.send(self._request("GET", url, {}, b"", {}), deadline=PACE_DEADLINE)
        except (Unavailable, Refused):
            return None
        if answer.status >= 500:
            return None
        return max(0, round((self._http.clock.now() - began) / timedelta(milliseconds=1)))

    async def knows(self, url: str) -> str:
        """The key of a handshake; a session stays for what is asked next."""
        return await self._conversation.key_of(self._request("GET", url, {}, b"", {}))

    def who(self) -> str:
        """The key that asks."""
        return self._speak().identity.hex()

    def script_to(self, payee: bytes, prefix: str, suffix: str) -> bytes:
        """The lock of what we pay."""
        return self._speak().script_to(payee, prefix, suffix)
