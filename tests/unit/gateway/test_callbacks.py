"""The door for broadcasters: who is heard, and that what is heard is a hint."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from reconciler.gateway.callbacks import MAX_BODY, PATH, Listener, routes
from reconciler.wire import arc

OURS, THEIRS = "ab" * 32, "cd" * 32
TOKEN = "Bearer between us"


class Door:
    """The routes in an application, and what came of each callback."""

    def __init__(self) -> None:
        self.hints: list[list[str]] = []
        self.told: list[str] = []
        self.token = b"between us"
        app = Starlette(routes=routes(Listener(lambda: self.token, self.hint, self.told.append)))
        self.transport = httpx.ASGITransport(app)

    def hint(self, txids: Any) -> int:
        self.hints.append(list(txids))
        return list(txids).count(OURS)

    def post(self, body: bytes, authorization: str | None = TOKEN, method: str = "POST") -> tuple[int, str]:
        async def send() -> httpx.Response:
            headers = {} if authorization is None else {"authorization": authorization}
            async with httpx.AsyncClient(transport=self.transport) as client:
                return await client.request(method, f"http://shop.test{PATH}", content=body, headers=headers)

        answer = asyncio.run(send())
        return answer.status_code, answer.json().get("result") if "json" in answer.headers.get("content-type", "") else ""


def told(status: str, txid: str = OURS, **more: Any) -> dict[str, Any]:
    return {**arc.callback_json(arc.TxState(txid, status)), **more}


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.mark.parametrize("status", [*arc.STATUSES, "SOMETHING_NEW"])
def test_a_callback_is_a_hint_whatever_it_says(door: Door, status: str) -> None:
    assert door.post(json.dumps(told(status)).encode()) == (200, "heard")
    assert door.hints == [[OURS]]


def test_callbacks_may_go_backwards_and_repeat(door: Door) -> None:
    for status in ("MINED", "SEEN_ON_NETWORK", "MINED_IN_STALE_BLOCK", "MINED", "MINED"):
        assert door.post(json.dumps(told(status)).encode())[0] == 200
    assert door.hints == [[OURS]] * 5


def test_a_batch_is_one_hint(door: Door) -> None:
    batch = {"count": 3, "callbacks": [told("MINED"), told("REJECTED", THEIRS), told("MINED")]}
    assert door.post(json.dumps(batch).encode()) == (200, "heard")
    assert door.hints == [[OURS, THEIRS]]


def test_what_is_not_ours_is_acknowledged_so_that_it_is_not_sent_again(door: Door) -> None:
    assert door.post(json.dumps(told("MINED", THEIRS)).encode()) == (200, "unknown")


def test_arcade_leaves_things_out(door: Door) -> None:
    assert door.post(json.dumps({"txid": OURS, "txStatus": "SEEN_MULTIPLE_NODES", "merklePath": None}).encode()) == (200, "heard")


@pytest.mark.parametrize("shown", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic between us", "between us", "Bearer no"])
def test_without_the_token_nothing_is_read(door: Door, shown: str | None) -> None:
    assert door.post(json.dumps(told("MINED")).encode(), shown) == (401, "refused")
    assert door.hints == []


def test_a_token_can_be_replaced_while_the_door_stands(door: Door) -> None:
    door.token = b"new"
    assert door.post(json.dumps(told("MINED")).encode()) == (401, "refused")
    assert door.post(json.dumps(told("MINED")).encode(), "bearer new") == (200, "heard")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"txid": 5}', b'{"txid": "ab"}', b'{"callbacks": [5]}'])
def test_nonsense_is_refused(door: Door, body: bytes) -> None:
    assert door.post(body) == (400, "malformed")
    assert door.hints == []


def test_a_large_body_is_refused(door: Door) -> None:
    assert door.post(b" " * (MAX_BODY + 1)) == (413, "too-large")
    assert door.post(json.dumps(told("MINED")).encode().ljust(MAX_BODY)) == (200, "heard")


def test_only_post_is_taken(door: Door) -> None:
    assert door.post(b"", method="GET")[0] == 405
    assert door.told == []
