"""Copies of a ledger in a file: made while others write, checked by their hash, put back in one step.

SQLite's own backup is used, which gives a consistent copy whatever happens meanwhile. Keys are not in the ledger, hence not in
the copy. A copy is `FILE` and `FILE.sha256`, the latter as sha256sum writes it.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from reconciler.model.errors import Conflict, Refused

_OWNER_ONLY = 0o600
_BLOCK = 1024 * 1024


def backup(database: str, file: Path) -> str:
    """Copy the ledger to a new file and write its digest beside it; the digest. Refused for a Postgres or an existing file."""
    source = _path(database)
    if file.exists():
        raise Refused("exists", f"cannot write {file}: it exists", hint="name another file")
    part = file.with_name(file.name + ".part")
    part.unlink(missing_ok=True)
    try:
        part.touch(mode=_OWNER_ONLY)
        copy(source, part)
        digest = _digest(part)
        _write(mark_of(file), f"{digest}  {file.name}\n")
        part.rename(file)
    except OSError as error:
        raise Refused("backup", f"cannot write {file}: {error.strerror}", hint="check the path and the space left") from error
    finally:
        part.unlink(missing_ok=True)
    return digest


def mark_of(file: Path) -> Path:
    """Where the digest of a copy stands."""
    return file.with_name(file.name + ".sha256")


def require_whole(file: Path) -> None:
    """Conflict unless the bytes are those the digest beside them names, and are a ledger whose pages hang together."""
    try:
        said = mark_of(file).read_text(encoding="ascii").split()
        actual = _digest(file)
    except (OSError, UnicodeDecodeError) as error:
        raise Refused("backup", f"cannot read {file} and {mark_of(file).name}: {error}", hint="both are needed") from error
    if said[:1] != [actual]:
        raise Conflict("backup-changed", f"cannot use {file}: its digest is not the one in {mark_of(file).name}")
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as opened:
            (word,) = opened.execute("PRAGMA quick_check").fetchone()
            opened.execute("SELECT lineage FROM lineage").fetchone()
    except sqlite3.Error as error:
        raise Conflict("backup-broken", f"cannot use {file}: it is no ledger ({error})") from error
    if word != "ok":
        raise Conflict("backup-broken", f"cannot use {file}: {word}")


def put_back(file: Path, database: str, aside: str) -> Path | None:
    """Make a copy of `file` the ledger; the one it replaces is kept beside it under the name `aside`, which is returned."""
    target = _path(database)
    part, kept = target.with_name(target.name + ".part"), target.with_name(aside)
    part.unlink(missing_ok=True)
    part.touch(mode=_OWNER_ONLY)
    copy(file, part)
    replaced = target.exists()
    if replaced:
        copy(target, kept)
        kept.chmod(_OWNER_ONLY)
    # Before the exchange: a log that belongs to the old file would be replayed into the new one. All of it is in `kept`.
    for tail in ("-wal", "-shm"):
        target.with_name(target.name + tail).unlink(missing_ok=True)
    part.replace(target)
    _sync(target.parent)
    return kept if replaced else None


def copy(source: Path, target: Path) -> None:
    """A consistent copy of a database that may be in use, on the disk when this returns."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode=DELETE")
    with target.open("rb") as stream:
        os.fsync(stream.fileno())


def _path(database: str) -> Path:
    if "://" in database:
        hint = "use pg_dump and pg_restore; afterwards reconciler plan tells whether it is behind"
        raise Refused("not-a-file", "cannot copy a ledger that is not a SQLite file", hint=hint)
    return Path(database)


def _digest(file: Path) -> str:
    hashed = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            hashed.update(block)
    return hashed.hexdigest()


def _write(file: Path, text: str) -> None:
    with file.open("w", encoding="ascii") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
