"""Speaking with systemd: how we are (sd_notify(3)), that we are not stuck (watchdog), and sockets it opened for us.

Where no systemd listens all of this is silence, which is no fault.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from functools import cache

# The first file descriptor that systemd hands over (sd_listen_fds(3)).
FIRST_FD = 3
# Looks at the workers within one period: systemd wants a sign before the period ends, and a look may come just before a beat.
_LOOKS = 4


def notify(*lines: str) -> bool:
    """Send `READY=1`, `STOPPING=1` or the like; False when nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    # A leading @ stands for the abstract namespace, whose names begin with a zero byte.
    target = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.sendto("\n".join(lines).encode(), target)
    except OSError:
        return False
    return True


def reloading() -> bool:
    """Say that the settings are being read again; READY=1 ends it. systemd tells it from a stale one by the monotonic time."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_period() -> float | None:
    """Seconds within which systemd wants a sign of life from this very process; None when it wants none."""
    microseconds, wanted = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or not int(microseconds) or (wanted and wanted != str(os.getpid())):
        return None
    return int(microseconds) / 1_000_000


async def watchdog(alive: Callable[[], bool], period: float) -> None:
    """Send WATCHDOG=1 for as long as `alive` says yes; a no is silence, and systemd knows what to do with silence."""
    while True:
        await asyncio.sleep(period / _LOOKS)
        if alive():
            notify("WATCHDOG=1")


@cache
def handed_over() -> Mapping[str, socket.socket]:
    """The listening sockets that systemd opened for this process, by the name the unit gives them (FileDescriptorName).

    The variables are taken out of the environment, so that no child believes them meant for it; the answer stays the same.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}
    found = {}
    for index in range(int(count)):
        descriptor = FIRST_FD + index
        os.set_inheritable(descriptor, False)
        name = names[index] if index < len(names) and names[index] else str(index)
        found[name] = socket.socket(fileno=descriptor)
    return found
