"""Keys that are elsewhere: a command of yours, or any BRC-100 wallet, signs, and no secret of theirs is ever here.

Both are spoken to in the same words, the methods of BRC-100 and their JSON: a wallet over HTTP (`POST URL/<method>`, bytes as
arrays of numbers), a command with one object on its standard input, `{"method": ..., "args": {...}}`, and the result, one object,
on its standard output. A failure is `{"isError": true, "message": ...}`, or an exit code other than 0.

Only two methods are used: getPublicKey and createSignature. Whatever they answer is checked: a public key of ours that anybody
can compute is computed here, and a signature that does not verify is not used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reconciler.model.canonical import Json
from reconciler.model.effect import Lock
from reconciler.model.errors import Refused
from reconciler.wire import keys

# A person may have to press a button. Longer than this the work waits elsewhere: it is tried again.
PATIENCE = 20.0
MAX_ANSWER = 64 * 1024
# Who asks, as wallets show it to their owner.
ORIGINATOR = "http://reconciler.localhost"

Call = Callable[[str, Mapping[str, Json]], Mapping[str, Any]]


class Signer:
    """One key elsewhere. `where` names the place in messages."""

    def __init__(self, call: Call, where: str) -> None:
        self._call, self.where = call, where
        self._identity = b""
        self._children: dict[Lock, bytes] = {}

    def identity(self) -> bytes:
        """Its identity key, asked for once."""
        if not self._identity:
            self._identity = self._key({"identityKey": True})
        return self._identity

    def public(self, lock: Lock) -> bytes:
        """The public key of a child that is ours."""
        if lock.counterparty == "anyone":
            return keys.anyone_public(self.identity(), keys.invoice(lock.protocol, lock.key_id))
        if lock not in self._children:
            self._children[lock] = self._key({**_named(lock), "forSelf": True})
        return self._children[lock]

    def sign(self, lock: Lock, data: bytes) -> bytes:
        """A DER signature of a child over SHA-256 of the data."""
        return self._signed(lock, {"data": list(data)}, keys.sha256(data))

    def sign_digest(self, lock: Lock, digest: bytes) -> bytes:
        """A DER signature of a child over a digest as it is."""
        return self._signed(lock, {"hashToDirectlySign": list(digest)}, digest)

    def _signed(self, lock: Lock, what: Mapping[str, Json], digest: bytes) -> bytes:
        answer = self._call("createSignature", {**what, **_named(lock)}).get("signature")
        try:
            signature = bytes(answer) if isinstance(answer, list) else b""
        except (ValueError, TypeError):
            signature = b""
        if not signature or not keys.verify_digest(self.public(lock), digest, signature):
            hint = "createSignature gives DER bytes by the child key of protocolID, keyID and counterparty (BRC-42, BRC-43)"
            raise Refused("bad-signer", f"cannot use what {self.where} signed: it does not verify", hint=hint)
        return signature

    def _key(self, args: Mapping[str, Json]) -> bytes:
        text = self._call("getPublicKey", args).get("publicKey")
        try:
            key = bytes.fromhex(text) if isinstance(text, str) else b""
        except ValueError:
            key = b""
        if not keys.is_public_key(key):
            raise Refused(
                "bad-signer", f"cannot use {self.where}: it gives no public key", hint="getPublicKey gives hex, 33 bytes"
            )
        return key


def signer_of(said: Mapping[str, Json], root: Path) -> Signer:
    """The signer that settings describe; a command runs in `root`."""
    if said.get("command"):
        words = [str(word) for word in said["command"]]
        return Signer(_command(words, root), f"signing command {words[0]}")
    url = str(said["wallet"]["url"]).rstrip("/")
    return Signer(_wallet(url), f"wallet at {url}")


def _named(lock: Lock) -> dict[str, Json]:
    return {"protocolID": [2, lock.protocol], "keyID": lock.key_id, "counterparty": lock.counterparty}


def _command(words: Sequence[str], root: Path) -> Call:
    where = f"signing command {words[0]}"

    def call(method: str, args: Mapping[str, Json]) -> Mapping[str, Any]:
        import subprocess  # most commands sign nothing

        asked = json.dumps({"method": method, "args": args}, separators=(",", ":")).encode()
        try:
            done = subprocess.run(words, input=asked, capture_output=True, timeout=PATIENCE, cwd=root, check=False)
        except subprocess.TimeoutExpired as error:
            raise Refused(
                "signer-silent", f"cannot sign: {where} gave no answer in {PATIENCE:g} s", hint="try it by hand"
            ) from error
        except OSError as error:
            raise Refused("no-signer", f"cannot start {where}: {error.strerror}", hint="check the path in key.command") from error
        if done.returncode:
            said = " ".join(done.stderr.decode(errors="replace").split())[-200:]
            raise Refused("signer-refused", f"cannot sign: {where} ended with {done.returncode}: {said}", hint="see what it says")
        return _read(done.stdout, where)

    return call


def _wallet(url: str) -> Call:
    where = f"wallet at {url}"

    def call(method: str, args: Mapping[str, Json]) -> Mapping[str, Any]:
        from reconciler.adapters.client import httpx  # takes a while, and most keys are in files

        headers = {"accept": "application/json", "origin": ORIGINATOR, "originator": ORIGINATOR}
        try:
            with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
                answer = client.post(f"{url}/{method}", json=args, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            told = f"cannot reach the {where}: {error or type(error).__name__}"
            raise Refused("no-signer", told, hint="is it running, and unlocked?") from error
        if answer.status_code != 200:
            said = _message(answer.content)
            raise Refused(
                "signer-refused", f"cannot sign: the {where} answers {answer.status_code}{said}", hint="see what it shows"
            )
        return _read(answer.content, where)

    return call


def _read(content: bytes, where: str) -> Mapping[str, Any]:
    try:
        found = json.loads(content) if len(content) <= MAX_ANSWER else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refused(
            "bad-signer", f"cannot read the answer of {where}: it is no JSON object", hint="one object on standard output"
        )
    if found.get("isError"):
        raise Refused("signer-refused", f"cannot sign: {where} says no{_message(content)}", hint="see what it shows")
    return found


def _message(content: bytes) -> str:
    try:
        said = json.loads(content[:MAX_ANSWER]).get("message")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return f": {' '.join(str(said).split())[:200]}" if said else ""
