"""The Chain port over ARC broadcasters and header sources, against a world and against hosts that misbehave."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from reconciler.adapters.chain import FALLBACK_RATE, POLICY_AGE, ArcChain
from reconciler.adapters.headers import HeaderSources
from reconciler.adapters.http import Http
from reconciler.adapters.keystore import KeyStore
from reconciler.adapters.wallet import FUNDING, LocalWallet
from reconciler.devnet.clock import SeededEntropy, run
from reconciler.devnet.network import Fault, Trouble
from reconciler.devnet.world import Plan, World
from reconciler.model.change import FeeRate
from reconciler.model.effect import CoinOutput, Draft
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import ReconcilerError, Refused, RemoteProtocolError, Unavailable, Uncertain
from reconciler.model.ref import Outpoint
from reconciler.ports import Coin, Signed, TxStatus
from reconciler.wire import arc
from reconciler.wire.beef import write_beef
from reconciler.wire.bump import parse_bump
from reconciler.wire.headers import header_json, tip_json
from reconciler.wire.keys import wif_encode

A, B = Endpoint("a", "http://a.devnet"), Endpoint("b", "http://b.devnet/")
HEADERS = Endpoint("headers", "http://headers.devnet", kind="devnet")
NOBODY = "ab" * 32


class Bench:
    """A world with two broadcasters, a purse, and the adapter under test."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PAYER_KEY", wif_encode(b"\x22" * 32, "test"))
        self.world = World(plan=Plan(seed=3, broadcasters=("a", "b")))
        self.http = Http(self.world.clock, transport=self.world.transport())
        self.chain = ArcChain(self.http, HeaderSources(self.http))
        self.wallet = LocalWallet(KeyStore(directory, SeededEntropy(1)), {"env": "PAYER_KEY"})

    def run(self, work: Awaitable[Any]) -> Any:
        return run(work, clock=self.world.clock)

    def fund(self, satoshis: int = 10_000) -> Coin:
        at, _ = self.world.faucet(self.wallet.funding_script(), satoshis)
        return Coin(at, "devnet", satoshis, self.wallet.funding_script(), FUNDING)

    def pay(self, coin: Coin | None = None, rate: FeeRate = FeeRate(100)) -> tuple[Signed, bytes]:  # noqa: B008 - frozen
        signed = self.wallet.sign(Draft("devnet", (CoinOutput(500),), rate=rate), [coin or self.fund()], {})
        parts = {signed.txid: (signed.raw, b"")}
        return signed, write_beef(signed.txid, lambda txid: parts.get(txid) or self.world.chain.source(txid))

    def host(self, name: str, routes: dict[str, Callable[[Request], Awaitable[Response]]]) -> Endpoint:
        """A host of our own making beside those of the world."""
        self.world.network.apps[f"{name}.devnet"] = Starlette(
            routes=[Route(path, handler, methods=["GET", "POST"]) for path, handler in routes.items()]
        )
        return Endpoint(name, f"http://{name}.devnet")

    def always(self, name: str, status: int, body: Any, headers: dict[str, str] | None = None) -> Endpoint:
        async def answer(request: Request) -> Response:
            await request.body()
            return JSONResponse(body, status, headers)

        return self.host(name, {"/v1/tx": answer, "/v1/tx/{txid}": answer, "/v1/policy": answer})

    def asked(self, host: str) -> list[tuple[str, str]]:
        return [(one.method, one.path) for one in self.world.network.exchanges if one.host == f"{host}.devnet"]

    def broadcast(self, *via: Endpoint) -> TxStatus:
        signed, beef = self.pay()
        return self.run(self.chain.broadcast(beef, signed.txid, via))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


# --- broadcasting --------------------------------------------------------------------------------


def test_a_transaction_is_taken_by_the_first_broadcaster_and_sent_to_no_other(bench: Bench) -> None:
    signed, beef = bench.pay()
    status = bench.run(bench.chain.broadcast(beef, signed.txid, [A, B]))
    assert (status.txid, status.status) == (signed.txid, "SEEN_ON_NETWORK")
    assert bench.asked("a") == [("POST", "/v1/tx")]
    assert bench.asked("b") == []
    assert bench.world.chain.standing(signed.txid) is not None


def test_the_same_bytes_twice_are_harmless(bench: Bench) -> None:
    signed, beef = bench.pay()
    first = bench.run(bench.chain.broadcast(beef, signed.txid, [A]))
    assert bench.run(bench.chain.broadcast(beef, signed.txid, [B])) == first


@pytest.mark.parametrize("trouble", [Trouble.REFUSE, Trouble.STATUS])
def test_the_next_broadcaster_is_tried_when_one_is_out(bench: Bench, trouble: Trouble) -> None:
    bench.world.network.arm(Fault(trouble, host="a.devnet", status=502))
    assert bench.broadcast(A, B).status == "SEEN_ON_NETWORK"


def test_a_lost_answer_is_made_good_by_another_broadcaster(bench: Bench) -> None:
    bench.world.network.arm(Fault(Trouble.LOSE, host="a.devnet"))
    assert bench.broadcast(A, B).status == "SEEN_ON_NETWORK"


def test_silence_everywhere_is_uncertain_although_others_were_unreachable(bench: Bench) -> None:
    bench.world.network.arm(Fault(Trouble.LOSE, host="a.devnet"), Fault(Trouble.REFUSE, host="b.devnet"))
    signed, beef = bench.pay()
    with pytest.raises(Uncertain):
        bench.run(bench.chain.broadcast(beef, signed.txid, [A, B]))
    assert bench.world.chain.standing(signed.txid) is not None, "and indeed it is on its way"


def test_when_nobody_is_reached_nothing_was_sent(bench: Bench) -> None:
    bench.world.network.arm(Fault(Trouble.REFUSE))
    with pytest.raises(Unavailable):
        bench.broadcast(A, B)


def test_no_broadcaster_is_a_matter_of_configuration(bench: Bench) -> None:
    with pytest.raises(Refused, match="no broadcaster"):
        bench.broadcast()


def test_http_200_with_rejected_is_a_refusal(bench: Bench) -> None:
    bench.world.fail_next("a", status="REJECTED")
    with pytest.raises(Refused, match="rejected it") as caught:
        bench.broadcast(A)
    assert caught.value.code == "tx-rejected"


def test_a_rejection_stands_only_if_nobody_takes_it(bench: Bench) -> None:
    refuser = bench.always("c", 465, {"status": 465, "detail": "fee too low"})
    assert bench.broadcast(refuser, A).status == "SEEN_ON_NETWORK"
    with pytest.raises(Refused, match="465, fee too low"):
        bench.broadcast(refuser)


def test_silence_outranks_a_rejection(bench: Bench) -> None:
    """The silent one may have accepted: coins must not be used again."""
    bench.world.network.arm(Fault(Trouble.LOSE, host="a.devnet"))
    refuser = bench.always("c", 461, {"status": 461})
    with pytest.raises(Uncertain):
        bench.broadcast(A, refuser)


def test_a_double_spend_attempt_is_not_final(bench: Bench) -> None:
    coin = bench.fund()
    first, first_beef = bench.pay(coin)
    second, second_beef = bench.pay(coin, FeeRate(500))
    bench.run(bench.chain.broadcast(first_beef, first.txid, [A]))
    with pytest.raises(Uncertain) as caught:
        bench.run(bench.chain.broadcast(second_beef, second.txid, [A, B]))
    assert caught.value.code == "double-spend"
    assert len(bench.asked("b")) == 0, "it is not offered to others behind the first one's back"


@pytest.mark.parametrize(
    ("code", "error", "word"),
    [
        (400, Refused, "broadcaster-refused"),
        (403, Refused, "broadcaster-refused"),
        (413, Refused, "broadcaster-refused"),
        (468, Refused, "broadcaster-refused"),
        (461, Refused, "tx-rejected"),
        (462, Refused, "tx-rejected"),
        (463, Refused, "tx-rejected"),
        (464, Refused, "tx-rejected"),
        (465, Refused, "tx-rejected"),
        (473, Refused, "tx-rejected"),
        (466, Uncertain, "double-spend"),
        (460, Unavailable, "broadcaster-later"),
        (467, Unavailable, "broadcaster-later"),
        (469, Unavailable, "broadcaster-later"),
        (475, Unavailable, "broadcaster-later"),
        (476, Unavailable, "broadcaster-later"),
        (429, Unavailable, "broadcaster-later"),
        (503, Unavailable, "broadcaster-later"),
        (409, Uncertain, "no-answer"),
        (500, Uncertain, "no-answer"),
        (504, Uncertain, "no-answer"),
    ],
)
def test_what_each_problem_code_means(bench: Bench, code: int, error: type[ReconcilerError], word: str) -> None:
    host = bench.always("c", code, {"status": code, "detail": "told so"}, {"retry-after": "60"})
    with pytest.raises(error) as caught:
        bench.broadcast(host)
    assert caught.value.code == word
    if isinstance(caught.value, Unavailable):
        assert caught.value.retry_at == bench.world.clock.now() + timedelta(seconds=60)


def test_a_missing_key_is_refused_and_a_present_one_is_shown(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    async def door(request: Request) -> Response:
        await request.body()
        seen.append(request.headers.get("authorization", ""))
        if seen[-1] != "Bearer s3cret":
            return JSONResponse({"status": 401}, 401)
        return JSONResponse({"txid": txid, "txStatus": "STORED"})

    host = bench.host("c", {"/v1/tx": door})
    signed, beef = bench.pay()
    txid = signed.txid
    with pytest.raises(Refused, match="401"):
        bench.run(bench.chain.broadcast(beef, txid, [host]))
    monkeypatch.setenv("ARC_KEY", "s3cret")
    keyed = Endpoint("c", host.url, secret={"env": "ARC_KEY"})
    assert bench.run(bench.chain.broadcast(beef, txid, [keyed])).status == "STORED"
    assert seen == ["", "Bearer s3cret"]


def test_an_answer_about_another_transaction_is_no_answer(bench: Bench) -> None:
    liar = bench.always("c", 200, {"txid": NOBODY, "txStatus": "MINED"})
    with pytest.raises(Uncertain, match=NOBODY):
        bench.broadcast(liar)
    assert bench.broadcast(liar, A).status == "SEEN_ON_NETWORK"


@pytest.mark.parametrize("body", ["<html>", {"txid": 5}, [], {"txStatus": "MINED"}])
def test_nonsense_after_the_bytes_left_is_uncertain(bench: Bench, body: Any) -> None:
    with pytest.raises(Uncertain):
        bench.broadcast(bench.always("c", 200, body))


def test_an_orphan_is_offered_to_the_next(bench: Bench) -> None:
    bench.world.fail_next("a", status="SEEN_IN_ORPHAN_MEMPOOL")
    signed, beef = bench.pay()
    bench.run(bench.chain.broadcast(beef, signed.txid, [A, B]))
    assert bench.asked("b") == [("POST", "/v1/tx")]


def test_an_orphan_is_not_accepted(bench: Bench) -> None:
    bench.world.fail_next("a", status="SEEN_IN_ORPHAN_MEMPOOL")
    with pytest.raises(Uncertain, match="SEEN_IN_ORPHAN_MEMPOOL") as caught:
        bench.broadcast(A)
    assert caught.value.code == "not-accepted"


def test_that_one_holds_it_outweighs_that_another_rejected_it(bench: Bench) -> None:
    signed, beef = bench.pay()
    rejects = bench.always("c", 200, {"txid": signed.txid, "txStatus": "REJECTED"})
    bench.run(bench.chain.broadcast(beef, signed.txid, [B]))
    assert bench.run(bench.chain.status(signed.txid, [rejects, B])).status == "SEEN_ON_NETWORK"


def test_arcade_is_spoken_to_without_v1(bench: Bench) -> None:
    signed, beef = bench.pay()

    async def tx(request: Request) -> Response:
        await request.body()
        return JSONResponse({"txid": signed.txid, "status": 202, "txStatus": "RECEIVED"}, 202)

    async def status(request: Request) -> Response:
        return JSONResponse({"txid": signed.txid, "txStatus": "SEEN_MULTIPLE_NODES"})

    host = bench.host("arcade", {"/tx": tx, "/tx/{txid}": status})
    assert bench.run(bench.chain.broadcast(beef, signed.txid, [host])).status == "RECEIVED"
    assert bench.run(bench.chain.status(signed.txid, [host])).status == "SEEN_MULTIPLE_NODES"
    assert bench.asked("arcade") == [("POST", "/v1/tx"), ("POST", "/tx"), ("GET", "/tx/" + signed.txid)]


# --- status --------------------------------------------------------------------------------------


def test_the_status_follows_the_transaction_into_a_block_with_its_proof(bench: Bench) -> None:
    signed, beef = bench.pay()
    assert bench.run(bench.chain.status(signed.txid, [A, B])) is None
    bench.run(bench.chain.broadcast(beef, signed.txid, [A]))
    assert bench.run(bench.chain.status(signed.txid, [A])).status == "SEEN_ON_NETWORK"
    block = bench.world.mine()[0]
    mined = bench.run(bench.chain.status(signed.txid, [A]))
    assert (mined.status, mined.height, mined.block) == ("MINED", block.height, block.hash)
    assert parse_bump(mined.proof).root(signed.txid) == block.merkle_root


def test_unknown_is_said_only_when_all_say_so(bench: Bench) -> None:
    bench.world.drop("b")
    with pytest.raises(Unavailable):
        bench.run(bench.chain.status(NOBODY, [A, B]))
    bench.world.restore("b")
    assert bench.run(bench.chain.status(NOBODY, [A, B])) is None
    with pytest.raises(Refused):
        bench.run(bench.chain.status(NOBODY, []))


def test_a_404_that_is_no_answer_of_a_broadcaster_is_not_unknown(bench: Bench) -> None:
    async def lost(request: Request) -> Response:
        return PlainTextResponse("404 page not found", 404)

    host = bench.host("c", {"/v1/tx/{txid}": lost, "/tx/{txid}": lost})
    with pytest.raises(Unavailable):
        bench.run(bench.chain.status(NOBODY, [host]))


def test_the_most_advanced_word_counts(bench: Bench) -> None:
    signed, beef = bench.pay()
    bench.run(bench.chain.broadcast(beef, signed.txid, [A]))
    bench.world.mine()
    behind = bench.always("c", 200, {"txid": signed.txid, "txStatus": "STORED"})
    silent = bench.always("d", 404, {"status": 404})
    assert bench.run(bench.chain.status(signed.txid, [silent, behind, A])).status == "MINED"
    liar = bench.always("e", 200, {"txid": NOBODY, "txStatus": "MINED"})
    assert bench.run(bench.chain.status(signed.txid, [liar, A])).status == "MINED"
    with pytest.raises(RemoteProtocolError, match="it answered about"):
        bench.run(bench.chain.status(signed.txid, [liar]))


# --- fees ----------------------------------------------------------------------------------------


def policy(satoshis: int, per: int = 1000) -> dict[str, Any]:
    return dict(arc.policy_answer(FeeRate(satoshis, per), ""))


def test_the_rate_is_the_highest_quoted_and_kept_five_minutes(bench: Bench) -> None:
    dear = bench.always("c", 200, policy(3, 10))
    assert bench.run(bench.chain.fee_rate([A, dear, B])) == FeeRate(3, 10)
    asked = len(bench.world.network.exchanges)
    bench.world.clock.advance(POLICY_AGE.total_seconds() - 1)
    assert bench.run(bench.chain.fee_rate([A])) == FeeRate(100)
    assert len(bench.world.network.exchanges) == asked
    bench.world.clock.advance(1)
    bench.run(bench.chain.fee_rate([A]))
    assert len(bench.world.network.exchanges) == asked + 1


def test_without_a_quote_the_documented_fallback_holds_and_is_not_kept(bench: Bench) -> None:
    bench.world.drop("a")
    nonsense = bench.always("c", 200, {"policy": {"miningFee": {"satoshis": -1, "bytes": 0}}})
    assert bench.run(bench.chain.fee_rate([A, nonsense])) == FALLBACK_RATE == FeeRate(100, 1000)
    assert bench.run(bench.chain.fee_rate([])) == FALLBACK_RATE
    cheap = World(plan=Plan(fee=7, broadcasters=("a",)))
    bench.world.network.apps["a.devnet"] = cheap.apps["a"]
    bench.world.restore("a")
    assert bench.run(bench.chain.fee_rate([A])) == FeeRate(7)


# --- headers -------------------------------------------------------------------------------------


def test_headers_and_tip_come_from_a_header_service(bench: Bench) -> None:
    tip = bench.world.chain.tip
    assert bench.run(bench.chain.tip(HEADERS)) == tip.height
    header = bench.run(bench.chain.header(tip.height, HEADERS))
    assert (header.height, header.hash, header.merkle_root, header.raw) == (tip.height, tip.hash, tip.merkle_root, tip.header.raw)
    assert bench.run(bench.chain.header(tip.height + 1, HEADERS)) is None
    paths = [path for _, path in bench.asked("headers")]
    assert paths.count("/api/v1/chain/tip/longest") == 2, "the kind of the source is found out once, by asking for its tip"
    bench.world.mine()
    assert bench.run(bench.chain.header(tip.height + 1, HEADERS)).height == tip.height + 1


def other_source(bench: Bench, flavour: str) -> Endpoint:
    """The world's headers in the dialect of another service."""
    blocks = bench.world.chain.state.blocks

    def line(height: int) -> dict[str, Any]:
        block = blocks[height]
        told = header_json(block.header) | {"height": block.height}
        if flavour == "whatsonchain":
            names = {"prevBlockHash": "previousblockhash", "merkleRoot": "merkleroot", "creationTimestamp": "time"}
            told = {names.get(key, key): value for key, value in told.items()}
            told["bits"] = f"{told.pop('difficultyTarget'):08x}"
        return told

    async def by_height(request: Request) -> Response:
        height = int(request.path_params.get("height", request.query_params.get("height", 0)))
        if height >= len(blocks):
            return JSONResponse({"status": "success", "value": None}) if flavour == "chaintracks" else Response("", 404)
        return JSONResponse({"status": "success", "value": line(height)} if flavour == "chaintracks" else line(height))

    async def tip(request: Request) -> Response:
        height = len(blocks) - 1
        answers = {
            "whatsonchain": [line(height)],
            "chaintracks": {"status": "success", "value": height},
            "chaintracks2": {"height": height},
        }
        return JSONResponse(answers[flavour])

    paths = {
        "whatsonchain": ("/v1/bsv/main/block/headers", "/v1/bsv/main/block/{height:int}/header"),
        "chaintracks": ("/getPresentHeight", "/findHeaderHexForHeight"),
        "chaintracks2": ("/height", "/header/height/{height:int}"),
    }[flavour]
    return bench.host(flavour, {paths[0]: tip, paths[1]: by_height})


@pytest.mark.parametrize("flavour", ["whatsonchain", "chaintracks", "chaintracks2"])
@pytest.mark.parametrize("told", [False, True])
def test_other_services_are_recognised_or_told(bench: Bench, flavour: str, told: bool) -> None:
    source = other_source(bench, flavour)
    source = Endpoint(source.name, source.url, kind=flavour if told else "")
    tip = bench.world.chain.tip
    assert bench.run(bench.chain.tip(source)) == tip.height
    assert bench.run(bench.chain.header(tip.height, source)).raw == tip.header.raw
    assert bench.run(bench.chain.header(tip.height + 1, source)) is None


def test_what_serves_no_headers_is_refused_and_what_is_down_is_unavailable(bench: Bench) -> None:
    with pytest.raises(Refused, match="as a header source"):
        bench.run(bench.chain.tip(A))
    bench.world.drop("headers")
    with pytest.raises(Unavailable):
        bench.run(bench.chain.tip(HEADERS))
    bench.world.restore("headers")
    assert bench.run(bench.chain.tip(HEADERS)) == bench.world.chain.tip.height, "and nothing wrong was concluded"


def test_a_header_whose_hash_is_not_its_own_is_refused(bench: Bench) -> None:
    block = bench.world.chain.tip

    async def tip(request: Request) -> Response:
        return JSONResponse(tip_json(block.header))

    async def forged(request: Request) -> Response:
        return JSONResponse([header_json(block.header) | {"merkleRoot": "00" * 32}])

    source = bench.host("liar", {"/api/v1/chain/tip/longest": tip, "/api/v1/chain/header/byHeight": forged})
    with pytest.raises(RemoteProtocolError):
        bench.run(bench.chain.header(block.height, source))


def test_headers_from_a_file(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "headers of main.bin"
    blocks = bench.world.chain.state.blocks
    source = Endpoint("file", path.as_uri())
    with pytest.raises(Unavailable, match="cannot read"):
        bench.run(bench.chain.tip(source))
    raw = b"".join(block.header.raw for block in blocks)
    path.write_bytes(raw + raw[:40])  # a header that is just being appended
    assert bench.run(bench.chain.tip(source)) == blocks[-1].height
    for height in (0, 1, blocks[-1].height):
        header = bench.run(bench.chain.header(height, source))
        assert (header.height, header.hash) == (height, blocks[height].hash)
    assert bench.run(bench.chain.header(len(blocks), source)) is None
    assert bench.run(bench.chain.header(-1, source)) is None
    path.write_bytes(raw[:80] + raw[160:])
    with pytest.raises(RemoteProtocolError, match="does not build on"):
        bench.run(bench.chain.header(1, source))
    for kind in ("file", "main"):
        assert bench.run(bench.chain.tip(Endpoint("x", str(path), kind=kind))) == len(blocks) - 2
    with pytest.raises(Unavailable, match="no index"):
        bench.run(bench.chain.spender(Outpoint(NOBODY, 0), source))


def test_a_spend_is_seen_and_an_unspent_output_has_no_spender(bench: Bench) -> None:
    coin = bench.fund()
    assert bench.run(bench.chain.spender(coin.outpoint, HEADERS)) is None
    signed, beef = bench.pay(coin)
    bench.run(bench.chain.broadcast(beef, signed.txid, [A]))
    assert bench.run(bench.chain.spender(coin.outpoint, HEADERS)) == signed.txid
    bench.world.drop("headers")
    with pytest.raises(Unavailable):
        bench.run(bench.chain.spender(coin.outpoint, HEADERS))


def test_a_source_without_an_index_of_spends_does_not_say_unspent(bench: Bench) -> None:
    for flavour in ("chaintracks", "chaintracks2"):
        with pytest.raises(Unavailable, match="no index of spends"):
            bench.run(bench.chain.spender(Outpoint(NOBODY, 0), other_source(bench, flavour)))
    assert bench.run(bench.chain.spender(Outpoint(NOBODY, 0), other_source(bench, "whatsonchain"))) is None


def test_the_chain_of_a_source_can_stand_in_its_url(bench: Bench) -> None:
    coin = bench.fund()
    signed, beef = bench.pay(coin)
    bench.run(bench.chain.broadcast(beef, signed.txid, [A]))
    source = Endpoint("woc", "http://headers.devnet/v1/bsv/devnet")
    assert bench.run(bench.chain.spender(coin.outpoint, source)) == signed.txid
    default = ArcChain(bench.http, HeaderSources(bench.http, chain="devnet"))
    assert bench.run(default.spender(coin.outpoint, Endpoint("h", "http://headers.devnet"))) == signed.txid


def test_broadcasts_side_by_side_share_nothing(bench: Bench) -> None:
    pairs = [bench.pay() for _ in range(5)]

    async def all_at_once() -> list[TxStatus]:
        return await asyncio.gather(*(bench.chain.broadcast(beef, signed.txid, [A, B]) for signed, beef in pairs))

    assert [status.txid for status in bench.run(all_at_once())] == [signed.txid for signed, _ in pairs]
