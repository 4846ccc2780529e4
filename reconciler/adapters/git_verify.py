"""Who vouches for a commit: SSH and OpenPGP signatures, judged by git with the keys of the settings and no others.

git hands the signed bytes to `ssh-keygen` with a file of allowed signers, or to `gpg` with a keyring that holds nothing but
the keys of the settings; both live in a directory of ours that is made anew whenever those keys change. Only a good
signature by a key that is in force counts: one that is expired, revoked or unknown is none (docs/decisions/0017).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.adapters.git import ASK_SECONDS, Git, Ran
from reconciler.adapters.git_mirror import Mirror
from reconciler.model.canonical import digest
from reconciler.model.errors import Refused

_SIGNED = (b"-----BEGIN PGP SIGNATURE-----", b"-----BEGIN SSH SIGNATURE-----", b"-----BEGIN SIGNED MESSAGE-----")
_SSH_SIGNER = re.compile(r'Good "git" signature for (\S+) with')
_GPG_SIGNER = re.compile(r"\[GNUPG:\] GOODSIG \S+ (.+?)(?:;|$)")
# What git and its two helpers say, most telling first.
_REASONS = (
    ("REVKEYSIG", "RevokedKey", "its key was revoked"),
    ("is revoked", "RevokedKey", "its key was revoked"),
    ("revoked key", "RevokedKey", "its key was revoked"),
    ("EXPKEYSIG", "ExpiredKey", "its key has expired"),
    ("EXPSIG", "ExpiredKey", "the signature has expired"),
    ("key has expired", "ExpiredKey", "its key had expired when it was made"),
    ("key is not yet valid", "ExpiredKey", "its key was not valid yet when it was made"),
    ("BADSIG", "BadSignature", "the signature does not fit what was signed"),
    ("incorrect signature", "BadSignature", "the signature does not fit what was signed"),
    ("NO_PUBKEY", "UnknownSigner", "no key of source.git.verify made the signature"),
    ("No principal matched", "UnknownSigner", "no key of source.git.verify made the signature"),
)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that count: lines of ssh-keygen's allowed-signers format, OpenPGP keys in armour, SSH keys that count no more."""

    ssh: tuple[str, ...] = ()
    gpg: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ssh or self.gpg)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a signature. `signer` is a principal or user id; `reason` is a word for a condition."""

    ok: bool
    reason: str
    message: str
    signer: str = ""


class Verifier:
    """Judges objects of one mirror by one set of keys."""

    def __init__(self, mirror: Mirror, keys: Keys) -> None:
        self._mirror, self._keys = mirror, keys
        self._place = mirror.directory / "keys" / digest([list(keys.ssh), list(keys.gpg), list(keys.revoked)])[:16]
        self._known: dict[str, Verdict] = {}

    def judge(self, target: str, commit: str) -> Verdict:
        """The signature of the tag that was followed, if it bears one, else that of the commit."""
        if not self._keys:
            return Verdict(True, "NotRequired", "no keys in source.git.verify")
        if target not in self._known:
            self._prepare()
            signed_tag = target != commit and self._bears_one(target, "tag")
            self._known[target] = self._judged(target, "tag") if signed_tag else self._judged(commit, "commit")
        return self._known[target]

    def _judged(self, id_: str, kind: str) -> Verdict:
        if kind == "commit" and not self._bears_one(id_, kind):
            return Verdict(False, "Unsigned", f"{kind} {id_[:12]} bears no signature")
        ran = self._verified(id_, kind, revocations=bool(self._keys.revoked))
        if ran.code == 0:
            found = _SSH_SIGNER.search(ran.said) or _GPG_SIGNER.search(ran.said)
            signer = found[1].strip() if found else "a key of the settings"
            return Verdict(True, "Verified", f"signed by {signer}", signer)
        for mark, reason, told in _REASONS:
            if mark in ran.said:
                return Verdict(False, reason, f"{kind} {id_[:12]} is signed, but {told}")
        if self._keys.revoked and self._verified(id_, kind, revocations=False).code == 0:
            return Verdict(False, "RevokedKey", f"{kind} {id_[:12]} is signed, but its key was revoked")
        return Verdict(
            False, "Unverifiable", f"{kind} {id_[:12]} is signed, but the signature could not be verified ({ran.said})"
        )

    def _verified(self, id_: str, kind: str, *, revocations: bool) -> Ran:
        settings = {"gpg.ssh.allowedSignersFile": str(self._place / "allowed")}
        if revocations:
            settings["gpg.ssh.revocationFile"] = str(self._place / "revoked")
        environment = {"GNUPGHOME": str(self._place / "gpg")}
        return self._mirror.git.run(f"verify-{kind}", "--raw", id_, settings=settings, extra=environment)

    def _bears_one(self, id_: str, kind: str) -> bool:
        """Whether an object bears a signature at all: in a header of a commit, at the end of a tag."""
        raw = self._mirror.git.run("cat-file", kind, id_).out
        head, _, body = raw.partition(b"\n\n")
        if kind == "commit":
            return any(line.startswith((b"gpgsig ", b"gpgsig-sha256 ")) for line in head.split(b"\n"))
        return any(line.startswith(_SIGNED) for line in body.split(b"\n"))

    def _prepare(self) -> None:
        """The files that ssh-keygen and gpg read, complete or absent."""
        if self._place.is_dir():
            return
        part = self._place.with_name(f".new-{os.getpid()}-{self._place.name}")
        shutil.rmtree(part, ignore_errors=True)
        (part / "gpg").mkdir(mode=0o700, parents=True)
        (part / "allowed").write_text("".join(f"{line}\n" for line in self._keys.ssh), "utf-8")
        (part / "revoked").write_text("".join(f"{line}\n" for line in self._keys.revoked), "utf-8")
        ring = [_ring(self._mirror.git, key, number) for number, key in enumerate(self._keys.gpg, start=1)]
        (part / "gpg" / "pubring.gpg").write_bytes(b"".join(ring))
        try:
            part.rename(self._place)
        except OSError:
            # Another process was faster with the same keys.
            shutil.rmtree(part, ignore_errors=True)


def _ring(git: Git, key: str, number: int) -> bytes:
    """An OpenPGP key as it stands in a keyring. gpg itself would start an agent to import it, which has no place here."""
    words = ["gpg", "--homedir", str(git.home), "--batch", "--no-autostart", "--quiet", "--dearmor"]
    try:
        ran = subprocess.run(
            words, input=key.encode(), env=git.surroundings(), capture_output=True, timeout=ASK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused("git-verify", f"cannot read OpenPGP keys: {error}", hint="install gnupg") from error
    # Packet tag 6, a public key, in the old header format or the new one (RFC 9580, section 4.2).
    if ran.returncode != 0 or not ran.stdout or (ran.stdout[0] & 0xFC != 0x98 and ran.stdout[0] != 0xC6):
        said = git.harmless(ran.stderr) or "it is no public key"
        hint = "export it with gpg --armor --export"
        raise Refused("git-verify", f"cannot read key {number} of source.git.verify.gpg: {said}", hint=hint)
    return ran.stdout


def read_keys(ssh: Sequence[str], gpg: Sequence[str], revoked: Sequence[str], root: Path) -> Keys:
    """The keys of the settings; what is neither a key nor a line of allowed signers is the name of a file below `root`."""
    lines = []
    for one in ssh:
        text = one if " " in one.strip() else _file(root / one, "ssh")
        lines += [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    armoured = tuple(one if "BEGIN PGP" in one else _file(root / one, "gpg") for one in gpg)
    return Keys(tuple(lines), armoured, tuple(revoked))


def _file(path: Path, name: str) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused("git-verify", f"cannot read the keys in {path}: {error}", hint=f"check source.git.verify.{name}") from error
