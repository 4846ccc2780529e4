"""The git program, called so that neither the repository it reads nor the machine it runs on has a say in what it does.

No shell, no system or user configuration, no hooks, filters, credential helpers, submodules or prompts; one transport, the
one the URL names; no redirects, which would carry a token to another host. Secrets reach git in the environment of that one
process or in a file that only we can read, never in its arguments. A call is bounded in time and in what it may print, and
when it is given up, its whole process group goes.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from reconciler.model.errors import Refused, Unavailable

# A fetch that has not ended after this long is given up; the next one begins anew.
FETCH_SECONDS = 300.0
# Asking a remote for one name, and reading what is on our own disk.
ASK_SECONDS = 30.0
# The largest listing of a tree: a hundred thousand entries with long paths.
MAX_OUTPUT = 64 * 1024 * 1024
_MAX_SAID = 2000

# What of our own environment git may see: where programs are, and how this machine reaches others.
_PASSED = (
    "PATH", "HTTPS_PROXY", "https_proxy", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "TMPDIR",
)  # fmt: skip
# Configuration of every call. The last word is ours: command line before environment before any file.
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.attributesFile": "/dev/null",
    "core.askPass": "",
    "credential.helper": "",
    "protocol.allow": "never",
    "http.followRedirects": "false",
    "fetch.fsckObjects": "true",
    # Harmless marks of old tools, found in the history of many a sound repository.
    "fetch.fsck.zeroPaddedFilemode": "ignore",
    "fetch.fsck.missingSpaceBeforeDate": "ignore",
    "fetch.fsck.badTimezone": "ignore",
    "fetch.recurseSubmodules": "false",
    # Every fetch is one pack, so that how many there are says when to put them together.
    "fetch.unpackLimit": "1",
    "fetch.writeCommitGraph": "false",
    "submodule.recurse": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "advice.detachedHead": "false",
    "gpg.program": "gpg",
    "gpg.ssh.program": "ssh-keygen",
    # Signatures by X.509 certificates would be judged by the trust store of the machine, not by the settings.
    "gpg.x509.program": "/bin/false",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_SCP = re.compile(r"(?:([A-Za-z0-9_][A-Za-z0-9._-]*)@)?([A-Za-z0-9\[][A-Za-z0-9.:\]-]*):(?!//)(.+)")
_SCHEMES = ("https", "http", "ssh", "file")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Remote:
    """An address of a repository that git may be given: `scheme` is the one transport it may use."""

    url: str
    scheme: str
    host: str

    @property
    def private(self) -> bool:
        """Whether a token that travels there cannot be read on the way."""
        return self.scheme == "https" or self.host in _LOOPBACK


def remote(url: str) -> Remote:
    """The address, checked. Refused: not https, ssh, http or file, a secret in it, or something git takes for an option."""
    hint = "write https://host/path, ssh://user@host/path, user@host:path or file:///path"
    if url.startswith("-") or "::" in url.partition("//")[0] or _CONTROL.search(url) or " " in url:
        raise Refused("git-url", f"cannot use {_shown(url)!r} as the address of a repository", hint=hint)
    if "://" not in url:
        found = _SCP.fullmatch(url)
        if found is None:
            raise Refused("git-url", f"cannot use {_shown(url)!r} as the address of a repository", hint=hint)
        return Remote(url, "ssh", found[2])
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or (parts.scheme != "file" and not parts.hostname) or parts.netloc.startswith("-"):
        raise Refused("git-url", f"cannot use {_shown(url)!r} as the address of a repository", hint=hint)
    if parts.password is not None or (parts.username is not None and parts.scheme != "ssh"):
        raise Refused(
            "git-url-secret", f"cannot use a secret that stands in the address of {parts.hostname}", hint="name it in credentials"
        )
    return Remote(url, parts.scheme, parts.hostname or "")


def _shown(url: str) -> str:
    """An address as it may be told: without what may be a secret."""
    return re.sub(r"//[^/@]*@", "//…@", _CONTROL.sub("?", url))[:200]


@dataclass(frozen=True, slots=True)
class Ran:
    """How a call ended: exit code, standard output, and one harmless line of standard error."""

    code: int
    out: bytes
    said: str


@dataclass(frozen=True, slots=True)
class Git:
    """Calls of git on one repository. `home` is an empty directory of ours; `secrets` are words never to be repeated."""

    directory: Path
    home: Path
    scheme: str = "file"
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Sequence[str] = ()
    max_file: int = 0
    running: list[subprocess.Popen[bytes]] | None = None

    def command(self, *words: str, settings: Mapping[str, str] | None = None, anywhere: bool = False) -> list[str]:
        """The argument list of a call; `anywhere` is for one that is about no repository yet."""
        said = {**_SETTINGS, f"protocol.{self.scheme}.allow": "always", **(settings or {})}
        options = [part for name, value in said.items() for part in ("-c", f"{name}={value}")]
        place = [] if anywhere else [f"--git-dir={self.directory}"]
        return ["git", *place, "--no-replace-objects", "--literal-pathspecs", *options, *words]

    def surroundings(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment of a call."""
        passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
        return {
            **passed,
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home),
            "GNUPGHOME": str(self.home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_SYSTEM": "/dev/null",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "SSH_ASKPASS": "/bin/false",
            "GIT_ALLOW_PROTOCOL": self.scheme,
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "LC_ALL": "C",
            **self.environment,
            **(extra or {}),
        }

    def run(
        self,
        *words: str,
        settings: Mapping[str, str] | None = None,
        extra: Mapping[str, str] | None = None,
        seconds: float = ASK_SECONDS,
        keep: Sequence[int] = (),
        anywhere: bool = False,
    ) -> Ran:
        """Call git to its end; Unavailable when it takes too long, prints too much or cannot be started.

        `keep` are open files that it and its children inherit.
        """
        process = self.start(*words, settings=settings, extra=extra, keep=keep, anywhere=anywhere)
        if self.running is not None:
            self.running.append(process)
        try:
            out, error = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as late:
            end(process)
            message = f"cannot finish git {words[0]}: it took longer than {seconds:g} s"
            raise Unavailable("git-slow", message, hint="it will be tried again") from late
        except BaseException:
            end(process)
            raise
        finally:
            if self.running is not None:
                self.running.remove(process)
        if len(out) > MAX_OUTPUT:
            raise Unavailable("git-size", f"cannot use what git {words[0]} prints: it is larger than {MAX_OUTPUT} bytes")
        return Ran(process.returncode, out, self.harmless(error))

    def start(
        self,
        *words: str,
        settings: Mapping[str, str] | None = None,
        extra: Mapping[str, str] | None = None,
        keep: Sequence[int] = (),
        stdin: int = subprocess.DEVNULL,
        stderr: int = subprocess.PIPE,
        anywhere: bool = False,
    ) -> subprocess.Popen[bytes]:
        """A call that goes on while its output is read. Unavailable when there is no git."""
        if shutil.which("git") is None:
            raise Unavailable("no-git", "cannot read a repository: git is not installed", hint="install git 2.34 or newer")
        process = subprocess.Popen(
            self.command(*words, settings=settings, anywhere=anywhere),
            env=self.surroundings(extra),
            cwd=self.home,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            pass_fds=tuple(keep),
            process_group=0,
        )
        if self.max_file:
            # Inherited by what git starts, so that a repository that is far too large does not fill the disk of the ledger.
            with contextlib.suppress(OSError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (self.max_file, self.max_file))
        return process

    def harmless(self, text: bytes) -> str:
        """What git said, on one line, without control characters and without any secret we gave it."""
        said = text.decode("utf-8", "replace")
        for secret in self.secrets:
            said = said.replace(secret, "***")
        lines = [_CONTROL.sub(" ", line).strip() for line in said.splitlines()]
        return "; ".join(line for line in lines if line and not line.startswith("hint:"))[:_MAX_SAID]


def end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that a call and everything it started is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.communicate()
