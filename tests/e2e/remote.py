"""A remote repository as its authors have it: a bare one on disk, a work tree that pushes to it, and keys made for the test."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

IDENTITY = ("-c", "user.name=Author", "-c", "user.email=author@example.org", "-c", "init.defaultBranch=main")


def quiet(home: Path) -> dict[str, str]:
    """An environment in which no configuration of this machine has a say."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    return {
        **kept,
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GNUPGHOME": str(home / "gnupg"),
        "LC_ALL": "C",
    }


@dataclass(slots=True)
class Remote:
    """`bare` is what the product is told of; `work` is where commits are made."""

    root: Path
    sign: tuple[str, ...] = ()
    made: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.call("init", "--quiet", "--bare", str(self.bare), at=self.root)
        self.call("init", "--quiet", str(self.work), at=self.root)
        self.call("remote", "add", "origin", str(self.bare))

    @property
    def bare(self) -> Path:
        """Where it is served from."""
        return self.root / "remote.git"

    @property
    def work(self) -> Path:
        """Where its authors work."""
        return self.root / "work"

    @property
    def url(self) -> str:
        """Its address."""
        return self.bare.as_uri()

    def call(self, *words: str, at: Path | None = None) -> str:
        """git, as its authors call it."""
        self.made += 1
        moment = dict.fromkeys(("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"), f"{1767225600 + self.made} +0000")
        done = subprocess.run(
            ["git", *IDENTITY, *words],
            cwd=at or self.work,
            env={**quiet(self.root), **moment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"git {' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def write(self, files: dict[str, str | bytes | None]) -> None:
        """Write or remove files of the work tree."""
        for name, content in files.items():
            path = self.work / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def commit(self, files: dict[str, str | bytes | None] | None = None, message: str = "change", *flags: str) -> str:
        """Commit files, signed if the authors sign; the id."""
        self.write(files or {})
        self.call("add", "--all")
        self.call(*self.sign, "commit", "--quiet", "--allow-empty", *(("-S",) if self.sign else ()), *flags, "-m", message)
        return self.call("rev-parse", "HEAD")

    def push(self, files: dict[str, str | bytes | None] | None = None, message: str = "change", branch: str = "main") -> str:
        """Commit and push; the id."""
        made = self.commit(files, message)
        self.call("push", "--quiet", "--force", "origin", f"HEAD:refs/heads/{branch}")
        return made


@dataclass(frozen=True, slots=True)
class SshKey:
    """A key pair, and how git signs with it."""

    path: Path
    public: str

    @property
    def signing(self) -> tuple[str, ...]:
        """Flags of git that sign with it."""
        return ("-c", "gpg.format=ssh", "-c", f"user.signingkey={self.path}")

    def allowed(self, name: str, options: str = "") -> str:
        """A line of allowed signers."""
        return f"{name} {options + ' ' if options else ''}{self.public}"


def ssh_key(directory: Path, name: str) -> SshKey:
    """A new ed25519 key, by ssh-keygen."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True)
    return SshKey(path, path.with_suffix(".pub").read_text().strip())


@dataclass(frozen=True, slots=True)
class GpgKey:
    """A key in a keyring of its own."""

    home: Path
    mail: str

    @property
    def signing(self) -> tuple[str, ...]:
        """Flags of git that sign with it."""
        return ("-c", f"user.signingkey={self.mail}", "-c", "gpg.program=gpg")

    def call(self, *words: str, **how: Any) -> str:
        """gpg with that keyring."""
        done = subprocess.run(
            ["gpg", "--homedir", str(self.home), "--batch", "--quiet", *words], capture_output=True, text=True, check=False, **how
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def public(self) -> str:
        """The public key in armour, as the keyring has it now."""
        return self.call("--armor", "--export", self.mail)

    def revoke(self) -> None:
        """Revoke it, with the certificate that gpg keeps for that."""
        (certificate,) = (self.home / "openpgp-revocs.d").glob("*.rev")
        text = certificate.read_text().replace(":-----BEGIN", "-----BEGIN")
        self.call("--import", input=text)

    def stop(self) -> None:
        """End its agent, which gpg has started."""
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False, capture_output=True)


def gpg_key(home: Path, mail: str) -> GpgKey:
    """A new signing key in the keyring of `quiet(home.parent)`."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = GpgKey(home, mail)
    key.call(
        "--pinentry-mode", "loopback", "--passphrase", "", "--quick-generate-key", f"Carol <{mail}>", "ed25519", "sign", "never"
    )
    return key
