"""A block headers service over the world's chain, and an index of outputs, spent and unspent.

Paths and shapes are those of the Block Headers Service; `spent`, `unspent` and `beef` have the shape of WhatsOnChain. A root at
a height above the tip is UNABLE_TO_VERIFY: the service has not seen that block, which is not the same as INVALID.
"""

from __future__ import annotations

from collections.abc import Iterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from reconciler.devnet.blocks import Block
from reconciler.devnet.chain import Chain
from reconciler.model.errors import RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire import headers as wire
from reconciler.wire.beef import write_beef
from reconciler.wire.headers import Confirmation, RootCheck

# What the service returns at most per request.
_PAGE = 2000
# Expected hashes for a target that half of all hashes meet.
_WORK = 2


class HeaderService:
    """The headers host; it forgets nothing, so a block that lost its place is still found by hash, as STALE."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.app = Starlette(
            routes=[
                Route("/api/v1/chain/merkleroot/verify", self._verify, methods=["POST"]),
                Route("/api/v1/chain/merkleroot", self._roots),
                Route("/api/v1/chain/tip/longest", self._tip),
                Route("/api/v1/chain/header/byHeight", self._by_height),
                Route("/api/v1/chain/header/state/{hash}", self._state),
                Route("/api/v1/chain/header/{hash}", self._by_hash),
                Route("/v1/bsv/devnet/tx/{txid}/{vout:int}/spent", self._spent),
                Route("/v1/bsv/devnet/tx/{txid}/beef", self._beef),
                Route("/v1/bsv/devnet/script/{digest}/unspent/all", self._unspent),
            ]
        )

    def _check(self, height: int, root: str) -> RootCheck:
        block = self.chain.block(height)
        if block is None:
            return RootCheck(height, root, Confirmation.UNABLE_TO_VERIFY)
        good = block.merkle_root == root
        return RootCheck(height, root, Confirmation.CONFIRMED if good else Confirmation.INVALID, block.hash if good else "")

    def _find(self, digest: str) -> tuple[Block, str] | None:
        if digest in self.chain.state.stale:
            return self.chain.state.stale[digest], "STALE"
        found = next((block for block in self.chain.state.blocks if block.hash == digest), None)
        return None if found is None else (found, "LONGEST_CHAIN")

    async def _verify(self, request: Request) -> Response:
        try:
            asked = wire.parse_verify_request(await request.body())
        except RemoteProtocolError as error:
            return _error(400, "ErrInvalidBody", error.message)
        return JSONResponse(wire.verification_json([self._check(*pair) for pair in asked]))

    async def _roots(self, request: Request) -> Response:
        size = _number(request, "batchSize", _PAGE)
        after = request.query_params.get("lastEvaluatedKey", "")
        blocks = self.chain.state.blocks
        start = next((block.height + 1 for block in blocks if block.merkle_root == after), None) if after else 0
        if size is None or start is None:
            return _error(400, "ErrInvalidPage", "batchSize or lastEvaluatedKey is not valid")
        page = blocks[start:][: min(size, _PAGE)]
        more = page and page[-1].height < self.chain.tip.height
        return JSONResponse(
            {
                "content": [{"merkleRoot": block.merkle_root, "blockHeight": block.height} for block in page],
                "page": {
                    "totalElements": len(blocks),
                    "size": len(page),
                    "lastEvaluatedKey": page[-1].merkle_root if more else "",
                },
            }
        )

    async def _tip(self, request: Request) -> Response:
        tip = self.chain.tip
        return JSONResponse(wire.tip_json(tip.header, _WORK * (tip.height + 1)))

    async def _by_height(self, request: Request) -> Response:
        height, count = _number(request, "height"), _number(request, "count", 1)
        if height is None or count is None:
            return _error(400, "ErrInvalidHeight", "height and count must be numbers")
        page = self.chain.state.blocks[height:][: min(count, _PAGE)]
        if not page:
            return _error(404, "ErrHeaderNotFound", f"no header at height {height}")
        return JSONResponse([wire.header_json(block.header) for block in page])

    async def _by_hash(self, request: Request) -> Response:
        found = self._find(request.path_params["hash"])
        if found is None:
            return _error(404, "ErrHeaderNotFound", "no header of that hash")
        return JSONResponse(wire.header_json(found[0].header))

    async def _state(self, request: Request) -> Response:
        found = self._find(request.path_params["hash"])
        if found is None:
            return _error(404, "ErrHeaderNotFound", "no header of that hash")
        block, state = found
        return JSONResponse(wire.tip_json(block.header, _WORK * (block.height + 1)) | {"state": state})

    async def _spent(self, request: Request) -> Response:
        spender = self.chain.spender(Outpoint(request.path_params["txid"], request.path_params["vout"]))
        if spender is None:
            return JSONResponse({"error": "not spent, or not known"}, 404)
        return JSONResponse({"txid": spender[0], "vin": spender[1]})

    async def _beef(self, request: Request) -> Response:
        txid = request.path_params["txid"]
        if self.chain.live(txid) is None:
            return JSONResponse({"error": "not found"}, 404)
        return PlainTextResponse(write_beef(txid, self.chain.source).hex())

    async def _unspent(self, request: Request) -> Response:
        digest = request.path_params["digest"]
        return JSONResponse(wire.unspent_json(digest, self._paying(digest)))

    def _paying(self, digest: str) -> Iterator[wire.Unspent]:
        """Every output of a live transaction that pays the script of that digest and is not spent."""
        for txid in self.chain.state.standings:
            tx, standing = self.chain.live(txid), self.chain.state.standings[txid]
            for vout, output in enumerate(tx.outputs if tx is not None else ()):
                at = Outpoint(txid, vout)
                if wire.script_digest(output.script) == digest and self.chain.spender(at) is None:
                    yield wire.Unspent(at, output.satoshis, standing.height)


def _number(request: Request, name: str, default: int | None = None) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return default
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else None


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"code": code, "message": message}, status)
