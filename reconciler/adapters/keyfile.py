"""The key file: one 32-byte secret under a passphrase, in JSON that says everything but the secret.

    {"header": {"format": "reconciler-key/1", "cipher": "aes-256-gcm", "kdf": {"name": "scrypt", "n", "r", "p", "salt"},
                "nonce": hex12, "publicKey": hex33},
     "ciphertext": hex48}

The key of AES-256-GCM is scrypt (RFC 7914) of the passphrase; the canonical header is its associated data, so a changed
parameter or public key is found out like a wrong passphrase. Files are made whole or not at all, never replaced, and
readable by their owner only.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.adapters.copying import sync_directory
from reconciler.model.canonical import Json, canonical
from reconciler.model.errors import Refused
from reconciler.ports import Entropy
from reconciler.wire import keys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT = "reconciler-key/1"
CIPHER = "aes-256-gcm"
# 32 MiB and about 0.2 s a guess: dear for a thief with a dictionary, unnoticed at start-up.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 1
# A stranger's file may ask for more work than ours, up to 1 GiB; beyond that it is an attack, not caution.
MAX_WORK = 2**20 * 8
_SALT, _NONCE = 16, 12
_HEX64 = re.compile(r"[0-9a-fA-F]{64}")


def seal(secret: bytes, passphrase: bytes, entropy: Entropy) -> bytes:
    """The key file of a secret, with fresh salt and nonce."""
    if not passphrase:
        raise Refused("no-passphrase", "cannot encrypt a key under an empty passphrase", hint="choose one")
    salt, nonce = entropy.bytes(_SALT), entropy.bytes(_NONCE)
    header: dict[str, Json] = {
        "format": FORMAT,
        "cipher": CIPHER,
        "kdf": {"name": "scrypt", "n": SCRYPT_N, "r": SCRYPT_R, "p": SCRYPT_P, "salt": salt.hex()},
        "nonce": nonce.hex(),
        "publicKey": keys.public_key(secret).hex(),
    }
    inner = _stretch(passphrase, salt, SCRYPT_N, SCRYPT_R, SCRYPT_P)
    ciphertext = _cipher(inner).encrypt(nonce, secret, canonical(header))
    return json.dumps({"header": header, "ciphertext": ciphertext.hex()}, indent=1).encode() + b"\n"


def looks_sealed(content: bytes) -> bool:
    """Whether the bytes are a key file, as opposed to a bare WIF or hex."""
    return content.lstrip()[:1] == b"{"


def public_of(content: bytes, where: str) -> str:
    """The public key that a key file states, hex33; only `unseal` proves it."""
    return str(_header(content, where)[0]["publicKey"])


def unseal(content: bytes, passphrase: bytes, where: str) -> bytes:
    """The secret; Refused when the passphrase is wrong or anything in the file was changed."""
    from cryptography.exceptions import InvalidTag

    header, ciphertext = _header(content, where)
    kdf = header["kdf"]
    inner = _stretch(passphrase, bytes.fromhex(kdf["salt"]), kdf["n"], kdf["r"], kdf["p"])
    secret = b""
    try:
        secret = _cipher(inner).decrypt(bytes.fromhex(header["nonce"]), ciphertext, canonical(header))
    except InvalidTag:
        pass
    if len(secret) != 32 or keys.public_key(secret).hex() != header["publicKey"]:
        raise Refused(
            "wrong-passphrase",
            f"cannot open {where}: the passphrase is wrong or the file was changed",
            hint="check where the passphrase comes from, or restore a backup",
        )
    return secret


def bare(content: bytes, where: str) -> bytes:
    """The secret of a WIF or 64 hex digits. What cannot be read is not repeated in the error."""
    text = content.decode("ascii", "replace").strip()
    secret = bytes.fromhex(text) if _HEX64.fullmatch(text) else _wif(text)
    if secret is None or not _usable(secret):
        raise Refused(
            "bad-key", f"cannot read a key from {where}", hint="it holds a key file, a compressed WIF, or 64 hex digits"
        )
    return secret


def _wif(text: str) -> bytes | None:
    try:
        return keys.wif_decode(text)
    except Refused:
        return None


def _usable(secret: bytes) -> bool:
    try:
        keys.public_key(secret)
    except Refused:
        return False
    return True


def create(path: Path, content: bytes) -> bool:
    """Make the file with mode 0600, durably; False, and nothing changed, when one is already there.

    The content is complete before the name exists, and a link never replaces, so of two racing processes one wins.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(path).hardlink_to(name)
    except FileExistsError:
        return False
    finally:
        Path(name).unlink(missing_ok=True)
        sync_directory(path.parent)
    return True


def archive(path: Path, moment: datetime) -> Path:
    """Move a key file aside under the moment's name, keeping it for ever; Refused when that name is taken."""
    kept = path.with_name(f"{path.name}.{moment:%Y%m%dT%H%M%SZ}.old")
    try:
        kept.hardlink_to(path)
    except FileExistsError as error:
        raise Refused("archive-taken", f"cannot archive {path}: {kept} exists", hint="wait a second and try again") from error
    except FileNotFoundError as error:
        raise Refused("no-key", f"cannot archive {path}: there is no key", hint="generate one without --force") from error
    path.unlink()
    sync_directory(path.parent)
    return kept


def _header(content: bytes, where: str) -> tuple[Mapping[str, Json], bytes]:
    """Header and ciphertext of a well-formed key file."""
    try:
        body = json.loads(content)
        header, ciphertext = body["header"], bytes.fromhex(body["ciphertext"])
        kdf = header["kdf"]
        numbers = (kdf["n"], kdf["r"], kdf["p"])
        good = (
            set(header) == {"format", "cipher", "kdf", "nonce", "publicKey"}
            and set(kdf) == {"name", "n", "r", "p", "salt"}
            and header["format"] == FORMAT
            and header["cipher"] == CIPHER
            and kdf["name"] == "scrypt"
            and all(type(number) is int and number > 0 for number in numbers)
            and kdf["n"] > 1
            and kdf["n"] & (kdf["n"] - 1) == 0
            and kdf["n"] * kdf["r"] * kdf["p"] <= MAX_WORK
            and len(bytes.fromhex(kdf["salt"])) >= _SALT
            and len(bytes.fromhex(header["nonce"])) == _NONCE
            and keys.is_public_key(bytes.fromhex(header["publicKey"]))
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        good = False
    if not good:
        raise Refused("bad-key-file", f"cannot read {where} as a key file", hint=f"expected {FORMAT}; restore a backup")
    return header, ciphertext


# The library takes 6 MiB, and most commands know where keys lie without opening one: it is imported when one is opened.


def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _stretch(passphrase: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(passphrase)
