"""What a devnet on loopback shows of us to a stranger: the purse by its script, descriptors by their key, copies by their hash.

Nothing here asks the program what it did. The one thing taken from its ledger are raw transactions, because no host serves
those: a transaction is its hash, so bytes that hash to the id which the chain named are that transaction, whoever kept them.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from reconciler.model.errors import RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire import overlay, storage
from reconciler.wire.descriptor import SERVICE, parse_descriptor
from reconciler.wire.tx import Tx, parse_tx


def reader(database: Path) -> closing[sqlite3.Connection]:
    """A connection to a ledger that another process writes; it cannot write."""
    return closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5))


def ask_ledger(database: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Rows of a ledger, through a connection of their own."""
    with reader(database) as connection:
        return connection.execute(query, values).fetchall()


@dataclass(slots=True)
class Outside:
    """A stranger with a list of the purse's first coins. `urls` are the hosts of the devnet by name."""

    urls: Mapping[str, str]
    overlays: tuple[str, ...]
    stores: tuple[str, ...]
    database: Path
    script: bytes
    funded: int = 0
    coins: dict[Outpoint, int] = field(default_factory=dict)
    transactions: dict[str, Tx] = field(default_factory=dict)
    made: defaultdict[str, list[Outpoint]] = field(default_factory=lambda: defaultdict(list))
    identity: str = ""
    client: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=30))
    _spent: set[Outpoint] = field(default_factory=set)

    def close(self) -> None:
        """Hang up."""
        self.client.close()

    def watch(self, coin: Outpoint, satoshis: int) -> None:
        """A payment to the purse that somebody else made."""
        self.coins[coin] = satoshis
        self.funded += satoshis

    @property
    def left(self) -> int:
        """Satoshis that have left the purse, as the chain has it."""
        return self.funded - sum(self.coins.values())

    def follow(self) -> None:
        """Find every transaction that spends the purse, starting from coins that were unspent at the last look.

        All our transactions are found: each one pays its fee from the purse.
        """
        unsure = list(self.coins)
        while unsure:
            coin = unsure.pop()
            txid = self.spender(coin)
            if txid is None:
                continue
            del self.coins[coin]
            if txid not in self.transactions:
                unsure += self._enter(txid)

    def _enter(self, txid: str) -> list[Outpoint]:
        """Note what a transaction makes; the purse's new coins."""
        rows = ask_ledger(self.database, "SELECT raw FROM transactions WHERE txid = ?", txid)
        assert rows, f"{txid} spends the purse, and the ledger has never heard of it"
        tx = self.transactions[txid] = parse_tx(rows[0][0])
        assert tx.txid == txid
        coins = []
        for vout, output in enumerate(tx.outputs):
            at = Outpoint(txid, vout)
            if output.script == self.script:
                self.coins[at] = output.satoshis
                coins.append(at)
                continue
            try:
                found = parse_descriptor(output.script)
            except RemoteProtocolError:
                continue  # a SHIP or SLAP token, or data
            self.identity = found.identity.hex()
            self.made[found.subject].append(at)
        return coins

    def spender(self, outpoint: Outpoint) -> str | None:
        """The transaction that spends an output, from the headers host's index."""
        answer = self.client.get(f"{self.urls['headers']}/v1/bsv/devnet/tx/{outpoint.txid}/{outpoint.vout}/spent")
        return answer.json()["txid"] if answer.status_code == 200 else None

    def live(self) -> dict[str, set[str]]:
        """The descriptors of each subject that nobody has spent."""
        for outpoints in self.made.values():
            self._spent |= {at for at in outpoints if at not in self._spent and self.spender(at)}
        return {
            subject: {str(at) for at in outpoints if at not in self._spent}
            for subject, outpoints in self.made.items()
            if not self._spent.issuperset(outpoints)
        }

    def listed(self, host: str, service: str) -> set[str]:
        """What an overlay host answers when asked for everything under our key."""
        asked = {"service": service, "query": {"identityKey": self.identity, **({"limit": 1000} if service == SERVICE else {})}}
        answer = self.client.post(f"{self.urls[host]}/lookup", json=asked).raise_for_status()
        return {f"{one.txid}.{one.vout}" for one in overlay.parse_lookup(answer.headers["content-type"], answer.content)}

    def objects(self, host: str) -> Counter[str]:
        """SHA-256 -> how many objects of that content a storage host keeps for us."""
        answer = self.client.get(f"{self.urls[host]}/list").raise_for_status()
        found = storage.parse_list(answer.status_code, answer.content)
        assert isinstance(found, tuple), found
        return Counter(item.sha256 for item in found)
