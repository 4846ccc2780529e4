"""A broadcaster: ARC v1 over HTTP, and the switches that make blocks, coins and trouble.

Callbacks (X-CallbackUrl, X-CallbackToken) are queued when a transaction's standing changes to MINED, REJECTED or
MINED_IN_STALE_BLOCK, in order, and delivered when the broadcaster next makes a block or is told to. A callback that is not
acknowledged stays at the head of its URL's queue and is dropped after the tenth attempt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reconciler.devnet.chain import MINED, REJECTED, STALE, Chain, Standing
from reconciler.devnet.mempool import Checks, Rejection, provoke, submit
from reconciler.model.canonical import Json
from reconciler.model.errors import ReconcilerError, RemoteProtocolError
from reconciler.wire import arc
from reconciler.wire.beef import write_beef
from reconciler.wire.jsontext import Fields

_TOLD = (MINED, REJECTED, STALE)
_MAX_ATTEMPTS = 10
# Blocks one request may ask for; a mistyped number must not fill the memory.
_MAX_BLOCKS = 1000

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Callback:
    """One status change on its way to a URL."""

    url: str
    token: str
    state: arc.TxState
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class NextAnswer:
    """What POST /v1/tx is to say next: a problem code, or a status under HTTP 200 that then is the transaction's standing."""

    code: int = 0
    status: str = ""
    detail: str = "provoked"


@dataclass(slots=True)
class ArcState:
    """Who wants to be told about which transaction, and what is still to be told."""

    listeners: dict[str, tuple[str, str]] = field(default_factory=dict)
    queue: list[Callback] = field(default_factory=list)
    heard: int = 0
    provoked: list[NextAnswer] = field(default_factory=list)

    def copy(self) -> ArcState:
        """An independent state that is equal now."""
        return ArcState(dict(self.listeners), list(self.queue), self.heard, list(self.provoked))


class Broadcaster:
    """One ARC host. Several may stand before one chain; each remembers only the callbacks it was asked for."""

    def __init__(self, chain: Chain, client: Callable[[], httpx.AsyncClient]) -> None:
        self.chain, self.state = chain, ArcState()
        self._client = client
        # What is done after every block or switch; a world adds the errands of its other hosts.
        self.errands: list[Callable[[], Awaitable[object]]] = [self.deliver]
        routes: list[tuple[str, str, Handler]] = [
            ("POST", "/v1/tx", self._post),
            ("POST", "/v1/txs", self._post_many),
            ("GET", "/v1/tx/{txid}", self._get),
            ("GET", "/v1/policy", self._policy),
            ("GET", "/v1/health", self._health),
            ("POST", "/devnet/faucet", self._faucet),
            ("POST", "/devnet/mine", self._mine),
            ("POST", "/devnet/reorg", self._reorg),
            ("POST", "/devnet/fail-next", self._fail_next),
        ]
        self.app = Starlette(routes=[Route(path, handler, methods=[method]) for method, path, handler in routes])

    def status(self, txid: str, standing: Standing) -> arc.TxState:
        """The standing as ARC words it; a proof is attached only while it is good."""
        return arc.TxState(
            txid=txid,
            status=standing.status,
            height=standing.height,
            block=standing.block,
            proof=self.chain.proof(txid) if standing.status == MINED else b"",
            extra=standing.detail,
            competing=standing.competing,
            timestamp=standing.at.isoformat().replace("+00:00", "Z"),
        )

    async def deliver(self) -> int:
        """Post what is queued; the number of callbacks acknowledged."""
        self._hear()
        waiting, self.state.queue = self.state.queue, []
        stuck: set[str] = set()
        sent = 0
        for callback in waiting:
            if callback.url not in stuck and await self._told(callback):
                sent += 1
                continue
            tried = callback.attempts + (callback.url not in stuck)
            stuck.add(callback.url)
            if tried < _MAX_ATTEMPTS:
                self.state.queue.append(Callback(callback.url, callback.token, callback.state, tried))
        return sent

    def _hear(self) -> None:
        """Queue what the chain has said since last time; the state told is the one of that moment."""
        changes = self.chain.state.changes
        for txid, standing in changes[self.state.heard :]:
            listener = self.state.listeners.get(txid)
            if listener is not None and standing.status in _TOLD:
                self.state.queue.append(Callback(*listener, self.status(txid, standing)))
        self.state.heard = len(changes)

    async def _told(self, callback: Callback) -> bool:
        headers = {"authorization": f"Bearer {callback.token}"} if callback.token else {}
        try:
            answer = await self._client().post(callback.url, json=arc.callback_json(callback.state), headers=headers)
        except httpx.HTTPError:
            return False
        return answer.is_success

    # --- ARC ---------------------------------------------------------------------------------------------------

    def _submit(self, request: Request, payload: bytes) -> arc.TxState | arc.Problem:
        headers = request.headers
        skip = _yes(headers.get("x-skiptxvalidation"))
        checks = Checks(
            fee=not (skip or _yes(headers.get("x-skipfeevalidation"))),
            scripts=not (skip or _yes(headers.get("x-skipscriptvalidation"))),
        )
        provoked = self.state.provoked.pop(0) if self.state.provoked else None
        if provoked is not None and provoked.code:
            return arc.Problem(provoked.code, detail=provoked.detail)
        self._hear()
        try:
            if provoked is not None:
                txid, standing = provoke(self.chain, payload, provoked.status, provoked.detail)
            else:
                txid, standing = submit(self.chain, payload, checks)
        except Rejection as rejection:
            return rejection.problem
        if url := headers.get("x-callbackurl"):
            self.state.listeners[txid] = (url, headers.get("x-callbacktoken", ""))
        self._hear()
        return self.status(txid, standing)

    async def _post(self, request: Request) -> Response:
        try:
            payload = arc.parse_submit(request.headers.get("content-type", ""), await request.body())
        except RemoteProtocolError as error:
            return _answer(arc.Problem(400, detail=error.message))
        return _answer(self._submit(request, payload))

    async def _post_many(self, request: Request) -> Response:
        try:
            payloads = arc.parse_submits(request.headers.get("content-type", ""), await request.body())
        except RemoteProtocolError as error:
            return _answer(arc.Problem(400, detail=error.message))
        answers = [self._submit(request, payload) for payload in payloads]
        return Response(arc.answers_json(answers), media_type="application/json")

    async def _get(self, request: Request) -> Response:
        txid = request.path_params["txid"]
        standing = self.chain.standing(txid)
        if standing is None:
            return _answer(arc.Problem(404, detail="transaction not found", txid=txid))
        return _answer(self.status(txid, standing))

    async def _policy(self, request: Request) -> Response:
        return JSONResponse(arc.policy_answer(self.chain.rate, self.chain.clock.now().isoformat()))

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"healthy": True, "reason": None, "version": "devnet"})

    # --- the switches ------------------------------------------------------------------------------------------

    async def _faucet(self, request: Request) -> Response:
        def pay(fields: Fields) -> Json:
            script = bytes.fromhex(fields.hex("lockingScript"))
            coin = self.chain.faucet(script, fields.integer("satoshis", low=1))
            return {"txid": coin.txid, "vout": coin.vout, "beef": write_beef(coin.txid, self.chain.source).hex()}

        return await self._switch(request, pay)

    async def _mine(self, request: Request) -> Response:
        def mine(fields: Fields) -> Json:
            blocks = self.chain.mine(fields.integer("blocks", low=1, high=_MAX_BLOCKS, default=1))
            return {"height": blocks[-1].height, "blocks": [block.hash for block in blocks]}

        return await self._switch(request, mine)

    async def _reorg(self, request: Request) -> Response:
        def reorg(fields: Fields) -> Json:
            blocks = self.chain.reorg(fields.integer("depth", low=1), fields.strings("drop", ()))
            return {"height": blocks[-1].height, "blocks": [block.hash for block in blocks]}

        return await self._switch(request, reorg)

    async def _fail_next(self, request: Request) -> Response:
        def arrange(fields: Fields) -> Json:
            code = fields.integer("code", high=599, default=0)
            status = fields.text("status", "" if code else REJECTED)
            answer = NextAnswer(code, status, fields.text("detail", "provoked"))
            self.state.provoked += [answer] * fields.integer("count", low=1, default=1)
            return {"queued": len(self.state.provoked)}

        return await self._switch(request, arrange)

    async def _switch(self, request: Request, act: Callable[[Fields], Json]) -> Response:
        """Run one switch, then tell whoever waits for what it changed."""
        try:
            answer = act(Fields.parse(await request.body() or b"{}", "request"))
        except ReconcilerError as error:
            return _answer(arc.Problem(400, detail=error.message))
        for errand in self.errands:
            await errand()
        return JSONResponse(answer)


def _answer(found: arc.TxState | arc.Problem) -> Response:
    if isinstance(found, arc.Problem):
        return JSONResponse(arc.problem_answer(found), found.status, media_type="application/problem+json")
    return JSONResponse(arc.state_answer(found))


def _yes(value: str | None) -> bool:
    return (value or "").lower() == "true"
