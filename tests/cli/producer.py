"""A small producer's repository on a served devnet: manifests, a filled purse, and commands run as processes of their own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.compose import workspace
from reconciler.devnet import control
from reconciler.devnet.config import Config
from reconciler.devnet.world import Plan
from reconciler.settings import load
from tests.cli.conftest import COMMAND, PASSPHRASE, ROOT, Ran, run

DEVNET = Plan(overlays=(("overlay-1", "EU"),), storage=(("eu1", "EU"), ("us1", "US")))
KEYS = {"DESK_KEY": "11" * 32, "WALLET_KEY": "22" * 32}
SETTINGS = """\
wallet: {key: {env: WALLET_KEY}}
mode: auto
guards: {deletes: {percent: 100}, spend: {day: 100000sat}}
"""
HEAD = "apiVersion: overlay.bsv/v1alpha1\n"
IDENTITY = (
    HEAD
    + """\
kind: Identity
metadata: {name: desk}
spec:
  roles: [producer]
  displayName: The Desk
  key: {env: DESK_KEY, generate: never}
  register: true
"""
)
PRICE = HEAD + "kind: PricePlan\nmetadata: {name: standard}\nspec: {model: per-item, rate: 25sat}\n"
DATASET = (
    HEAD
    + """\
kind: Dataset
metadata: {name: rates, labels: {team: fx}}
spec:
  identityRef: desk
  content: {file: data/rates.csv}
  title: Rates
  license: CC0-1.0
  pricePlanRef: standard
  replicas: 2
"""
)
CSV = "date,rate\n2024-01-01,1.10\n2024-01-02,1.11\n"


@dataclass(frozen=True)
class Producer:
    """One repository. Calling it runs a command there."""

    root: Path
    devnet: Path
    env: dict[str, str] = field(default_factory=lambda: dict(KEYS))

    def __call__(self, *words: str | Path, expect: int | None = 0, env: dict[str, str] | None = None, **how: Any) -> Ran:
        """Run a command to its end; the exit code must be `expect`."""
        return run(*words, cwd=self.root, env={**self.env, **(env or {})}, expect=expect, **how)

    def start(self, *words: str, stdout: Any = subprocess.PIPE, **env: str) -> subprocess.Popen[str]:
        """Start a command and leave it running, in a process group of its own, like a job of a shell."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("RECONCILER_")}
        whole = {**clean, "PYTHONPATH": str(ROOT), "RECONCILER_PASSPHRASE": PASSPHRASE, "TERM": "dumb", **self.env, **env}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*COMMAND, *words], cwd=self.root, env=whole, process_group=0, **pipes)

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file of the repository whole, as an editor does."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(content if isinstance(content, bytes) else content.encode())
        part.replace(path)

    def status(self) -> Any:
        """The ledger as `status` tells it."""
        return self("status", "-o", "json").json

    def purse(self) -> int:
        """Satoshis free to spend."""
        return int(self("wallet", "balance", "-o", "json").json["devnet"]["free"])


def up(directory: Path) -> Path:
    """Start the devnet of a module; returns its state directory, which `control.down` takes."""
    state = directory / "devnet"
    control.up(Config(state, DEVNET))
    return state


def producer(root: Path, devnet: Path, *, funded: bool = True, files: dict[str, str | bytes] | None = None) -> Producer:
    """A repository with an Identity, a PricePlan and a Dataset, or with `files` instead of those."""
    made = Producer(root, devnet)
    network = control.manifest(devnet).replace("name: devnet", "name: local")
    made.write("network.yaml", network + '  gateway: {publicUrl: "https://shop.example.com"}\n')
    made.write("reconciler.yaml", SETTINGS)
    contents = {"identity.yaml": IDENTITY, "price.yaml": PRICE, "dataset.yaml": DATASET, "data/rates.csv": CSV}
    for name, content in (contents if files is None else files).items():
        made.write(name, content)
    if funded:
        made("wallet", "fund")
    return made


def fresh(root: Path, devnet: Path) -> Producer:
    """A funded repository with keys of its own, so that tests on one devnet do not meet."""
    made = producer(root, devnet, funded=False)
    made.env.update(DESK_KEY=os.urandom(32).hex(), WALLET_KEY=os.urandom(32).hex())
    made("wallet", "fund")
    return made


async def leases(made: Producer) -> list[str]:
    """The keys that somebody holds now."""
    async with workspace(load(made.root)) as space:
        return [lease.key for lease in space.ports.queue.holders(space.ports.clock.now())]


def free_port() -> int:
    """A port of the loopback interface that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(process: subprocess.Popen[str]) -> None:
    """Make sure that a process we started is gone."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.communicate()


_IDS = (
    (re.compile(r"pl_[0-9a-f]{10}"), "pl_ID"),
    (re.compile(r"dir@[0-9a-f]{12}"), "dir@REVISION"),
    (re.compile(r"sha256 [0-9a-f]{8}…"), "sha256 DIGEST…"),
    (re.compile(r"key [0-9a-f]{8}…"), "key KEY…"),
    (re.compile(r"\b[0-9a-f]{8}…"), "TXID…"),
    (re.compile(r"  \d+\.\d+s$", re.MULTILINE), "  SECONDS"),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "http://HOST"),
    (re.compile(r"at height \d+"), "at height N"),
)


def normal(text: str) -> str:
    """A transcript without what differs from run to run."""
    for pattern, name in _IDS:
        text = pattern.sub(name, text)
    return text
