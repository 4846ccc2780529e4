"""An identity key in conversation: what authentication and payment need of a secret, without the secret.

Whoever holds a `Speaker` can speak as that identity; nothing it returns is, or reveals, the key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from reconciler.wire import auth, authhttp, identity_certificate, payment
from reconciler.wire.beef import Beef
from reconciler.wire.keys import public_key


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

    def judge(
        self, paid: payment.Payment, payer: bytes, price: int, *, asked: bool, used: Callable[[str, str, str], bool]
    ) -> tuple[payment.Income, Beef]:
        """As `payment.judge`, for payments to this key."""
        return payment.judge(paid, self._secret, payer, price, asked=asked, used=used)

    def reveal(self, certificate: identity_certificate.Certificate, unseal: identity_certificate.Unseal) -> dict[str, str]:
        """The fields a certificate shows this key, in the clear."""
        return identity_certificate.revealed(certificate, self._secret, unseal)
