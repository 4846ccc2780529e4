"""The network strikes exactly the requests its faults name, and a client sees what a real socket would show."""

from collections.abc import Awaitable, Callable

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from reconciler.devnet.clock import VirtualClock, run
from reconciler.devnet.network import Exchange, Fault, Network, Trouble


class Echo:
    """A host that remembers what reached it."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST"])])

    async def _answer(self, request: Request) -> Response:
        self.seen.append(await request.body())
        return PlainTextResponse(f"answer {len(self.seen)}")


def scenario(
    act: Callable[[httpx.AsyncClient, Network, Echo], Awaitable[None]], *, seed: int = 0
) -> tuple[Network, Echo, VirtualClock]:
    echo, clock = Echo(), VirtualClock()
    network = Network({"a.devnet": echo.app, "b.devnet": Echo().app}, seed=seed)

    async def main() -> None:
        async with httpx.AsyncClient(transport=network, timeout=3.0) as client:
            await act(client, network, echo)

    run(main(), clock=clock)
    return network, echo, clock


def test_fair_weather_carries_requests_and_knows_no_other_host() -> None:
    async def act(client: httpx.AsyncClient, network: Network, echo: Echo) -> None:
        assert (await client.post("http://a.devnet/x", content=b"body")).text == "answer 1"
        with pytest.raises(httpx.ConnectError, match="not known"):
            await client.get("http://nowhere.devnet/")

    network, echo, _ = scenario(act)
    assert echo.seen == [b"body"]
    assert network.exchanges == [Exchange("POST", "a.devnet", "/x", 200), Exchange("GET", "nowhere.devnet", "/", 0)]


@pytest.mark.parametrize(("trouble", "error", "reached", "took"), [
    (Trouble.REFUSE, httpx.ConnectError, 0, 0.0),
    (Trouble.LOSE, httpx.ReadTimeout, 1, 3.0),
])  # fmt: skip
def test_a_request_is_lost_before_or_after_the_host_acted(
    trouble: Trouble, error: type[Exception], reached: int, took: float
) -> None:
    async def act(client: httpx.AsyncClient, network: Network, echo: Echo) -> None:
        network.arm(Fault(trouble, host="a.devnet", times=1))
        with pytest.raises(error):
            await client.post("http://a.devnet/", content=b"once")
        assert (await client.get("http://b.devnet/")).status_code == 200
        assert (await client.get("http://a.devnet/")).status_code == 200

    _, echo, clock = scenario(act)
    assert len(echo.seen) == reached + 1
    assert clock.elapsed == took


def test_a_slow_answer_is_late_or_too_late() -> None:
    async def act(client: httpx.AsyncClient, network: Network, echo: Echo) -> None:
        network.arm(Fault(Trouble.DELAY, seconds=2, times=1), Fault(Trouble.DELAY, seconds=9, skip=1, times=1))
        assert (await client.get("http://a.devnet/")).text == "answer 1"
        with pytest.raises(httpx.ReadTimeout):
            await client.get("http://a.devnet/")

    _, echo, clock = scenario(act)
    assert len(echo.seen) == 2
    assert clock.elapsed == 5.0


def test_a_duplicated_request_arrives_twice_with_its_body() -> None:
    async def act(client: httpx.AsyncClient, network: Network, echo: Echo) -> None:
        network.arm(Fault(Trouble.DUPLICATE, method="POST"))
        assert (await client.post("http://a.devnet/", content=b"twice")).text == "answer 2"

    _, echo, _ = scenario(act)
    assert echo.seen == [b"twice", b"twice"]


def test_a_proxy_answers_instead_of_the_host() -> None:
    async def act(client: httpx.AsyncClient, network: Network, echo: Echo) -> None:
        network.arm(Fault(Trouble.STATUS, status=502, path="/v1"))
        assert (await client.get("http://a.devnet/v1/tx")).status_code == 502
        assert (await client.get("http://a.devnet/other")).status_code == 200

    _, echo, _ = scenario(act)
    assert len(echo.seen) == 1


def test_a_corrupted_answer_differs_in_one_bit() -> None:
    answers: list[bytes] = []

    async def act(client: httpx.AsyncClient, network: Network, echo: Echo) -> None:
        network.arm(Fault(Trouble.CORRUPT))
        answers.append((await client.get("http://a.devnet/")).content)

    scenario(act, seed=1)
    scenario(act, seed=1)
    assert answers[0] == answers[1]
    wrong = int.from_bytes(answers[0], "big") ^ int.from_bytes(b"answer 1", "big")
    assert len(answers[0]) == 8 and wrong.bit_count() == 1


def test_a_host_is_down_or_cut_off_until_the_weather_calms() -> None:
    async def act(client: httpx.AsyncClient, network: Network, echo: Echo) -> None:
        network.down.add("a.devnet")
        with pytest.raises(httpx.ConnectError):
            await client.get("http://a.devnet/")
        network.down.clear()
        network.partitioned.add("a.devnet")
        with pytest.raises(httpx.ConnectTimeout):
            await client.get("http://a.devnet/")
        network.calm()
        assert (await client.get("http://a.devnet/")).text == "answer 1"

    _, _, clock = scenario(act)
    assert clock.elapsed == 3.0


def struck(seed: int) -> list[int]:
    async def act(client: httpx.AsyncClient, network: Network, echo: Echo) -> None:
        network.arm(Fault(Trouble.STATUS, probability=0.5))
        for _ in range(40):
            await client.get("http://a.devnet/")

    network, _, _ = scenario(act, seed=seed)
    return [exchange.status for exchange in network.exchanges]


def test_the_seed_decides_which_requests_are_struck() -> None:
    assert struck(3) == struck(3) != struck(4)
    assert set(struck(3)) == {200, 503}
