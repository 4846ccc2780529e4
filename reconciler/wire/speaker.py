"""An identity key in conversation: what authentication and payment need of a secret, without the secret.

Whoever holds a `Speaker` can speak as that identity; nothing it returns is, or reveals, the key.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence

from reconciler.model.canonical import Json
from reconciler.wire import auth, authhttp, authrite, identity_certificate, payment
from reconciler.wire.beef import Beef
from reconciler.wire.keys import public_key
from reconciler.wire.script import p2pkh


class Speaker:
    """One identity key, 32 bytes, kept inside."""

    __slots__ = ("_secret", "identity")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.identity = public_key(secret)

    def __repr__(self) -> str:
        return f"Speaker({self.identity.hex()})"

    def nonce(self, seed: bytes) -> str:
        """A session nonce, or one half of a payment's key ID, that this key recognises as its own."""
        return auth.make_nonce(self._secret, seed)

    def knows(self, nonce: str) -> bool:
        """Whether this key made the nonce."""
        return auth.is_own_nonce(self._secret, nonce)

    def mac(self, purpose: str, message: bytes) -> bytes:
        """32 bytes over a message that only this key can make; what was made for one purpose is good for no other."""
        key = hmac.digest(self._secret, b"reconciler mac " + purpose.encode(), "sha256")
        return hmac.digest(key, message, "sha256")

    def seal(self, message: auth.Message, peer: bytes) -> auth.Message:
        """The message, signed for `peer`."""
        return auth.seal(message, self._secret, peer)

    def check(self, message: auth.Message) -> None:
        """RemoteProtocolError unless its sender signed it for us."""
        auth.check(message, self._secret)

    def stamp(self, payload: bytes, peer: bytes, nonce: str, your_nonce: str) -> authhttp.Stamp:
        """The headers that sign an HTTP payload for `peer`."""
        return authhttp.stamped(payload, self._secret, self.identity, peer, nonce, your_nonce)

    def heard(self, stamp: authhttp.Stamp, payloads: Iterable[bytes]) -> bool:
        """Whether the stamp's sender signed one of the payloads for us."""
        return authhttp.holds(stamp, self._secret, payloads)

    def script_to(self, payee: bytes, prefix: str, suffix: str) -> bytes:
        """What an output is locked with that pays `payee`."""
        return payment.script_to(self._secret, payee, prefix, suffix)

    def script_from(self, payer: bytes, prefix: str, suffix: str) -> bytes:
        """What `payer` locks an output with that pays this key."""
        return p2pkh(public_key(payment.secret_from(self._secret, payer, prefix, suffix)))

    def judge(
        self, paid: payment.Payment, payer: bytes, price: int, *, asked: bool, used: Callable[[str, str, str], bool]
    ) -> tuple[payment.Income, Beef]:
        """As `payment.judge`, for payments to this key."""
        return payment.judge(paid, self._secret, payer, price, asked=asked, used=used)

    def reveal(self, certificate: identity_certificate.Certificate, unseal: identity_certificate.Unseal) -> dict[str, str]:
        """The fields a certificate shows this key, in the clear."""
        return identity_certificate.revealed(certificate, self._secret, unseal)

    def show(
        self,
        certificate: identity_certificate.Certificate,
        master: Mapping[str, str],
        verifier: bytes,
        names: Sequence[str],
        crypt: tuple[identity_certificate.Unseal, identity_certificate.Sealing],
    ) -> dict[str, str]:
        """A keyring that shows fields of a certificate about this key to a verifier."""
        return identity_certificate.keyring_for(certificate, master, self._secret, verifier, names, *crypt)

    # --- Authrite (BRC-31) ------------------------------------------------------------------------

    def welcome(self, hello: authrite.Hello, nonce: str) -> dict[str, Json]:
        """The answer to an introduction."""
        return authrite.welcome(self._secret, self.identity, hello, nonce)

    def heard_authrite(self, stamp: authrite.Stamp, data: bytes) -> bool:
        """Whether the stamp's sender signed the data for us."""
        return authrite.holds(self._secret, stamp.identity, stamp.your_nonce, stamp.nonce, data, stamp.signature)

    def stamp_authrite(self, peer: bytes, nonce: str, your_nonce: str, data: bytes) -> authrite.Stamp:
        """The headers that sign data for `peer`."""
        signature = authrite.signed(self._secret, peer, your_nonce, nonce, data)
        return authrite.Stamp(self.identity, nonce, your_nonce, signature)
