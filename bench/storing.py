"""Two gigabytes into a directory store, beside `cp` and a hash of the copy on the same disk.

Ours is what an apply does with a blob: look for it, copy it in, make it durable, read all of it back and hash it, in a process
that has the HTTP client and all stores loaded. The peers are `cp` with `sha256sum` of the copy, and the same with the copy made
durable in between, which is the like of ours. All read the source from the page cache and share the disk: they take turns.

    python bench/storing.py FILE DIRECTORY SHA256    # what is weighed: stores one file
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure import Verdict, Weight, alternately, python, title, weigh

GIB = 1024**3
SIZE = 2 * GIB
ROUNDS = 3
# Peak memory that a store of any size may take, in MiB.
MOST_MEMORY = 200


def write_file(path: Path, size: int) -> str:
    """A file of that size that no disk can shorten; its SHA-256 in hex."""
    block, hashed = os.urandom(1024 * 1024), hashlib.sha256()
    with path.open("wb") as stream:
        for number in range(size // len(block)):
            piece = number.to_bytes(8, "big") + block[8:]
            stream.write(piece)
            hashed.update(piece)
    return hashed.hexdigest()


async def store(path: Path, shelf: Path, sha256: str) -> None:
    """As the engine performs a Store effect."""
    from reconciler.adapters.clock import SystemClock
    from reconciler.adapters.http import Http
    from reconciler.adapters.storage import StorageHosts
    from reconciler.model.endpoint import Endpoint

    http = Http(SystemClock())
    stores, host = StorageHosts(http), Endpoint("disk", str(shelf), kind="filesystem")
    try:
        assert await stores.find(host, sha256) is None
        await stores.put(host, sha256, path, "application/octet-stream", 0, 0)
        assert (await stores.check(host, sha256))["state"] == "ok"
    finally:
        await http.close()


def main() -> list[Verdict]:
    """Measure, print, judge."""
    title(f"Storing: {SIZE / GIB:g} GiB into a directory, beside cp and a hash")
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        source, shelf, copy = home / "source", home / "shelf", home / "copy"
        shelf.mkdir()
        sha256 = write_file(source, SIZE)

        def ours() -> Weight:
            (shelf / sha256).unlink(missing_ok=True)
            return weigh(python(__file__, source, shelf, sha256))

        def plain(between: str = "") -> Weight:
            copy.unlink(missing_ok=True)
            return weigh(["/bin/sh", "-c", f"cp {source} {copy} {between} && sha256sum {copy}"])

        mine, theirs, durable = alternately(ROUNDS, ours, plain, lambda: plain(f"&& sync {copy}"))
    for what, weight in (("ours", mine), ("cp, hash", theirs), ("cp, sync, hash", durable)):
        print(f"  {what:<16}{weight}   {SIZE / weight.wall / 1024**2:7.0f} MiB/s")
    return [
        _verdict("store 2 GiB, beside cp and hash", mine, theirs, 0.5),
        _verdict("store 2 GiB, beside cp, sync and hash", mine, durable, None),
        Verdict("store 2 GiB, peak memory", f"{mine.memory:.0f} MiB", f"{MOST_MEMORY} MiB", mine.memory / MOST_MEMORY, 1, True),
    ]


def _verdict(what: str, ours: Weight, peer: Weight, goal: float | None) -> Verdict:
    told = [f"{SIZE / weight.wall / 1024**2:.0f} MiB/s" for weight in (ours, peer)]
    return Verdict(what, told[0], told[1], peer.wall / ours.wall, goal)


if __name__ == "__main__":
    asyncio.run(store(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
