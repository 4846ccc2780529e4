"""A transaction with everything a stranger needs to believe it, assembled from the ledger."""

from __future__ import annotations

from reconciler.model.errors import Invariant
from reconciler.ports import Ledger
from reconciler.wire.beef import write_beef


def beef_of(ledger: Ledger, txid: str, *, atomic: bool = False) -> bytes:
    """BEEF V1 (or Atomic) of a stored transaction: ancestors back to verified proofs, each once."""
    with ledger.begin() as tx:

        def source(wanted: str) -> tuple[bytes, bytes] | None:
            stored = tx.transaction(wanted)
            return None if stored is None else (stored.raw, stored.proof)

        if tx.transaction(txid) is None:
            raise Invariant("no-transaction", f"cannot send {txid}: its bytes are not in the ledger")
        return write_beef(txid, source, atomic=atomic)
