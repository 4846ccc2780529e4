"""A producer with nothing of the product around it: one key, its coins, and the tokens made with them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from reconciler.devnet.purse import Purse, Token
from reconciler.model.change import FeeRate
from reconciler.model.ref import Outpoint
from reconciler.wire import advert, descriptor, uhrp
from reconciler.wire.beef import parse_beef, write_beef
from reconciler.wire.keys import ANYONE, invoice, public_key, sha256, sign
from reconciler.wire.script import pushdrop
from reconciler.wire.tx import Tx, TxOut

RATE = FeeRate(100)
DOMAIN = "https://producer.example"
Faucet = Callable[[bytes, int], tuple[Outpoint, bytes]]


class Producer:
    """A key, a coin and the transactions made with them; the name decides every byte."""

    def __init__(self, name: str, faucet: Faucet | None = None) -> None:
        self.secret = sha256(name.encode())
        self.identity = public_key(self.secret)
        self.purse = Purse(self.secret)
        self.parts: dict[str, tuple[bytes, bytes]] = {}
        self.coins: list[tuple[Outpoint, int]] = []
        if faucet is not None:
            self.take(*faucet(self.purse.script, 100_000), 100_000)

    def take(self, at: Outpoint, beef: bytes, satoshis: int) -> None:
        """A coin on this key's script, with what proves it."""
        self.learn(beef)
        self.coins.append((at, satoshis))

    def learn(self, data: bytes) -> None:
        """Remember every transaction of an envelope."""
        beef = parse_beef(data)
        for txid in beef.txs:
            part = beef.part(txid)
            assert part is not None
            self.parts[txid] = part

    def pay(self, *outputs: TxOut, tokens: Sequence[Token] = (), rate: FeeRate = RATE) -> Tx:
        """Spend the oldest coin, and tokens; the change is a coin again."""
        at, satoshis = self.coins.pop(0)
        tx = self.purse.pay(at, satoshis, outputs, rate, tokens)
        self.parts[tx.txid] = (tx.raw, b"")
        self.coins.append((Outpoint(tx.txid, len(outputs)), tx.outputs[-1].satoshis))
        return tx

    def beef(self, tx: Tx, *, atomic: bool = False, version: int = 1) -> bytes:
        """The transaction with its ancestry."""
        return write_beef(tx.txid, self.parts.get, atomic=atomic, version=version)

    def locked(self, protocol: str, key_id: str, counterparty: bytes = ANYONE) -> bytes:
        """The child secret that locks such a token."""
        return self.purse.child(invoice(protocol, key_id), counterparty)

    def script(self, fields: tuple[bytes, ...], protocol: str, key_id: str, counterparty: bytes = ANYONE) -> bytes:
        """The locking script of a token that says this."""
        secret = self.locked(protocol, key_id, counterparty)
        return pushdrop(fields, public_key(secret), sign(secret, b"".join(fields)))

    def ship(self, topic: str, domain: str = DOMAIN, counterparty: bytes = ANYONE) -> TxOut:
        """A SHIP token."""
        return self._advert("SHIP", topic, domain, counterparty)

    def slap(self, service: str, domain: str = DOMAIN, counterparty: bytes = ANYONE) -> TxOut:
        """A SLAP token."""
        return self._advert("SLAP", service, domain, counterparty)

    def _advert(self, kind: str, name: str, domain: str, counterparty: bytes) -> TxOut:
        # Written out, since our own writer refuses what no public node admits, such as http.
        fields = (kind.encode(), self.identity, domain.encode(), name.encode())
        return TxOut(1, self.script(fields, *advert.lock_of(kind), counterparty))

    def promise(self, content: bytes, expires: int = 1_900_000_000, location: str = "") -> TxOut:
        """A UHRP token."""
        digest = hashlib.sha256(content).hexdigest()
        said = uhrp.UhrpToken(self.identity, digest, location or f"{DOMAIN}/cdn/{digest}", expires, len(content))
        return TxOut(1, self.script(uhrp.fields(said), *uhrp.lock()))

    def describe(self, subject: str, version: int = 1, text: str = "v1") -> TxOut:
        """A descriptor."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        said = descriptor.Descriptor(self.identity, subject, digest, f"{DOMAIN}/d.json", version)
        return TxOut(1, self.script(descriptor.fields(said), *descriptor.lock_of(subject)))

    def token(self, tx: Tx, vout: int, protocol: str, key_id: str) -> Token:
        """An output of ours, ready to be spent."""
        return Token(Outpoint(tx.txid, vout), tx.outputs[vout], self.locked(protocol, key_id))
