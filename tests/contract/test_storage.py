"""The Storage port: content goes to UHRP hosts and directories whole, for no more than was allowed, and is read back."""

import asyncio
import hashlib
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reconciler.adapters import uhrp
from reconciler.adapters.http import Answer, Http, Paid
from reconciler.adapters.http import Request as Outgoing
from reconciler.adapters.shelf import NEVER
from reconciler.adapters.storage import StorageHosts
from reconciler.devnet.clock import run
from reconciler.devnet.network import Fault, Trouble
from reconciler.devnet.world import Plan, World
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Conflict, Refused, RemoteProtocolError, Unavailable, Uncertain
from reconciler.ports import Part
from reconciler.wire import storage as wire
from reconciler.wire.uhrp import parse_uhrp, uhrp_url

EU = Endpoint("eu1", "http://eu1.devnet/", "EU", "uhrp")
CONTENT = b"time,price\n" + b"2024-01-01,1\n" * 60_000
SHA = hashlib.sha256(CONTENT).hexdigest()
MONTH = 30 * 24 * 60


class Bench:
    """A world with storage hosts, a file, and the adapter under test."""

    def __init__(self, directory: Path, price: int = 0, conversation: Any = None) -> None:
        self.world = World(plan=Plan(seed=5, price=price))
        self.http = Http(self.world.clock, transport=self.world.transport(), conversation=conversation)
        self.storage = StorageHosts(self.http)
        self.file = directory / "data.csv"
        self.file.write_bytes(CONTENT)

    def run(self, work: Awaitable[Any]) -> Any:
        return run(work, clock=self.world.clock)

    def put(self, host: Endpoint = EU, sha256: str = SHA, max_payment: int = 0) -> Any:
        return self.run(self.storage.put(host, sha256, self.file, "text/csv", MONTH, max_payment))

    def count(self, method: str, path: str) -> int:
        return sum(one.method == method and one.path == path for one in self.world.network.exchanges)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def shelf(tmp_path: Path) -> Endpoint:
    (tmp_path / "a shelf").mkdir()
    return Endpoint("disk", (tmp_path / "a shelf").as_uri(), kind="filesystem")


@pytest.mark.parametrize("kind", ["uhrp", "filesystem"])
def test_content_goes_there_and_is_read_back(bench: Bench, shelf: Endpoint, kind: str) -> None:
    host = EU if kind == "uhrp" else shelf
    assert bench.run(bench.storage.find(host, SHA)) is None
    assert bench.run(bench.storage.check(host, SHA)) | {"ms": 0} == {"state": "missing", "ms": 0, "expires": 0}
    hosted = bench.put(host)
    assert parse_uhrp(hosted.url) == SHA
    assert hosted.url == uhrp_url(SHA)
    assert hosted.paid == 0
    assert bench.run(bench.storage.find(host, SHA)) == hosted
    checked = bench.run(bench.storage.check(host, SHA))
    assert (checked["state"], checked["expires"]) == ("ok", hosted.expires)
    if kind == "uhrp":
        assert hosted.expires == int(bench.world.clock.now().timestamp()) + MONTH * 60
        assert hosted.location.startswith("http://eu1.devnet/cdn/")
    else:
        assert hosted.expires == NEVER
        assert Path(host.url.removeprefix("file://").replace("%20", " "), SHA).read_bytes() == CONTENT


def test_progress_is_told_as_bytes_leave(bench: Bench, shelf: Endpoint) -> None:
    seen: list[tuple[str, int, int]] = []
    bench.storage.on_progress = lambda *step: seen.append(step)
    bench.put()
    assert [name for name, _, _ in seen] == ["eu1"] * len(seen)
    sent = [count for _, count, _ in seen]
    assert sent == sorted(set(sent))
    assert len(sent) == -(-len(CONTENT) // uhrp.CHUNK)
    assert seen[-1] == ("eu1", len(CONTENT), len(CONTENT))
    seen.clear()
    bench.put(shelf)
    assert seen[-1] == ("disk", len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("damage", ["corrupt", "delete"])
def test_damage_on_a_host_is_seen(bench: Bench, damage: str) -> None:
    bench.put()
    getattr(bench.world, damage)("eu1", SHA)
    assert bench.run(bench.storage.check(EU, SHA))["state"] == {"corrupt": "corrupt", "delete": "missing"}[damage]


def test_damage_on_a_shelf_is_seen_and_mended(bench: Bench, shelf: Endpoint) -> None:
    hosted = bench.put(shelf)
    path = Path(hosted.location.removeprefix("file://").replace("%20", " "))
    path.write_bytes(b"bent")
    assert bench.run(bench.storage.check(shelf, SHA))["state"] == "corrupt"
    bench.put(shelf)
    assert bench.run(bench.storage.check(shelf, SHA))["state"] == "ok"
    assert [entry.name for entry in path.parent.iterdir()] == [SHA]
    bench.run(bench.storage.release(shelf, SHA))
    bench.run(bench.storage.release(shelf, SHA))
    assert bench.run(bench.storage.find(shelf, SHA)) is None


def test_a_host_that_serves_more_than_it_promised_serves_something_else(bench: Bench) -> None:
    bench.put()
    stored = next(iter(bench.world.storage["eu1"].state.objects.values()))

    async def find(request: Request) -> Response:
        return JSONResponse(wire.find_answer(wire.StoredFile("cdn/x", stored.size, "text/csv", stored.expires)))

    async def endless(request: Request) -> Response:
        return Response(CONTENT + b"x" * uhrp.CHUNK)

    bench.world.network.apps["odd.devnet"] = Starlette(routes=[Route("/find", find), Route("/cdn/x", endless)])

    async def check() -> Any:
        try:
            return await bench.storage.check(Endpoint("odd", "http://odd.devnet"), SHA)
        finally:
            await bench.world.clock.sleep(0.001)  # the loop closes the generators of the answer that was left unread

    assert bench.run(check())["state"] == "corrupt"


def test_the_time_of_reading_back_is_measured(bench: Bench) -> None:
    bench.put()
    bench.world.network.arm(Fault(Trouble.DELAY, path="/cdn", seconds=2.5))
    assert 2500 <= bench.run(bench.storage.check(EU, SHA))["ms"] < 2600


def test_what_is_paid_for_no_longer_is_missing(bench: Bench) -> None:
    bench.put()
    bench.world.clock.advance(MONTH * 60 + 1)
    assert bench.run(bench.storage.find(EU, SHA)) is None
    assert bench.run(bench.storage.check(EU, SHA))["state"] == "missing"


def test_a_file_that_changed_is_not_stored_under_the_old_name(bench: Bench, shelf: Endpoint) -> None:
    other = hashlib.sha256(b"what it was").hexdigest()
    for host in (EU, shelf):
        with pytest.raises(Conflict, match="other bytes by now"):
            bench.put(host, other)
        assert bench.run(bench.storage.find(host, other)) is None
    bench.file.unlink()
    with pytest.raises(Conflict, match="cannot store"):
        bench.put()


# --- money ---------------------------------------------------------------------------------------


class Purse:
    """A conversation that pays what a host asks, up to the limit, and counts."""

    def __init__(self) -> None:
        self.paid: list[int] = []

    async def prepare(self, request: Outgoing) -> Outgoing:
        return request

    async def forgot(self, request: Outgoing, answer: Answer) -> bool:
        return False

    async def accept(self, request: Outgoing, answer: Answer) -> None:
        pass

    async def pay(self, request: Outgoing, answer: Answer, limit: int) -> Paid | None:
        amount = int(answer.headers["x-bsv-payment-satoshis-required"])
        if amount > limit:
            return None
        self.paid.append(amount)
        return Paid(replace(request, headers={**request.headers, "x-bsv-payment": "{}"}), amount)


def toll(bench: Bench, route: str = "/upload") -> Endpoint:
    """The world's host behind a door that opens once the payment header is there."""
    free = World(plan=Plan(seed=5)).apps["eu1"]

    async def door(scope: Any, receive: Any, send: Any) -> None:
        bench.passed.append(scope["path"])
        wants = scope["path"] == route and (b"x-bsv-payment", b"{}") not in scope["headers"]
        if scope["path"] == "/quote":
            await JSONResponse({"quote": 40})(scope, receive, send)
        elif wants:
            await JSONResponse({}, 402, {"x-bsv-payment-satoshis-required": "40"})(scope, receive, send)
        else:
            await free(scope, receive, send)

    bench.passed = []
    bench.world.network.apps["toll.devnet"] = door
    return Endpoint("toll", "http://toll.devnet")


def test_a_quote_is_what_the_host_says(bench: Bench, shelf: Endpoint) -> None:
    dear = World(plan=Plan(seed=5, price=1_000_000_000))
    bench.world.network.apps["dear.devnet"] = dear.apps["eu1"]
    quoted = bench.run(bench.storage.quote(Endpoint("dear", "http://dear.devnet"), len(CONTENT), MONTH))
    assert quoted == dear.storage["eu1"].quote(len(CONTENT), MONTH) > 0
    assert bench.run(bench.storage.quote(EU, len(CONTENT), MONTH)) == 0
    assert bench.run(bench.storage.quote(shelf, len(CONTENT), MONTH)) == 0
    with pytest.raises(Refused, match="ERR_INVALID_RETENTION_PERIOD"):
        bench.run(bench.storage.quote(EU, 5, wire.MAX_RETENTION + 1))


def test_a_host_that_is_too_dear_is_refused_before_anything_moves(tmp_path: Path) -> None:
    purse = Purse()
    bench = Bench(tmp_path, conversation=purse)
    with pytest.raises(Refused, match="asks 40 satoshis, the limit is 39"):
        bench.put(toll(bench), max_payment=39)
    assert (purse.paid, bench.passed) == ([], ["/quote"])


def test_a_host_that_wants_money_is_refused_when_nobody_can_pay(bench: Bench) -> None:
    with pytest.raises(Refused, match="402") as caught:
        bench.put(toll(bench), max_payment=100)
    assert caught.value.hint


def test_what_was_paid_is_told_and_a_paid_slot_is_used_again(tmp_path: Path) -> None:
    purse = Purse()
    bench = Bench(tmp_path, conversation=purse)
    host = toll(bench)
    bench.world.network.arm(Fault(Trouble.REFUSE, method="PUT", times=1))
    with pytest.raises(Uncertain, match="cannot reach"):
        bench.put(host, max_payment=40)
    hosted = bench.put(host, max_payment=40)
    assert (hosted.paid, purse.paid) == (40, [40])
    assert bench.passed.count("/upload") == 2, "asked for once, paid for once"


def test_silence_while_buying_room_is_uncertain(bench: Bench) -> None:
    bench.world.network.arm(Fault(Trouble.LOSE, path="/upload"))
    with pytest.raises(Uncertain):
        bench.put()


# --- hosts in trouble ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/quote", "/put", "/find"])
@pytest.mark.parametrize("trouble", [Trouble.REFUSE, Trouble.STATUS])
def test_a_host_in_trouble_is_unavailable(bench: Bench, path: str, trouble: Trouble) -> None:
    bench.world.network.arm(Fault(trouble, path=path, times=1))
    with pytest.raises(Unavailable):
        bench.put()


def test_not_found_is_no_trouble(bench: Bench) -> None:
    """Deployed hosts say HTTP 500 for it; five of them must not close the breaker on a healthy host."""
    for _ in range(6):
        assert bench.run(bench.storage.find(EU, SHA)) is None


@pytest.mark.parametrize("looks", [3, 1_000])
def test_a_listing_that_comes_late_is_waited_for_and_not_for_ever(bench: Bench, looks: int) -> None:
    inner, left = bench.world.apps["eu1"], iter(range(looks))

    async def host(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/find" and next(left, None) is not None:
            await JSONResponse({"status": "error", "code": "ERR_FIND"}, 500)(scope, receive, send)
        else:
            await inner(scope, receive, send)

    bench.world.network.apps["eu1.devnet"] = host
    began = bench.world.clock.now()
    if looks == 3:
        assert bench.put().url == uhrp_url(SHA)
    else:
        with pytest.raises(Uncertain, match="although it took the bytes"):
            bench.put()
    waited = (bench.world.clock.now() - began).total_seconds()
    assert waited == pytest.approx(sum(uhrp.LISTING_DELAYS[: looks + 1]), abs=0.1)


@pytest.mark.parametrize(
    ("target", "word"),
    [
        (wire.UploadTarget("https://odd.devnet/put", {"Host": "victim"}, 0), "not its business"),
        (wire.UploadTarget("https://odd.devnet/put", {"Content-Length": "1"}, 0), "not its business"),
        (wire.UploadTarget("http://odd.devnet/put", {}, 0), "in the clear"),
    ],
)
def test_a_host_may_not_dictate_everything(bench: Bench, target: wire.UploadTarget, word: str) -> None:
    async def quote(request: Request) -> Response:
        return JSONResponse(wire.quote_answer(0))

    async def upload(request: Request) -> Response:
        return JSONResponse(wire.upload_answer(target))

    bench.world.network.apps["odd.devnet"] = Starlette(
        routes=[Route("/quote", quote, methods=["POST"]), Route("/upload", upload, methods=["POST"])]
    )
    with pytest.raises(RemoteProtocolError, match=word):
        bench.put(Endpoint("odd", "https://odd.devnet"))
    assert bench.count("PUT", "/put") == 0


def test_required_headers_go_along_with_the_bytes(bench: Bench) -> None:
    seen: list[dict[str, str]] = []

    async def app(request: Request) -> Response:
        if request.url.path == "/quote":
            return JSONResponse(wire.quote_answer(0))
        if request.url.path == "/upload":
            return JSONResponse(wire.upload_answer(wire.UploadTarget("http://odd.devnet/bucket", {"X-Goog-Meta-X": "1"}, 0)))
        if request.url.path == "/bucket":
            seen.append({**request.headers, "sha256": hashlib.sha256(await request.body()).hexdigest()})
            return Response("")
        return JSONResponse(wire.find_answer(wire.StoredFile("cdn/x", len(CONTENT), "text/csv", 4_000_000_000)))

    paths = [("/quote", "POST"), ("/upload", "POST"), ("/bucket", "PUT"), ("/find", "GET")]
    bench.world.network.apps["odd.devnet"] = Starlette(routes=[Route(path, app, methods=[method]) for path, method in paths])
    bench.put(Endpoint("odd", "http://odd.devnet"))
    wanted = {"x-goog-meta-x": "1", "content-type": "text/csv", "content-length": str(len(CONTENT)), "sha256": SHA}
    assert seen[0].items() >= wanted.items()


def test_a_name_that_a_host_gives_cannot_lead_elsewhere(bench: Bench) -> None:
    async def find(request: Request) -> Response:
        return JSONResponse(wire.find_answer(wire.StoredFile("//evil.devnet/x?y#z", 1, "text/csv", 4_000_000_000)))

    bench.world.network.apps["odd.devnet"] = Starlette(routes=[Route("/find", find)])
    found = bench.run(bench.storage.find(Endpoint("odd", "http://odd.devnet"), SHA))
    assert found.location == "http://odd.devnet/evil.devnet/x%3Fy%23z"


def test_kinds_that_are_not_served_are_refused(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="are not served") as caught:
        bench.put(Endpoint("web", "http://eu1.devnet", kind="http"))
    assert caught.value.hint == "use uhrp, filesystem or s3"
    with pytest.raises(Unavailable, match="not a directory"):
        bench.put(Endpoint("disk", (tmp_path / "not mounted").as_uri(), kind="filesystem"))
    with pytest.raises(Refused, match="as a directory"):
        bench.put(Endpoint("disk", "http://eu1.devnet", kind="filesystem"))
    with pytest.raises(Refused, match="as a directory"):
        bench.put(Endpoint("disk", "relative/path", kind="filesystem"))
    bench.put(Endpoint("disk", str(tmp_path), kind="filesystem"))
    assert (tmp_path / SHA).read_bytes() == CONTENT


def test_hosts_are_filled_side_by_side(bench: Bench) -> None:
    hosts = [Endpoint(name, f"http://{name}.devnet", kind="uhrp") for name in ("eu1", "us1", "ap1")]

    async def everywhere() -> list[Any]:
        return await asyncio.gather(*(bench.storage.put(host, SHA, bench.file, "text/csv", MONTH, 0) for host in hosts))

    assert [hosted.url for hosted in bench.run(everywhere())] == [uhrp_url(SHA)] * 3
    bench.run(bench.storage.release(EU, SHA))
    assert bench.run(bench.storage.check(EU, SHA))["state"] == "ok", "a UHRP host keeps what was paid for"


# --- keeping it there ----------------------------------------------------------------------------


@pytest.mark.row("P-DIST-18")
def test_a_copy_is_kept_longer_and_what_that_cost_is_told(tmp_path: Path) -> None:
    purse = Purse()
    bench = Bench(tmp_path, conversation=purse)
    before = bench.put().expires
    renewed = bench.run(bench.storage.renew(EU, SHA, 60, 0))
    assert (renewed.expires, renewed.paid) == (before + 3600, 0)
    assert bench.run(bench.storage.find(EU, SHA)).expires == before + 3600
    assert bench.world.storage["eu1"].state.renewals == 1
    host = toll(bench, "/renew")
    bench.put(host, max_payment=40)
    renewed = bench.run(bench.storage.renew(host, SHA, 60, 40))
    assert (renewed.paid, purse.paid) == (40, [40])
    with pytest.raises(Refused, match="more than 39"):
        bench.run(bench.storage.renew(host, SHA, 60, 39))
    assert purse.paid == [40]


def test_a_directory_keeps_everything_for_ever(bench: Bench, shelf: Endpoint) -> None:
    bench.put(shelf)
    assert bench.run(bench.storage.renew(shelf, SHA, 60, 0)).expires == NEVER
    assert bench.run(bench.storage.downloads(shelf, SHA)) is None


def test_a_host_that_wants_money_for_time_or_has_nothing_to_renew_refuses(bench: Bench) -> None:
    with pytest.raises(Refused, match="ERR_OLD_ADVERTISEMENT_NOT_FOUND"):
        bench.run(bench.storage.renew(EU, SHA, 60, 0))
    bench.put()
    bench.world.storage["eu1"].price = 10**12
    with pytest.raises(Refused, match="402"):
        bench.run(bench.storage.renew(EU, SHA, MONTH, 0))
    bench.world.network.arm(Fault(Trouble.LOSE, path="/renew"))
    with pytest.raises(Uncertain):
        bench.run(bench.storage.renew(EU, SHA, MONTH, 0))


@pytest.mark.parametrize("body", [b"{}", b"no json", b'{"status":"error","code":"ERR_INTERNAL_RENEW"}'])
def test_money_that_bought_nothing_is_told_all_the_same(tmp_path: Path, body: bytes) -> None:
    purse = Purse()
    bench = Bench(tmp_path, conversation=purse)

    async def host(request: Request) -> Response:
        if "x-bsv-payment" in request.headers:
            return Response(body, 200)
        return JSONResponse({}, 402, {"x-bsv-payment-satoshis-required": "9"})

    bench.world.network.apps["odd.devnet"] = Starlette(routes=[Route("/renew", host, methods=["POST"])])
    told = bench.run(bench.storage.renew(Endpoint("odd", "http://odd.devnet"), SHA, 60, 9))
    assert (told.expires, told.paid) == (0, 9)


@pytest.mark.row("P-DIST-15")
def test_a_part_of_a_copy_is_read_and_compared(bench: Bench) -> None:
    bench.put()
    middle = len(CONTENT) // 2
    here, there = slice(middle - 50, middle + 50), slice(0, 100)
    good = {part.start: Part(part.start, part.stop, hashlib.sha256(CONTENT[part]).hexdigest()) for part in (here, there)}
    assert {bench.run(bench.storage.check(EU, SHA, part))["state"] for part in good.values()} == {"ok"}
    bench.world.corrupt("eu1", SHA)
    assert bench.run(bench.storage.check(EU, SHA, good[middle - 50]))["state"] == "corrupt"
    assert bench.run(bench.storage.check(EU, SHA, good[0]))["state"] == "ok", "what is not read is not known"
    assert bench.run(bench.storage.check(EU, SHA, Part(10**9, 10**9 + 1, "00" * 32)))["state"] == "corrupt"
    bench.world.delete("eu1", SHA)
    assert bench.run(bench.storage.check(EU, SHA, good[0]))["state"] == "missing"


def test_a_host_that_knows_no_ranges_is_read_whole(bench: Bench) -> None:
    bench.put()
    inner = bench.world.apps["eu1"]

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        kept = [header for header in scope["headers"] if header[0] != b"range"]
        await inner({**scope, "headers": kept}, receive, send)

    bench.world.network.apps["eu1.devnet"] = plain
    part = Part(5, 9, hashlib.sha256(CONTENT[5:9]).hexdigest())
    assert bench.run(bench.storage.check(EU, SHA, part))["state"] == "ok"
    bench.world.corrupt("eu1", SHA)
    assert bench.run(bench.storage.check(EU, SHA, part))["state"] == "corrupt"


@pytest.mark.row("P-DIST-09")
def test_downloads_of_others_are_counted_and_ours_are_not(bench: Bench) -> None:
    location = bench.put().location
    bench.run(bench.storage.check(EU, SHA))
    assert bench.run(bench.storage.downloads(EU, SHA)) == 0
    for headers in ({}, {"range": "bytes=0-9"}, {"range": "bytes=10-19"}):
        bench.run(bench.http.send(Outgoing("GET", location, headers)))
    assert bench.run(bench.storage.downloads(EU, SHA)) == 2, "the second part of a download is no second download"

    async def nothing(request: Request) -> Response:
        return JSONResponse({"status": "error", "code": "ERR_ROUTE_NOT_FOUND"}, 404)

    bench.world.network.apps["odd.devnet"] = Starlette(routes=[Route("/downloads", nothing)])
    assert bench.run(bench.storage.downloads(Endpoint("odd", "http://odd.devnet"), SHA)) is None
