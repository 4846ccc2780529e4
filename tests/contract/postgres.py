"""A PostgreSQL server of the tests' own: made in a directory, reached through a socket in it, gone with the process.

The server refuses to run as root, so root starts it as another user. Where no server is installed the tests that want one are
skipped, loudly.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/bin")


@dataclass(frozen=True)
class Server:
    """A running server; every store is a schema of its own."""

    socket: Path

    def url(self, store: Path) -> str:
        """The schema for a path, made when it is first asked for; a database of its own would take a second each."""
        import psycopg

        name = _schema(store)
        with psycopg.connect(f"host={self.socket} user=postgres dbname=postgres", autocommit=True) as sql:
            sql.execute(f'CREATE SCHEMA IF NOT EXISTS "{name}"')
        return f"postgresql+psycopg://postgres@/postgres?host={self.socket}&options=-csearch_path%3D{name}"

    def ask(self, store: Path, question: str) -> str:
        """The one text that a question has for an answer, asked with another tool."""
        import psycopg

        with psycopg.connect(f"host={self.socket} user=postgres dbname=postgres options='-csearch_path={_schema(store)}'") as sql:
            row = sql.execute(question).fetchone()
        assert row is not None
        return str(row[0])


def _schema(store: Path) -> str:
    return "t_" + hashlib.sha256(str(store).encode()).hexdigest()[:24]


def _programs() -> Path | None:
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    there = [path for place in _PLACES for path in sorted(Path("/").glob(place.lstrip("/"))) if (path / "initdb").exists()]
    return there[-1] if there else None


def _somebody() -> dict[str, Any]:
    """How a child becomes a user that is not root: nothing to do unless we are."""
    if os.getuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    who = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}


@cache
def server() -> Server:
    """The server of this process; skips the test that asks where there is none to be had."""
    programs = _programs()
    if programs is None:
        pytest.skip("NO POSTGRESQL: install a server (Debian: postgresql) to have this ledger tested, too")
    pytest.importorskip("psycopg", reason="NO PSYCOPG: pip install 'reconciler[postgres]'")
    place, somebody = Path(tempfile.mkdtemp(prefix="pg-")), _somebody()
    if somebody:
        os.chown(place, somebody["user"], somebody["group"])
    clean = {"cwd": place, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, **somebody}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    made = subprocess.run(
        [programs / "initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"], check=False, **clean, **silent
    )
    assert made.returncode == 0, made.stderr.decode()
    # Durability is not what is tested here, and a test run is no place for ten thousand fsyncs.
    options = [
        "-c",
        "listen_addresses=",
        "-c",
        f"unix_socket_directories={place}",
        "-c",
        "fsync=off",
        "-c",
        "max_connections=200",
    ]
    running = subprocess.Popen(
        [programs / "postgres", "-D", "data", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **clean
    )

    def end() -> None:
        running.send_signal(signal.SIGQUIT)
        running.wait(20)
        shutil.rmtree(place, ignore_errors=True)

    atexit.register(end)
    subprocess.run([programs / "pg_isready", "-q", "-h", place, "-t", "30"], check=False, **clean)
    _await(programs, place, clean, running)
    return Server(place)


def _await(programs: Path, place: Path, clean: dict[str, Any], running: subprocess.Popen[bytes]) -> None:
    """Until it takes connections: asking is a process of its own each time, so this is no busy loop."""
    for _ in range(400):
        assert running.poll() is None, "the server ended while it was starting"
        if subprocess.run([programs / "pg_isready", "-q", "-h", place], check=False, **clean).returncode == 0:
            return
    raise AssertionError("the server does not come up")
