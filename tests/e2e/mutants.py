"""Faults planted in the engine, each of a sort that engines have had: the explorer must find every one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from reconciler.adapters.keystore import KeyStore, Source
from reconciler.engine import perform, run, survey, turn
from reconciler.engine.finish import finish
from reconciler.engine.journal import Journal
from reconciler.model.canonical import Json
from reconciler.model.change import Change
from reconciler.model.effect import Store
from reconciler.model.intent import Done, IntentState, Outcome, Run, RunState
from reconciler.ports import Lease, LedgerTransaction, Ports
from tests.e2e import explore


@contextmanager
def notes_the_signature_too_late() -> Iterator[None]:
    """The journal learns of a signing only when the broadcast has been answered; so recovery signs again, with another coin."""
    settle = Journal._settle

    def late(self: Journal, tx: LedgerTransaction, seq: int, result: Mapping[str, Json], state: IntentState) -> None:
        if self.known[seq].effect == "Sign":
            self.known[seq] = replace(self.known[seq], state=state, result=dict(result))
            self.owed = seq  # type: ignore[attr-defined]
            return
        owed = self.__dict__.pop("owed", None)
        if owed is not None:
            settle(self, tx, owed, self.known[owed].result, IntentState.DONE)
        settle(self, tx, seq, result, state)

    with patch.object(Journal, "_settle", late):
        yield


@contextmanager
def forgets_what_it_signed() -> Iterator[None]:
    """Open runs are not driven to their end: whatever they had signed, a new run takes their place."""

    async def nothing(_: object) -> dict[str, Outcome]:
        return {}

    with ExitStack() as stack:
        for room in (run, survey, turn):
            stack.enter_context(patch.object(room, "has_signed", lambda tx, run_id: False))
        stack.enter_context(patch.object(explore, "recover", nothing))
        yield


@contextmanager
def stores_without_looking() -> Iterator[None]:
    """Content is sent, and paid for, whether or not the host has it."""

    async def blind(effect: Store, ports: Ports) -> dict[str, Any]:
        held = {}
        for blob in effect.blobs:
            path = ports.blobs.path(blob.sha256)
            one = await ports.storage.put(effect.host, blob.sha256, path, blob.media_type, effect.retention, effect.max_payment)
            held[blob.sha256] = {"location": one.location, "expires": one.expires, "paid": one.paid, "ms": 0}
        return held

    with patch.dict(perform._PERFORM, {Store: blind}):  # type: ignore[arg-type]
        yield


@contextmanager
def closes_before_it_records() -> Iterator[None]:
    """The end of a run is one commit, its record another."""

    def twice(ports: Ports, one: Run, change: Change, outcome: Outcome, lease: Lease, revision: str) -> None:
        if isinstance(outcome, Done):
            with ports.ledger.begin() as tx:
                tx.close_run(one.id, RunState.DONE)
        finish(ports, one, change, outcome, lease, revision)

    with patch.object(run, "finish", twice):
        yield


@contextmanager
def makes_its_key_again() -> Iterator[None]:
    """A key is made without looking whether there is one."""
    generate = KeyStore.generate

    def anew(self: KeyStore, key: str, source: Source) -> bytes:
        if key != "wallet":
            self.path(key, source).unlink(missing_ok=True)
        return generate(self, key, source)

    with patch.object(KeyStore, "generate", anew):
        yield


MUTANTS = (
    notes_the_signature_too_late,
    forgets_what_it_signed,
    stores_without_looking,
    closes_before_it_records,
    makes_its_key_again,
)
