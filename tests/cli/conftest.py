"""The command line as its users meet it: a process of its own, whose streams and exit code are all there is."""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import warm

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "reconciler"]
PASSPHRASE = "correct horse battery staple"


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its data as JSON."""
        return json.loads(self.out)


Cli = Callable[..., Ran]


@cache
def program() -> str:
    """A script that is the program, started as a fork of one that has loaded everything: a second less for each command.

    What needs the start itself (`COMMAND`) is tested in test_validate, test_help and wherever a process is left running.
    """
    folder = Path(tempfile.mkdtemp(prefix="cli-"))
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "tests.e2e.warm", str(folder / "door")],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip

    def close() -> None:
        os.killpg(server.pid, signal.SIGKILL)
        server.communicate()
        shutil.rmtree(folder)

    atexit.register(close)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    warm.client(folder / "reconciler", folder / "door")
    return str(folder / "reconciler")


def run(
    *words: str | Path, cwd: Path, env: dict[str, str] | None = None, stdin: str | bytes | None = None, expect: int | None = 0
) -> Ran:
    """Run one command; its exit code must be `expect` unless that is None. The environment names no terminal and no settings."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RECONCILER_")}
    whole = {
        **clean,
        "PYTHONPATH": str(ROOT),
        "RECONCILER_PASSPHRASE": PASSPHRASE,
        "TERM": "dumb",
        "COLUMNS": "100",
        **(env or {}),
    }
    given = stdin.encode() if isinstance(stdin, str) else stdin
    pipe = {"input": given} if given is not None else {"stdin": subprocess.DEVNULL}
    done = subprocess.run(
        [program(), *map(str, words)], cwd=cwd, env=whole, capture_output=True, timeout=120, check=False, **pipe
    )
    ran = Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
    assert expect is None or ran.code == expect, f"exit code {ran.code}\n{ran.out}\n{ran.err}"
    assert "Traceback" not in ran.err, ran.err
    return ran


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository as `init` makes it, with something to sell."""
    root = tmp_path / "shop"
    run("init", root, "--template", "market-data", "--name", "Corner Desk", cwd=tmp_path)
    return root


@pytest.fixture
def cli(repo: Path) -> Cli:
    """Run a command in that repository."""

    def call(*words: str | Path, **how: Any) -> Ran:
        return run(*words, **{"cwd": repo, **how})

    return call


@dataclass(frozen=True)
class Shop:
    """A repository whose Network is a devnet on loopback, with a filled purse."""

    root: Path

    def __call__(self, *words: str | Path, **how: Any) -> Ran:
        """Run a command in it."""
        return run(*words, **{"cwd": self.root, **how})


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One devnet on free ports for the tests of a module; it is gone afterwards."""
    root = tmp_path_factory.mktemp("cli") / "shop"
    run("init", root, "--template", "market-data", "--name", "Corner Desk", cwd=root.parent)
    made = Shop(root)
    made("devnet", "up", "--base-port", "0")
    try:
        gateway = 'gateway: {publicUrl: "https://shop.example.com"}'
        (root / "network.yaml").write_text(made("devnet", "manifest").out + f"  {gateway}\n")
        made("wallet", "fund", "--satoshis", "500000")
        yield made
    finally:
        made("devnet", "down")


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state directory of a devnet that serves for a module: two storage hosts, one overlay node, no purse filled."""
    from reconciler.devnet import control
    from tests.cli.producer import up

    state = up(tmp_path_factory.mktemp("net"))
    yield state
    control.down(state)
