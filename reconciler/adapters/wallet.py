"""The Wallet port over local keys, and over keys that are elsewhere: it signs, and nothing that leaves it is a secret.

Keys have names. "wallet" pays; every Identity has one under its name; "name#subkey" is derived from it (BRC-42, protocol
"reconciler subkey", counterparty self), so a backup of the identity is a backup of its subkeys. Coins of the purse are
locked to one child of the wallet key, which keeps the wallet's identity key itself off the chain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from reconciler.adapters.keystore import KeyStore, Source
from reconciler.adapters.signer import Signer
from reconciler.model.canonical import Json
from reconciler.model.effect import CoinOutput, Draft, Lock, RestOutput, TokenInput, TokenOutput
from reconciler.model.errors import Invariant, LocalProtocolError, Refused
from reconciler.model.ref import Outpoint
from reconciler.ports import Coin, Signed
from reconciler.wire import draft as drafts
from reconciler.wire import keys
from reconciler.wire.draft import Hand
from reconciler.wire.message import PROTOCOL, key_id_for, name_of, sign_message, write_message
from reconciler.wire.script import decode_pushdrop, p2pkh, pushdrop
from reconciler.wire.speaker import Speaker
from reconciler.wire.tx import TxOut, parse_tx

WALLET = "wallet"
FUNDING = Lock(WALLET, "reconciler funding", "1", "self")
SUBKEY_PROTOCOL = "reconciler subkey"


class LocalWallet:
    """Keys in files, credentials or the environment. A secret is read when first needed and then kept in memory, here only."""

    def __init__(self, store: KeyStore, funding: Source | None = None) -> None:
        self._store = store
        self._sources: dict[str, Source] = {WALLET: dict(funding or {})}
        self._secrets: dict[str, bytes] = {}
        self._elsewhere: dict[str, Signer] = {}

    def __repr__(self) -> str:
        return f"LocalWallet(keys={sorted(self._sources)})"

    @property
    def certificates(self) -> Path:
        """Where identity certificates lie that say something about our keys."""
        return self._store.directory / "certificates"

    def know(self, sources: Mapping[str, Mapping[str, Json]]) -> None:
        """Take note of where named keys live; one that moved is read again. No manifest says where the wallet key is."""
        for key, source in sources.items():
            if key == WALLET:
                raise Refused(
                    "bad-key-name", f"cannot use {WALLET!r} as the name of an Identity: that key pays", hint="rename it"
                )
            if self._sources.get(key) != source:
                self._forget(key)
                self._sources[key] = dict(source)

    def exists(self, key: str) -> bool:
        """Whether the key, or the identity key it is derived from, is there."""
        name, _, _ = key.partition("#")
        return name in self._secrets or self._store.exists(name, self._source(name))

    def generate(self, key: str, source: Mapping[str, Json]) -> str:
        """Make the key at its source unless it exists; its public key, hex33, either way."""
        name, _, subkey = key.partition("#")
        if not subkey:
            if name == WALLET:
                source = self._sources[WALLET]
            self._forget(name)
            self._sources[name] = dict(source)
            if self._signer(name) is None:
                self._secrets[name] = self._store.generate(name, source)
        return self.public_key(key)

    def public_key(self, key: str) -> str:
        """The identity public key, hex33; Refused("no-key") when there is none."""
        signer = self._signer(key)
        return (signer.identity() if signer is not None else keys.public_key(self._secret(key))).hex()

    def funding_script(self) -> bytes:
        """What every coin of the purse is locked with."""
        return p2pkh(keys.public_key(self._child(FUNDING)))

    def attest(self, key: str, message: bytes) -> bytes:
        """A BRC-77 signature anyone may verify; equal input gives equal bytes."""
        if (signer := self._signer(key)) is not None:
            identity = signer.identity()
            key_id = key_id_for(identity, message)
            return write_message(identity, key_id, signer.sign(Lock(key, PROTOCOL, name_of(key_id)), message))
        secret = self._secret(key)
        return sign_message(secret, message, key_id_for(keys.public_key(secret), message))

    def speaker(self, key: str = WALLET) -> Speaker:
        """The key as it introduces itself to hosts, is paid and pays; Refused("no-key") when there is none."""
        return Speaker(self._secret(key))

    def sign(self, draft: Draft, coins: Sequence[Coin], parents: Mapping[str, bytes]) -> Signed:
        """The finished transaction. Its coins are the change and every CoinOutput, pending until it is sent.

        Conflict of keys, missing parents, poor coins: LocalProtocolError. The fee is exactly what `drafts.price` says.
        """
        children = {lock: self._hand(lock) for lock in {coin.lock for coin in coins}}
        funding = self._funding(draft, coins, children)
        spent = [self._spent(one, parents) for one in draft.inputs]
        locks = [self._token(output) for output in draft.outputs if isinstance(output, TokenOutput)]
        script = self.funding_script()
        tx, sources = drafts.assemble(draft, funding, [(out.satoshis, out.script) for out in spent], locks, script)
        hands = [self._hand(one.lock) for one in draft.inputs] + [children[coin.lock] for coin in coins]
        done = drafts.sign_inputs(tx, sources, hands)
        fee = sum(out.satoshis for out in sources) - sum(out.satoshis for out in done.outputs)
        if fee != drafts.price(draft, [out.satoshis for out in spent]).fee or fee < 0:
            raise Invariant("wrong-fee", f"cannot sign: the transaction would pay a fee of {fee} satoshis")
        made = [index for index, output in enumerate(draft.outputs) if isinstance(output, CoinOutput)]
        if not any(isinstance(output, RestOutput) for output in draft.outputs):
            made.append(len(done.outputs) - 1)
        pending = tuple(
            Coin(Outpoint(done.txid, index), draft.chain, done.outputs[index].satoshis, script, FUNDING, "pending")
            for index in made
        )
        return Signed(done.raw, done.txid, fee, pending)

    def backup(self, key: str, path: Path, passphrase: bytes) -> None:
        """Write the key to a new file under a passphrase of its own."""
        self._store.backup(key, self._source(key), path, passphrase)

    def restore(self, key: str, path: Path, passphrase: bytes) -> str:
        """Put a backed-up key in its place, which must be empty; its public key, hex33."""
        self._forget(key)
        return self._store.restore(key, self._source(key), path, passphrase)

    def _funding(self, draft: Draft, coins: Sequence[Coin], children: Mapping[Lock, Hand]) -> list[tuple[Outpoint, int, bytes]]:
        scripts = {lock: p2pkh(hand.public) for lock, hand in children.items()}
        for coin in coins:
            if coin.chain != draft.chain:
                raise LocalProtocolError(
                    "other-chain", f"cannot spend {coin.outpoint} of chain {coin.chain} on chain {draft.chain}"
                )
            if coin.script != scripts[coin.lock]:
                hint = "the wallet key changed since the coin was received; restore the old key to spend it"
                raise LocalProtocolError("not-ours", f"cannot spend {coin.outpoint}: it is locked to another key", hint=hint)
        return [(coin.outpoint, coin.satoshis, coin.script) for coin in coins]

    def _spent(self, one: TokenInput, parents: Mapping[str, bytes]) -> TxOut:
        """The output a token input spends, proven to be the one its outpoint names and to be locked by our key."""
        raw = parents.get(one.outpoint.txid)
        if raw is None:
            raise LocalProtocolError("no-parent", f"cannot spend {one.outpoint}: its transaction is not at hand")
        parent = parse_tx(raw)
        if parent.txid != one.outpoint.txid or one.outpoint.vout >= len(parent.outputs):
            raise LocalProtocolError("bad-parent", f"cannot spend {one.outpoint}: the transaction at hand is not its parent")
        output = parent.outputs[one.outpoint.vout]
        if decode_pushdrop(output.script).key != self._hand(one.lock).public:
            hint = f"it was not made by key {one.lock.key!r} under {one.lock.protocol!r} {one.lock.key_id!r}"
            raise LocalProtocolError("not-ours", f"cannot spend {one.outpoint}: it is locked to another key", hint=hint)
        return output

    def _token(self, output: TokenOutput) -> bytes:
        said = b"".join(output.fields)
        if (signer := self._signer(output.lock.key)) is not None:
            return pushdrop(output.fields, signer.public(output.lock), signer.sign(output.lock, said))
        child = self._child(output.lock)
        return pushdrop(output.fields, keys.public_key(child), keys.sign(child, said))

    def _hand(self, lock: Lock) -> Hand:
        """Whoever signs for a lock."""
        if (signer := self._signer(lock.key)) is not None:
            return Hand(signer.public(lock), partial(signer.sign_digest, lock))
        return drafts.hand_of(self._child(lock))

    def _signer(self, key: str) -> Signer | None:
        """Who signs for a key that is elsewhere; None for those that are ours. Refused for a subkey of one that is elsewhere."""
        name, _, subkey = key.partition("#")
        if name not in self._elsewhere:
            found = self._store.signer(self._source(name))
            if found is None:
                return None
            self._elsewhere[name] = found
        if subkey:
            told = f"cannot derive {key!r}: {self._elsewhere[name].where} has no secret to derive from"
            raise Refused("key-elsewhere", told, hint="subkeys take a key that is read here: a file, a credential or a variable")
        return self._elsewhere[name]

    def _child(self, lock: Lock) -> bytes:
        secret = self._secret(lock.key)
        return keys.child_secret(secret, _counterparty(lock, secret), keys.invoice(lock.protocol, lock.key_id))

    def _secret(self, key: str) -> bytes:
        name, _, subkey = key.partition("#")
        if self._signer(name) is not None:
            told = f"cannot speak to hosts or buyers with key {name!r}: {self._elsewhere[name].where} signs for it"
            raise Refused("key-elsewhere", told, hint="use a key that is read here: a file, a credential or a variable")
        if name not in self._secrets:
            self._secrets[name] = self._store.load(name, self._source(name))
        secret = self._secrets[name]
        if not subkey:
            return secret
        return keys.child_secret(secret, keys.public_key(secret), keys.invoice(SUBKEY_PROTOCOL, subkey))

    def _source(self, name: str) -> Source:
        return self._sources.get(name, {})

    def _forget(self, key: str) -> None:
        self._secrets.pop(key, None)
        self._elsewhere.pop(key, None)


def _counterparty(lock: Lock, secret: bytes) -> bytes:
    if lock.counterparty == "anyone":
        return keys.ANYONE
    if lock.counterparty == "self":
        return keys.public_key(secret)
    try:
        public = bytes.fromhex(lock.counterparty)
    except ValueError:
        public = b""
    if not keys.is_public_key(public):
        hint = 'write "anyone", "self" or a compressed public key in hex'
        raise LocalProtocolError("bad-counterparty", f"cannot lock towards {lock.counterparty[:80]!r}", hint=hint)
    return public
