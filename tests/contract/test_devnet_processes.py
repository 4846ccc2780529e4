"""A served devnet comes up with one call and goes with one, leaving neither process nor file."""

import os
import signal
import socket
from pathlib import Path

import httpx
import pytest

from reconciler.devnet import control
from reconciler.devnet.config import Config
from reconciler.devnet.world import Plan
from reconciler.model.errors import Refused, Unavailable
from reconciler.model.ref import Outpoint
from reconciler.wire import uhrp
from reconciler.wire.headers import TIP_PATH, parse_tip
from reconciler.wire.keys import sha256
from reconciler.wire.overlay import lookup_request, parse_lookup

SMALL = Plan(storage=(("eu1", "EU"),))


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def ports(running: control.Running) -> list[int]:
    return [httpx.URL(url).port or 0 for url in (*running.urls.values(), running.control)]


def closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.row("E-512")
@pytest.mark.row("E-513")
def test_up_serves_every_host_and_down_leaves_nothing(tmp_path: Path) -> None:
    running = control.up(Config(tmp_path, SMALL))
    try:
        assert set(running.urls) == {"arc", "headers", "overlay-1", "eu1"}
        assert running.regions == {"overlay-1": "EU", "eu1": "EU"}
        assert control.up(Config(tmp_path, SMALL)) == running  # up again is the same devnet
        status = control.status(tmp_path)
        assert status["pid"] == running.pid and status["down"] == []
        assert os.getsid(running.pid) == running.pid  # it outlives the session that started it
        assert all(f'"{url}"' in control.manifest(tmp_path) for url in running.urls.values())
    finally:
        assert control.down(tmp_path)
    assert gone(running.pid)
    assert all(closed(port) for port in ports(running))
    assert list(tmp_path.iterdir()) == []
    assert control.down(tmp_path) is False
    with pytest.raises(Unavailable, match="none is running"):
        control.status(tmp_path)


@pytest.mark.row("E-512")
def test_the_switches_reach_their_hosts(tmp_path: Path) -> None:
    running = control.up(Config(tmp_path, SMALL))
    try:
        height = control.mine(tmp_path, 3)
        assert control.reorg(tmp_path, 2) == height + 1
        coin, beef = control.faucet(tmp_path, b"\x51", 777)
        assert coin.vout == 0 and beef[:4] == bytes.fromhex("0100beef")
        content, offer = b"to be damaged", {"fileSize": 13, "retentionPeriod": 60}
        digest = sha256(content).hex()
        target = httpx.post(running.urls["eu1"] + "/upload", json=offer).json()["uploadURL"]
        assert httpx.put(target, content=content).status_code == 200
        asked = lookup_request("ls_uhrp", uhrp.query(sha256=digest))
        answer = httpx.post(running.urls["overlay-1"] + "/lookup", json=asked)
        (found,) = parse_lookup(answer.headers["content-type"], answer.content)
        control.evict(tmp_path, "overlay-1", Outpoint(found.txid, found.vout))
        assert httpx.post(running.urls["overlay-1"] + "/lookup", json=asked).json()["outputs"] == []
        control.corrupt(tmp_path, "eu1", digest)
        assert httpx.get(running.urls["eu1"] + "/cdn/eu1-1").content != content
        control.delete(tmp_path, "eu1", digest)
        assert httpx.get(running.urls["eu1"] + "/cdn/eu1-1").status_code == 404
        control.wipe(tmp_path, "eu1")
        control.drop(tmp_path, "eu1")
        assert control.status(tmp_path)["down"] == ["eu1"]
        assert closed(httpx.URL(running.urls["eu1"]).port or 0)
        control.restore(tmp_path, "eu1")
        control.partition(tmp_path, "overlay-1")
        assert control.status(tmp_path)["partitioned"] == ["overlay-1"]
        control.restore(tmp_path, "overlay-1")
        for refused in (
            lambda: control.corrupt(tmp_path, "eu1", digest),
            lambda: control.drop(tmp_path, "mars"),
            lambda: control.wipe(tmp_path, "mars"),
        ):
            with pytest.raises(Refused, match="cannot"):
                refused()
    finally:
        control.down(tmp_path)
    assert gone(running.pid)


def test_what_a_killed_devnet_left_behind_is_swept_away(tmp_path: Path) -> None:
    running = control.up(Config(tmp_path, SMALL))
    os.kill(running.pid, signal.SIGKILL)
    os.waitpid(running.pid, 0)
    assert (tmp_path / "devnet.json").exists()
    assert control.find(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.row("E-512")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_cleanly_and_takes_its_state_file(tmp_path: Path, number: signal.Signals) -> None:
    running = control.up(Config(tmp_path, SMALL))
    os.kill(running.pid, number)
    _, status = os.waitpid(running.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("devnet.log", "")]


def test_a_devnet_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"cannot listen on port {port}"):
            control.up(Config(tmp_path, SMALL, ports={"arc": port}))
    assert list(tmp_path.iterdir()) == []


def test_blocks_come_on_a_timer_when_asked_for(tmp_path: Path) -> None:
    running = control.up(Config(tmp_path, SMALL, block_every=0.05))
    try:
        first = parse_tip(httpx.get(running.urls["headers"] + TIP_PATH).content).height
        for _ in range(2000):  # each look takes a moment; a block takes a twentieth of a second
            if parse_tip(httpx.get(running.urls["headers"] + TIP_PATH).content).height >= first + 2:
                break
        else:
            pytest.fail("no block came")
    finally:
        control.down(tmp_path)
    assert list(tmp_path.iterdir()) == []
