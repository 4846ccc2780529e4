"""Where keys live: encrypted files we may make, or places others fill (environment, credentials, files with a bare key).

A source is the `key` block of an Identity: {"file": path, "encryption": {"passphrase": ...}}, {"env": VAR} or
{"credential": name}; without any of them the key stands in our own directory under its name. Only files are ever
written, and never over a key that exists. A source of {"signer": name} is no place of ours:
who signs for it stands in the settings (signer.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from reconciler.adapters import keyfile
from reconciler.adapters.secret import credential_bytes, credential_path, env_bytes, private_bytes, read_secret
from reconciler.adapters.signer import Signer, signer_of
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused
from reconciler.ports import Entropy
from reconciler.wire import keys

# Used when a source names no passphrase of its own.
PASSPHRASE = "RECONCILER_PASSPHRASE"  # noqa: S105 - the name of a variable
_NEEDS_PASSPHRASE = f"set {PASSPHRASE}, or name one: key.encryption.passphrase: {{env: ..}} or {{file: ..}} or {{credential: ..}}"

Source = Mapping[str, Json]


class KeyStore:
    """Finds, makes, backs up and restores secrets. `directory` holds keys without a place of their own.

    Relative paths in sources stand below `root`. Nothing is kept in memory here.
    """

    def __init__(
        self, directory: Path, entropy: Entropy, root: Path | None = None, signers: Mapping[str, Json] | None = None
    ) -> None:
        self.directory = directory
        self.root = root if root is not None else directory
        self._entropy, self._signers = entropy, signers or {}

    def exists(self, key: str, source: Source) -> bool:
        """Whether there is something to read at the place; not whether it can be opened."""
        if source.get("signer"):
            return source["signer"] in self._signers
        if "env" in source:
            return bool(os.environ.get(str(source["env"])))
        if "credential" in source:
            try:
                return credential_path(str(source["credential"])).is_file()
            except Refused:
                return False
        return self.path(key, source).is_file()

    def load(self, key: str, source: Source) -> bytes:
        """The 32-byte secret; Refused("no-key") when there is none, and for every other reason it cannot be had."""
        self._ours(key, source)
        if not self.exists(key, source):
            raise Refused(
                "no-key", f"cannot find key {key!r}: {self.where(key, source)} does not exist", hint=self._how_to_make(source)
            )
        where = self.where(key, source)
        if "env" in source:
            content = env_bytes(str(source["env"]))
        elif "credential" in source:
            content = credential_bytes(str(source["credential"]))
        else:
            content = private_bytes(self.path(key, source))
        if keyfile.looks_sealed(content):
            return keyfile.unseal(content, self.passphrase(source), where)
        return keyfile.bare(content, where)

    def generate(self, key: str, source: Source) -> bytes:
        """Make the key unless it exists, and its backup copy when the source asks for one; the secret either way."""
        if not self.exists(key, source):
            if "env" in source or "credential" in source:
                raise Refused(
                    "no-key",
                    f"cannot make key {key!r} in {self.where(key, source)}: that place is filled by others",
                    hint="put a key there, or name a file",
                )
            secret = self._fresh()
            # When another process was faster, its key is the key.
            keyfile.create(self.path(key, source), keyfile.seal(secret, self.passphrase(source), self._entropy))
        secret = self.load(key, source)
        backup = source.get("backup")
        if isinstance(backup, Mapping) and backup.get("path"):
            copy = self._below_root(str(backup["path"]))
            if not copy.exists():
                keyfile.create(copy, keyfile.seal(secret, self.passphrase(source), self._entropy))
        return secret

    def backup(self, key: str, source: Source, path: Path, passphrase: bytes) -> None:
        """Write the key, under a passphrase of its own, to a new file of mode 0600."""
        secret = self.load(key, source)
        if not keyfile.create(path, keyfile.seal(secret, passphrase, self._entropy)):
            raise Refused("backup-exists", f"cannot write the backup: {path} exists", hint="name a new file")

    def restore(self, key: str, source: Source, path: Path, passphrase: bytes) -> str:
        """Put a backed-up key in its place, under the place's passphrase; its public key, hex33. Never over another key."""
        self._ours(key, source)
        if "env" in source or "credential" in source:
            raise Refused("read-only", f"cannot restore into {self.where(key, source)}", hint="name a file")
        secret = keyfile.unseal(private_bytes(path), passphrase, str(path))
        if not keyfile.create(self.path(key, source), keyfile.seal(secret, self.passphrase(source), self._entropy)):
            hint = "archive the key that is there first (--force)"
            raise Refused("key-exists", f"cannot restore {key!r}: {self.path(key, source)} exists", hint=hint)
        return keys.public_key(secret).hex()

    def archive(self, key: str, source: Source, moment: datetime) -> Path:
        """Set the key's file aside so that a new one can be made; where it is now."""
        self._ours(key, source)
        if "env" in source or "credential" in source:
            raise Refused("read-only", f"cannot archive {self.where(key, source)}", hint="change it where it is set")
        return keyfile.archive(self.path(key, source), moment)

    def path(self, key: str, source: Source) -> Path:
        """The file of a key whose source is a file, or none at all."""
        if source.get("file"):
            return self._below_root(str(source["file"]))
        if not key or "/" in key or "#" in key or key.startswith("."):
            raise Refused("bad-key-name", f"cannot use {key!r} as the name of a key", hint="use the name of the Identity")
        return self.directory / f"{key}.key.json"

    def where(self, key: str, source: Source) -> str:
        """The place in words, for messages."""
        if source.get("signer"):
            return f"signer {source['signer']!r}"
        if "env" in source:
            return f"${source['env']}"
        if "credential" in source:
            return f"credential {source['credential']!r}"
        return str(self.path(key, source))

    def passphrase(self, source: Source) -> bytes:
        """The passphrase of a source, or the general one; Refused with the ways to give it."""
        encryption = source.get("encryption")
        named = encryption.get("passphrase") if isinstance(encryption, Mapping) else None
        if isinstance(named, Mapping):
            return read_secret(named, self.root)
        if os.environ.get(PASSPHRASE):
            return env_bytes(PASSPHRASE)
        raise Refused("no-passphrase", "cannot open or make a key file without a passphrase", hint=_NEEDS_PASSPHRASE)

    def signer(self, source: Source) -> Signer | None:
        """Who signs for a key that is elsewhere; None for one of ours, Refused for a signer that nobody declared."""
        name = source.get("signer")
        if not name:
            return None
        if name not in self._signers:
            told = f"cannot find signer {name!r}: reconciler.yaml declares {', '.join(sorted(self._signers)) or 'none'}"
            raise Refused("no-signer", told, hint=f"signers: {{{name}: {{command: [..]}}}}, or {{wallet: {{url: ..}}}}")
        return signer_of(self._signers[name], self.root)

    def _ours(self, key: str, source: Source) -> None:
        if source.get("signer"):
            told = f"cannot touch key {key!r}: its secret is with {self.where(key, source)}"
            raise Refused("key-elsewhere", told, hint="back it up, restore it and replace it there")

    def _below_root(self, path: str) -> Path:
        return self.root / Path(path).expanduser()

    def _fresh(self) -> bytes:
        """A usable secret; the first 32 bytes are, but for odds of 1 in 2^127."""
        while True:
            secret = self._entropy.bytes(32)
            try:
                keys.public_key(secret)
            except Refused:
                continue
            return secret

    @staticmethod
    def _how_to_make(source: Source) -> str:
        if "env" in source or "credential" in source:
            return "put a compressed WIF, 64 hex digits or a key file there"
        return "apply an Identity with key.generate: ifMissing, or restore a backup"
