"""Several header sources: services and files, honest ones, sleepers, forks and liars, over one chain of headers of our own."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reconciler.adapters.crosscheck import LEAD, REACH
from reconciler.adapters.headers import HeaderSources
from reconciler.adapters.http import Http
from reconciler.devnet.clock import VirtualClock, run
from reconciler.devnet.network import Network
from reconciler.kinds.network import read_net
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Unavailable
from reconciler.ports import Header
from reconciler.wire.headers import header_json, parse_binary, work_of
from reconciler.wire.proof import BlockHeader, parse_header
from tests.unit.wire_formats.maker import header

LENGTH = 40


def grow(chain: Sequence[BlockHeader], count: int, salt: str = "") -> list[BlockHeader]:
    """The chain with so many headers more; another salt makes another branch."""
    grown = list(chain)
    for height in range(len(grown), len(grown) + count):
        root = hashlib.sha256(f"{salt}{height}".encode()).hexdigest()
        grown.append(header(root, height, grown[-1].hash if grown else "00" * 32))
    return grown


def lazy(chain: Sequence[BlockHeader], count: int) -> list[BlockHeader]:
    """Headers on top that no work was done for, and that claim a great deal of it."""
    grown = list(chain)
    for height in range(len(grown), len(grown) + count):
        raw = bytearray(header("ab" * 32, height, grown[-1].hash).raw)
        raw[72:76] = (0x1D00FFFF).to_bytes(4, "little")
        grown.append(parse_header(bytes(raw), height))
    return grown


MAIN = grow([], LENGTH)


@dataclass
class Bench:
    """Sources by name, each with the chain that it serves; `asked` counts requests."""

    network: Network = field(default_factory=lambda: Network({}))
    chains: dict[str, Sequence[BlockHeader]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = VirtualClock()
        self.sources = HeaderSources(Http(self.clock, transport=self.network))

    def serve(self, name: str, chain: Sequence[BlockHeader]) -> str:
        self.chains[name] = chain

        async def tip(request: Request) -> Response:
            return JSONResponse({"height": len(self.chains[name]) - 1})

        async def by_height(request: Request) -> Response:
            height, known = request.path_params["height"], self.chains[name]
            if height >= len(known):
                return Response(status_code=404)
            return JSONResponse(header_json(known[height]) | {"height": known[height].height})

        routes = [Route("/height", tip), Route("/header/height/{height:int}", by_height)]
        self.network.apps[f"{name}.test"] = Starlette(routes=routes)
        return f"http://{name}.test"

    def among(self, *chains: Sequence[BlockHeader]) -> Endpoint:
        """One endpoint for services that serve these chains, as a Network declares them."""
        urls = [self.serve(f"s{n}", chain) for n, chain in enumerate(chains)]
        return read_net("n", {"chain": "main", "headers": [{"url": url} for url in urls]}).headers

    def header(self, height: int, source: Endpoint) -> Header | None:
        return run(self.sources.header(height, source), clock=self.clock)

    def tip(self, source: Endpoint) -> int:
        return run(self.sources.tip(source), clock=self.clock)

    def disputed(self, height: int, source: Endpoint) -> bool:
        try:
            self.header(height, source)
        except Unavailable as error:
            assert error.code == "headers-disagree"
            assert error.hint
            return True
        return False


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_network_declares_one_source_or_several() -> None:
    one = read_net("n", {"chain": "main", "headers": {"url": "https://a.example/"}}).headers
    assert one == Endpoint("headers", "https://a.example", kind="main")
    both = read_net("n", {"chain": "main", "headers": [{"url": "https://a.example"}, {"file": "/h.bin"}]}).headers
    assert (both.url, both.options) == ("https://a.example", {"also": ["/h.bin"]})
    assert read_net("n", {"chain": "main"}).headers.url == ""


def test_sources_that_agree_are_believed(bench: Bench) -> None:
    source = bench.among(MAIN, MAIN)
    assert bench.tip(source) == LENGTH - 1
    assert bench.header(7, source).hash == MAIN[7].hash
    assert bench.header(LENGTH, source) is None


def test_a_service_and_a_file_are_held_against_one_another(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "headers.bin"
    file.write_bytes(b"".join(one.raw for one in MAIN))
    source = Endpoint("headers", bench.serve("a", MAIN), options={"also": [str(file)]})
    assert (bench.tip(source), bench.header(5, source).raw) == (LENGTH - 1, MAIN[5].raw)
    bench.chains["a"] = grow(MAIN[:30], 10, "other")
    assert bench.disputed(35, source)
    assert parse_binary(file.read_bytes(), 0) == tuple(MAIN)


@pytest.mark.parametrize("ahead", range(LEAD + 2))
def test_a_fork_is_decided_by_six_blocks_of_work_and_by_nothing_less(bench: Bench, ahead: int) -> None:
    """Two sides with two blocks each since the fork; one of them grows."""
    mine, theirs = grow(MAIN, 2 + ahead, "mine"), grow(MAIN, 2, "theirs")
    for order in ((mine, theirs), (theirs, mine)):
        source = bench.among(*order)
        assert bench.disputed(LENGTH, source) == (ahead < LEAD)
        assert bench.header(LENGTH - 1, source).hash == MAIN[-1].hash, "what was before the fork is not in dispute"
        if ahead >= LEAD:
            assert bench.header(LENGTH, source).hash == mine[LENGTH].hash


def test_two_against_one_is_no_argument_where_work_is(bench: Bench) -> None:
    """Sources are cheap; blocks are not."""
    true, false = grow(MAIN, 2 + LEAD, "true"), grow(MAIN, 2, "false")
    source = bench.among(false, true, false)
    assert bench.header(LENGTH, source).hash == true[LENGTH].hash


def test_a_source_that_is_behind_holds_up_until_six_blocks_decide(bench: Bench) -> None:
    source = bench.among(MAIN, MAIN[:-3])
    assert bench.disputed(LENGTH - 1, source)
    assert bench.tip(source) == LENGTH - 4, "of two, the lower one: nothing counts as deeper than both say"
    source = bench.among(MAIN, MAIN[: -LEAD - 1])
    assert bench.header(LENGTH - LEAD, source).hash == MAIN[LENGTH - LEAD].hash
    assert bench.disputed(LENGTH - LEAD, bench.among(MAIN[:-2], MAIN[: -LEAD - 1]))


def test_of_three_one_may_sleep_boast_or_be_down(bench: Bench) -> None:
    source = bench.among(MAIN, MAIN[:5], MAIN)
    assert bench.tip(source) == LENGTH - 1
    assert bench.header(20, source).hash == MAIN[20].hash
    source = bench.among(MAIN, lazy(MAIN, 500), MAIN)
    assert bench.tip(source) == LENGTH - 1, "a height that one alone claims makes nothing deeper"
    bench.network.down.add("s1.test")
    assert (bench.tip(source), bench.header(20, source).hash) == (LENGTH - 1, MAIN[20].hash)


def test_more_than_half_must_answer(bench: Bench) -> None:
    source = bench.among(MAIN, MAIN)
    bench.network.down.add("s0.test")
    for ask in (lambda: bench.tip(source), lambda: bench.header(3, source)):
        with pytest.raises(Unavailable) as caught:
            ask()
        assert caught.value.code == "headers-silent"


def test_headers_without_work_decide_nothing(bench: Bench) -> None:
    source = bench.among(MAIN, lazy(MAIN, 20))
    assert bench.disputed(LENGTH, source)
    assert [work_of(one) for one in lazy(MAIN, 1)[-1:]] == [0]
    honest = grow(MAIN, LEAD)
    assert bench.header(LENGTH, bench.among(honest, lazy(MAIN, 20))).hash == honest[LENGTH].hash


def test_real_work_from_elsewhere_decides_nothing(bench: Bench) -> None:
    """A liar serves true headers under false heights: they do not build on what everybody has."""
    shifted = [*MAIN[:20], *(parse_header(one.raw, n) for n, one in enumerate(grow([], 20 + REACH, "elsewhere")[20:], 20))]
    tip = 21
    source = bench.among(MAIN[: tip + 1], shifted)
    assert bench.disputed(tip, source)
    honest = bench.among(MAIN[: 20 + LEAD], shifted)
    assert bench.header(20, honest).hash == MAIN[20].hash


def test_sides_without_a_common_block_are_not_judged(bench: Bench) -> None:
    other = grow([], LENGTH + 20, "another world")
    assert bench.disputed(LENGTH - 1, bench.among(MAIN, other))
    assert bench.disputed(0, bench.among(MAIN, other))


def test_a_dispute_costs_a_bounded_number_of_questions(bench: Bench) -> None:
    source = bench.among(grow(MAIN, 300, "a"), grow(MAIN, 300, "b"))
    bench.tip(source)  # what kind of services they are has been found out
    before = len(bench.network.exchanges)
    assert bench.disputed(LENGTH, source)
    assert len(bench.network.exchanges) - before <= 2 * (2 * REACH + 4)
