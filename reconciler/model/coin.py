"""What the purse holds, and the transactions behind it, as the ledger keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.effect import Lock
from reconciler.model.ref import Outpoint


@dataclass(frozen=True, slots=True)
class StoredTx:
    """A transaction we made or rely on. `proof` is the verified BUMP (BRC-74), empty while unmined."""

    txid: str
    raw: bytes
    chain: str
    state: str = "signed"  # signed | sent | seen | mined | rejected
    proof: bytes = b""
    height: int = 0
    block: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class Coin:
    """A spendable output of the purse. `state`: reserved | pending | free | spent."""

    outpoint: Outpoint
    chain: str
    satoshis: int
    script: bytes
    lock: Lock
    state: str = "free"
    run: str = ""
