"""The program as processes that can be started often: each is a fork of one that has loaded everything and done nothing.

What a process does between its start and its first look at anything is loading code, which leaves nothing behind; so a kill in
that time shows nothing, and most of the time of a short command goes there.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Started:
    """A running process. Its socket is closed by the kernel when it dies, whatever it dies of."""

    pid: int
    door: socket.socket

    def ended(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        return bool(select.select([self.door], [], [], seconds)[0])

    def kill(self) -> None:
        """SIGKILL, unless it has ended by itself."""
        if not self.ended(0):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, seconds: float) -> int | None:
        """Its exit code; None when it was killed."""
        assert self.ended(seconds), f"process {self.pid} does not end"
        with self.door:
            code = self.door.recv(1)
        return code[0] if code else None


class Program:
    """Starts commands in a directory, with an environment. `close` ends the process they are forked from."""

    def __init__(self, door: Path, directory: Path, env: Mapping[str, str]) -> None:
        self.door, self.directory, self.env = door, directory, dict(env)
        self._parent = subprocess.Popen(
            [sys.executable, "-u", "-m", "tests.e2e.warm", str(door)],
            cwd=ROOT, env={**env, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._parent.stdout is not None
        assert self._parent.stdout.readline() == b"ready\n"

    def start(self, words: Sequence[str], out: IO[bytes], err: IO[bytes]) -> Started:
        """A process of its own for one command."""
        door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        door.connect(str(self.door))
        asked = json.dumps({"words": list(words), "cwd": str(self.directory), "env": self.env}).encode()
        with Path(os.devnull).open("rb") as nothing:
            socket.send_fds(door, [asked], [nothing.fileno(), out.fileno(), err.fileno()])
        (pid,) = struct.unpack("=i", door.recv(4))
        return Started(pid, door)

    def close(self) -> None:
        """Start nothing more."""
        self._parent.kill()
        self._parent.communicate()
