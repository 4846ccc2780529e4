"""Every status and every code that a broadcaster may answer with: what a submission, a question and a look make of each."""

from collections.abc import Mapping
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from reconciler.adapters.chain import ArcChain
from reconciler.adapters.headers import HeaderSources
from reconciler.devnet.network import Fault, Trouble
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import ReconcilerError, Refused, Unavailable, Uncertain
from reconciler.ports import TxStatus
from reconciler.wire import arc
from tests.contract import test_chain as chained
from tests.contract.test_chain import NOBODY, A, B, Bench

bench = chained.bench  # the same world with two broadcasters, and a purse

HELD, LOST = "held", ("not-accepted", Uncertain)
# ARC's and Arcade's statuses under HTTP 200 or 202 -> what becomes of the submission.
STATUSES: Mapping[str, Any] = {
    "UNKNOWN": LOST,
    "QUEUED": HELD,
    "RECEIVED": HELD,
    "STORED": HELD,
    "PENDING_RETRY": HELD,
    "ANNOUNCED_TO_NETWORK": HELD,
    "REQUESTED_BY_NETWORK": HELD,
    "SENT_TO_NETWORK": HELD,
    "ACCEPTED_BY_NETWORK": HELD,
    "SEEN_IN_ORPHAN_MEMPOOL": LOST,
    "SEEN_ON_NETWORK": HELD,
    "SEEN_MULTIPLE_NODES": HELD,
    "STUMP_PROCESSING": HELD,
    "DOUBLE_SPEND_ATTEMPTED": ("double-spend", Uncertain),
    "REJECTED": ("tx-rejected", Refused),
    "MINED_IN_STALE_BLOCK": LOST,
    "MINED": HELD,
    "IMMUTABLE": HELD,
}
# Words that no enumeration has, as clients in the field meet them.
OTHERS: Mapping[str, Any] = {
    "INVALID": ("tx-rejected", Refused),
    "MALFORMED": ("tx-rejected", Refused),
    "ERROR": ("tx-rejected", Refused),
    "SEEN_BY_THE_MOON": LOST,
    "seen_on_network": HELD,
}
NO, LATER, UNSURE = ("broadcaster-refused", Refused), ("broadcaster-later", Unavailable), ("no-answer", Uncertain)
DEAD = ("tx-rejected", Refused)
# Problem codes -> the error. What speaks of the envelope can be mended; what speaks of the transaction cannot.
CODES: Mapping[int, tuple[str, type[ReconcilerError]]] = {
    400: NO,
    401: ("unauthorised", Refused),
    402: ("payment-required", Refused),
    403: NO,
    404: NO,
    408: UNSURE,
    409: UNSURE,
    413: NO,
    422: NO,
    429: LATER,
    460: LATER,
    461: DEAD,
    462: DEAD,
    463: DEAD,
    464: DEAD,
    465: DEAD,
    466: ("double-spend", Uncertain),
    467: LATER,
    468: NO,
    469: LATER,
    471: DEAD,
    472: DEAD,
    473: DEAD,
    474: DEAD,
    475: LATER,
    476: LATER,
}
SERVERS: Mapping[int, tuple[str, type[ReconcilerError]]] = {500: UNSURE, 502: UNSURE, 503: LATER, 504: UNSURE}


def test_the_tables_are_whole() -> None:
    """A status or a code that the wire learns of is decided here, too."""
    assert STATUSES.keys() == arc.STATUSES.keys()
    assert CODES.keys() == arc.PROBLEMS.keys()


def outcome(bench: Bench, host: Endpoint) -> Any:
    try:
        return HELD if isinstance(bench.broadcast(host), TxStatus) else None
    except ReconcilerError as error:
        return error.code, type(error)


@pytest.mark.parametrize("http", [200, 202])
@pytest.mark.parametrize("status", [*STATUSES, *OTHERS])
@pytest.mark.row("C-25")
def test_what_each_status_makes_of_a_submission(bench: Bench, status: str, http: int) -> None:
    async def answer(request: Request) -> Response:
        await request.body()
        return JSONResponse({"txid": signed.txid, "txStatus": status, "status": http}, http)

    signed, beef = bench.pay()
    host = bench.host("c", {"/v1/tx": answer})
    bench.broadcast = lambda *via: bench.run(bench.chain.broadcast(beef, signed.txid, via))  # type: ignore[method-assign]
    assert outcome(bench, host) == {**STATUSES, **OTHERS}[status]


@pytest.mark.parametrize("code", [*CODES, *SERVERS])
def test_what_each_code_makes_of_a_submission(bench: Bench, code: int) -> None:
    assert outcome(bench, bench.always("c", code, arc.problem_answer(arc.Problem(code)))) == {**CODES, **SERVERS}[code]


@pytest.mark.parametrize("code", [*CODES, *SERVERS])
def test_no_code_keeps_the_next_broadcaster_from_taking_the_same_bytes(bench: Bench, code: int) -> None:
    """Except that of a double spend: what competes is not offered behind somebody's back."""
    signed, beef = bench.pay()
    host = bench.always("c", code, arc.problem_answer(arc.Problem(code)))
    try:
        assert bench.run(bench.chain.broadcast(beef, signed.txid, [host, A])).txid == signed.txid
    except Uncertain as error:
        assert (code, error.code) == (466, "double-spend")


@pytest.mark.parametrize("status", [*STATUSES, *OTHERS])
@pytest.mark.parametrize("extra", ["", "parent in orphan pool"])
def test_what_each_status_makes_of_a_question(bench: Bench, status: str, extra: str) -> None:
    """The word is passed on as it is; whether it lives is what the table says, and an orphan does not."""
    host = bench.always("c", 200, {"txid": NOBODY, "txStatus": status, "extraInfo": extra})
    word = bench.run(bench.chain.status(NOBODY, [host]))
    assert (word.status, word.detail) == (status, extra)
    alive = arc.verdict(word.status, word.detail) in (arc.Verdict.ACCEPTED, arc.Verdict.MINED)
    settled = arc.STATUSES.get(status.upper()) is arc.Verdict.MINED
    seen = arc.STATUSES.get(status.upper()) is arc.Verdict.ACCEPTED
    assert alive == (settled or (seen and not extra))


def test_the_same_bytes_go_to_one_after_another_until_one_holds_them(bench: Bench) -> None:
    """Down, silent, full, and an Arcade that takes it: one transaction, one id."""
    taken: list[bytes] = []

    async def tx(request: Request) -> Response:
        taken.append(await request.body())
        return JSONResponse({"txid": signed.txid, "status": 202, "txStatus": "RECEIVED"}, 202)

    signed, beef = bench.pay()
    bench.world.network.arm(Fault(Trouble.REFUSE, host="a.devnet"), Fault(Trouble.LOSE, host="b.devnet"))
    full = bench.always("c", 503, {"status": 503}, {"retry-after": "5"})
    arcade = bench.host("arcade", {"/tx": tx})
    assert bench.run(bench.chain.broadcast(beef, signed.txid, [A, B, full, arcade])).status == "RECEIVED"
    assert taken == [beef]


def test_broadcasters_are_told_where_to_call_and_only_with_a_submission(bench: Bench) -> None:
    heard: list[tuple[str, str | None, str | None]] = []

    async def door(request: Request) -> Response:
        await request.body()
        heard.append((request.method, request.headers.get("x-callbackurl"), request.headers.get("x-callbacktoken")))
        return JSONResponse({"txid": signed.txid, "txStatus": "STORED"})

    signed, beef = bench.pay()
    host = bench.host("c", {"/v1/tx": door, "/v1/tx/{txid}": door})
    chain = ArcChain(bench.http, HeaderSources(bench.http), lambda: ("https://shop.example/callbacks/broadcast", "s3cret"))
    bench.run(chain.broadcast(beef, signed.txid, [host]))
    bench.run(chain.status(signed.txid, [host]))
    bench.run(bench.chain.broadcast(beef, signed.txid, [host]))
    assert heard == [("POST", "https://shop.example/callbacks/broadcast", "s3cret"), ("GET", None, None), ("POST", None, None)]
