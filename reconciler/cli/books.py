"""One reading of the ledger, for verbs that show what is known: no network, no manifests, no keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from reconciler.cli import envelope, holders

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.engine.readonly import Behind
    from reconciler.model.intent import Run
    from reconciler.model.record import Record, RecordedState
    from reconciler.ports import StoredTx


@dataclass(frozen=True, slots=True)
class Books:
    """One reading of the ledger: records, open runs, transactions, history (newest first), the source, the daemon."""

    now: datetime
    recorded: RecordedState
    runs: Mapping[str, Run]
    transactions: Mapping[str, StoredTx]
    history: Sequence[Mapping[str, Any]]
    source: Mapping[str, Any]
    daemon: holders.Presence
    budget: int | None
    behind: Behind | None = None

    def chosen(self, selectors: Sequence[str] | None) -> list[Record]:
        """The records that selectors name, in order; all without any."""
        from reconciler.cli.planning import labelled, select

        known = labelled(None, self.recorded.records)
        wanted = select(selectors, known) if selectors else frozenset(known)
        return [self.recorded.records[ref] for ref in sorted(wanted)]

    def of(self, record: Record) -> dict[str, StoredTx]:
        """The transactions behind a record."""
        return {txid: self.transactions[txid] for txid in envelope.txids_of(record) if txid in self.transactions}

    def events_of(self, record: Record, most: int = 10) -> list[Mapping[str, Any]]:
        """What was noted of it, newest first."""
        return [one for one in self.history if one["ref"] == str(record.ref)][:most]


async def read(space: Workspace, depth: int = 100) -> Books:
    """Read the ledger; no network, no manifests."""
    from reconciler.engine.budget import effective
    from reconciler.engine.readonly import behind
    from reconciler.engine.survey import midnight
    from reconciler.model.intent import RunState

    now = space.ports.clock.now()
    recorded = space.ports.ledger.read(midnight(now))
    with space.ports.ledger.begin() as tx:
        return Books(
            now=now,
            recorded=recorded,
            runs={run.key.removeprefix("ref/"): run for run in tx.runs(state=RunState.OPEN)},
            transactions={stored.txid: stored for stored in tx.transactions()},
            history=tx.history(limit=depth),
            source=tx.get("source") or {},
            daemon=holders.presence(space),
            budget=effective(space.settings.limits, tx, now).spend_day,
            behind=behind(tx),
        )
