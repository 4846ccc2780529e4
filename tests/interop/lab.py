"""A real overlay node that others wrote, on loopback, for the length of a test session.

The node is the published BSV overlay engine behind its usual HTTP surface, plus `/_lab` routes that play the
chain: it believes exactly the Merkle roots it was told. The clients are scripts over the published JavaScript
SDK. What is not ours here is the point: our bytes are judged by code that never saw ours.

Environment: INTEROP_LAB names the lab's folder (default: `shared/interop` beside the repository); INTEROP_HOME names where
its npm packages live (default: below XDG_CACHE_HOME). Needs Node 20 and npm. Where something is missing the tests are
skipped with the reason in the summary, and fail instead when CI is set.
"""

import fcntl
import json
import os
import selectors
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
SKIPPED = "the interop lab did not run"
# A first start downloads about a hundred npm packages; a warm one takes a second.
START_SECONDS = 300
CLIENT_SECONDS = 60


@dataclass(frozen=True)
class Coin:
    """A mined output that pays a script we chose, with its proof."""

    txid: str
    vout: int
    satoshis: int
    height: int
    merkle_root: str
    raw: bytes
    bump: bytes
    beef: bytes


@dataclass(frozen=True)
class Lab:
    """A running node: its address, its own word on what it serves, and what a test may ask of it."""

    url: str
    topics: tuple[str, ...]
    services: tuple[str, ...]
    home: Path

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One HTTP exchange; any status is an answer."""
        with httpx.Client(base_url=self.url, trust_env=False, timeout=30) as client:
            return client.request(method, path, **options)

    def tell(self, method: str, path: str, body: Any = None) -> Any:
        """A lab route that must answer 200 with JSON."""
        answer = self.request(method, path, json=body)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def faucet(self, script: bytes, satoshis: int = 1000) -> Coin:
        """A coin of a block of its own, whose root the node believes."""
        coin = self.tell("POST", "/_lab/faucet", {"lockingScript": script.hex(), "satoshis": satoshis})
        return Coin(
            txid=coin["txid"],
            vout=coin["vout"],
            satoshis=coin["satoshis"],
            height=coin["height"],
            merkle_root=coin["merkleRoot"],
            raw=bytes.fromhex(coin["rawTx"]),
            bump=bytes.fromhex(coin["bump"]),
            beef=bytes.fromhex(coin["beef"]),
        )

    def believe(self, height: int, merkle_root: str) -> None:
        """Tell the node a block's root."""
        self.tell("POST", "/_lab/roots", {"height": height, "merkleRoot": merkle_root})

    def forget(self, height: int, merkle_root: str) -> None:
        """Take a root back: what a reorg looks like to the node."""
        self.tell("DELETE", "/_lab/roots", {"height": height, "merkleRoot": merkle_root})

    def mine(self) -> Any:
        """Put what the node's broadcaster has seen into a block."""
        return self.tell("POST", "/_lab/mine", {})

    def chain(self) -> Any:
        """{"tip": height, "roots": {height: [root]}}."""
        return self.tell("GET", "/_lab/chain")

    def client(self, name: str, *arguments: str) -> Any:
        """Run a JavaScript client (`lookup`, `submit`, `uhrp-download`) and return the JSON it printed, failed or not."""
        return script(self.home, f"clients/{name}.mjs", *arguments)


def script(home: Path, *command: str) -> Any:
    """Run node below the lab's packages and return the JSON it printed, failed or not."""
    with _locked(home, fcntl.LOCK_SH):
        done = subprocess.run(
            ["node", *command],
            cwd=home, capture_output=True, text=True, timeout=CLIENT_SECONDS, env=_environment(home), check=False,
        )  # fmt: skip
    assert done.stdout, f"{command[0]} printed nothing; it said: {done.stderr}"
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A node on a free port, told to admit plain-http advertisements, stopped by its process id at the end."""
    with running() as node:
        yield node


@contextmanager
def running(port: int = 0) -> Iterator[Lab]:
    """A node with an empty memory while the block runs; 0 takes a free port, a known one starts a node again."""
    with launched("start-node", "--port", str(port), "--allow-http-ads", "--open-topics", "lab,producer") as (ready, home):
        yield Lab(ready["url"], tuple(ready["topics"]), tuple(ready["services"]), home)


@contextmanager
def launched(name: str, *arguments: str) -> Iterator[tuple[dict[str, Any], Path]]:
    """A server of the lab while the block runs: what its READY line says, and where its packages are."""
    folder = Path(os.environ.get("INTEROP_LAB") or ROOT.parent / "shared" / "interop").resolve()
    home = Path(os.environ.get("INTEROP_HOME") or _cache() / "overlay-interop-lab").resolve()
    missing = [tool for tool in ("node", "npm") if shutil.which(tool) is None]
    if missing:
        _absent(f"{' and '.join(missing)} not on PATH; install Node 20 with npm")
    if not (folder / name).is_file():
        _absent(f"no lab in {folder}; set INTEROP_LAB to its folder")
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile("w+") as complaints:
        # The start may copy files into `home`, which a client of another test process could be reading.
        with _locked(home, fcntl.LOCK_EX):
            process = subprocess.Popen(
                [str(folder / name), *arguments], stdout=subprocess.PIPE, stderr=complaints, env=_environment(home)
            )
            try:
                ready = _ready(process)
            except BaseException:
                _stop(process)
                complaints.seek(0)
                print(complaints.read())
                raise
        try:
            yield ready, home
        finally:
            _stop(process)


def _ready(process: subprocess.Popen[bytes]) -> Any:
    """The JSON of the READY line; a failed assertion when the node ends or dawdles instead."""
    assert process.stdout is not None
    deadline = time.monotonic() + START_SECONDS
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            assert selector.select(max(0.0, deadline - time.monotonic())), f"the node was not ready in {START_SECONDS} s"
            some = os.read(process.stdout.fileno(), 65536)
            assert some, f"the node ended with {process.wait()} before it was ready"
            line += some
    word, _, rest = line.decode().partition(" ")
    assert word == "READY", f"the node said {line!r}"
    return json.loads(rest)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End this very process, politely at first."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _absent(why: str) -> None:
    """Skip, or fail where a skip would hide that nothing was checked."""
    if os.environ.get("CI"):
        pytest.fail(f"{SKIPPED}: {why}")
    pytest.skip(f"{SKIPPED}: {why}")


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "INTEROP_HOME": str(home)}


@contextmanager
def _locked(home: Path, how: int) -> Iterator[None]:
    """Hold the lock of the shared install: exclusive to (re)install and start, shared to run from it."""
    with (home.parent / f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, how)
        yield
