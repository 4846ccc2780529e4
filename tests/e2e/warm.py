"""The program, loaded once: a process that forks for every command, so that a page full of commands takes seconds.

Each command still runs in a process of its own with its own arguments, directory, environment and streams; only the
imports are shared. `python -m tests.e2e.warm SOCKET` serves; the client is a script that knows nothing but the socket.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import struct
import sys
from pathlib import Path

import reconciler
from reconciler.cli import main

# A packet carries the arguments and the environment of one command.
PACKET = 128 * 1024
# What libraries import when they are first used.
LATER = ("httpcore", "anyio._backends._asyncio", "sqlalchemy.dialects.sqlite.pysqlite", "sqlalchemy.pool", "certifi")
CLIENT = """\
#!{python} -IS
import json, os, signal, socket, struct, sys
words = sys.argv[1:]
if words[:2] == ["devnet", "up"]:
    words += os.environ.get("PAGE_PORTS", "").split()
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
    door.connect({door!r})
    asked = {{"words": words, "cwd": os.getcwd(), "env": dict(os.environ)}}
    socket.send_fds(door, [json.dumps(asked).encode()], [0, 1, 2])
    (child,) = struct.unpack("=i", door.recv(4))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: os.kill(child, number))
    code = door.recv(1)
sys.exit(code[0] if code else 137)
"""


def client(path: Path, door: Path) -> None:
    """Write the script that stands for the program: it hands over its arguments and streams and exits with the code."""
    path.write_text(CLIENT.format(python=sys.executable, door=str(door)))
    path.chmod(0o755)


def serve(door: Path) -> None:
    """Load the program and fork for every command, until somebody ends this process."""
    for module in pkgutil.walk_packages(reconciler.__path__, "reconciler."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    main.bind()
    for name in LATER:
        importlib.import_module(name)
    # A child that collects garbage would touch, and so copy, every page of what was loaded here.
    gc.freeze()
    # Children end by themselves; nobody waits for them here.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(door))
        listener.listen(16)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> None:
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        asked, streams, _, _ = socket.recv_fds(connection, PACKET, 3)
        told = json.loads(asked)
        # The client hands signals on to this process.
        connection.send(struct.pack("=i", os.getpid()))
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(told["cwd"])
        os.environ.clear()
        os.environ.update(told["env"])
        sys.argv = ["reconciler", *told["words"]]
        code = main.run(told["words"])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.send(bytes([code]))
        os._exit(code)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
