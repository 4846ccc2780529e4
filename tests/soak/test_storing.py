"""Two gigabytes to a directory, a bucket and a UHRP host, killed in every stage: nothing that was finished is sent again.

The program is the real one, in a process of its own; so are the object store and the devnet. The object store's access log, the
inode of the copy and the devnet's counters say what really happened. Figures are in docs/explanation/performance.md.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import httpx
import pytest

from bench.storing import GIB, MOST_MEMORY, write_file
from reconciler.adapters.copying import part_of
from reconciler.devnet import control
from reconciler.devnet.config import Config
from reconciler.devnet.world import Plan
from tests.contract.objectstore import KEY_ID, SECRET, SECRET_IN, object_store

SIZE = int(os.environ.get("RECONCILER_SOAK_BYTES", str(2 * GIB)))
DEADLINE = 1800.0
GLANCE = 0.02
KEYS = {"DESK_KEY": "11" * 32, "WALLET_KEY": "22" * 32, SECRET_IN: SECRET}
HEAD = "apiVersion: overlay.bsv/v1alpha1\n"
# In the order in which they are filled: hosts go by name.
STORES = """\
  storage:
    - {{name: a-disk, url: "{shelf}", kind: filesystem}}
    - {{name: b-bucket, url: "{bucket}", kind: s3, s3: {{accessKeyId: {key}, secretKey: {{env: {secret}}}}}}}
    - {{name: c-host, url: "{uhrp}"}}
"""
DESK = (
    HEAD
    + """\
kind: Identity
metadata: {name: desk}
spec: {roles: [producer], displayName: The Desk, key: {env: DESK_KEY, generate: never}, register: false}
---
"""
    + HEAD
    + """\
kind: Dataset
metadata: {name: archive}
spec: {identityRef: desk, content: {file: data/archive.bin}, title: Archive, license: CC0-1.0, replicas: 3}
"""
)


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that ended: after how many seconds, its peak memory in MiB as last seen, its exit code."""

    seconds: float
    memory: float
    code: int


@dataclass(frozen=True, slots=True)
class Maker:
    """The repository, and the program in it."""

    root: Path
    log: Path

    def run(self, *words: str, until: Callable[[], bool] = lambda: False) -> Ended:
        """The program to its end, or to a SIGKILL as soon as `until` says so."""
        env = {**os.environ, **KEYS}
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "reconciler", "-C", str(self.root), *words], stdout=log, stderr=log, env=env
            )
        began, memory = monotonic(), 0.0
        while child.poll() is None:
            assert monotonic() - began < DEADLINE
            memory = max(memory, _peak(child.pid))
            if until():
                child.send_signal(signal.SIGKILL)
                child.wait()
            sleep(GLANCE)
        return Ended(monotonic() - began, memory, child.returncode)


def _peak(pid: int) -> float:
    """The most memory that a process has had since it began its program, in MiB; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(found[0].split()[1]) / 1024 if found else 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@pytest.mark.slow
def test_two_gigabytes_to_three_hosts_and_a_kill_in_every_stage(tmp_path: Path) -> None:
    root, shelf, home = tmp_path / "repository", tmp_path / "shelf", tmp_path / "devnet"
    (root / "data").mkdir(parents=True)
    shelf.mkdir()
    sha256 = write_file(root / "data" / "archive.bin", SIZE)
    maker = Maker(root, tmp_path / "program.log")
    (root / "reconciler.yaml").write_text("state: .state\nwallet: {key: {env: WALLET_KEY}}\nmode: auto\n")
    (root / "desk.yaml").write_text(DESK)
    running = control.up(Config(home, Plan(storage=(("eu1", "EU"),), directory=home / "data")))
    try:
        with object_store(tmp_path / "s3") as objects:
            before, rest = control.manifest(home).split("  storage:\n")
            told = STORES.format(
                shelf=shelf, bucket=objects.bucket("shop").url, key=KEY_ID, secret=SECRET_IN, uhrp=running.urls["eu1"]
            )
            (root / "network.yaml").write_text(before + told + rest[rest.index("  broadcasters") :])
            assert maker.run("wallet", "fund", "--satoshis", "1000000").code == 0, maker.log.read_text()
            staged, copy = root / ".state" / "blobs" / sha256[:2] / sha256, shelf / sha256
            parts = -(-SIZE // (16 * 1024**2))
            stages: dict[str, Callable[[], bool]] = {
                "our own copy is made": lambda: _size(part_of(staged)) > SIZE // 2,
                "a-disk is written": lambda: _size(part_of(copy)) > SIZE // 2,
                "b-bucket is sent parts": lambda: objects.parts(sha256).total() > parts // 2,
                "c-host is sent the file": lambda: any(_size(path) > SIZE // 2 for path in home.rglob("*.part")),
            }
            peak, inode = 0.0, 0
            for what, until in stages.items():
                killed = maker.run("apply", "--yes", until=until)
                assert killed.code == -signal.SIGKILL, maker.log.read_text()
                peak = max(peak, killed.memory)
                inode = inode or (part_of(copy).stat().st_ino if part_of(copy).exists() else 0)
                print(f"  killed while {what}: after {killed.seconds:.1f} s, {killed.memory:.0f} MiB at most", flush=True)
            last = maker.run("apply", "--yes")
            assert last.code == 0, maker.log.read_text()
            peak = max(peak, last.memory)
            print(f"  gone on to the end in {last.seconds:.1f} s; {peak:.0f} MiB at most in all of them", flush=True)
            assert objects.parts(sha256) == dict.fromkeys(range(1, parts + 1), 1), "a part that had arrived was sent again"
            assert copy.stat().st_ino == inode, "the copy was begun anew"
            stats = httpx.get(f"{running.urls['eu1']}/devnet/stats", timeout=60).json()
            assert stats["bytes"] >= SIZE
            assert maker.run("plan", "--detailed-exitcode").code == 0, "every copy is there and sound"
            assert peak < MOST_MEMORY
            spoken = maker.log.read_text()
            assert "upload to a-disk: " in spoken or SIZE < GIB
            print(json.dumps({"bytes": SIZE, "parts": parts, "peakMiB": round(peak), "lastSeconds": round(last.seconds, 1)}))
    finally:
        control.down(home)
