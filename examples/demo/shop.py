"""A producer's directory on this machine: the commands typed in it, its daemon, and its ledger seen from outside."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import urlopen

from examples.demo.stage import note, typed

EXAMPLE = Path(__file__).resolve().parents[1] / "market-data"
PATIENCE = 120.0
PAUSE = 0.02
# The hosts of the example, by the last two digits of their port; and the daemon's own listener.
PORTS = {"overlay-1": 1, "overlay-2": 2, "arc": 10, "headers": 11, "eu1": 21, "us1": 22, "ap1": 23}
LISTEN = 90
# Where the gateway of the shop listens, once there is one.
GATEWAY = 80

_COMMIT = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28}\b")
T = TypeVar("T")


class Shop:
    """A copy of the example in a temporary directory. One file is held back, for later."""

    def __init__(self, root: Path) -> None:
        self.root, self.base = root, free_base()
        self.env = {**os.environ, "RECONCILER_PASSPHRASE": "only a demonstration"}
        self.daemon: subprocess.Popen[bytes] | None = None
        self._heard = 0
        shutil.copytree(EXAMPLE, root, ignore=shutil.ignore_patterns(".state", ".keys", ".devnet"))
        for name in ("network.yaml", "reconciler.yaml"):
            self.edit(name, "127.0.0.1:90", f"127.0.0.1:{self.base // 100}")
            self.edit(name, "127.0.0.1:8401", f"127.0.0.1:{self.base + LISTEN}")
        self.held_back = shutil.move(root / "data" / "fx-2015.csv", root.parent / "fx-2015.csv")

    @property
    def log(self) -> Path:
        """Where the daemon writes, one JSON object a line."""
        return self.root.parent / "daemon.log"

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text in a file, as an editor does."""
        path = self.root / name
        path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")

    # --- commands ------------------------------------------------------------------------------------

    def command(self, *words: str) -> list[str]:
        """The program in this interpreter."""
        return [sys.executable, "-m", "reconciler", *words]

    def run(self, *words: str, ok: tuple[int, ...] = (0,), hidden: tuple[str, ...] = ()) -> int:
        """Type a command; its output goes to the terminal. `hidden` words are of no interest to the audience."""
        typed("reconciler", *words)
        done = subprocess.run(self.command(*words, *hidden), cwd=self.root, env=self.env, check=False)
        if done.returncode not in ok:
            raise SystemExit(f"demo: `reconciler {' '.join(words)}` ended with {done.returncode}")
        return done.returncode

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command that is not listened to."""
        nothing = subprocess.DEVNULL
        return subprocess.Popen(self.command(*words), cwd=self.root, env=self.env, stdout=nothing, stderr=nothing)

    # --- the daemon ----------------------------------------------------------------------------------

    def start_daemon(self) -> None:
        """`reconciler run` in the background."""
        typed("reconciler", "run")
        with self.log.open("ab") as log:
            words = self.command("--log-format", "json", "run")
            self.daemon = subprocess.Popen(words, cwd=self.root, env=self.env, stdout=log, stderr=log)

    def hear(self, event: str, **wanted: object) -> dict[str, Any]:
        """Wait for the daemon's next line about an event, and tell the audience."""

        def said() -> dict[str, Any] | None:
            fits = (line for line in self._lines() if line["event"] == event and _whole(line))
            return next((line for line in fits if all(line.get(name) == value for name, value in wanted.items())), None)

        found = self._until(said, f"the daemon logged {event}")
        note(f"the daemon: {event}  {', '.join(_words(found))}")
        return found

    def _lines(self) -> Iterator[dict[str, Any]]:
        """What the daemon has logged since the last line that was waited for."""
        lines = self.log.read_text("utf-8").splitlines(keepends=True)
        while self._heard < len(lines) and lines[self._heard].endswith("\n"):
            self._heard += 1
            yield json.loads(lines[self._heard - 1])

    def stop_daemon(self) -> int:
        """SIGTERM, and wait for it to drain; its exit code, 0 when there is none."""
        if self.daemon is None:
            return 0
        if self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGTERM)
        return self.daemon.wait(PATIENCE)

    # --- the ledger, from outside --------------------------------------------------------------------

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        """Look into the ledger, read-only; nothing while it is not there yet, or being written."""
        try:
            with sqlite3.connect(f"file:{self.root}/.state/ledger.db?mode=ro", uri=True, timeout=5) as db:
                return db.execute(question).fetchall()
        except sqlite3.OperationalError:
            return []

    def until(self, what: str, question: str) -> None:
        """Wait until the ledger answers with at least one row."""
        self._until(lambda: self.ask(question), what)

    def purse(self) -> int:
        """Satoshis in the purse, whatever state its coins are in."""
        return int(self.ask("select sum(satoshis) from coins where state != 'spent'")[0][0])

    def reach(self, url: str) -> None:
        """Wait until somebody answers there."""

        def answered() -> bool:
            try:
                with urlopen(url, timeout=5):
                    return True
            except OSError:
                return False

        self._until(answered, f"{url} answered")

    def _until(self, look: Callable[[], T | None], what: str) -> T:
        deadline = time.monotonic() + PATIENCE
        while not (found := look()):
            if self.daemon is not None and self.daemon.poll() is not None:
                raise SystemExit(f"demo: the daemon ended with {self.daemon.returncode}\n{self.log.read_text()}")
            if time.monotonic() > deadline:
                raise SystemExit(f"demo: waited {PATIENCE:.0f} s in vain until {what}")
            time.sleep(PAUSE)
        return found


def _whole(line: dict[str, Any]) -> bool:
    """Whether a plan was carried out to its end; what is left over is in the next one."""
    done, _, of = str(line.get("outcome", "")).partition("/")
    return line["event"] != "plan.applied" or done == of


def _words(line: dict[str, Any]) -> Iterator[str]:
    """What matters of a line of the log, for people."""
    for name in ("plan", "revision", "ref", "outcome", "satoshis", "error", "hint"):
        if line.get(name) not in (None, ""):
            value = _COMMIT.sub(r"\1", str(line[name]))
            yield f"{value} sat" if name == "satoshis" else value


def free_base() -> int:
    """A port with room for the network above it."""
    for base in range(21000, 29000, 100):
        try:
            for offset in (*PORTS.values(), LISTEN, GATEWAY):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        return base
    raise SystemExit("demo: no free ports on loopback")
