"""Hosts that nobody declared, in virtual time: who is asked, for how long, what is believed, and what is remembered."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reconciler.adapters.chain import ArcChain
from reconciler.adapters.discovery import GRACE, PATIENCE, Resolver
from reconciler.adapters.headers import HeaderSources
from reconciler.adapters.http import Http
from reconciler.adapters.overlay import HttpOverlay
from reconciler.devnet.clock import run
from reconciler.devnet.network import Fault, Trouble
from reconciler.devnet.world import Plan, World
from reconciler.model.endpoint import Directory, Endpoint
from reconciler.model.errors import Unavailable
from reconciler.wire import overlay as wire
from reconciler.wire.reputation import NEW, answered
from reconciler.wire.tx import Tx
from tests.conformance.producer import Producer

NAMES = tuple(f"overlay-{number}" for number in range(1, 5))
TRACKER, SECOND, THIRD, FOURTH = (f"http://{name}.devnet" for name in NAMES)
HEADERS = Endpoint("headers", "http://headers.devnet", kind="devnet")
DIRECTORY = Directory("devnet", HEADERS, trackers=(TRACKER,))


class Bench:
    """Four nodes that know nothing of each other, and a resolver."""

    def __init__(self) -> None:
        self.world = World(plan=Plan(seed=3, overlays=tuple((name, "EU") for name in NAMES), allow_http_ads=True))
        http = Http(self.world.clock, transport=self.world.transport())
        self.resolver = Resolver(self.world.clock, HttpOverlay(http), ArcChain(http, HeaderSources(http)))
        self.count = 0

    def run(self, work: Awaitable[Any]) -> Any:
        async def main() -> Any:
            try:
                return await work
            finally:
                await self.resolver.close()

        return run(main(), clock=self.world.clock)

    def publish(self, node: str, topic: str, *outputs: Any, who: Producer | None = None) -> Producer:
        """Admit tokens on one node, from a producer of their own."""
        self.count += 1
        who = who or self.producer()
        made = [output(who) if callable(output) else output for output in outputs]
        tx = who.pay(*made)
        steak = self.world.nodes[node].submit(who.beef(tx), [topic])
        assert steak[topic].admit == tuple(range(len(made)))
        return who

    def producer(self) -> Producer:
        return Producer(f"stranger {self.count}", self.world.faucet)

    def announce(self, service: str, *urls: str, tracker: str = "overlay-1") -> None:
        """Tell a tracker that these hosts answer a service."""
        for url in urls:
            self.publish(tracker, "tm_slap", lambda who, url=url: who.slap(service, url))

    def asked(self, host: str = "", path: str = "/lookup") -> int:
        name = host.partition("://")[2]
        return sum(e.path == path and name in ("", e.host) for e in self.world.network.exchanges)

    def urls(self, service: str = "ls_producer", directory: Directory = DIRECTORY) -> list[str]:
        return sorted(host.url for host in self.run(self.resolver.discover(directory, service)))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def later(bench: Bench, seconds: float) -> None:
    bench.world.clock.advance(seconds)


# --- who serves what ----------------------------------------------------------------------------------------------


@pytest.mark.row("S-18", "P-LKP-05")
def test_the_trackers_tell_who_answers_a_service(bench: Bench) -> None:
    bench.announce("ls_producer", SECOND, THIRD + "/")
    bench.announce("ls_uhrp", FOURTH)
    assert bench.urls() == [SECOND, THIRD]
    assert bench.urls("ls_uhrp") == [FOURTH]
    assert bench.urls("ls_nobody") == []


@pytest.mark.row("S-18")
def test_fixed_hosts_win_and_declared_ones_are_always_among_them(bench: Bench) -> None:
    bench.announce("ls_producer", SECOND, THIRD)
    own = Endpoint("own", FOURTH)
    assert bench.urls(directory=replace(DIRECTORY, declared=(own,))) == [SECOND, THIRD, FOURTH]
    fixed = replace(DIRECTORY, declared=(own,), fixed={"ls_producer": (SECOND + "/",)})
    assert bench.urls(directory=fixed) == [SECOND]
    alone = replace(DIRECTORY, trackers=(), declared=(own,))
    before = bench.asked()
    assert bench.urls(directory=alone) == [FOURTH]
    assert bench.asked() == before


@pytest.mark.row("S-18", "P-LKP-05")
def test_every_tracker_is_asked_and_one_that_is_down_does_not_matter(bench: Bench) -> None:
    bench.announce("ls_producer", THIRD, tracker="overlay-1")
    bench.announce("ls_producer", FOURTH, tracker="overlay-2")
    both = replace(DIRECTORY, trackers=(TRACKER, SECOND))
    assert bench.urls(directory=both) == [THIRD, FOURTH]
    bench.world.drop("overlay-1")
    other = replace(both, trackers=(SECOND, TRACKER))
    assert bench.urls(directory=other) == [FOURTH]


def test_trackers_that_all_fail_are_an_error_and_nothing_is_remembered(bench: Bench) -> None:
    bench.announce("ls_producer", SECOND)
    bench.world.drop("overlay-1")
    with pytest.raises(Unavailable, match="overlay-1") as failed:
        bench.urls()
    assert failed.value.code == "hosts-silent"
    bench.world.restore("overlay-1")
    assert bench.urls() == [SECOND]


def shown(bench: Bench) -> dict[str, tuple[Tx, Producer]]:
    """What a tracker may show, by why it must not be believed; nothing is wrong with the first."""
    who, other, far = bench.producer(), Producer("somebody else", bench.world.faucet), Producer("far", bench.world.faucet)
    block = bench.world.chain.state.blocks[-1]
    honest, nowhere = who.pay(who.slap("ls_producer", SECOND)), far.pay(far.slap("ls_producer", SECOND))
    stolen = replace(honest, outputs=(other.slap("ls_producer", SECOND), *honest.outputs[1:]))
    who.parts[stolen.txid] = (stolen.raw, b"")
    made = {
        "": honest,
        "signed for self": who.pay(who.slap("ls_producer", SECOND, counterparty=who.identity)),
        "an output that was put in afterwards": stolen,
        "another service": who.pay(who.slap("ls_uhrp", SECOND)),
        "another kind of token": who.pay(who.ship("tm_producer", SECOND)),
        "an address with a path": who.pay(who.slap("ls_producer", SECOND + "/base")),
        "an address that cannot be called": who.pay(who.slap("ls_producer", "wss://h.example")),
    }
    bench.world.reorg(1, list(block.txids))
    return {why: (tx, who) for why, tx in made.items()} | {"a proof from a lost block": (nowhere, far)}


def test_a_tracker_that_lies_is_not_believed(bench: Bench) -> None:
    """Deployed clients take all of these for hosts."""
    lies = shown(bench)
    served = {str(number): (tx, who) for number, (tx, who) in enumerate(lies.values())}

    async def lookup(request: Request) -> Response:
        tx, who = served[request.url.hostname.removeprefix("liar-").removesuffix(".devnet")]
        return JSONResponse(wire.output_list([wire.Answer(tx.txid, 0, who.beef(tx))]))

    believed = {}
    for number, why in enumerate(lies):
        name = f"liar-{number}.devnet"
        bench.world.network.apps[name] = Starlette(routes=[Route("/lookup", lookup, methods=["POST"])])
        try:
            believed[why] = bench.urls(directory=replace(DIRECTORY, trackers=(f"http://{name}",)))
        except Unavailable as error:
            assert "nothing it shows can be proven" in str(error)
            assert bench.resolver.reputations[f"http://{name}"].failures == 1
            believed[why] = []
    assert believed == {why: [] if why else [SECOND] for why in lies}


def test_nothing_is_held_against_a_host_while_our_own_headers_are_away(bench: Bench) -> None:
    bench.announce("ls_producer", SECOND)
    bench.world.drop("headers")
    with pytest.raises(Unavailable):
        bench.urls()
    assert bench.resolver.reputations == {}


def test_outside_a_devnet_only_https_is_followed_and_strangers_are_marked(bench: Bench) -> None:
    bench.announce("ls_producer", SECOND, "https://far.example")
    main = replace(DIRECTORY, chain="main")
    (host,) = bench.run(bench.resolver.discover(main, "ls_producer"))
    assert (host.url, host.stranger) == ("https://far.example", True)
    assert {host.stranger for host in bench.run(bench.resolver.discover(DIRECTORY, "ls_producer"))} == {False}


def test_no_more_hosts_are_asked_than_a_crowd_can_make_us(bench: Bench) -> None:
    who = bench.producer()
    bench.publish("overlay-1", "tm_slap", *(who.slap("ls_producer", f"http://h{n}.devnet") for n in range(30)), who=who)
    assert len(bench.urls()) == 16
    for name in list(bench.urls()):
        bench.resolver.reputations[name] = answered(NEW, 1)  # and they are quick
    own = replace(DIRECTORY, declared=(Endpoint("own", FOURTH),))
    assert FOURTH in bench.urls(directory=own) and len(bench.urls(directory=own)) == 17


# --- what they answer ---------------------------------------------------------------------------------------------


def stocked(bench: Bench, *urls: str) -> None:
    """Hosts with one descriptor of their own each, known to the tracker."""
    bench.announce("ls_producer", *urls)
    for url in urls:
        node = url.partition("://")[2].removesuffix(".devnet")
        bench.publish(node, "tm_producer", lambda who: who.describe("Dataset/x"))


def find(bench: Bench, directory: Directory = DIRECTORY) -> Any:
    return bench.run(bench.resolver.find(directory, "ls_producer", {"subject": "Dataset/x"}))


@pytest.mark.row("S-18", "P-LKP-05")
def test_what_several_hosts_answer_is_joined_by_outpoint(bench: Bench) -> None:
    stocked(bench, SECOND, THIRD)
    who = bench.publish("overlay-2", "tm_producer", lambda who: who.describe("Dataset/x", 7))
    (tx,) = [txid for txid, (_, proof) in who.parts.items() if not proof]
    bench.world.nodes["overlay-3"].submit(bench.world.nodes["overlay-2"].beef(tx), ["tm_producer"])
    assert len(find(bench)) == 3


@pytest.mark.parametrize(("late", "count"), [(GRACE / 2, 2), (GRACE * 2, 1)])
def test_the_first_answer_leaves_the_others_eighty_milliseconds(bench: Bench, late: float, count: int) -> None:
    stocked(bench, SECOND, THIRD)
    bench.urls()
    bench.world.network.arm(Fault(Trouble.DELAY, host="overlay-3.devnet", seconds=late))
    began = bench.world.clock.elapsed
    assert len(find(bench)) == count
    assert bench.world.clock.elapsed - began == pytest.approx(min(late, GRACE), abs=1e-3)


def test_an_empty_answer_does_not_start_the_grace(bench: Bench) -> None:
    stocked(bench, THIRD)
    bench.announce("ls_producer", SECOND)
    bench.world.network.arm(Fault(Trouble.DELAY, host="overlay-3.devnet", seconds=1.0))
    assert len(find(bench)) == 1


def test_a_silent_host_is_waited_for_five_seconds(bench: Bench) -> None:
    stocked(bench, SECOND)
    bench.urls()
    bench.world.network.arm(Fault(Trouble.DELAY, host="overlay-2.devnet", seconds=PATIENCE + 1))
    began = bench.world.clock.elapsed
    with pytest.raises(Unavailable, match="within 5 s"):
        find(bench)
    assert bench.world.clock.elapsed - began == pytest.approx(PATIENCE, abs=1e-3)
    assert bench.resolver.reputations[SECOND].failures == 1


def test_a_service_that_nobody_answers_has_a_name(bench: Bench) -> None:
    with pytest.raises(Unavailable) as none:
        find(bench)
    assert none.value.code == "no-hosts"


def test_a_refusal_is_an_opinion_and_costs_no_reputation(bench: Bench) -> None:
    bench.announce("ls_elsewhere", SECOND)
    with pytest.raises(Unavailable, match="ls_elsewhere"):
        bench.run(bench.resolver.find(DIRECTORY, "ls_elsewhere", {}))
    assert SECOND not in bench.resolver.reputations


# --- reputation ---------------------------------------------------------------------------------------------------


@pytest.mark.row("P-AD-20", "S-18")
def test_a_host_that_keeps_failing_is_left_alone_and_asked_again_later(bench: Bench) -> None:
    stocked(bench, SECOND, THIRD)
    bench.world.drop("overlay-2")
    for _ in range(3):
        assert len(find(bench)) == 1
    asked = bench.asked(SECOND)
    assert len(find(bench)) == 1
    assert bench.asked(SECOND) == asked, "it rests"
    assert bench.urls() == [THIRD]
    later(bench, 1.0)
    bench.world.restore("overlay-2")
    assert len(find(bench)) == 2
    assert bench.resolver.reputations[SECOND].failures == 0


@pytest.mark.row("P-AD-20")
def test_when_every_host_rests_that_is_said_and_until_when(bench: Bench) -> None:
    stocked(bench, SECOND)
    bench.world.drop("overlay-2")
    for _ in range(3):
        with pytest.raises(Unavailable):
            find(bench)
    with pytest.raises(Unavailable) as rest:
        find(bench)
    assert rest.value.code == "hosts-backing-off"
    assert rest.value.retry_at is not None
    assert 0 < (rest.value.retry_at - bench.world.clock.now()).total_seconds() <= 1


def test_a_name_that_leads_nowhere_rests_after_one_failure(bench: Bench) -> None:
    stocked(bench, SECOND)
    bench.announce("ls_producer", "http://nowhere.devnet")
    assert len(find(bench)) == 1
    assert bench.urls() == [SECOND]


def test_the_quicker_host_comes_first(bench: Bench) -> None:
    stocked(bench, SECOND, THIRD)
    bench.world.network.arm(Fault(Trouble.DELAY, host="overlay-2.devnet", path="/lookup", seconds=0.05))
    find(bench)
    assert [host.url for host in bench.run(bench.resolver.discover(DIRECTORY, "ls_producer"))] == [THIRD, SECOND]


# --- memory -------------------------------------------------------------------------------------------------------


@pytest.mark.row("P-AD-20", "S-18")
def test_who_answers_is_remembered_then_handed_out_stale_while_it_is_asked_again(bench: Bench) -> None:
    bench.announce("ls_producer", SECOND)
    assert bench.urls() == [SECOND]
    bench.announce("ls_producer", THIRD)
    later(bench, 299)
    assert bench.urls() == [SECOND]
    assert bench.asked(TRACKER) == 1
    later(bench, 2)

    async def twice() -> list[list[str]]:
        first = await bench.resolver.discover(DIRECTORY, "ls_producer")
        await bench.world.clock.sleep(1)
        return [sorted(host.url for host in some) for some in (first, await bench.resolver.discover(DIRECTORY, "ls_producer"))]

    assert bench.run(twice()) == [[SECOND], [SECOND, THIRD]]
    assert bench.asked(TRACKER) == 2


def test_a_refresh_that_fails_leaves_what_was_known(bench: Bench) -> None:
    bench.announce("ls_producer", SECOND)
    bench.urls()
    later(bench, 301)
    bench.world.drop("overlay-1")

    async def twice() -> Any:
        await bench.resolver.discover(DIRECTORY, "ls_producer")
        await bench.world.clock.sleep(1)
        return await bench.resolver.discover(DIRECTORY, "ls_producer")

    assert [host.url for host in bench.run(twice())] == [SECOND]


def test_those_who_ask_together_ask_once(bench: Bench) -> None:
    bench.announce("ls_producer", SECOND)

    async def together() -> Any:
        return await asyncio.gather(*(bench.resolver.discover(DIRECTORY, "ls_producer") for _ in range(5)))

    assert len(bench.run(together())) == 5
    assert bench.asked(TRACKER) == 1


def test_a_network_says_how_long_it_is_remembered(bench: Bench) -> None:
    bench.announce("ls_producer", SECOND)
    brief = replace(DIRECTORY, ttl=10)

    async def twice() -> None:
        for _ in range(2):
            await bench.resolver.discover(brief, "ls_producer")
            await bench.world.clock.sleep(11)

    bench.run(twice())
    assert bench.asked(TRACKER) == 2


def test_memory_is_bounded_and_the_oldest_goes_first(bench: Bench) -> None:
    names = [f"ls_{a}{b}" for a in "abcdefghijkl" for b in "abcdefghijkl"][:129]

    async def many() -> list[int]:
        counts = []
        for name in (*names, names[-1], names[0]):
            await bench.resolver.discover(DIRECTORY, name)
            counts.append(bench.asked(TRACKER))
        return counts[-3:]

    assert bench.run(many()) == [129, 129, 130]


# --- who keeps a topic --------------------------------------------------------------------------------------------


@pytest.mark.row("S-18")
def test_hosts_of_a_topic_are_found_with_the_topics_they_advertise(bench: Bench) -> None:
    bench.announce("ls_ship", SECOND)
    bench.publish("overlay-2", "tm_ship", lambda who: who.ship("tm_producer", THIRD), lambda who: who.ship("tm_ship", THIRD))
    bench.publish("overlay-2", "tm_ship", lambda who: who.ship("tm_ship", FOURTH), lambda who: who.ship("tm_other", FOURTH))

    def keepers(directory: Directory) -> dict[str, tuple[str, ...]]:
        return {host.url: names for host, names in bench.run(bench.resolver.interested(directory, ["tm_ship", "tm_producer"]))}

    assert keepers(DIRECTORY) == {THIRD: ("tm_producer", "tm_ship"), FOURTH: ("tm_ship",)}
    assert keepers(replace(DIRECTORY, declared=(Endpoint("ours", THIRD),))) == {FOURTH: ("tm_ship",)}
    assert keepers(replace(DIRECTORY, trackers=())) == {}
    before = bench.asked()
    keepers(DIRECTORY)
    assert bench.asked() == before, "remembered"


def test_nobody_keeps_a_topic_where_nobody_answers_ls_ship(bench: Bench) -> None:
    assert bench.run(bench.resolver.interested(DIRECTORY, ["tm_ship"])) == ()
