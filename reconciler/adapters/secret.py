"""Where a secret lives: {"env": VAR}, {"file": path} or {"credential": name}. Manifests name the place, never the value.

A file must be closed to everybody but its owner. A credential is a file that the service manager put into
$CREDENTIALS_DIRECTORY for this process alone, so its mode is not ours to judge (an access list shows as group bits).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from reconciler.model.canonical import Json
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused

# No passphrase, token or key file is longer; a larger one is a mistake (a device, a log) that must not fill memory.
MAX_SECRET = 64 * 1024
CREDENTIALS = "CREDENTIALS_DIRECTORY"


def private_bytes(path: Path) -> bytes:
    """The content of a file that only its owner may touch; Refused when it is missing, open to others or absurdly large."""
    try:
        with path.open("rb") as stream:
            state = os.fstat(stream.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise Refused("secret-kind", f"cannot use {path}: it is not a regular file")
            if stat.S_IMODE(state.st_mode) & 0o077:
                raise Refused(
                    "secret-mode",
                    f"cannot use {path}: mode {stat.S_IMODE(state.st_mode):04o} lets others read or change it",
                    hint=f"chmod 600 {path}",
                )
            content = stream.read(MAX_SECRET + 1)
    except OSError as error:
        raise Refused("secret-missing", f"cannot read {path}: {error.strerror}", hint="check the path and its owner") from error
    if len(content) > MAX_SECRET:
        raise Refused("secret-size", f"cannot use {path}: it is larger than {MAX_SECRET} bytes")
    return content


def credential_path(name: str) -> Path:
    """The file of a credential handed over by the service manager; Refused outside such a service."""
    directory = os.environ.get(CREDENTIALS)
    if not directory:
        raise Refused(
            "no-credentials",
            f"cannot read credential {name!r}: {CREDENTIALS} is not set",
            hint=f"run under systemd with LoadCredentialEncrypted={name}:..., or name a file or env instead",
        )
    if "/" in name or name in ("", ".", ".."):
        raise Refused("bad-credential", f"cannot use {name!r} as the name of a credential", hint="use a plain name")
    return Path(directory) / name


def credential_bytes(name: str) -> bytes:
    """The content of a credential; Refused when it is not there."""
    path = credential_path(name)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_SECRET + 1)
    except OSError as error:
        hint = f"add LoadCredentialEncrypted={name}:... to the unit"
        raise Refused("secret-missing", f"cannot read credential {name!r}: {error.strerror}", hint=hint) from error
    if len(content) > MAX_SECRET:
        raise Refused("secret-size", f"cannot use credential {name!r}: it is larger than {MAX_SECRET} bytes")
    return content


def env_bytes(name: str) -> bytes:
    """The value of an environment variable; Refused when it is unset or empty."""
    value = os.environ.get(name, "")
    if not value:
        raise Refused("secret-missing", f"cannot read a secret from ${name}: it is not set", hint=f"export {name}=...")
    return value.encode()


def read_secret(source: Mapping[str, Json], root: Path | None = None) -> bytes:
    """The secret that a source names, without the line end an editor leaves. Relative files stand below `root`."""
    if "env" in source:
        content = env_bytes(str(source["env"]))
    elif "file" in source:
        content = private_bytes((root or Path()) / Path(str(source["file"])).expanduser())
    elif "credential" in source:
        content = credential_bytes(str(source["credential"]))
    else:
        raise Refused(
            "bad-secret",
            "cannot find a secret: its source names no place",
            hint="write {env: ..}, {file: ..} or {credential: ..}",
        )
    content = content.rstrip(b"\r\n")
    if not content:
        raise Refused(
            "secret-missing", "cannot use an empty secret", hint="check " + ", ".join(f"{k}: {v}" for k, v in source.items())
        )
    return content


def token(endpoint: Endpoint) -> str:
    """The endpoint's credential as a header may carry it; empty when it has none."""
    if not endpoint.secret:
        return ""
    text = read_secret(endpoint.secret).decode("ascii", "replace")
    if not text.isascii() or not text.isprintable():
        raise Refused("bad-secret", f"cannot send the secret of {endpoint.name} in a header", hint="it must be printable ASCII")
    return text


def bearer(endpoint: Endpoint) -> dict[str, str]:
    """The header that shows the endpoint's credential (RFC 6750); none when it has none."""
    text = token(endpoint)
    return {"authorization": f"Bearer {text}"} if text else {}
