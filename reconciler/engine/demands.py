"""What waits for a person: runs and transactions whose fate the program will not decide by itself.

The list is one value in the ledger, so that `journal list` shows it in every process; `journal resolve` works it off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from reconciler.model.canonical import Json
from reconciler.model.codec import timestamp
from reconciler.ports import LedgerTransaction

# The name under which the ledger keeps the list.
_NAME = "demands"


@dataclass(frozen=True, slots=True)
class Demand:
    """Why a person is asked, and about which transaction, if one."""

    code: str
    message: str
    since: datetime
    txid: str = ""


def demands(tx: LedgerTransaction) -> dict[str, Demand]:
    """Every demand by the id of its run (by its txid where a transaction has no run)."""
    kept: Mapping[str, Json] = tx.get(_NAME) or {}
    return {
        key: Demand(one["code"], one["message"], datetime.fromisoformat(one["since"]), one["txid"]) for key, one in kept.items()
    }


def demand(tx: LedgerTransaction, key: str, code: str, message: str, now: datetime, txid: str = "") -> bool:
    """Ask for a decision; whether that is news, which another wording of the same matter is not."""
    kept: dict[str, Json] = dict(tx.get(_NAME) or {})
    old = kept.get(key)
    if old is not None and (old["code"], old["txid"]) == (code, txid):
        return False
    since = old["since"] if old is not None else timestamp(now)
    tx.put(_NAME, {**kept, key: {"code": code, "message": message, "since": since, "txid": txid}})
    return True


def answered(tx: LedgerTransaction, key: str) -> bool:
    """The matter is settled; whether there was one."""
    kept: dict[str, Json] = dict(tx.get(_NAME) or {})
    if kept.pop(key, None) is None:
        return False
    tx.put(_NAME, kept)
    return True
