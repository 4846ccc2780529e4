"""The Storage port on every kind of store: a UHRP host, a directory, a bucket of a real object store. One contract for all."""

import asyncio
import hashlib
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.adapters import copying
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.http import Http
from reconciler.adapters.storage import StorageHosts
from reconciler.devnet.world import Plan, World
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Conflict, Refused, RemoteProtocolError, Unavailable
from reconciler.ports import Part
from reconciler.wire.uhrp import uhrp_url
from tests.contract.objectstore import SECRET, SECRET_IN, ObjectStore, object_store

CONTENT = random.Random(7).randbytes(1_000_000)
SHA = hashlib.sha256(CONTENT).hexdigest()
PART = 300_000
MONTH = 30 * 24 * 60
KINDS = ("uhrp", "filesystem", "s3")


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("objects")) as store:
        yield store


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_IN, SECRET)


class Wire(httpx.AsyncBaseTransport):
    """The way to the hosts of the world, and by real sockets to all others; it keeps the requests."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked: list[httpx.Request] = []
        self.sockets = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        inside = request.url.host.endswith(".devnet")
        return await (self.world.transport() if inside else self.sockets).handle_async_request(request)

    async def aclose(self) -> None:
        # A pool belongs to its loop; the next loop gets another.
        await self.sockets.aclose()
        self.sockets = httpx.AsyncHTTPTransport()


@dataclass
class Bench:
    """A file, a store of one kind, and ways to damage what it keeps."""

    host: Endpoint
    file: Path
    world: World
    folder: Path
    wire: Wire = field(init=False)
    told: list[tuple[str, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.wire = Wire(self.world)

    def run(self, work: Callable[[StorageHosts], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            http = Http(self.world.clock, transport=self.wire)
            try:
                return await work(StorageHosts(http, lambda *step: self.told.append(step)))
            finally:
                await http.close()

        return asyncio.run(main())

    def put(self, sha256: str = SHA) -> Any:
        return self.run(lambda to: to.put(self.host, sha256, self.file, "text/csv", MONTH, 0))

    def check(self, part: Part | None = None) -> Any:
        return self.run(lambda to: to.check(self.host, SHA, part))["state"]

    def fetch(self) -> bool:
        return self.run(lambda to: to.fetch(self.host, SHA, self.target))

    @property
    def target(self) -> Path:
        return self.folder / "fetched" / SHA

    @property
    def kept(self) -> Path:
        """The file that holds the bytes of this store."""
        if self.host.kind == "uhrp":
            (stored,) = self.world.storage["eu1"].state.objects
            return self.folder / "vault" / stored
        return self.folder / "shelf" / SHA if self.host.kind == "filesystem" else self.folder / "bucket" / SHA


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path, objects: ObjectStore) -> Bench:
    world = World(clock=SystemClock(), plan=Plan(seed=5))
    world.storage["eu1"].vault = type(world.storage["eu1"].vault)(tmp_path / "vault")
    (tmp_path / "shelf").mkdir()
    (tmp_path / "fetched").mkdir()
    bucket = objects.bucket(f"b{abs(hash(tmp_path)):x}", partSize=PART)
    (tmp_path / "bucket").symlink_to(objects.directory / bucket.name)
    host = {
        "uhrp": Endpoint("eu1", "http://eu1.devnet", "EU", "uhrp"),
        "filesystem": Endpoint("disk", (tmp_path / "shelf").as_uri(), kind="filesystem"),
        "s3": bucket,
    }[request.param]
    file = tmp_path / "data.csv"
    file.write_bytes(CONTENT)
    return Bench(host, file, world, tmp_path)


@pytest.mark.row("P-DIST-11")
def test_content_goes_there_and_is_read_back(bench: Bench) -> None:
    assert bench.run(lambda to: to.quote(bench.host, len(CONTENT), MONTH)) == 0
    assert bench.run(lambda to: to.find(bench.host, SHA)) is None
    assert bench.check() == "missing"
    assert bench.run(lambda to: to.read(bench.host, SHA)) is None
    hosted = bench.put()
    assert (hosted.url, hosted.paid) == (uhrp_url(SHA), 0)
    assert bench.run(lambda to: to.find(bench.host, SHA)) == hosted
    assert bench.run(lambda to: to.check(bench.host, SHA))["expires"] == hosted.expires
    assert bench.check() == "ok"
    assert bench.run(lambda to: to.read(bench.host, SHA)) == CONTENT
    assert bench.kept.read_bytes() == CONTENT


def test_an_empty_file_and_a_small_one_are_content_too(bench: Bench) -> None:
    for content in (b"x", b""):
        bench.file.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        if content or bench.host.kind != "uhrp":  # the hosts of that interface take no empty files
            bench.put(sha256)
            assert bench.run(lambda to, sha256=sha256: to.read(bench.host, sha256)) == content


@pytest.mark.row("P-DIST-15")
def test_damage_and_loss_are_seen_and_mended(bench: Bench) -> None:
    bench.put()
    bench.kept.write_bytes(CONTENT[:-1] + b"?")
    assert bench.check() == "corrupt"
    assert bench.run(lambda to: to.read(bench.host, SHA)) is None
    if bench.host.kind == "uhrp":
        bench.world.delete("eu1", SHA)  # what was paid for is not replaced there, it is lost or it is kept
    bench.put()
    assert bench.check() == "ok"
    bench.world.delete("eu1", SHA) if bench.host.kind == "uhrp" else bench.kept.unlink()
    assert bench.check() == "missing"


@pytest.mark.row("P-DIST-15")
def test_a_part_of_a_copy_is_read_and_compared(bench: Bench) -> None:
    bench.put()
    here, there = Part(400, 500, digest(CONTENT[400:500])), Part(999_000, 1_000_000, digest(CONTENT[999_000:]))
    assert [bench.check(part) for part in (here, there)] == ["ok", "ok"]
    bench.kept.write_bytes(CONTENT[:450] + b"?" + CONTENT[451:])
    assert [bench.check(part) for part in (here, there)] == ["corrupt", "ok"]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_that_changed_is_not_stored_under_the_old_name(bench: Bench) -> None:
    other = digest(b"what it was")
    with pytest.raises(Conflict, match="other bytes by now"):
        bench.put(other)
    assert bench.run(lambda to: to.find(bench.host, other)) is None
    bench.file.unlink()
    with pytest.raises(Conflict, match="cannot store"):
        bench.put()


def test_progress_is_told_as_bytes_leave(bench: Bench) -> None:
    bench.put()
    assert {(name, total) for name, _, total in bench.told} == {(bench.host.name, len(CONTENT))}
    sent = [count for _, count, _ in bench.told]
    assert sent == sorted(sent)
    assert sent[-1] == len(CONTENT)
    assert bench.host.kind == "filesystem" or len(sent) >= 4


def test_what_can_be_removed_is(bench: Bench) -> None:
    bench.put()
    for _ in range(2):
        bench.run(lambda to: to.release(bench.host, SHA))
    assert bench.check() == ("ok" if bench.host.kind == "uhrp" else "missing")


@pytest.mark.parametrize("bench", [kind for kind in KINDS if kind != "uhrp"], indirect=True)
def test_where_buyers_are_sent_can_be_another_address(bench: Bench) -> None:
    """A UHRP host says itself where its content is."""
    bench.host = replace(bench.host, options={**bench.host.options, "publicUrl": "https://files.example.org/d"})
    assert bench.put().location == f"https://files.example.org/d/{SHA}"
    assert bench.run(lambda to: to.find(bench.host, SHA)).location == f"https://files.example.org/d/{SHA}"


# --- coming back ---------------------------------------------------------------------------------


@pytest.mark.row("P-PUB-25")
def test_a_download_goes_on_where_it_was_cut_off(bench: Bench) -> None:
    bench.put()
    part = copying.part_of(bench.target)
    part.write_bytes(CONTENT[:700_000])
    before = len(bench.wire.asked)
    assert bench.fetch()
    assert bench.target.read_bytes() == CONTENT
    assert not part.exists()
    ranges = [request.headers.get("range") for request in bench.wire.asked[before:]]
    assert bench.host.kind == "filesystem" or ranges[-1] == "bytes=700000-"
    bench.target.rename(part)
    assert bench.fetch(), "a download that was whole and did not get its name yet"
    assert bench.target.read_bytes() == CONTENT


def test_a_download_does_not_believe_what_it_finds(bench: Bench) -> None:
    bench.put()
    part = copying.part_of(bench.target)
    part.write_bytes(b"?" * 700_000)
    assert bench.fetch()
    assert bench.target.read_bytes() == CONTENT
    bench.target.unlink()
    bench.kept.write_bytes(CONTENT[:-1] + b"?")
    assert not bench.fetch()
    assert not bench.target.exists()
    assert not part.exists(), "bytes that are wrong are not gone on with"


def test_what_is_not_there_cannot_be_fetched(bench: Bench) -> None:
    assert not bench.fetch()
    assert list(bench.target.parent.iterdir()) == []


# --- killed in the middle ------------------------------------------------------------------------

CHILD = """
import asyncio, json, sys
from pathlib import Path
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.http import Http
from reconciler.adapters.storage import StorageHosts
from reconciler.model.codec import decode
from reconciler.model.endpoint import Endpoint

host, sha256, path, stop = json.loads(sys.argv[1])

def told(name, sent, total):
    if sent >= stop:
        print("there", flush=True)
        sys.stdin.read()  # until the blow

async def main():
    await StorageHosts(Http(SystemClock()), told).put(decode(Endpoint, host), sha256, Path(path), "text/csv", 60, 0)

asyncio.run(main())
"""


def killed(bench: Bench, stop: int) -> None:
    """Begin to store the file in a process of its own, and kill that once so many bytes have left."""
    import json

    from reconciler.model.codec import encode

    told = json.dumps([encode(bench.host), SHA, str(bench.file), stop])
    child = subprocess.Popen([sys.executable, "-c", CHILD, told], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL


@pytest.mark.row("P-PUB-25")
@pytest.mark.parametrize("bench", ["s3"], indirect=True)
def test_a_killed_upload_goes_on_without_the_parts_that_arrived(bench: Bench, objects: ObjectStore) -> None:
    """What the store saw decides: of every part exactly one arrived whole."""
    already = objects.parts(SHA)
    killed(bench, 2 * PART + 1)
    assert objects.parts(SHA) - already == {1: 1, 2: 1}
    assert bench.check() == "missing", "an upload that is not put together is no content"
    bench.put()
    assert objects.parts(SHA) - already == {1: 1, 2: 1, 3: 1, 4: 1}
    assert bench.check() == "ok"
    assert bench.kept.read_bytes() == CONTENT


@pytest.mark.row("P-PUB-25")
@pytest.mark.parametrize("bench", ["filesystem"], indirect=True)
def test_a_killed_copy_goes_on_where_it_stopped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    big = CONTENT * 12
    bench.file.write_bytes(big)
    sha256 = digest(big)
    monkeypatch.setattr(sys.modules[__name__], "SHA", sha256)
    killed(bench, 8 * copying.BLOCK)
    part = copying.part_of(bench.kept)
    assert not bench.kept.exists()
    there = part.stat().st_size
    assert there == 8 * copying.BLOCK
    written: list[int] = []
    write = copying.Partial.write

    def counted(self: copying.Partial, block: bytes) -> None:
        written.append(len(block))
        write(self, block)

    monkeypatch.setattr(copying.Partial, "write", counted)
    bench.put(sha256)
    assert sum(written) == len(big) - there
    assert bench.check() == "ok"
    assert [entry.name for entry in bench.kept.parent.iterdir()] == [sha256]


@pytest.mark.parametrize("bench", ["filesystem"], indirect=True)
def test_what_a_copy_left_is_compared_and_not_believed(bench: Bench) -> None:
    part = copying.part_of(bench.kept)
    for left in (b"?" * 5, CONTENT[:500_000] + b"\0" * 100_000, CONTENT + b"more", CONTENT):
        part.write_bytes(left)
        bench.put()
        assert bench.kept.read_bytes() == CONTENT
        assert not part.exists()
        bench.kept.unlink()


@pytest.mark.parametrize("bench", ["filesystem"], indirect=True)
def test_a_full_disk_gets_its_room_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: copying.Partial, block: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copying.Partial, "write", full)
    with pytest.raises(Unavailable, match="No space left"):
        bench.put()
    assert list(bench.kept.parent.iterdir()) == []


# --- object stores -------------------------------------------------------------------------------


@pytest.mark.parametrize("bench", ["s3"], indirect=True)
def test_parts_of_another_size_or_with_other_bytes_are_sent_anew(bench: Bench, objects: ObjectStore) -> None:
    killed(bench, 2 * PART + 1)
    bench.host = replace(bench.host, options={**bench.host.options, "partSize": PART // 2})
    before = objects.parts(SHA)
    bench.put()
    assert objects.parts(SHA) - before == dict.fromkeys(range(1, 8), 1)
    assert bench.check() == "ok"
    begun = [path.read_text() for path in objects.directory.rglob("init.json")]
    assert not any(bench.host.name in text for text in begun), "what could not be gone on with is put away"
    bench.kept.unlink()
    killed(bench, PART)
    first, *_ = [path for path in objects.directory.rglob("*.bin") if path.stat().st_size == PART // 2]
    first.write_bytes(b"?" * first.stat().st_size)
    first.with_suffix(".md5").write_text(hashlib.md5(first.read_bytes()).hexdigest())
    bench.put()
    assert bench.check() == "ok", "a part that is not ours is not taken for ours"


@pytest.mark.parametrize("bench", ["s3"], indirect=True)
def test_a_key_that_is_wrong_is_refused_with_a_hint(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_IN, "another")
    with pytest.raises(Refused, match="SignatureDoesNotMatch") as caught:
        bench.put()
    assert "secretKey" in (caught.value.hint or "")
    monkeypatch.delenv(SECRET_IN)
    with pytest.raises(Refused, match="is not set"):
        bench.put()
    bench.host = replace(bench.host, secret={"env": "HOME"}, options={**bench.host.options, "accessKeyId": "who"})
    with pytest.raises(Refused, match=r"InvalidAccessKeyId|AccessDenied"):
        bench.put()


@pytest.mark.parametrize("bench", ["s3"], indirect=True)
def test_a_bucket_that_is_not_there_is_no_empty_bucket(bench: Bench) -> None:
    bench.host = replace(bench.host, url=bench.host.url + "-no")
    for work in (lambda to: to.check(bench.host, SHA), lambda to: to.put(bench.host, SHA, bench.file, "a/b", 1, 0)):
        with pytest.raises(Refused, match="NoSuchBucket"):
            bench.run(work)


@pytest.mark.parametrize("bench", ["s3"], indirect=True)
@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"<Error><Code>InternalError</Code><Message>We failed</Message></Error>", Unavailable),
        (503, b"<Error><Code>SlowDown</Code></Error>", Unavailable),
        (404, b"<Error><Code>NoSuchUpload</Code></Error>", Unavailable),
        (400, b"<Error><Code>EntityTooSmall</Code></Error>", Refused),
        (200, b"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>", RemoteProtocolError),
        (200, b"<broken", RemoteProtocolError),
    ],
)
def test_an_upload_that_is_not_put_together_has_not_succeeded(bench: Bench, status: int, body: bytes, error: type) -> None:
    """TRAP of the interface: the answer may be 200 and say that it failed."""
    inner = bench.wire.handle_async_request

    async def answered(request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and "uploadId" in request.url.query.decode():
            await request.aread()
            return httpx.Response(status, content=body)
        return await inner(request)

    bench.wire.handle_async_request = answered  # type: ignore[method-assign]
    with pytest.raises(error):
        bench.put()
    bench.wire.handle_async_request = inner  # type: ignore[method-assign]
    before = len(bench.wire.asked)
    bench.put()
    assert [r.method for r in bench.wire.asked[before:]].count("PUT") == 0, "what arrived before is there still"
    assert bench.check() == "ok"
