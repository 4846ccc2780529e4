"""Who holds a lease, by a name that tells a dead process of this machine from a living one.

The name is host:pid:start, where start is the kernel's start time of the process, so that a recycled pid is not
mistaken for the process that had it before. Of other machines nothing can be known: their leases run out.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path


def own_name() -> str:
    """The name of this process."""
    return f"{socket.gethostname()}:{os.getpid()}:{_start(os.getpid())}"


def is_dead(name: str) -> bool:
    """True only when the named process ran on this machine and is certainly gone. A worker's name may follow after a slash."""
    host, _, rest = name.partition("/")[0].partition(":")
    pid, _, start = rest.partition(":")
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    return _start(int(pid)) != start


def _start(pid: int) -> str:
    """Start time in clock ticks since boot (field 22 of /proc/<pid>/stat); empty when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The second field is the command in parentheses and may hold anything, so fields are counted from its end.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
