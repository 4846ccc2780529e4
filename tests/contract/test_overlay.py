"""The Overlay port over HTTP: what nodes say is framed, capped and parsed; what they mean is the caller's to verify."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reconciler.adapters.http import Http
from reconciler.adapters.keystore import KeyStore
from reconciler.adapters.overlay import HttpOverlay
from reconciler.adapters.wallet import FUNDING, LocalWallet
from reconciler.devnet.clock import SeededEntropy, run
from reconciler.devnet.network import Fault, Trouble
from reconciler.devnet.world import Plan, World
from reconciler.model.effect import Draft, Lock, TokenInput, TokenOutput
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import LocalProtocolError, Refused, RemoteProtocolError, Unavailable
from reconciler.model.ref import Outpoint
from reconciler.ports import Coin, Signed
from reconciler.wire.beef import parse_beef, write_beef
from reconciler.wire.keys import public_key
from reconciler.wire.proof import verify_beef

NODE = Endpoint("overlay-1", "http://overlay-1.devnet/")  # a trailing slash must not matter
PRODUCER = b"\x11" * 32
SHIP = Lock("me", "service host interconnect", "1")


class Bench:
    """A world with one node, and a producer with a purse."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PRODUCER_KEY", PRODUCER.hex())
        monkeypatch.setenv("PAYER_KEY", (b"\x22" * 32).hex())
        self.world = World(plan=Plan(seed=4))
        self.http = Http(self.world.clock, transport=self.world.transport())
        self.overlay = HttpOverlay(self.http)
        self.wallet = LocalWallet(KeyStore(directory, SeededEntropy(1)), {"env": "PAYER_KEY"})
        self.wallet.know({"me": {"env": "PRODUCER_KEY"}})
        self.parts: dict[str, tuple[bytes, bytes]] = {}

    def run(self, work: Awaitable[Any]) -> Any:
        return run(work, clock=self.world.clock)

    def ship(self, *topics: str, spend: Signed | None = None, domain: bytes = b"https://p.example") -> tuple[Signed, bytes]:
        """One SHIP token per topic, and perhaps the end of an earlier one."""
        at, _ = self.world.faucet(self.wallet.funding_script(), 10_000)
        coin = Coin(at, "devnet", 10_000, self.wallet.funding_script(), FUNDING)
        identity = public_key(PRODUCER)
        outputs = tuple(TokenOutput((b"SHIP", identity, domain, topic.encode()), SHIP) for topic in topics)
        inputs = (TokenInput(Outpoint(spend.txid, 0), SHIP),) if spend else ()
        parents = {spend.txid: spend.raw} if spend else {}
        signed = self.wallet.sign(Draft("devnet", outputs, inputs), [coin], parents)
        self.parts[signed.txid] = (signed.raw, b"")
        return signed, write_beef(signed.txid, lambda txid: self.parts.get(txid) or self.world.chain.source(txid))

    def host(self, handler: Callable[[Request], Awaitable[Response]]) -> Endpoint:
        app = Starlette(routes=[Route(path, handler, methods=["GET", "POST"]) for path in ("/submit", "/lookup", "/health")])
        self.world.network.apps["odd.devnet"] = app
        return Endpoint("odd", "http://odd.devnet")

    def find(self, **query: Any) -> Any:
        return self.run(self.overlay.lookup(NODE, "ls_ship", query))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_what_is_submitted_is_admitted_and_found_with_its_ancestry(bench: Bench) -> None:
    signed, beef = bench.ship("tm_one", "tm_two")
    assert bench.run(bench.overlay.submit(NODE, beef, ["tm_ship"])) == {"tm_ship": (0, 1)}
    found = bench.find(topics=["tm_two"])
    assert [one.outpoint for one in found] == [Outpoint(signed.txid, 1)]
    whole = parse_beef(found[0].beef)
    assert whole.subject == signed.txid
    assert whole.transaction(signed.txid).raw == signed.raw


def test_many_tokens_share_one_answer_and_each_stands_alone(bench: Bench) -> None:
    made = [bench.ship("tm_many", domain=b"https://p%d.example" % number) for number in range(5)]
    for _, beef in made:
        bench.run(bench.overlay.submit(NODE, beef, ["tm_ship"]))
    found = bench.find(topics=["tm_many"])
    assert {one.outpoint.txid for one in found} == {signed.txid for signed, _ in made}
    assert all(parse_beef(one.beef).subject == one.outpoint.txid for one in found)


def test_submitting_again_answers_empty_and_a_revocation_too(bench: Bench) -> None:
    signed, beef = bench.ship("tm_one")
    bench.run(bench.overlay.submit(NODE, beef, ["tm_ship"]))
    assert bench.run(bench.overlay.submit(NODE, beef, ["tm_ship"])) == {"tm_ship": ()}
    _, gone = bench.ship(spend=signed)
    assert bench.run(bench.overlay.submit(NODE, gone, ["tm_ship"])) == {"tm_ship": ()}
    assert bench.find(topics=["tm_one"]) == ()


def test_a_topic_the_node_does_not_host_is_left_out_or_refused_in_its_words(bench: Bench) -> None:
    _, beef = bench.ship("tm_one")
    assert bench.run(bench.overlay.submit(NODE, beef, ["tm_ship", "tm_nowhere"])) == {"tm_ship": (0,)}
    with pytest.raises(Refused, match=r"overlay-1\.devnet says: .*tm_nowhere"):
        bench.run(bench.overlay.submit(NODE, beef, ["tm_nowhere"]))
    with pytest.raises(Refused, match=r"overlay-1\.devnet says: .*tm_nowhere"):
        bench.run(bench.overlay.submit(NODE, beef, ["tm_nowhere", "tm_neither"]))
    with pytest.raises(Refused, match="ls_nowhere"):
        bench.run(bench.overlay.lookup(NODE, "ls_nowhere", {}))
    with pytest.raises(LocalProtocolError, match="not a legal topic name"):
        bench.run(bench.overlay.submit(NODE, beef, ["tm_Not.Legal"]))


@pytest.mark.parametrize("trouble", [Trouble.REFUSE, Trouble.LOSE, Trouble.STATUS])
def test_silence_is_unavailable_because_sending_again_is_harmless(bench: Bench, trouble: Trouble) -> None:
    _, beef = bench.ship("tm_one")
    bench.world.network.arm(Fault(trouble, times=1))
    with pytest.raises(Unavailable):
        bench.run(bench.overlay.submit(NODE, beef, ["tm_ship"]))
    bench.run(bench.overlay.submit(NODE, beef, ["tm_ship"]))
    assert len(bench.find(topics=["tm_one"])) == 1


def test_a_node_that_answers_in_json_is_read_as_well(bench: Bench) -> None:
    signed, beef = bench.ship("tm_one")
    asked: list[tuple[str, Any]] = []

    async def plain(request: Request) -> Response:
        asked.append((request.headers["x-aggregation"], json.loads(await request.body())))
        return JSONResponse({"type": "output-list", "outputs": [{"beef": list(beef), "outputIndex": 0, "context": [1, 2]}]})

    host = bench.host(plain)
    found = bench.run(bench.overlay.lookup(host, "ls_ship", {"topics": ["tm_one"]}))
    assert [(one.outpoint, one.context) for one in found] == [(Outpoint(signed.txid, 0), b"\x01\x02")]
    assert asked == [("yes", {"service": "ls_ship", "query": {"topics": ["tm_one"]}})]


@pytest.mark.parametrize(
    "answer",
    [
        Response(b"\x01garbage", media_type="application/octet-stream"),
        Response(b"<html>", media_type="text/html"),
        JSONResponse({"type": "freeform", "result": {}}),
        JSONResponse({"type": "output-list", "outputs": [{"beef": [1, 2], "outputIndex": 0}]}),
        JSONResponse({"type": "output-list", "outputs": [{"beef": [256], "outputIndex": 0}]}),
    ],
)
def test_nonsense_is_the_nodes_fault(bench: Bench, answer: Response) -> None:
    async def odd(request: Request) -> Response:
        await request.body()
        return answer

    with pytest.raises(RemoteProtocolError):
        bench.run(bench.overlay.lookup(bench.host(odd), "ls_ship", {}))


def test_a_flipped_bit_is_refused_here_or_by_the_proof(bench: Bench) -> None:
    signed, beef = bench.ship("tm_one")
    bench.run(bench.overlay.submit(NODE, beef, ["tm_ship"]))
    bench.world.network.arm(Fault(Trouble.CORRUPT, path="/lookup"))
    refused = {"parser": 0, "proof": 0}
    for _ in range(60):
        try:
            found = bench.find(topics=["tm_one"])
        except RemoteProtocolError:
            refused["parser"] += 1
            continue
        for one in found:
            try:
                verify_beef(parse_beef(one.beef), bench.world.chain.root_ok)
            except RemoteProtocolError:
                refused["proof"] += 1
                continue
            assert parse_beef(one.beef).transaction(one.outpoint.txid).raw == signed.raw, "the flip was in what proves nothing"
    assert refused["parser"]
    assert refused["proof"]


def test_health_is_judged_as_nodes_judge_each_other(bench: Bench) -> None:
    health = bench.run(bench.overlay.health(NODE))
    assert (health["healthy"], health["status"], health["report"]["status"]) == (True, 200, "ok")
    bench.world.network.arm(Fault(Trouble.DELAY, seconds=1.5))
    assert 1500 <= bench.run(bench.overlay.health(NODE))["ms"] < 1600
    bench.world.network.calm()

    async def ill(request: Request) -> Response:
        return JSONResponse({"status": "error", "live": True, "ready": False}, 503)

    sick = bench.run(bench.overlay.health(bench.host(ill)))
    assert (sick["healthy"], sick["status"]) == (False, 503)

    async def html(request: Request) -> Response:
        return Response("<html>", media_type="text/html")

    assert bench.run(bench.overlay.health(bench.host(html))) | {"ms": 0} == {
        "healthy": False,
        "status": 200,
        "ms": 0,
        "report": {},
    }
    bench.world.drop("overlay-1")
    with pytest.raises(Unavailable):
        bench.run(bench.overlay.health(NODE))
