"""A transaction with everything a stranger needs to believe it, assembled from the ledger."""

from __future__ import annotations

from reconciler.model.errors import Invariant, LocalProtocolError, Unavailable
from reconciler.ports import Ledger
from reconciler.wire.beef import write_beef


def beef_of(ledger: Ledger, txid: str, *, atomic: bool = False) -> bytes:
    """BEEF V1 (or Atomic) of a stored transaction: ancestors back to verified proofs, each once.

    Unavailable when an ancestor has none and its parents are not known: a payment came in with its proof, and a reorg took
    that back. It has another once it is in a block again.
    """
    unknown: list[str] = []
    with ledger.begin() as tx:

        def source(wanted: str) -> tuple[bytes, bytes] | None:
            stored = tx.transaction(wanted)
            if stored is None:
                unknown.append(wanted)
                return None
            return stored.raw, stored.proof

        if tx.transaction(txid) is None:
            raise Invariant("no-transaction", f"cannot send {txid}: its bytes are not in the ledger")
        try:
            return write_beef(txid, source, atomic=atomic)
        except LocalProtocolError as error:
            if not unknown:
                raise
            hint = "what descends from it can be shown again when a payment that a reorg took out of its block is mined again"
            raise Unavailable("unproven-ancestor", error.message, hint=hint) from error
