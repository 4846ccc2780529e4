"""Who stops reading our output ends us, as with any program; a host that closes a connection does not."""

import os
import signal
import subprocess
import sys

import pytest

from tests.cli.conftest import COMMAND, ROOT

# What a daemon does all day: it has printed something, and writes to hosts, one of which has just gone.
GONE = """\
import logging, socket, sys
from reconciler.cli.main import run

assert run(["version"]) == 0
ours, theirs = socket.socketpair()
theirs.close()
try:
    ours.send(b"x")
except BrokenPipeError:
    logging.getLogger("reconciler").warning("nobody reads this log")
    sys.stderr.write("nor this\\n")
    print("an error like any other")
"""


def start(words: list[str], **streams: int) -> "subprocess.Popen[str]":
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, text=True, **streams)


def broken() -> int:
    """The end for writing of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("words", [["version"], ["validate", "examples/01-identity"]])
def test_output_that_nobody_reads_ends_the_program_without_a_word(words: list[str]) -> None:
    writing = broken()
    child = start([*COMMAND, *words], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, said = child.communicate(timeout=60)
    assert (child.returncode, said) == (-signal.SIGPIPE, "")


@pytest.mark.parametrize("flags", [[], ["-u"]])
def test_a_connection_that_was_closed_is_an_error_and_a_log_that_nobody_reads_is_none(flags: list[str]) -> None:
    writing = broken()
    child = start([sys.executable, *flags, "-c", GONE], stdout=subprocess.PIPE, stderr=writing)
    os.close(writing)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0 and out.splitlines()[1:] == ["an error like any other"]
