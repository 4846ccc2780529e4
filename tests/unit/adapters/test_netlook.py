"""Every host of a network, one after the other: what is wrong with it, and what to do; nothing is written anywhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime

import httpx
import pytest
import yaml

from reconciler.adapters.netlook import NetLook, Visit
from reconciler.devnet.clock import run
from reconciler.devnet.world import World
from reconciler.kinds.network import Net, read_net
from tests.e2e.scene import NETWORK

TOPICS, SERVICES = {"tm_ship", "tm_producer"}, {"ls_ship", "ls_producer"}


class Stamped(httpx.AsyncBaseTransport):
    """The world's hosts with clocks of their own, seconds ahead of ours; and everything that was asked."""

    def __init__(self, world: World) -> None:
        self.inner, self.clock = world.transport(), world.clock
        self.ahead: dict[str, float] = {}
        self.everyone = 0.0
        self.asked: list[tuple[str, str]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.method, request.url.path))
        response = await self.inner.handle_async_request(request)
        now = self.clock.now() + timedelta(seconds=self.everyone + self.ahead.get(request.url.host, 0))
        response.headers["date"] = format_datetime(now.replace(microsecond=0), usegmt=True)
        return response


@pytest.fixture
def world() -> World:
    return World()


def net(**changes: object) -> Net:
    return replace(read_net("local", yaml.safe_load(NETWORK)["spec"]), **changes)  # type: ignore[arg-type]


def look(world: World, stamped: Stamped, wanted: Net | None = None, topics: set[str] = TOPICS) -> dict[str, Visit]:
    async def main() -> list[Visit]:
        made = NetLook(world.clock, stamped)
        try:
            return await made.visit(wanted or net(), topics, SERVICES)
        finally:
            await made.close()

    return {one.name: one for one in run(main(), clock=world.clock)}


@pytest.mark.row("P-TRB-03", "P-TRB-04")
def test_a_sound_network_is_said_host_by_host_and_nothing_is_written(world: World) -> None:
    stamped = Stamped(world)
    before = world.snapshot()
    found = look(world, stamped)
    assert all(one.ok for one in found.values()), found
    stores = ["storage eu1", "storage us1", "storage ap1"]
    assert list(found) == ["overlay overlay-1", *stores, "broadcaster arc", "headers", "clock"]
    assert "sat per" in found["broadcaster arc"].said and "tip at height" in found["headers"].said
    assert {path for method, path in stamped.asked if method != "GET"} == {"/quote"}
    assert world.snapshot() == before


def test_each_fault_has_a_remedy_of_its_own(world: World) -> None:
    stamped = Stamped(world)
    lacking = look(world, stamped, topics={*TOPICS, "tm_nobody"})["overlay overlay-1"]
    assert not lacking.ok and lacking.said == "healthy, but it does not serve tm_nobody" and "export brc102" in lacking.fix
    dear = look(world, stamped, net(max_rate=(1, 1_000)))["broadcaster arc"]
    assert not dear.ok and "more than fees.max" in dear.said and "raise fees.max" in dear.fix
    for name in ("overlay-1", "eu1", "arc", "headers"):
        world.drop(name)
        (gone,) = [one for one in look(world, stamped).values() if not one.ok]
        assert "cannot reach" in gone.said and f"http://{name}.devnet" in gone.fix
        world.restore(name)
    other = net(overlays=net().broadcasters, broadcasters=net().overlays)
    found = look(world, stamped, other)
    assert not found["overlay arc"].ok and not found["broadcaster overlay-1"].ok
    assert all(one.fix for one in found.values() if not one.ok)


def test_headers_of_a_live_chain_that_fell_behind_are_told(world: World) -> None:
    stamped = Stamped(world)
    world.mine()
    # The devnet mines when it is asked to; a test network does not wait.
    assert look(world, stamped, net(chain="devnet"))["headers"].ok
    world.clock.advance(7 * 3600)
    assert look(world, stamped, net(chain="devnet"))["headers"].ok
    test = net(chain="test", headers=replace(net().headers, kind="devnet"))
    behind = look(world, stamped, test)["headers"]
    assert not behind.ok and "hours old" in behind.said and "catch up" in behind.fix


def test_a_clock_that_is_wrong_is_found_here_and_there(world: World) -> None:
    stamped = Stamped(world)
    stamped.everyone = -300
    own = look(world, stamped)["clock"]
    assert not own.ok and "timedatectl" in own.fix
    stamped.everyone, stamped.ahead = 0, {"us1.devnet": 900}
    found = look(world, stamped)
    assert found["clock"].ok
    theirs = found["clock of us1.devnet"]
    assert not theirs.ok and theirs.said == "+900 s from the others" and "operator" in theirs.fix
    stamped.ahead = {"us1.devnet": 20}
    assert all(one.ok for one in look(world, stamped).values())
