"""Whether what the ledger holds as mined still is: each token's transaction and its merkle path, against the block header."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from reconciler.kinds.network import Net
from reconciler.model.errors import ReconcilerError
from reconciler.model.record import Record
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.ports import Header, Ports, StoredTx
from reconciler.wire.bump import parse_bump
from reconciler.wire.tx import txid_of


class Standing(Enum):
    """What a look at a transaction's proof came to."""

    PROVEN = "proven"
    WAITING = "waiting"
    BROKEN = "broken"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Proof:
    """One transaction behind a resource, and how it stands; `why` where it is not proven."""

    ref: ResourceRef
    txid: str
    standing: Standing
    why: str = ""


async def proofs(ports: Ports, records: Iterable[Record], nets: Mapping[str, Net]) -> list[Proof]:
    """Look at every transaction behind these records; `nets` maps a chain name to the network to ask. Changes nothing."""
    headers: dict[tuple[str, int], Header | None] = {}
    found: list[Proof] = []
    for record in records:
        txids = dict.fromkeys(Outpoint.parse(token["outpoint"]).txid for token in record.outputs.get("tokens") or ())
        for txid in txids:
            with ports.ledger.begin() as tx:
                stored = tx.transaction(txid)
            try:
                found.append(Proof(record.ref, txid, *await _judged(ports, txid, stored, nets, headers)))
            except ReconcilerError as error:
                found.append(Proof(record.ref, txid, Standing.UNKNOWN, error.message))
    return found


async def _judged(
    ports: Ports, txid: str, stored: StoredTx | None, nets: Mapping[str, Net], headers: dict[tuple[str, int], Header | None]
) -> tuple[Standing, str]:
    """Transactions share blocks: each header is asked for once."""
    if stored is None or txid_of(stored.raw) != txid:
        return Standing.BROKEN, f"the bytes of transaction {txid} are not in the ledger"
    if not stored.proof:
        return Standing.WAITING, f"transaction {txid} is not in a block yet"
    if stored.chain not in nets:
        return Standing.UNKNOWN, f"no network is recorded on {stored.chain}, where transaction {txid} is"
    bump = parse_bump(stored.proof)
    if (stored.chain, bump.height) not in headers:
        headers[stored.chain, bump.height] = await ports.chain.header(bump.height, nets[stored.chain].headers)
    header = headers[stored.chain, bump.height]
    if txid not in bump or header is None or bump.root(txid) != header.merkle_root:
        return Standing.BROKEN, f"the proof of transaction {txid} does not lead to block {bump.height} of the longest chain"
    return Standing.PROVEN, ""
