"""A storage host: what it holds for whom, and the UHRP tokens (BRC-26) by which it promises to serve it.

The host has an identity and a coin of its own and hands its transactions straight to the miner, as an operator with a node
does; overlay nodes it reaches over the network. Bytes are accepted whether or not a node answers: the advertisement then
appears later, which is how deployed hosts behave, so clients poll `ls_uhrp`.

Mutual authentication and payment are not spoken here. The uploader is whoever the header `x-bsv-auth-identity-key` names
("devnet" without it), and the price is 0 unless configured, in which case an upload or a renewal is answered with 402.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx

from reconciler.devnet import mempool
from reconciler.devnet.chain import Chain
from reconciler.devnet.purse import Purse, Token
from reconciler.devnet.vault import Vault
from reconciler.model.errors import LocalProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire import uhrp
from reconciler.wire.beef import write_beef
from reconciler.wire.keys import ANYONE, invoice, public_key, sha256, sign
from reconciler.wire.overlay import submission
from reconciler.wire.script import pushdrop
from reconciler.wire.token import TOKEN_SATOSHIS
from reconciler.wire.tx import Tx, TxOut

# One coin that lasts for tens of thousands of tokens; the host asks the faucet again when it runs low.
COIN = 100_000_000
_LOW = 1_000_000
# An uploader waits while nodes are told; one that is silent must not use up the uploader's own patience.
_PATIENCE = 1.0


@dataclass(frozen=True, slots=True)
class Stored:
    """One uploaded object. `expires` in unix seconds; `token` is the output that advertises it, None while it has none."""

    id: str
    sha256: str
    size: int
    media_type: str
    uploader: str
    expires: int
    token: Outpoint | None = None


@dataclass(slots=True)
class HostState:
    """Everything a host remembers besides the bytes; `downloads` counts readings by others than publishers, by SHA-256.

    `holding` are the ids of the objects of a content, by SHA-256, oldest first.
    """

    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: int = 0
    coin: tuple[Outpoint, int] | None = None
    unsent: dict[tuple[str, str], None] = field(default_factory=dict)
    renewals: int = 0
    downloads: Counter[str] = field(default_factory=Counter)
    holding: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def keep(self, item: Stored) -> None:
        """Remember an object, or what has become of it."""
        if item.id not in self.objects:
            self.holding[item.sha256] = (*self.holding.get(item.sha256, ()), item.id)
        self.objects[item.id] = item

    def copy(self) -> HostState:
        """An independent state that is equal now."""
        objects, unsent, downloads = dict(self.objects), dict(self.unsent), self.downloads.copy()
        return HostState(objects, self.uploads, self.coin, unsent, self.renewals, downloads, dict(self.holding))


class StorageHost:
    """One host. `public_url` is the https form that its tokens carry; `overlays` are base URLs it advertises to."""

    def __init__(
        self,
        name: str,
        region: str,
        chain: Chain,
        client: Callable[[], httpx.AsyncClient],
        *,
        secret: bytes,
        public_url: str,
        overlays: Mapping[str, str],
        price: int = 0,
        directory: Path | None = None,
    ) -> None:
        self.name, self.region, self.chain, self.price = name, region, chain, price
        self.public_url, self.overlays = public_url, overlays
        self.purse, self.vault, self.state = Purse(secret), Vault(directory), HostState()
        self.open_uploads = self.max_open_uploads = 0
        self._client = client

    @property
    def now(self) -> int:
        """Unix seconds."""
        return int(self.chain.clock.now().timestamp())

    def quote(self, size: int, minutes: int) -> int:
        """Satoshis for `size` bytes over `minutes`: `price` per gigabyte and 30 days, at least 10 where it is not free."""
        if not self.price:
            return 0
        return max(10, size * minutes * self.price // (10**9 * 30 * 24 * 60))

    def find(self, sha256_hex: str, uploader: str) -> Stored | None:
        """The uploader's unexpired object of that content whose bytes are here: the latest expiry, and the newest of equals."""
        now = self.now
        held = [
            item
            for item in map(self.state.objects.__getitem__, self.state.holding.get(sha256_hex, ()))
            if item.uploader == uploader and item.expires > now and self.vault.size(item.id) is not None
        ]
        return max(reversed(held), key=lambda item: item.expires, default=None)

    def mine(self, uploader: str) -> list[Stored]:
        """The uploader's unexpired objects."""
        now = self.now
        return [item for item in self.state.objects.values() if item.uploader == uploader and item.expires > now]

    async def store(self, item: Stored) -> Stored:
        """Record an object whose bytes are in the vault and advertise it."""
        try:
            advertised = self._issue(item)
        except LocalProtocolError:
            # 16-byte contents cannot be advertised: deployed decoders lose that size. The host keeps them all the same.
            advertised = item
        self.state.keep(advertised)
        await self.announce()
        return advertised

    async def renew(self, item: Stored, minutes: int) -> Stored:
        """Extend the promise: the old token is spent into the new one."""
        renewed = self._issue(replace(item, expires=item.expires + minutes * 60))
        self.state.keep(renewed)
        self.state.renewals += 1
        await self.announce()
        return renewed

    async def announce(self) -> None:
        """Hand unannounced tokens to the overlay nodes; what a node does not take is tried again next time."""
        await asyncio.gather(*(self._announce_to(name) for name in self.overlays))

    async def _announce_to(self, name: str) -> None:
        """In the order they were made, or a node would take a token for new after the one that replaced it."""
        for waiting in [txid for overlay, txid in self.state.unsent if overlay == name]:
            if self.chain.live(waiting) is not None:
                asked = submission(write_beef(waiting, self.chain.source), (uhrp.TOPIC,))
                try:
                    answer = await self._client().post(
                        self.overlays[name] + "/submit", content=asked.body, headers=asked.headers, timeout=_PATIENCE
                    )
                except httpx.HTTPError:
                    return
                if not answer.is_success:
                    return
            self.state.unsent.pop((name, waiting), None)

    def damage(self, sha256_hex: str, act: Callable[[str], bool]) -> int:
        """Apply `corrupt` or `drop` of the vault to every object of that content; how many were hit."""
        return sum(act(item.id) for item in self.state.objects.values() if item.sha256 == sha256_hex)

    def wipe(self) -> None:
        """Lose every byte and every record; the tokens stay on chain as broken promises."""
        for object_id in list(self.state.objects):
            self.vault.drop(object_id)
        self.state = HostState(coin=self.state.coin, uploads=self.state.uploads)

    # --- tokens ------------------------------------------------------------------------------------------------

    def _issue(self, item: Stored) -> Stored:
        """Broadcast a token for the object, spending its previous one; no await, so two uploads never share a coin."""
        inv = invoice(*uhrp.lock())
        secret = self.purse.child(inv, ANYONE)
        fields = uhrp.fields(
            uhrp.UhrpToken(self.purse.public, item.sha256, f"{self.public_url}/cdn/{item.id}", item.expires, item.size)
        )
        script = pushdrop(fields, public_key(secret), sign(secret, b"".join(fields)))
        old = None if item.token is None else self.chain.output(item.token)
        spent = () if old is None or item.token is None else (Token(item.token, old, secret),)
        coin, satoshis = self._coin()
        tx = self.purse.pay(coin, satoshis, (TxOut(TOKEN_SATOSHIS, script),), self.chain.rate, spent)
        mempool.submit(self.chain, write_beef(tx.txid, self._with(tx)))
        self.state.coin = (Outpoint(tx.txid, 1), tx.outputs[1].satoshis)
        self.state.unsent |= {(name, tx.txid): None for name in self.overlays}
        return replace(item, token=Outpoint(tx.txid, 0))

    def _with(self, tx: Tx) -> Callable[[str], tuple[bytes, bytes] | None]:
        return lambda txid: (tx.raw, b"") if txid == tx.txid else self.chain.source(txid)

    def _coin(self) -> tuple[Outpoint, int]:
        """A coin with enough in it, from the faucet when ours is spent up or was lost in a reorganisation."""
        coin = self.state.coin
        if coin is None or coin[1] < _LOW or self.chain.output(coin[0]) is None:
            coin = self.draw()
        return coin

    def draw(self) -> tuple[Outpoint, int]:
        """A new coin from the faucet."""
        return self.chain.faucet(self.purse.script, COIN), COIN


def host_secret(seed: int, name: str) -> bytes:
    """The identity of a host: the same in every world of that seed, and worth nothing outside one."""
    return sha256(f"devnet {seed} storage host {name}".encode())
