"""Identity certificates (BRC-52) that we hold, and showing them to hosts that ask.

A certificate is a JSON file as wallets write it: its signed members, and `masterKeyring` (or `keyring`), with which its subject
opens the fields. Beside them stands `showTo`, a list of origins such as https://host.example: the fields that those ask for are
shown to them, and to nobody else. What a certificate says is personal, so being asked is not enough.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.adapters.secret import private_bytes
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused, RemoteProtocolError
from reconciler.ports import Entropy
from reconciler.wire.auth import Asked
from reconciler.wire.identity_certificate import Certificate, check, parse_certificate
from reconciler.wire.speaker import Speaker

_SIGNED = ("type", "serialNumber", "subject", "certifier", "revocationOutpoint", "fields", "signature")
_NONCE = 32


@dataclass(frozen=True, slots=True)
class Held:
    """One certificate, as its file has it: to be shown to the origins of `show_to`, with keys out of `master`."""

    certificate: Certificate
    signed: Mapping[str, Json]
    master: Mapping[str, str]
    show_to: tuple[str, ...]


class Certificates:
    """The certificates in a directory, read and checked when a host asks."""

    def __init__(self, directory: Path, entropy: Entropy) -> None:
        self._directory, self._entropy = directory, entropy

    def held(self) -> list[Held]:
        """Every certificate; Refused when a file is none, or is open to others."""
        return [_read(path) for path in sorted(self._directory.glob("*.json"))] if self._directory.is_dir() else []

    def show(self, asked: Asked, speaker: Speaker, verifier: bytes, origin: str) -> Sequence[Json]:
        """What a host gets to see: the certificates about `speaker` that it asked for and may see, each with the keys of the
        fields that it named.
        """
        shown: list[Json] = []
        for one in self.held():
            names = (asked.types or {}).get(one.certificate.type)
            wanted = names is not None and one.certificate.certifier.hex() in asked.certifiers
            if not wanted or one.certificate.subject != speaker.identity or origin not in one.show_to:
                continue
            known = [name for name in names or () if name in one.certificate.fields]
            ring = speaker.show(one.certificate, one.master, verifier, known, (unseal, self._seal))
            shown.append({**one.signed, "keyring": ring})
        return shown

    def _seal(self, key: bytes, plain: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = self._entropy.bytes(_NONCE)
        return nonce + AESGCM(key).encrypt(nonce, plain, None)


def unseal(key: bytes, sealed: bytes) -> bytes:
    """AES-256-GCM with a nonce of 32 bytes in front; ValueError when it does not open."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], None)
    except InvalidTag as fault:
        raise ValueError("it does not open") from fault


def _read(path: Path) -> Held:
    try:
        said = json.loads(private_bytes(path))
        signed = {name: said[name] for name in _SIGNED}
        certificate = parse_certificate(signed)
        check(certificate)
        master = said.get("masterKeyring") or said.get("keyring") or {}
        show_to = tuple(str(origin).rstrip("/").lower() for origin in said.get("showTo") or ())
        return Held(certificate, signed, dict(master), show_to)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, RemoteProtocolError) as error:
        told = error.message if isinstance(error, RemoteProtocolError) else "it is not the JSON of one"
        raise Refused(
            "bad-certificate", f"cannot use {path} as a certificate: {told}", hint="export it from the wallet again"
        ) from error
