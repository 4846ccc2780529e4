"""Budgets and repeats: what is let through, what is remembered, and how little memory that may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reconciler.devnet.clock import VirtualClock, run
from reconciler.gateway import limits
from reconciler.gateway.limits import Allowance, Buckets, Idempotent, Limited, Repeats, asker_of
from reconciler.gateway.openapi import cost
from reconciler.gateway.operations import OPERATIONS

TEN = Allowance("address", 10, timedelta(seconds=10))


def by(app: Any, identity: bytes | None = None, address: str = "192.0.2.1") -> Any:
    """The application, asked by somebody."""

    async def asked(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "client": (address, 1), "state": {"identity": identity}}, receive, send)

    return asked


async def ask(app: Any, method: str = "POST", path: str = "/", **said: Any) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        return await client.request(method, path, **said)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def virtually(test: Callable[..., Any]) -> Callable[..., None]:
    """The test, in virtual time."""

    @wraps(test)
    def whole(clock: VirtualClock, **known: Any) -> None:
        run(test(clock, **known), clock=clock)

    return whole


class Counting:
    """Answers with how often it was asked; what is asked for decides how."""

    def __init__(self) -> None:
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.app = Starlette(
            routes=[Route("/{status:int}", self.answer, methods=["POST"]), Route("/", self.plain, methods=["GET", "POST"])]
        )

    async def answer(self, request: Request) -> Response:
        await request.body()
        self.asked += 1
        count = self.asked
        await self.gate.wait()
        size = int(request.query_params.get("size", 0))
        return JSONResponse({"count": count, "more": "x" * size}, request.path_params["status"], {"x-own": str(count)})

    async def plain(self, request: Request) -> Response:
        self.asked += 1
        return Response("ok")


# --- budgets --------------------------------------------------------------------------------------


@virtually
async def test_a_budget_is_told_spent_and_filled_again(clock: VirtualClock) -> None:
    inner = Counting()
    app = by(Limited(inner.app, clock, strangers=TEN, cost=lambda method, path: 4))
    first = await ask(app, "GET")
    assert first.headers["ratelimit-policy"] == '"address";q=10;w=10' and first.headers["ratelimit"] == '"address";r=6;t=4'
    await ask(app, "GET")
    refused = await ask(app, "GET")
    assert (refused.status_code, refused.headers["retry-after"], refused.headers["ratelimit"]) == (429, "2", '"address";r=2;t=8')
    assert refused.json()["type"] == "urn:reconciler:problem:rate-limited"
    assert inner.asked == 2
    await clock.sleep(2)
    assert (await ask(app, "GET")).status_code == 200


@virtually
async def test_each_asker_has_a_budget_of_his_own(clock: VirtualClock) -> None:
    inner = Counting()
    app = Limited(inner.app, clock, strangers=TEN, known=Allowance("identity", 20, timedelta(seconds=1)), cost=lambda m, p: 10)
    statuses = [
        (await ask(by(app, who, address), "GET")).status_code
        for who, address in [
            (None, "192.0.2.1"), (None, "192.0.2.1"), (None, "192.0.2.2"),
            (b"\2" * 33, "192.0.2.1"), (b"\2" * 33, "192.0.2.1"), (b"\2" * 33, "192.0.2.1"), (b"\3" * 33, "192.0.2.1"),
            (None, "2001:db8::1"), (None, "2001:db8::ffff"), (None, "2001:db8:0:1::1"),
        ]
    ]  # fmt: skip
    assert statuses == [200, 429, 200, 200, 200, 429, 200, 200, 429, 200]


@virtually
async def test_what_costs_nothing_is_never_refused(clock: VirtualClock) -> None:
    app = by(Limited(Counting().app, clock, strangers=Allowance("address", 1, timedelta(days=1)), cost=lambda m, p: 0))
    answers = [await ask(app, "GET") for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200} and "ratelimit" not in answers[0].headers


def test_a_flood_of_addresses_takes_bounded_memory() -> None:
    buckets, clock = Buckets(TEN, most=100), VirtualClock()
    for index in range(1000):
        buckets.take(f"ip:{index}", 1, clock.now())
    assert len(buckets) == 100


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(-3, 8)), max_size=40))
def test_no_schedule_gets_more_than_the_allowance(steps: list[tuple[int, int]]) -> None:
    buckets, start = Buckets(TEN), VirtualClock().now()
    now, latest, spent = start, start, 0
    for price, seconds in steps:
        now += timedelta(seconds=seconds)
        latest = max(latest, now)
        verdict = buckets.take("ip:x", price, now)
        spent += min(price, TEN.units) if verdict.passes else 0
        assert 0 <= verdict.left <= TEN.units and verdict.retry >= 1
    forward = sum(max(0, seconds) for _, seconds in steps)
    assert spent <= TEN.units + forward * TEN.units / TEN.window.total_seconds()


def test_costs_are_those_of_the_table() -> None:
    assert cost("GET", "/health") == 0 and cost("HEAD", "/health") == 0
    assert cost("GET", "/catalog.jsonld") > cost("GET", "/catalog/x") == 1
    assert cost("GET", "/content/x/files/deep/in/it.csv") == next(one.cost for one in OPERATIONS if one.id == "file")
    assert cost("DELETE", "/nowhere") == 1


def test_an_asker_is_named_by_proof_and_otherwise_by_place() -> None:
    assert asker_of({"state": {"identity": b"\2" * 33}, "client": ("192.0.2.1", 1)}) == "id:" + "02" * 33
    assert asker_of({"client": ("192.0.2.1", 1)}) == "ip:192.0.2.1"
    assert asker_of({"client": ("2001:db8::5", 1)}) == "ip:2001:db8::/64"
    assert asker_of({"client": None}) == "ip:"


# --- repeats --------------------------------------------------------------------------------------


def keyed(key: str, **more: str) -> dict[str, str]:
    return {"idempotency-key": key, **more}


@virtually
async def test_the_same_request_under_the_same_key_has_one_answer(clock: VirtualClock) -> None:
    inner = Counting()
    app = by(Idempotent(inner.app, clock))
    first = await ask(app, path="/201", json={"a": 1}, headers=keyed("k"))
    again = await ask(app, path="/201", json={"a": 1}, headers=keyed("k"))
    assert inner.asked == 1 and (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true" and again.headers["x-own"] == "1"
    other = await ask(app, path="/201", json={"a": 2}, headers=keyed("k"))
    assert (other.status_code, other.json()["type"]) == (422, "urn:reconciler:problem:idempotency-key-reused")
    elsewhere = await ask(app, path="/200", json={"a": 1}, headers=keyed("k"))
    assert elsewhere.status_code == 422
    assert (await ask(app, path="/201", json={"a": 1}, headers=keyed("l"))).json()["count"] == 2
    assert (await ask(app, path="/201", json={"a": 1})).json()["count"] == 3


@virtually
async def test_nobody_gets_the_answer_of_another(clock: VirtualClock) -> None:
    inner = Counting()
    app = Idempotent(inner.app, clock)
    for who in (b"\2" * 33, b"\3" * 33, None):
        answer = await ask(by(app, who), path="/201", headers=keyed("k"))
        assert "idempotency-replayed" not in answer.headers
    assert inner.asked == 3


@pytest.mark.parametrize("status", [401, 402, 408, 409, 429, 500, 503])
@virtually
async def test_what_may_be_answered_otherwise_next_time_is_asked_again(clock: VirtualClock, status: int) -> None:
    inner = Counting()
    app = by(Idempotent(inner.app, clock))
    for count in (1, 2):
        assert (await ask(app, path=f"/{status}", headers=keyed("k"))).json()["count"] == count


@virtually
async def test_a_request_that_is_still_being_answered_is_not_begun_twice(clock: VirtualClock) -> None:
    inner = Counting()
    app = by(Idempotent(inner.app, clock))
    inner.gate.clear()
    first = asyncio.ensure_future(ask(app, path="/201", headers=keyed("k")))
    while not inner.asked:
        await asyncio.sleep(0)
    second = await ask(app, path="/201", headers=keyed("k"))
    assert (second.status_code, second.headers["retry-after"]) == (409, "1")
    inner.gate.set()
    assert (await first).json()["count"] == 1
    assert (await ask(app, path="/201", headers=keyed("k"))).json()["count"] == 1


@virtually
async def test_a_request_that_was_given_up_frees_its_key(clock: VirtualClock) -> None:
    inner = Counting()
    app = by(Idempotent(inner.app, clock))
    inner.gate.clear()
    first = asyncio.ensure_future(ask(app, path="/201", headers=keyed("k")))
    while not inner.asked:
        await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    inner.gate.set()
    assert (await ask(app, path="/201", headers=keyed("k"))).json()["count"] == 2


@virtually
async def test_a_key_is_forgotten_after_a_day(clock: VirtualClock) -> None:
    inner = Counting()
    app = by(Idempotent(inner.app, clock))
    for seconds, count in ((0, 1), (86_400, 1), (1, 2)):
        await clock.sleep(seconds)
        assert (await ask(app, path="/201", headers=keyed("k"))).json()["count"] == count


@virtually
async def test_memory_is_bounded_by_number_and_by_size_and_long_answers_are_not_kept(clock: VirtualClock) -> None:
    inner = Counting()
    middle = Idempotent(inner.app, clock, Repeats(most=20_000))
    app = by(middle)
    for index in range(30):
        await ask(app, path="/201?size=2000", headers=keyed(f"k{index}"))
    assert middle.repeats.held <= 20_000 and 0 < len(middle.repeats) < 10
    for count in (31, 32):
        answer = await ask(app, path=f"/201?size={limits.MAX_ANSWER}", headers=keyed("long"))
        assert answer.json()["count"] == count
    whole = Idempotent(inner.app, clock)
    for index in range(limits.MAX_KEYS + 5):
        await ask(by(whole), path="/201", headers=keyed(f"k{index}"))
    assert len(whole.repeats) == limits.MAX_KEYS


@virtually
async def test_a_key_or_a_body_that_makes_no_sense_is_refused(clock: VirtualClock) -> None:
    inner = Counting()
    app = by(Idempotent(inner.app, clock))
    for key in ("", "x" * 256, "a\tb"):
        assert (await ask(app, path="/201", headers=keyed(key))).status_code == 400
    assert (await ask(app, path="/201", content=b"x" * (2**20 + 1), headers=keyed("k"))).status_code == 413
    assert inner.asked == 0
    assert (await ask(app, "GET", headers=keyed("k"))).status_code == 200
    await clock.sleep(1)  # the rest of the long body is let go of
