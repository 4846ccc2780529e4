"""Content brought back from storage hosts into files: whatever host has it sound, going on where an earlier attempt stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reconciler.engine import spread
from reconciler.engine.spread import Reader
from reconciler.model.canonical import Json
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Conflict, ReconcilerError, Refused, RemoteProtocolError, Unavailable
from reconciler.model.record import Record
from reconciler.ports import Ports

_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Fetched:
    """One file in place: which, how large, where it stands, and the host it came from; "" when it stood there already."""

    path: str
    size: int
    place: Path
    host: str


def wanted(record: Record, paths: Sequence[str]) -> list[Mapping[str, Json]]:
    """The files of a published dataset, or those of the given paths; Refused when it has none of that name."""
    files = {file["path"]: file for file in record.outputs.get("files") or ()}
    if not files:
        raise Refused(
            "no-content", f"cannot fetch {record.ref}: it has published no files", hint="name a Dataset that was applied"
        )
    for path in paths:
        if path not in files:
            raise Refused(
                "no-such-file", f"cannot fetch {path}: {record.ref} has no such file", hint=f"it has {', '.join(files)}"
            )
    return [file for path, file in files.items() if not paths or path in paths]


def holders(record: Record, sha256: str, reader: Reader, only: str = "") -> list[Endpoint]:
    """The hosts that keep a copy by the record, as this reader tries them; Refused when there is none to ask."""
    held = [host for host in spread.holders(record, sha256, reader) if only in ("", host.name)]
    if not held:
        whom = only or "any storage host of its Network"
        raise Refused(
            "no-copy", f"cannot fetch {sha256[:12]} from {whom}: it has no copy by the record", hint="reconciler describe"
        )
    return held


async def retrieve(
    ports: Ports,
    record: Record,
    paths: Sequence[str],
    folder: Path,
    only: str = "",
    region: str = "",
    done: Callable[[Fetched], None] = lambda one: None,
) -> list[Fetched]:
    """Bring files of a dataset below a folder, each verified by its hash; nothing that stands there is overwritten.

    Every file is a request of its own to the hosts that its rule balances; `region` is where the reader is.
    """
    found, request = [], ports.entropy.bytes(8).hex()
    for file in wanted(record, paths):
        reader = Reader(f"{request}/{file['path']}", region)
        one = await _retrieve(ports, record, file, folder, reader, only)
        done(one)
        found.append(one)
    return found


async def _retrieve(ports: Ports, record: Record, file: Mapping[str, Json], folder: Path, reader: Reader, only: str) -> Fetched:
    path, sha256 = PurePosixPath(file["path"]), str(file["sha256"])
    if path.is_absolute() or ".." in path.parts:
        raise Refused("outside", f"cannot fetch {path}: it would stand outside of {folder}")
    place = folder / path
    if place.exists():
        if _digest(place) != sha256:
            raise Conflict(
                "in-the-way", f"cannot fetch {path}: {place} is something else", hint="move it away, or use another --to"
            )
        return Fetched(str(path), file["size"], place, "")
    why: list[str] = []
    unsure: ReconcilerError | None = None
    for host in holders(record, sha256, reader, only):
        try:
            if await ports.storage.fetch(host, sha256, place):
                return Fetched(str(path), file["size"], place, host.name)
            why.append(f"{host.name}: missing or damaged")
        except (Unavailable, RemoteProtocolError, Refused) as error:
            unsure = error
            why.append(f"{host.name}: {error.message}")
    message = f"cannot fetch {path} from any host: {'; '.join(why)}"
    if isinstance(unsure, Unavailable):
        raise Unavailable("no-host", message, hint="run it again; it goes on where it stopped")
    raise Refused("no-copy", message, hint="reconciler apply repairs copies while the file is here")


def _digest(place: Path) -> str:
    hashed = hashlib.sha256()
    with place.open("rb") as stream:
        while block := stream.read(_BLOCK):
            hashed.update(block)
    return hashed.hexdigest()
