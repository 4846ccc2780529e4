"""Hosts that answer in bad faith, over real sockets: each ends in a named error, soon, and in little memory."""

import asyncio
import gzip
import tracemalloc
from dataclasses import dataclass

import pytest

from reconciler.adapters import http as http_module
from reconciler.adapters.http import Answer, Http, Request, Sink
from reconciler.devnet.clock import VirtualClock
from reconciler.model.errors import ReconcilerError, Refused, RemoteProtocolError, Unavailable, Uncertain
from tests.unit.adapters.loopback import Speak, forever, saying, serving, silent

MIB = 1024 * 1024
LIMIT = MIB
# What a client may hold because of one hostile answer: the answer as far as it is read, and what reading it takes.
PEAK = 6 * MIB
BOMB = gzip.compress(bytes(64 * MIB))
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """What the host does, and what becomes of the request; `sent` when the request was one that may not be repeated at will."""

    speak: Speak
    error: type[ReconcilerError]
    code: str
    deadline: float = 5.0
    sent: bool = False


HOSTILE = {
    "a body without end": Case(forever(HEAD + b"\r\n", b"x" * 65536), RemoteProtocolError, "too-large"),
    "chunks without end": Case(forever(CHUNKED, b"1000\r\n" + b"x" * 4096 + b"\r\n"), RemoteProtocolError, "too-large"),
    "a body longer than it may be": Case(
        forever(HEAD + b"content-length: 9999999999\r\n\r\n", b"x" * 65536), RemoteProtocolError, "too-large"
    ),
    "chunks of one byte": Case(forever(CHUNKED, b"1\r\nx\r\n" * 4096), RemoteProtocolError, "too-many-pieces"),
    "a chunk with a head without end": Case(forever(CHUNKED + b"1;", b"x" * 65536), RemoteProtocolError, "too-large"),
    "headers without end": Case(forever(HEAD, b"x-a: " + b"b" * 1000 + b"\r\n"), RemoteProtocolError, "too-large"),
    "a header without end": Case(forever(HEAD + b"x-a: ", b"b" * 65536), RemoteProtocolError, "too-large"),
    "a trailer without end": Case(forever(CHUNKED + b"0\r\n", b"x-a: b\r\n" * 4096), RemoteProtocolError, "too-large"),
    "a status line without end": Case(forever(b"HTTP/1.1 200 ", b"o" * 65536), RemoteProtocolError, "too-large"),
    "interim answers without end": Case(forever(b"", b"HTTP/1.1 103 Early\r\n\r\n"), Unavailable, "no-answer", 0.2),
    "a bomb of 64 MiB in 64 KiB": Case(
        saying(HEAD, b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(BOMB), BOMB),
        RemoteProtocolError,
        "bad-encoding",
    ),
    "a bomb in a bomb": Case(saying(HEAD, b"content-encoding: br, gzip\r\n\r\n", BOMB), RemoteProtocolError, "bad-encoding"),
    "silence": Case(silent(), Unavailable, "no-answer", 0.3),
    "silence after a paid request": Case(silent(), Uncertain, "no-answer", 0.5, sent=True),
    "silence in the middle of a header": Case(silent(HEAD + b"x-a"), Unavailable, "no-answer", 0.3),
    "silence in the middle of the body": Case(silent(HEAD + b"content-length: 9\r\n\r\nabc"), Unavailable, "no-answer", 0.3),
    "an end in the middle of the body": Case(saying(HEAD, b"content-length: 9\r\n\r\nabc"), Unavailable, "no-answer"),
    "headers without end after a paid request": Case(forever(HEAD, b"x-a: b\r\n" * 512), Uncertain, "no-answer", sent=True),
    "two lengths": Case(saying(HEAD, b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}x"), Unavailable, "no-answer"),
    "a negative length": Case(saying(HEAD, b"content-length: -1\r\n\r\n"), Unavailable, "no-answer"),
    "no HTTP at all": Case(saying(b"SSH-2.0-OpenSSH_9.9\r\n"), Unavailable, "no-answer"),
    "a redirect": Case(saying(b"HTTP/1.1 308 There\r\nlocation: http://127.0.0.1/\r\n\r\n"), Refused, "redirected"),
}


async def meet(case: Case, sink: Sink | None = None) -> Answer:
    async with serving(case.speak) as server:
        http = Http(VirtualClock())
        http._client(False)  # reading the trusted certificates is not the host's doing
        try:
            request = Request("POST", f"http://127.0.0.1:{server.port}/", body=b"{}")
            return await http.send(request, deadline=case.deadline, limit=LIMIT, irreversible=case.sent, sink=sink)
        finally:
            await http.close()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_host_ends_in_a_named_error_and_in_little_memory(name: str) -> None:
    case = HOSTILE[name]
    tracemalloc.start()
    try:
        with pytest.raises(ReconcilerError) as caught:
            asyncio.run(meet(case))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (type(caught.value), caught.value.code) == (case.error, case.code)
    assert peak < PEAK, f"{peak / MIB:.1f} MiB"


def test_a_drip_that_keeps_the_connection_alive_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Content with a generous deadline, because the host says it is large, and a byte now and then."""
    monkeypatch.setattr(http_module, "IDLE", 0.05)

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"content-length: 99999999\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    got: list[bytes] = []
    with pytest.raises(Unavailable, match="less than 4096 bytes a second"):
        asyncio.run(meet(Case(drip, Unavailable, "no-answer", deadline=1e9), Sink(got.append)))
    assert got, "it was read for as long as it might have been honest"


def test_content_goes_to_its_sink_in_pieces_and_not_through_memory() -> None:
    size = 24 * MIB
    pieces: list[int] = []

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"content-length: %d\r\n\r\n" % size)
        for _ in range(size // 65536):
            writer.write(b"x" * 65536)
            await writer.drain()

    async def play() -> None:
        async with serving(send) as server:
            http = Http(VirtualClock())
            await http.send(
                Request("GET", f"http://127.0.0.1:{server.port}/"), limit=size, sink=Sink(lambda b: pieces.append(len(b)))
            )
            await http.close()

    tracemalloc.start()
    try:
        asyncio.run(play())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(pieces) == size
    assert peak < PEAK
