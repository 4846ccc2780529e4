"""An S3-compatible object store of the tests' own: nanio, a real server with a directory, in a process beside them.

Its access log is the witness: every request that reached it, with its status, whatever our side believes it sent.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.model.endpoint import Endpoint

KEY_ID, SECRET, SECRET_IN = "AKTEST", "test/secret+key", "TEST_OBJECT_STORE_SECRET"
_LINE = re.compile(r'"(?P<method>[A-Z]+) (?P<target>\S+) HTTP/1\.1" (?P<status>\d{3})')
_PART = re.compile(r"/(?P<name>[^/?]+)\?partNumber=(?P<number>\d+)&")


@dataclass(frozen=True)
class ObjectStore:
    """A running store: where it is, where it keeps things, and what it was asked."""

    url: str
    directory: Path
    log: Path

    def bucket(self, name: str, **options: object) -> Endpoint:
        """A bucket, made when it is first asked for; its secret is in the environment."""
        (self.directory / name).mkdir(exist_ok=True)
        told = {"accessKeyId": KEY_ID, "region": "us-east-1", **options}
        return Endpoint(name, f"{self.url}/{name}", kind="s3", secret={"env": SECRET_IN}, options=told)

    def asked(self) -> list[tuple[str, str, int]]:
        """(method, target, status) of every request so far, in order."""
        return [(one["method"], one["target"], int(one["status"])) for one in _LINE.finditer(self.log.read_text())]

    def parts(self, sha256: str) -> Counter[int]:
        """How often each part of an object arrived whole."""
        sent = ((_PART.search(target), status) for method, target, status in self.asked() if method == "PUT")
        return Counter(int(part["number"]) for part, status in sent if part and status == 200 and part["name"].endswith(sha256))


@contextlib.contextmanager
def object_store(home: Path) -> Iterator[ObjectStore]:
    """A store that lives as long as the block."""
    (home / "objects").mkdir(parents=True)
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    words = ["-m", "nanio", "serve", "--data-dir", home / "objects", "--host", "127.0.0.1", "--port", port]
    env = {**os.environ, "NANIO_ACCESS_KEY": KEY_ID, "NANIO_SECRET_KEY": SECRET, "PYTHONUNBUFFERED": "1"}
    with (home / "access.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, *map(str, words)], stdout=log, stderr=log, env=env)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, process)
            yield ObjectStore(url, home / "objects", home / "access.log")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        assert process.poll() is None, "the object store did not start"
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return  # it answers, if only to say that it does not know us
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the object store does not answer")
