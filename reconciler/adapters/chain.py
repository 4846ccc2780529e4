"""Broadcasters (ARC and Arcade) behind the Chain port; headers are asked of `headers.HeaderSources`.

A transaction goes to the broadcasters in order, always as the same bytes, until one holds it. What the others said
decides only when none does:

    one was sent the bytes and gave no usable answer  -> Uncertain: it may be on its way
    one has the bytes and lacks a parent of theirs    -> Uncertain("not-accepted")
    one said these bytes can never pass               -> Refused("tx-rejected")
    one could not be reached, or said "later"         -> Unavailable
    all refused us (key missing, wrong address)       -> Refused("broadcaster-refused")

Silence outranks a rejection, because coins may be used again only when nobody can have accepted the old bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.adapters.headers import HeaderSources
from reconciler.adapters.http import Answer, Http, Request, host_of, retry_after
from reconciler.adapters.secret import bearer
from reconciler.model.change import FeeRate
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import ReconcilerError, Refused, RemoteProtocolError, Unavailable, Uncertain
from reconciler.model.ref import Outpoint
from reconciler.ports import Header, TxStatus
from reconciler.wire import arc

# Miners change their policy rarely; ARC's own guidance is to look again every few minutes.
POLICY_AGE = timedelta(minutes=5)
# What SDKs and Arcade assume when nobody quotes: 100 satoshis per 1000 bytes.
FALLBACK_RATE = FeeRate(100)
# ARC holds a submission up to 30 s when asked to wait; an answer that takes longer is not coming.
BROADCAST_DEADLINE = 40.0
_ASK_DEADLINE = 10.0
# Codes that speak of the ancestry we sent, not of the transaction: fresh proofs may mend them.
_ANCESTRY = frozenset({460, 467, 469, 475})


@dataclass(frozen=True, slots=True)
class _Heard:
    """What one broadcaster made of a submission: a status, or the error to raise if nobody does better."""

    status: TxStatus | None = None
    error: ReconcilerError | None = None


class ArcChain:
    """The Chain port over ARC broadcasters and header sources."""

    def __init__(self, http: Http, headers: HeaderSources, callback: Callable[[], tuple[str, str]] | None = None) -> None:
        """`callback` gives the address and the token that broadcasters are to use when a transaction moves."""
        self._http, self._callback = http, callback
        self._headers = headers
        self._roots: dict[str, str] = {}
        self._rates: dict[str, tuple[datetime, FeeRate]] = {}

    async def broadcast(self, beef: bytes, txid: str, via: Sequence[Endpoint]) -> TxStatus:
        """The status at the first broadcaster that holds it, parents and all; an orphan is not held.

        Uncertain at once when one knows a double spend: not final.
        """
        heard: list[_Heard] = []
        for endpoint in via:
            found = await self._submit(endpoint, beef, txid)
            if found.status is not None and _holds(found.status):
                return found.status
            if found.error is not None and found.error.code == "double-spend":
                raise found.error
            heard.append(found)
        raise_or = [found.error for found in heard if found.error is not None]
        weak = next((found.status for found in heard if found.status is not None), None)
        if weak is not None:
            raise_or.append(_not_held(weak))
        raise _worst(raise_or, "broadcast " + txid)

    async def status(self, txid: str, via: Sequence[Endpoint]) -> TxStatus | None:
        """The most advanced word of any broadcaster; None only when every one says it never heard of it.

        That one of them holds it outweighs that another rejected it.
        """
        words: list[TxStatus] = []
        errors: list[ReconcilerError] = []
        for endpoint in via:
            try:
                found = await self._ask(endpoint, txid)
            except ReconcilerError as error:
                errors.append(error)
                continue
            if found is not None:
                words.append(found)
                if _lives(found):
                    break
        if words:
            return max(words, key=lambda word: (_lives(word), arc.rank(word.status)))
        if errors or not via:
            raise _worst(errors, "learn the status of " + txid)
        return None

    async def fee_rate(self, via: Sequence[Endpoint]) -> FeeRate:
        """The highest rate any reachable broadcaster asks, so that each of them takes the transaction.

        Quotes are kept five minutes. When none answers, 100 satoshis per 1000 bytes; that is not kept.
        """
        rates = await asyncio.gather(*(self._policy(endpoint) for endpoint in via))
        known = [rate for rate in rates if rate is not None]
        return max(known, key=lambda rate: rate.satoshis / rate.bytes, default=FALLBACK_RATE)

    async def header(self, height: int, source: Endpoint) -> Header | None:
        """The header of that height on the longest chain; None above its tip."""
        return await self._headers.header(height, source)

    async def tip(self, source: Endpoint) -> int:
        """The height of the longest chain."""
        return await self._headers.tip(source)

    async def spender(self, outpoint: Outpoint, source: Endpoint) -> str | None:
        """The transaction that spends the outpoint; None when it is unspent."""
        return await self._headers.spender(outpoint, source)

    async def unspent(self, script: bytes, source: Endpoint) -> Sequence[tuple[Outpoint, int]]:
        """What pays the script and is unspent, with the satoshis it holds."""
        return [(one.outpoint, one.satoshis) for one in await self._headers.unspent(script, source)]

    async def beef(self, txid: str, source: Endpoint) -> bytes:
        """A transaction with its ancestry, unverified."""
        return await self._headers.beef(txid, source)

    async def _submit(self, endpoint: Endpoint, beef: bytes, txid: str) -> _Heard:
        host = host_of(endpoint.url)
        try:
            answer = await self._call(endpoint, "POST", "/tx", beef)
        except RemoteProtocolError as error:
            return _Heard(error=_unsure(host, error.message))
        except ReconcilerError as error:
            return _Heard(error=error)
        try:
            said = arc.parse_answer(answer.status, answer.body)
            if isinstance(said, arc.TxState):
                return _judge(said, txid, host)
        except RemoteProtocolError as error:
            return _Heard(error=_unsure(host, error.message))
        return _Heard(error=self._problem(said, answer, host))

    def _problem(self, said: arc.Problem, answer: Answer, host: str) -> ReconcilerError:
        words = f"{host} answered {said.status}, {said.meaning}" + (f" ({said.detail})" if said.detail else "")
        if said.verdict is arc.Verdict.REJECTED:
            return Refused("tx-rejected", f"cannot broadcast: {words}", hint="the transaction must be made anew")
        if said.verdict is arc.Verdict.DOUBLE_SPEND:
            return _double_spend(host, "another transaction spends the same coins")
        if said.status in (429, 476, 503) or said.status in _ANCESTRY:
            return Unavailable("broadcaster-later", f"cannot broadcast: {words}", **retry_after(answer, self._http.clock))
        if said.status in (408, 409) or said.status >= 500:
            return _unsure(host, words)
        return Refused("broadcaster-refused", f"cannot broadcast: {words}", hint="check the broadcaster's URL and apiKey")

    async def _ask(self, endpoint: Endpoint, txid: str) -> TxStatus | None:
        answer = await self._call(endpoint, "GET", f"/tx/{txid}")
        said = arc.parse_answer(answer.status, answer.body)
        if isinstance(said, arc.TxState):
            return _status(said, txid, host_of(endpoint.url))
        if said.status == 404 and _is_object(answer):
            return None
        words = f"cannot learn the status of {txid}: {host_of(endpoint.url)} answered {said.status}, {said.meaning}"
        raise Unavailable("broadcaster-later", words, **retry_after(answer, self._http.clock))

    async def _policy(self, endpoint: Endpoint) -> FeeRate | None:
        now = self._http.clock.now()
        known = self._rates.get(endpoint.url)
        if known is not None and timedelta(0) <= now - known[0] < POLICY_AGE:
            return known[1]
        try:
            answer = await self._call(endpoint, "GET", "/policy")
            rate = arc.parse_policy(answer.body) if answer.status == 200 else None
        except ReconcilerError:
            return None
        if rate is not None:
            self._rates[endpoint.url] = (now, rate)
        return rate

    async def _call(self, endpoint: Endpoint, method: str, path: str, body: bytes = b"") -> Answer:
        """One call below /v1, or without it where the broadcaster is an Arcade: its 404 for /v1 is no problem object."""
        url, told = self._callback() if body and self._callback else ("", "")
        headers = bearer(endpoint) | (arc.submit_headers(callback=url, callback_token=told) if body else {})
        posting = bool(body)
        deadline = BROADCAST_DEADLINE if posting else _ASK_DEADLINE
        base = endpoint.url.rstrip("/")
        root = self._roots.get(base, "/v1")
        answer = await self._http.send(
            Request(method, base + root + path, headers, body), deadline=deadline, irreversible=posting
        )
        if answer.status == 404 and root and not _is_object(answer):
            second = await self._http.send(Request(method, base + path, headers, body), deadline=deadline, irreversible=posting)
            if second.status != 404 or _is_object(second):
                self._roots[base] = ""
                return second
        return answer


def _judge(said: arc.TxState, txid: str, host: str) -> _Heard:
    status = _status(said, txid, host)
    if said.verdict is arc.Verdict.REJECTED:
        why = said.extra or said.status
        return _Heard(
            error=Refused("tx-rejected", f"cannot broadcast: {host} rejected it: {why}", hint="the transaction must be made anew")
        )
    if said.verdict is arc.Verdict.DOUBLE_SPEND:
        return _Heard(error=_double_spend(host, "it competes with " + (", ".join(said.competing) or "another transaction")))
    return _Heard(status)


def _status(said: arc.TxState, txid: str, host: str) -> TxStatus:
    if said.txid != txid:
        raise RemoteProtocolError(f"cannot believe {host}: asked about {txid}, it answered about {said.txid}", code="other-txid")
    return TxStatus(said.txid, said.status, said.height, said.block, said.proof, said.extra, said.competing)


def _lives(status: TxStatus) -> bool:
    """Whether it is in a mempool or in a block."""
    return arc.verdict(status.status, status.detail) in (arc.Verdict.ACCEPTED, arc.Verdict.MINED)


def _holds(status: TxStatus) -> bool:
    """Whether the broadcaster has it and its parents; an orphan or an unknown word makes us try the next."""
    verdict = arc.verdict(status.status, status.detail)
    orphan = "ORPHAN" in status.status or "ORPHAN" in status.detail.upper()
    known = arc.rank(status.status) > 0 and not orphan
    return verdict in (arc.Verdict.ACCEPTED, arc.Verdict.MINED) or (verdict is arc.Verdict.PENDING and known)


def _not_held(weak: TxStatus) -> Uncertain:
    """The bytes are there and not accepted: a parent is missing, or their block has lost. Sent again with all their ancestors."""
    told = f"cannot tell whether {weak.txid} will be accepted: a broadcaster says {weak.status}"
    return Uncertain("not-accepted", told, hint="the same bytes will be sent again, with their ancestors")


def _unsure(host: str, why: str) -> Uncertain:
    return Uncertain(
        "no-answer", f"cannot tell whether {host} took the transaction: {why}", hint="the same bytes will be sent again"
    )


def _double_spend(host: str, why: str) -> Uncertain:
    hint = "wait for the outcome before making another transaction; nothing is lost yet"
    return Uncertain("double-spend", f"cannot tell the fate of the transaction: {host} says {why}", hint=hint)


def _worst(errors: Sequence[ReconcilerError], what: str) -> ReconcilerError:
    """The error that binds us most, by the order at the top of the file."""
    if not errors:
        return Refused("no-broadcaster", f"cannot {what}: no broadcaster is configured", hint="add one to Network.broadcasters")

    def weight(error: ReconcilerError) -> int:
        if isinstance(error, Uncertain):
            return 3
        if isinstance(error, Unavailable):
            return 1
        return 2 if error.code == "tx-rejected" else 0

    return max(errors, key=weight)


def _is_object(answer: Answer) -> bool:
    try:
        return isinstance(answer.json(), dict)
    except RemoteProtocolError:
        return False
