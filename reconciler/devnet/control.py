"""Bringing a served devnet up and down, and its switches, as functions: what command lines and test fixtures call.

A devnet is known by its state directory. `up` starts a process of its own session that outlives its parent; `down` ends it
and leaves nothing behind, no process and no file.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from reconciler.devnet.config import Config, arguments
from reconciler.devnet.serve import STATE_FILE
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused, Unavailable
from reconciler.model.ref import Outpoint

LOG_FILE = "devnet.log"
# A cold start imports and binds in about a second; a loaded machine may need many.
START_DEADLINE = 60.0
STOP_DEADLINE = 15.0
_POLL = 0.02


@dataclass(frozen=True, slots=True)
class Running:
    """A devnet that is up: its process, its control URL, and the URL and region of every host."""

    pid: int
    control: str
    urls: Mapping[str, str]
    regions: Mapping[str, str]


def up(config: Config, *, deadline: float = START_DEADLINE) -> Running:
    """Start a devnet and wait until every host answers; the one that runs there already is returned as it is."""
    running = find(config.state_dir)
    if running is not None:
        return running
    config.state_dir.mkdir(parents=True, exist_ok=True)
    log = config.state_dir / LOG_FILE
    ready, tell = os.pipe()
    try:
        try:
            os.set_inheritable(tell, True)
            pid = _spawn([*arguments(config), "--ready-fd", str(tell)], log)
        finally:
            os.close(tell)
        answered, _, _ = select.select([ready], [], [], deadline)
        text = os.read(ready, 1 << 16) if answered else b""
    finally:
        os.close(ready)
    if not text:
        _end(pid)
        said = log.read_text(errors="replace").strip()[-500:]
        log.unlink(missing_ok=True)
        raise Unavailable("devnet-start", f"cannot start the devnet: {said or 'it did not answer in time'}")
    return _running(json.loads(text))


def find(state_dir: Path) -> Running | None:
    """The devnet of that directory when it answers; None when there is none. What a killed one left behind is removed."""
    try:
        running = _running(json.loads((state_dir / STATE_FILE).read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(
            "devnet-state", f"cannot read {state_dir / STATE_FILE}", hint="remove it if no devnet is running"
        ) from error
    try:
        if _get(running.control + "/devnet/status")["pid"] == running.pid:
            return running
    except (httpx.ConnectError, httpx.RemoteProtocolError, Refused, KeyError, ValueError):
        pass  # nobody is there, or somebody else has the port now
    _sweep(state_dir)
    return None


def down(state_dir: Path, *, deadline: float = STOP_DEADLINE) -> bool:
    """Stop the devnet of that directory; False when none was running. Afterwards neither process nor file is left."""
    running = find(state_dir)
    if running is not None:
        os.kill(running.pid, signal.SIGTERM)
        until = time.monotonic() + deadline
        while _alive(running.pid):
            if time.monotonic() > until:
                raise Unavailable("devnet-stop", f"cannot stop the devnet: process {running.pid} is still there")
            time.sleep(_POLL)
    _sweep(state_dir)
    return running is not None


def status(state_dir: Path) -> Mapping[str, Json]:
    """Process, URLs, regions, height, mempool size, hosts down or partitioned."""
    return _get(_require(state_dir).control + "/devnet/status")


def manifest(state_dir: Path) -> str:
    """The Network manifest that points at the devnet, as YAML."""
    return _request("GET", _require(state_dir).control + "/devnet/manifest").text


def drop(state_dir: Path, host: str) -> None:
    """Take a host down: its port refuses connections."""
    _post(_require(state_dir).control + "/devnet/drop", {"host": host})


def partition(state_dir: Path, host: str) -> None:
    """Cut a host off: it accepts connections and never answers."""
    _post(_require(state_dir).control + "/devnet/partition", {"host": host})


def restore(state_dir: Path, host: str) -> None:
    """Bring a host back from either."""
    _post(_require(state_dir).control + "/devnet/restore", {"host": host})


def mine(state_dir: Path, blocks: int = 1) -> int:
    """Append blocks; the new height."""
    return int(_post(_chain(state_dir) + "/devnet/mine", {"blocks": blocks})["height"])


def reorg(state_dir: Path, depth: int, drop: Sequence[str] = ()) -> int:
    """Replace the last `depth` blocks by one more than that; the new height."""
    return int(_post(_chain(state_dir) + "/devnet/reorg", {"depth": depth, "drop": list(drop)})["height"])


def faucet(state_dir: Path, script: bytes, satoshis: int) -> tuple[Outpoint, bytes]:
    """A mined coin on that locking script, and the BEEF that proves it."""
    return faucet_at(_chain(state_dir), script, satoshis)


def faucet_at(broadcaster: str, script: bytes, satoshis: int) -> tuple[Outpoint, bytes]:
    """The same, asked of a broadcaster's URL: all that a Network manifest knows of a devnet."""
    coin = _post(broadcaster + "/devnet/faucet", {"lockingScript": script.hex(), "satoshis": satoshis})
    return Outpoint(coin["txid"], coin["vout"]), bytes.fromhex(coin["beef"])


def evict(state_dir: Path, host: str, outpoint: Outpoint) -> None:
    """Make an overlay node lose one output."""
    _post(_url(state_dir, host) + "/devnet/evict", {"outpoint": str(outpoint)})


def corrupt(state_dir: Path, host: str, sha256: str) -> None:
    """Flip a bit of that content on a storage host."""
    _post(_url(state_dir, host) + "/devnet/corrupt", {"sha256": sha256})


def delete(state_dir: Path, host: str, sha256: str) -> None:
    """Make a storage host lose that content."""
    _post(_url(state_dir, host) + "/devnet/delete", {"sha256": sha256})


def wipe(state_dir: Path, host: str) -> None:
    """Empty an overlay node or a storage host."""
    _post(_url(state_dir, host) + "/devnet/wipe", {})


# --- processes and requests ------------------------------------------------------------------------------------


def _spawn(words: Iterable[str], log: Path) -> int:
    """A process in a session of its own that writes to `log`; its pid."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    command = [sys.executable, "-m", "reconciler.devnet", *words]
    return os.posix_spawn(sys.executable, command, dict(os.environ), file_actions=files, setsid=True)


def _alive(pid: int) -> bool:
    """Whether the process runs; a child of ours that has ended is reaped."""
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _end(pid: int) -> None:
    """Make sure that a child which never became ready is gone."""
    if _alive(pid):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _sweep(state_dir: Path) -> None:
    for name in (STATE_FILE, LOG_FILE):
        (state_dir / name).unlink(missing_ok=True)


def _running(facts: Mapping[str, Json]) -> Running:
    return Running(int(facts["pid"]), facts["control"], dict(facts["urls"]), dict(facts["regions"]))


def _require(state_dir: Path) -> Running:
    running = find(state_dir)
    if running is None:
        raise Unavailable(
            "devnet-down", f"cannot reach a devnet in {state_dir}: none is running", hint="start one with devnet up"
        )
    return running


def _url(state_dir: Path, host: str) -> str:
    urls = _require(state_dir).urls
    if host not in urls:
        raise Refused("devnet-host", f"cannot find a host named {host}", hint=f"there are {', '.join(urls)}")
    return urls[host]


def _chain(state_dir: Path) -> str:
    """The first broadcaster: every one stands before the same chain."""
    return next(iter(_require(state_dir).urls.values()))


def _get(url: str) -> Mapping[str, Json]:
    return dict(_request("GET", url).json())


def _post(url: str, body: Mapping[str, Json]) -> Mapping[str, Json]:
    try:
        return dict(_request("POST", url, body).json())
    except httpx.TransportError as error:
        hint = "start one with devnet up, or bring the host back with devnet restore"
        raise Unavailable("devnet-silent", f"cannot reach {url.partition('/devnet/')[0]}: {error}", hint=hint) from error


def _request(method: str, url: str, body: Mapping[str, Json] | None = None) -> httpx.Response:
    """One call to the devnet; Refused with its own words when it says no."""
    with httpx.Client(trust_env=False, timeout=30.0) as client:
        answer = client.request(method, url, json=body)
    if answer.is_success:
        return answer
    said = answer.json() if "json" in answer.headers.get("content-type", "") else {}
    reason = said.get("message") or said.get("detail") or said.get("description") or f"it answered {answer.status_code}"
    raise Refused("devnet-refused", f"cannot do that: {reason}", hint=said.get("hint"))
