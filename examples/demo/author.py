"""Whoever writes the manifests: a key of ssh-keygen, a work tree, and a remote on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from examples.demo.stage import typed

MAIL = "alice@example.org"
# State, keys and settings of the process do not belong to what it follows.
IGNORED = ".state\n.keys\n.devnet\nreconciler.yaml\n*.json\n*.sig\n"


def require(*programs: str) -> None:
    """End with a clear word when a program that the demonstration needs is not there."""
    for program in programs:
        if shutil.which(program) is None:
            package = {"ssh-keygen": "openssh-client"}.get(program, program)
            raise SystemExit(f"demo: {program} is missing; install it (on Debian: apt install {package}) and try again")


class Author:
    """Commits what stands in a directory, signs it, and pushes it to a bare repository."""

    def __init__(self, work: Path) -> None:
        self.work, self.remote, self.key = work, work.parent / "shop.git", work.parent / "alice"
        # The configuration of whoever watches has no say.
        self.env = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
        (work / ".gitignore").write_text(IGNORED)

    @property
    def signer(self) -> str:
        """A line of allowed signers, as it goes into the settings."""
        return f"{MAIL} {' '.join(self.key.with_suffix('.pub').read_text().split()[:2])}"

    def set_up(self) -> None:
        """A key, a remote, and a work tree whose commits are signed."""
        self.call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", MAIL, "-f", "../alice")
        self.call("git", "init", "--quiet", "--bare", "--initial-branch=main", "../shop.git")
        self.call("git", "init", "--quiet", "--initial-branch=main")
        settings = {"user.name": "Alice", "user.email": MAIL, "gpg.format": "ssh", "user.signingkey": "../alice"}
        for name, value in {**settings, "commit.gpgsign": "true"}.items():
            self.call("git", "config", name, value, shown=False)
        self.call("git", "remote", "add", "origin", "../shop.git", shown=False)

    def push(self, message: str, *flags: str) -> str:
        """Commit everything, push it, and say which revision that is."""
        self.call("git", "add", "--all", shown=False)
        self.call("git", "commit", "--quiet", *(flags or ("-S",)), "-m", message)
        self.call("git", "push", "--quiet", "--force", "origin", "main")
        return "main@" + self.call("git", "rev-parse", "HEAD", shown=False)

    def call(self, *words: str, shown: bool = True) -> str:
        """Type a command in the work tree, one that has nothing to say; what it printed."""
        if shown:
            typed(*words, after="")
        done = subprocess.run(words, cwd=self.work, env=self.env, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"demo: `{' '.join(words)}` ended with {done.returncode}")
        return done.stdout.strip()
