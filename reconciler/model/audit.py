"""How far a chain of history goes: what is anchored, and what an export is held against."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Head:
    """The ledger a chain belongs to (its lineage), the number of its entries, and the digest of the last one."""

    lineage: str
    entries: int
    digest: str


@dataclass(frozen=True, slots=True)
class AuditPolicy:
    """Who signs the head, how long an entry may stay without an anchor, and what one anchoring may cost in satoshis."""

    identity: str
    every: timedelta
    max_spend: int | None = None
