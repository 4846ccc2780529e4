"""How a remote repository is told who asks: a token or an SSH key, each by reference, neither ever in an argument list.

A token travels as an HTTP header that git is told of in the environment of that one process. An SSH key is a file that only
its owner may read; one that comes from elsewhere is written to such a file for the length of the call. The host must be one
whose key stands in the settings: nothing is believed at first sight.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.adapters.git import Remote
from reconciler.adapters.secret import private_bytes, read_secret
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused

# What hosts of repositories take as the name of whoever shows a token.
USERNAME = "x-access-token"
# Seconds in which a host must answer at all.
_CONNECT = 15


@dataclass(frozen=True, slots=True)
class Access:
    """What one call needs: variables for git, and the words that must never be repeated."""

    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()


@contextlib.contextmanager
def access(remote: Remote, credentials: Mapping[str, Json], root: Path, home: Path) -> Iterator[Access]:
    """What the settings give to a remote, while the block runs. Refused when a secret cannot be had, or would be shown."""
    if "ssh" in credentials:
        if remote.scheme != "ssh":
            raise Refused(
                "git-credentials", f"cannot use an SSH key for {remote.scheme}", hint="write an ssh address, or a token"
            )
        with _ssh(credentials["ssh"], root, home) as command:
            yield Access({"GIT_SSH_COMMAND": command, "GIT_SSH_VARIANT": "ssh"})
    elif "token" in credentials:
        yield _token(remote, credentials, root)
    elif remote.scheme == "ssh":
        raise Refused("git-credentials", "cannot use ssh without a key", hint="set source.git.credentials.ssh")
    else:
        yield Access()


def _token(remote: Remote, credentials: Mapping[str, Json], root: Path) -> Access:
    if remote.scheme not in ("https", "http"):
        raise Refused("git-credentials", f"cannot use a token for {remote.scheme}", hint="write an https address, or an SSH key")
    if not remote.private:
        raise Refused("git-credentials", f"cannot send a token to {remote.host} in the clear", hint="write an https address")
    token = read_secret(credentials["token"], root)
    name = str(credentials.get("username") or USERNAME).encode()
    both = base64.b64encode(name + b":" + token).decode()
    variables = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "http.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {both}",
    }
    return Access(variables, (token.decode("utf-8", "replace"), both))


@contextlib.contextmanager
def _ssh(wanted: Mapping[str, Json], root: Path, home: Path) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        known = stack.enter_context(_private("\n".join(wanted["knownHosts"]).encode() + b"\n", home))
        source = wanted["key"]
        if "file" in source:
            key = (root / Path(str(source["file"])).expanduser()).resolve()
            private_bytes(key)
        else:
            key = stack.enter_context(_private(read_secret(source, root) + b"\n", home))
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "PasswordAuthentication": "no",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(known),
            "GlobalKnownHostsFile": "/dev/null",
            "UpdateHostKeys": "no",
            "ConnectTimeout": str(_CONNECT),
            "ForwardAgent": "no",
            "PermitLocalCommand": "no",
        }
        words = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        yield shlex.join(["ssh", "-F", "/dev/null", "-i", str(key), *words])


@contextlib.contextmanager
def _private(content: bytes, home: Path) -> Iterator[Path]:
    """A file that only we can read, gone when the block ends."""
    handle, name = tempfile.mkstemp(prefix=".access-", dir=home)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
