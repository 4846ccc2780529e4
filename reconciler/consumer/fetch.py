"""Bringing what was bought to disk, from whoever has it: the producer first, then every host that promises the bytes.

What a file must be, its signed manifest says, not who serves it. A host that is down, has lost the bytes or sends others is
passed over; the next one goes on where it stopped. A file stands under its name only once its hash is right.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reconciler.consumer.offers import File
from reconciler.consumer.purchases import Purchase
from reconciler.consumer.said import rebased, with_token
from reconciler.model.errors import Conflict, Refused
from reconciler.web import Progress, Web

# Told of a download: path, bytes that are there, bytes in all.
Told = Callable[[str, int, int], None]
Replicas = Callable[[str], Awaitable[Sequence[str]]]
_BLOCK = 1024 * 1024


def untold(path: str, done: int, size: int) -> None:
    """Nobody looks on."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """One file in place. `source` is where it came from, "" if it stood there; `passed` says why others were left."""

    path: str
    size: int
    sha256: str
    place: Path
    source: str
    passed: Mapping[str, str]


def chosen(files: Sequence[File], paths: Sequence[str]) -> list[File]:
    """The files of these paths, or all; Refused when there is none of a name."""
    known = {file.path: file for file in files}
    for path in paths:
        if path not in known:
            raise Refused("no-such-file", f"cannot fetch {path}: there is no such file", hint=f"there are {', '.join(known)}")
    return [known[path] for path in paths] if paths else list(files)


def place_of(file: File, target: Path, alone: bool) -> Path:
    """Where a file goes: `target` itself for a lone file that is not to go into a directory, else below it."""
    path = PurePosixPath(file.path)
    if path.is_absolute() or ".." in path.parts:
        raise Refused("outside", f"cannot fetch {path}: it would stand outside of {target}")
    if alone and not target.is_dir():
        return target
    return target / path


async def bring(
    web: Web, purchase: Purchase, files: Sequence[File], target: Path, replicas: Replicas, told: Told = untold
) -> list[Fetched]:
    """Every file in place, one after the other; Conflict when something else stands there."""
    served = {str(one["path"]): str(one["url"]) for one in purchase.files}
    found = []
    for file in files:
        place = place_of(file, target, len(files) == 1)
        if place.exists():
            if await asyncio.to_thread(sha256_of, place) != file.sha256:
                raise Conflict(
                    "in-the-way",
                    f"cannot fetch {file.path}: {place} is something else",
                    hint="move it away, or name another place",
                )
            found.append(Fetched(file.path, file.size, file.sha256, place, "", {}))
            continue
        own = [with_token(rebased(served[file.path], purchase.url), purchase.token)] if file.path in served else []
        urls = [*own, *await replicas(file.sha256)]
        source, passed = await web.download(urls, file.sha256, file.size, place, _progress(told, file.path))
        found.append(Fetched(file.path, file.size, file.sha256, place, _plain(source), {_plain(u): w for u, w in passed.items()}))
    return found


def _progress(told: Told, path: str) -> Progress:
    return lambda done, size: told(path, done, size)


def _plain(url: str) -> str:
    """An address without the token that opened it."""
    return url.partition("?")[0]


def sha256_of(place: Path) -> str:
    """SHA-256 of a file, hex."""
    hashed = hashlib.sha256()
    with place.open("rb") as stream:
        while block := stream.read(_BLOCK):
            hashed.update(block)
    return hashed.hexdigest()
