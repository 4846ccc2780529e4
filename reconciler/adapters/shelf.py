"""A storage host that is a directory: <dir>/<sha256>, for a web server or a mounted disk to serve.

Nothing is paid and nothing expires. The directory must exist: a mount that is not there must not look like an empty host.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from reconciler.adapters.blobs import sync_directory
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Conflict, Refused, Unavailable

# 9999-12-31T23:59:59Z: a directory forgets nothing, and dates end there.
NEVER = 253_402_300_799
_BLOCK = 1024 * 1024


def put(host: Endpoint, sha256: str, path: Path) -> None:
    """Copy the file's bytes in, whole or not at all; Conflict when they are not the promised ones."""
    place = _place(host, sha256)
    if check(host, sha256) == "ok":
        return
    handle, name = tempfile.mkstemp(prefix=".new-", dir=place.parent)
    try:
        hashed = hashlib.sha256()
        with os.fdopen(handle, "wb") as target, path.open("rb") as source:
            while block := source.read(_BLOCK):
                hashed.update(block)
                target.write(block)
            target.flush()
            os.fsync(target.fileno())
        if hashed.hexdigest() != sha256:
            raise Conflict("blob-changed", f"cannot store {sha256}: {path} has other bytes by now", hint="plan again")
        Path(name).chmod(0o644)  # content on a host is public
        Path(name).rename(place)
    except OSError as error:
        raise Unavailable("shelf", f"cannot write to {host.name}: {error.strerror}", hint=f"check {place.parent}") from error
    finally:
        Path(name).unlink(missing_ok=True)
    sync_directory(place.parent)


def has(host: Endpoint, sha256: str) -> bool:
    """Whether something stands there."""
    return _place(host, sha256).is_file()


def check(host: Endpoint, sha256: str) -> str:
    """One of "ok", "missing" and "corrupt", by reading all of it."""
    place = _place(host, sha256)
    hashed = hashlib.sha256()
    try:
        with place.open("rb") as stream:
            while block := stream.read(_BLOCK):
                hashed.update(block)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        raise Unavailable("shelf", f"cannot read {place}: {error.strerror}") from error
    return "ok" if hashed.hexdigest() == sha256 else "corrupt"


def read(host: Endpoint, sha256: str) -> bytes | None:
    """All of its bytes; None when it is not there."""
    place = _place(host, sha256)
    try:
        return place.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable("shelf", f"cannot read {place}: {error.strerror}") from error


def remove(host: Endpoint, sha256: str) -> None:
    """Take it down; nothing when it is not there."""
    try:
        _place(host, sha256).unlink(missing_ok=True)
    except OSError as error:
        raise Unavailable("shelf", f"cannot remove {sha256} from {host.name}: {error.strerror}") from error


def location(host: Endpoint, sha256: str) -> str:
    """The file URL."""
    return _place(host, sha256).as_uri()


def _place(host: Endpoint, sha256: str) -> Path:
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise Refused("bad-digest", f"cannot use {sha256[:80]!r} as a digest", hint="write SHA-256 in lower-case hex")
    parts = urlsplit(host.url)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise Refused("bad-url", f"cannot use {host.url} as a directory", hint="write file:///path, or an absolute path")
    directory = Path(unquote(parts.path) if parts.scheme else host.url)
    if not directory.is_dir():
        raise Unavailable("shelf", f"cannot use {host.name}: {directory} is not a directory", hint="mount or create it")
    return directory / sha256
