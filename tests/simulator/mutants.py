"""Bugs an engine like this one could have, planted on purpose: each is a real function replaced by one that is wrong in one way.

If no seed tells the difference, the simulator does not watch what it claims to watch.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from reconciler.adapters.sql.transaction import SqlTransaction
from reconciler.engine import ancestry, confirm, handlers, perform, standing
from reconciler.engine.journal import Budget, Journal
from reconciler.model.canonical import digest
from reconciler.model.change import Change
from reconciler.model.effect import Broadcast, Sign
from reconciler.model.errors import Refused
from reconciler.model.intent import Intent, IntentState
from reconciler.planner import guard
from reconciler.planner.guard import GuardResult
from reconciler.ports import Coin, Signed, StoredTx
from reconciler.wire.beef import write_beef
from reconciler.wire.bump import parse_bump
from tests.simulator.settled import KINDS, settled

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug. `seed` is the first whose story notices; `more` makes what brings the bug out more frequent."""

    name: str
    says: str
    plant: Plant
    seed: int = 0
    more: Mapping[str, int] = field(default_factory=dict)


MUTANTS: dict[str, Mutant] = {}


def mutant(name: str, says: str, seed: int = 0, **more: int) -> Callable[[Plant], Plant]:
    """Register a planted bug."""

    def register(plant: Plant) -> Plant:
        MUTANTS[name] = Mutant(name, says, plant, seed, more)
        return plant

    return register


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """The engine with this bug in it; where stories begin was made without."""
    for kinds in KINDS:
        settled(kinds)
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS[name].plant(patch)
        yield


class _RolledBack(Exception):
    """Undoes what was only tried."""


def _tried(journal: Journal, effect: Sign) -> tuple[Coin, ...]:
    """The coins that a reservation would take, without taking them."""
    found: list[tuple[Coin, ...]] = []
    try:
        with journal.ledger.begin() as tx:
            found.append(journal._reserve(tx, effect.draft))
            raise _RolledBack
    except _RolledBack:
        return found[0]


@mutant(
    "journal-after-send",
    "signed bytes and their coins are written down only once the broadcaster has answered",
    seed=6,
    fuse=60,
    edit=40,
)
def _journal_after_send(patch: pytest.MonkeyPatch) -> None:
    held: dict[str, tuple[Journal, int, Signed, Sequence[Coin], str, Any]] = {}
    opened, settled, signed = Journal.open, Journal.settle, Journal.settle_signed

    def open_(self: Journal, seq: int, effect: Any) -> tuple[Coin, ...]:
        if not isinstance(effect, (Sign, Broadcast)) or (isinstance(effect, Broadcast) and effect.txid not in held):
            return opened(self, seq, effect)
        print_ = finish_print(effect)
        self.known[seq] = Intent(self.run.id, seq, type(effect).__name__, print_, IntentState.OPEN, {}, self.lease.fence)
        try:
            return _tried(self, effect) if isinstance(effect, Sign) else ()
        except Refused:
            return opened(self, seq, effect)

    def hold(self: Journal, seq: int, made: Signed, used: Sequence[Coin], chain: str, result: Any) -> None:
        held[made.txid] = (self, seq, made, used, chain, result)
        self.known[seq] = replace(self.known[seq], state=IntentState.DONE, result=dict(result))

    def settle(self: Journal, seq: int, effect: Any, result: Any) -> None:
        if isinstance(effect, Broadcast) and effect.txid in held:
            _, at, made, used, chain, said = held.pop(effect.txid)
            with self.ledger.begin() as tx:
                tx.open_intent(replace(self.known[at], state=IntentState.OPEN, result={}))
                for coin in used:
                    tx.put_coin(replace(coin, state="reserved", run=self.run.id))
            signed(self, at, made, used, chain, said)
            with self.ledger.begin() as tx:
                tx.open_intent(self.known[seq])
        settled(self, seq, effect, result)

    def beef(ledger: Any, txid: str, *, atomic: bool = False) -> bytes:
        with ledger.begin() as tx:

            def source(wanted: str) -> tuple[bytes, bytes] | None:
                if wanted in held:
                    return held[wanted][2].raw, b""
                stored = tx.transaction(wanted)
                return None if stored is None else (stored.raw, stored.proof)

            return write_beef(txid, source, atomic=atomic)

    patch.setattr(Journal, "open", open_)
    patch.setattr(Journal, "settle_signed", hold)
    patch.setattr(Journal, "settle", settle)
    patch.setattr(perform, "beef_of", beef)
    patch.setattr(ancestry, "beef_of", beef)


def finish_print(effect: Any) -> str:
    """The fingerprint of an effect."""
    from reconciler.model.effect import fingerprint

    return fingerprint(effect)


@mutant(
    "re-sign-on-recovery",
    "a replay that finds bytes not yet broadcast signs again, with whatever coin there is",
    seed=2,
    fuse=60,
    edit=40,
)
def _re_sign(patch: pytest.MonkeyPatch) -> None:
    real = Journal.recall

    def recall(self: Journal, seq: int, effect: Any) -> Intent | None:
        known = real(self, seq, effect)
        after = self.known.get(seq + 1)
        if isinstance(effect, Sign) and known is not None and after is not None and after.state is IntentState.OPEN:
            self.known.pop(seq + 1)
            return replace(known, state=IntentState.OPEN)
        return known

    patch.setattr(Journal, "recall", recall)
    _rewritable(patch)


def _rewritable(patch: pytest.MonkeyPatch) -> None:
    """A journal in which fates can be written anew."""
    from sqlalchemy import delete

    from reconciler.adapters.sql.tables import INTENTS
    from reconciler.adapters.sql.transaction import _OPEN_INTENT, _SETTLE, _intent_row, rows

    def settle(self: Any, run_id: str, seq: int, state: IntentState, result: Any) -> None:
        told = {"run_id": run_id, "number": seq, "new_state": state.value, "new_result": rows.text(result)}
        self._sql.execute(_SETTLE, told)

    def open_intent(self: Any, intent: Intent) -> None:
        self._sql.execute(delete(INTENTS).where(INTENTS.c.run == intent.run, INTENTS.c.seq == intent.seq))
        self._sql.execute(_OPEN_INTENT, {**_intent_row(intent), "state": "open", "result": rows.text({})})

    patch.setattr(SqlTransaction, "settle", settle)
    patch.setattr(SqlTransaction, "open_intent", open_intent)


@mutant(
    "reserve-outside-the-commit",
    "coins are chosen with the intent and marked only when the broadcaster has answered",
    seed=2,
    fuse=60,
    edit=40,
)
def _late_reserve(patch: pytest.MonkeyPatch) -> None:
    chosen: dict[str, Sequence[Coin]] = {}
    opened, settled = Journal.open, Journal.settle

    def open_(self: Journal, seq: int, effect: Any) -> tuple[Coin, ...]:
        if not isinstance(effect, Sign):
            return opened(self, seq, effect)
        try:
            coins = _tried(self, effect)
        except Refused:
            return opened(self, seq, effect)
        with self.ledger.begin() as tx:
            intent = Intent(self.run.id, seq, "Sign", finish_print(effect), IntentState.OPEN, {}, self.lease.fence)
            tx.open_intent(intent)
        self.known[seq] = intent
        return coins

    def settle_signed(self: Journal, seq: int, made: Signed, used: Sequence[Coin], chain: str, result: Any) -> None:
        with self.ledger.begin() as tx:
            tx.put_transaction(StoredTx(made.txid, made.raw, chain, run=self.run.id))
            for coin in made.coins:
                tx.put_coin(replace(coin, state="pending", run=self.run.id))
            self._settle(tx, seq, result, IntentState.DONE)
        chosen[made.txid] = used

    def settle(self: Journal, seq: int, effect: Any, result: Any) -> None:
        if isinstance(effect, Broadcast):
            with self.ledger.begin() as tx:
                for coin in chosen.pop(effect.txid, ()):
                    tx.put_coin(replace(coin, state="spent", run=self.run.id))
        settled(self, seq, effect, result)

    patch.setattr(Journal, "open", open_)
    patch.setattr(Journal, "settle_signed", settle_signed)
    patch.setattr(Journal, "settle", settle)


@mutant("key-without-generation", "the idempotency key of a change leaves out its generation and its attempt", edit=40)
def _coarse_key(patch: pytest.MonkeyPatch) -> None:
    def run_id(self: Change, lineage: str) -> str:
        return "run_" + digest([lineage, str(self.ref), self.verb.value])[:24]

    patch.setattr(Change, "run_id", run_id)


@mutant("wrong-observed-generation", "what is learned outside a run is stated of the generation to come")
def _wrong_generation(patch: pytest.MonkeyPatch) -> None:
    real = standing.summarise
    patch.setattr(standing, "summarise", lambda old, facts, generation: real(old, facts, generation + 1))


@mutant("proof-unchecked", "a proof is believed without holding its root against the header", seed=8, lie=60, edit=60, wait=30)
def _unchecked(patch: pytest.MonkeyPatch) -> None:
    async def proven(ports: Any, net: Any, stored: StoredTx, raw: bytes) -> StoredTx | None:
        bump = parse_bump(raw)
        header = await ports.chain.header(bump.height, net.headers)
        return None if header is None else replace(stored, state="mined", proof=raw, height=bump.height, block=header.hash)

    patch.setattr(confirm, "_proven", proven)


@mutant("mined-is-for-ever", "a transaction in a block is never looked at again", reorg=20, mine=20)
def _for_ever(patch: pytest.MonkeyPatch) -> None:
    real = confirm._look

    async def look(ports: Any, net: Any, stored: StoredTx) -> Any:
        return None if stored.state == "mined" else await real(ports, net, stored)

    patch.setattr(confirm, "_look", look)


@mutant(
    "lost-is-not-re-sent", "a transaction that every broadcaster has forgotten is waited for", seed=6, lie=60, edit=60, wait=30
)
def _not_resent(patch: pytest.MonkeyPatch) -> None:
    real = confirm._look

    async def look(ports: Any, net: Any, stored: StoredTx) -> Any:
        if stored.state == "seen" and await ports.chain.status(stored.txid, net.broadcasters) is None:
            return None
        return await real(ports, net, stored)

    patch.setattr(confirm, "_look", look)


@mutant("upload-unprobed", "content is sent to a host without asking whether it is there already", seed=1, fuse=60, edit=60)
def _unprobed(patch: pytest.MonkeyPatch) -> None:
    real = perform._store

    class Blind:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        async def find(self, host: Any, sha256: str) -> None:
            await asyncio.sleep(0)

    async def store(effect: Any, ports: Any) -> Any:
        return await real(effect, replace(ports, storage=Blind(ports.storage)))

    patch.setitem(perform._PERFORM, type_of("Store"), store)  # type: ignore[arg-type]


def type_of(name: str) -> type:
    """An effect's class."""
    from reconciler.model import effect

    found: type = getattr(effect, name)
    return found


@mutant("no-recovery", "open runs are left alone until somebody asks for them", seed=2, fuse=60, edit=40)
def _no_recovery(patch: pytest.MonkeyPatch) -> None:
    async def nothing(self: Any) -> None:
        return None

    async def never(self: Any, lease: Any) -> None:
        return None

    patch.setattr(handlers.Handlers, "_settle_open_runs", nothing)
    patch.setattr(handlers.Handlers, "resume", never)


@mutant("no-budget", "the budget of the day is looked at when nothing can be spent any more", seed=6, edit=60)
def _no_budget(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guard, "_spend_day", lambda facts, limits: GuardResult(guard.SPEND_DAY, True, "not looked at"))
    patch.setattr(Budget, "charge", lambda self, satoshis: None)


@mutant("change-not-entered", "the change of a transaction is forgotten", edit=20)
def _no_change(patch: pytest.MonkeyPatch) -> None:
    real = Journal.settle_signed

    def settle_signed(self: Journal, seq: int, made: Signed, *rest: Any) -> None:
        real(self, seq, replace(made, coins=()), *rest)

    patch.setattr(Journal, "settle_signed", settle_signed)
