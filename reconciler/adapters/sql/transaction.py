"""LedgerTransaction on one SQL connection: every method is a statement or two, and the block is the commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table, bindparam, delete, insert, select, update

from reconciler.adapters.sql import catalog, coins, money, rows, trail
from reconciler.adapters.sql.dialect import changed, chosen, insert_if_absent, locked, removed, upsert
from reconciler.adapters.sql.tables import (
    BOOKINGS,
    COINS,
    COUNTERS,
    CURSORS,
    HISTORY,
    INTENTS,
    LINEAGE,
    QUEUE,
    RECORDS,
    RUNS,
    TRANSACTIONS,
)
from reconciler.adapters.sql.trade import TradeSql
from reconciler.engine.notices import moved, named
from reconciler.model.audit import Head
from reconciler.model.booking import Booking
from reconciler.model.canonical import Json
from reconciler.model.codec import timestamp
from reconciler.model.errors import Conflict, Invariant
from reconciler.model.intent import Intent, IntentState, Run, RunState
from reconciler.model.record import Record
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.ports import Clock, Coin, StoredTx

if TYPE_CHECKING:
    from reconciler.adapters.sql.news import News

# Statements are built once: building one costs more than running it.
_LINEAGE = select(LINEAGE.c.lineage)
_SERIAL = select(COUNTERS.c.value).where(COUNTERS.c.name == "serial")
_RECORD = select(RECORDS.c.document).where(RECORDS.c.ref == bindparam("by_ref"))
_CURSOR = select(CURSORS.c.value).where(CURSORS.c.name == bindparam("by_name"))
_BUMP = (
    update(COUNTERS).where(COUNTERS.c.name == bindparam("counter")).values(value=COUNTERS.c.value + 1).returning(COUNTERS.c.value)
)
_FENCE = locked(select(QUEUE.c.fence).where(QUEUE.c.key == bindparam("lease"), QUEUE.c.owner.is_not(None)))
_RUN = chosen(RUNS, ("id",))
_OPEN_RUN = insert(RUNS)
_INTENT = select(INTENTS).where(INTENTS.c.run == bindparam("run_id"), INTENTS.c.seq == bindparam("number"))
_RUN_STATE = select(RUNS.c.state).where(RUNS.c.id == bindparam("run_id"))
_OPEN_INTENT = insert(INTENTS)
_SETTLE = (
    update(INTENTS)
    .where(INTENTS.c.run == bindparam("run_id"), INTENTS.c.seq == bindparam("number"))
    .values(state=bindparam("new_state"), result=bindparam("new_result"))
)
_COIN = locked(chosen(COINS, ("outpoint",)))
_FREE = select(COINS.c.satoshis, COINS.c.outpoint).where(COINS.c.chain == bindparam("of_chain"), COINS.c.state == "free")
_PURSE = locked(_FREE)
# Read from the head of the index, however many coins there are. A coin that another writer is taking is passed over.
_SMALLEST = locked(_FREE.where(COINS.c.satoshis >= bindparam("least")).order_by(COINS.c.satoshis).limit(1), skip=True)
_RESERVE = update(COINS).where(COINS.c.outpoint == bindparam("by_outpoint"), COINS.c.state == "free")
_MOVE_COIN = changed(COINS, ("outpoint",))
_TRANSACTION = chosen(TRANSACTIONS, ("txid",))
_ENTER = insert(TRANSACTIONS)
# A transaction in one of these states may be known to a miner.
_LEFT = ("sent", "seen", "mined")


def bump(connection: Connection, counter: str) -> int:
    """Increment a counter and return it; the row is ours until commit."""
    return int(connection.scalars(_BUMP, {"counter": counter}).one())


class SqlTransaction(TradeSql):
    """Reads and writes of one commit; see ports.LedgerTransaction for what each verb promises."""

    def __init__(self, connection: Connection, clock: Clock, news: News | None = None) -> None:
        self._sql = connection
        self._clock = clock
        self._news = news if news is not None and news.wanted else None
        self._advanced: int | None = None

    # --- identity of the ledger --------------------------------------------------------------

    def lineage(self) -> str:
        return str(self._sql.scalars(_LINEAGE).one())

    def serial(self) -> int:
        return int(self._sql.scalars(_SERIAL).one())

    def advance(self) -> int:
        """Once a commit: a second call returns what the first one did."""
        if self._advanced is None:
            self._advanced = bump(self._sql, "serial")
        return self._advanced

    # --- records -----------------------------------------------------------------------------

    def record(self, ref: ResourceRef) -> Record | None:
        stored = self._sql.scalar(_RECORD, {"by_ref": str(ref)})
        return None if stored is None else rows.record(stored)

    def put_record(self, record: Record) -> None:
        before = self.record(record.ref) if self._news else None
        document = rows.text(record)
        upsert(self._sql, RECORDS, {"ref": str(record.ref), "version": bump(self._sql, "records"), "document": document})
        catalog.show(self._sql, record, self._clock.now())
        self.show_edition(record)
        if self._news:
            self._news.write(self._sql, moved(before, record, self._clock.now()))

    def drop_record(self, ref: ResourceRef) -> None:
        if self._news:
            self._news.write(self._sql, moved(self.record(ref), None, self._clock.now()))
        bump(self._sql, "records")
        self._sql.execute(removed(RECORDS, ("ref",)), {"by_ref": str(ref)})
        catalog.hide(self._sql, ref)

    # --- runs and intents --------------------------------------------------------------------

    def open_run(self, run: Run) -> Run:
        known = self.run(run.id)
        if known is not None:
            return known
        row = {"id": run.id, "key": run.key, "subject": rows.text(run.subject), "version": run.version, "state": run.state.value}
        more = {"error": run.error, "began": run.began or self._clock.now(), "reserved": run.reserved}
        self._sql.execute(_OPEN_RUN, row | more)
        bump(self._sql, "runs")
        return self._known_run(run.id)

    def run(self, run_id: str) -> Run | None:
        row = self._sql.execute(_RUN, {"by_id": run_id}).one_or_none()
        return None if row is None else rows.run(row)

    def _known_run(self, run_id: str) -> Run:
        run = self.run(run_id)
        if run is None:
            raise Invariant("no-run", f"cannot find run {run_id} in the journal")
        return run

    def runs(self, state: RunState | None = None, key: str | None = None) -> Sequence[Run]:
        """In the order they were opened."""
        wanted = {"state": None if state is None else state.value, "key": key}
        return [rows.run(row) for row in self._select(RUNS, wanted, "seq")]

    def close_run(self, run_id: str, state: RunState, error: str | None = None) -> None:
        """DONE is for ever and needs every intent settled; STALLED may still become DONE when a person resolves it."""
        run = self._known_run(run_id)
        if state is RunState.OPEN or (run.state is RunState.DONE and state is not RunState.DONE):
            raise Invariant("run-state", f"cannot close run {run_id} as {state.value}: it is {run.state.value}")
        unsettled = [intent.seq for intent in self.intents(run_id) if intent.state is IntentState.OPEN]
        if state is RunState.DONE and unsettled:
            raise Invariant("run-unsettled", f"cannot close run {run_id}: the fate of its intents {unsettled} is unknown")
        self._sql.execute(changed(RUNS, ("id",)), {"by_id": run_id, "state": state.value, "error": error})
        bump(self._sql, "runs")

    def intents(self, run_id: str) -> Sequence[Intent]:
        """In the order of the run."""
        return [rows.intent(row) for row in self._select(INTENTS, {"run": run_id}, "seq")]

    def open_intent(self, intent: Intent) -> None:
        """Opening the same step again before it settled only renews its fence; any other step there is a divergence."""
        state = self._sql.scalar(_RUN_STATE, {"run_id": intent.run})
        if state != RunState.OPEN.value:
            raise Invariant("run-state", f"cannot open an intent of run {intent.run}: the run is {state or 'unknown'}")
        row = self._sql.execute(_INTENT, {"run_id": intent.run, "number": intent.seq}).one_or_none()
        if row is None:
            self._sql.execute(
                _OPEN_INTENT, {**_intent_row(intent), "state": intent.state.value, "result": rows.text(intent.result)}
            )
            return
        known = rows.intent(row)
        if known.fingerprint != intent.fingerprint or known.state is not IntentState.OPEN:
            raise Invariant(
                "replay-divergence",
                f"cannot open step {intent.seq} of run {intent.run} as {intent.effect}: "
                f"the journal holds {known.effect}, {known.state.value}",
                hint="look at the run with `journal show`; it was begun by other code or settled by another process",
            )
        step = {"by_run": intent.run, "by_seq": intent.seq, "fence": intent.fence}
        self._sql.execute(changed(INTENTS, ("run", "seq")), step)

    def settle(self, run_id: str, seq: int, state: IntentState, result: Mapping[str, Json]) -> None:
        """Settling again with the same fate changes nothing; a fate, once known, is never rewritten."""
        row = self._sql.execute(_INTENT, {"run_id": run_id, "number": seq}).one_or_none()
        if row is None:
            raise Invariant("no-intent", f"cannot settle step {seq} of run {run_id}: it was never opened")
        stored = rows.text(result)
        if row.state != IntentState.OPEN.value and (row.state, row.result) != (state.value, stored):
            raise Invariant("settled", f"cannot settle step {seq} of run {run_id} as {state.value}: it is settled as {row.state}")
        self._sql.execute(_SETTLE, {"run_id": run_id, "number": seq, "new_state": state.value, "new_result": stored})

    def check_fence(self, key: str, fence: int) -> None:
        held = self._sql.scalar(_FENCE, {"lease": key})
        if held != fence:
            now = "nobody holds it" if held is None else f"fence {held} does"
            raise Conflict(
                "lease-lost", f"cannot write under fence {fence} of {key}: {now}", hint="another worker goes on with this key"
            )

    # --- coins -------------------------------------------------------------------------------

    def coins(self, chain: str | None = None, state: str | None = None, run: str | None = None) -> Sequence[Coin]:
        """Largest first."""
        found = self._select(COINS, {"chain": chain, "state": state, "run": run}, "outpoint")
        return sorted(map(rows.coin, found), key=lambda coin: -coin.satoshis)

    def put_coin(self, coin: Coin) -> None:
        """Enter a coin or move it on. One run hands it to another only once it has ended and its bytes are dead."""
        if insert_if_absent(self._sql, COINS, rows.coin_row(coin)):
            return
        old = self._coin(coin.outpoint)
        coins.check_put(old, coin)
        handed = old.state == "reserved" and old.run != coin.run
        if handed and (self._is_open(old.run) or _in_any(coin.outpoint, self._live(old.run))):
            raise Invariant("coin-state", f"cannot hand coin {coin.outpoint} to {coin.run}: it is {coins.said(old)}")
        upsert(self._sql, COINS, rows.coin_row(coin))

    def _is_open(self, run_id: str) -> bool:
        return bool(self._sql.scalar(_RUN_STATE, {"run_id": run_id}) == RunState.OPEN.value)

    def _coin(self, outpoint: Outpoint) -> Coin:
        row = self._sql.execute(_COIN, {"by_outpoint": str(outpoint)}).one_or_none()
        if row is None:
            raise Invariant("no-coin", f"cannot find coin {outpoint} in the purse")
        return rows.coin(row)

    def reserve(self, chain: str, needs: Sequence[int], run: str) -> Sequence[Coin]:
        """In the order of the needs; a coin inside bytes the run has signed is not offered again, unless they were refused."""
        signed = self._live(run)
        held = [coin for coin in self.coins(chain, "reserved", run) if not _in_any(coin.outpoint, signed)]
        enough = self._sql.execute(_SMALLEST, {"of_chain": chain, "least": needs[0]}).all() if len(needs) == 1 else ()
        free = [(row.satoshis, row.outpoint) for row in enough or self._sql.execute(_PURSE, {"of_chain": chain})]
        chosen = coins.assign(needs, [(coin.satoshis, str(coin.outpoint)) for coin in held], free)
        if isinstance(chosen, int):
            raise coins.insufficient(chain, needs, chosen, [satoshis for satoshis, _ in free] + [coin.satoshis for coin in held])
        taken = {outpoint for _, outpoint in free}.intersection(chosen)
        for outpoint in taken:
            if self._sql.execute(_RESERVE, {"by_outpoint": outpoint, "state": "reserved", "run": run}).rowcount != 1:
                raise Invariant("double-reserve", f"cannot reserve coin {outpoint} for {run}: it is no longer free")
        return [self._coin(Outpoint.parse(outpoint)) for outpoint in chosen]

    def spend(self, outpoints: Sequence[Outpoint], run: str) -> None:
        """Mark coins that `run` holds as spent by it; Invariant for any coin it does not hold."""
        for outpoint in outpoints:
            if coins.check_spend(self._coin(outpoint), run):
                self._sql.execute(_MOVE_COIN, {"by_outpoint": str(outpoint), "state": "spent"})

    def unspend(self, run: str) -> None:
        """Undo what only refused transactions of the run did; what another transaction of it spent or made stays."""
        live, alive = self._live(run), {tx.txid for tx in self._of(run) if tx.state != "rejected"}
        for coin in self.coins(state="spent", run=run):
            if not _in_any(coin.outpoint, live):
                self._sql.execute(_MOVE_COIN, {"by_outpoint": str(coin.outpoint), "state": "reserved"})
        made = [coin.outpoint for coin in self.coins(state="pending", run=run) if coin.outpoint.txid not in alive]
        self._sql.execute(delete(COINS).where(COINS.c.outpoint.in_(map(str, made))))

    def free(self, run: str) -> None:
        """Release what the run reserved; Invariant when bytes that spend it have left."""
        left = [tx.raw for tx in self._of(run) if tx.state in _LEFT]
        for coin in self.coins(state="reserved", run=run):
            if _in_any(coin.outpoint, left):
                raise Invariant(
                    "coin-sent", f"cannot release coin {coin.outpoint} of {run}: a transaction that spends it was sent"
                )
            self._sql.execute(_MOVE_COIN, {"by_outpoint": str(coin.outpoint), "state": "free", "run": ""})

    def _of(self, run: str) -> list[StoredTx]:
        return [rows.transaction(row) for row in self._select(TRANSACTIONS, {"run": run}, "seq")]

    def _live(self, run: str) -> list[bytes]:
        """The bytes of the run that may still be mined."""
        return [tx.raw for tx in self._of(run) if tx.state != "rejected"]

    # --- transactions ------------------------------------------------------------------------

    def put_transaction(self, tx: StoredTx) -> None:
        """Enter or update a transaction. Its bytes never change, and what has left never becomes merely signed again.

        Bytes that were refused may be made again by a later run, equal to the last bit; from then on they are that run's.
        """
        known = self.transaction(tx.txid)
        if known is None:
            self._sql.execute(_ENTER, rows.transaction_row(tx))
            return
        if known.raw != tx.raw or known.chain != tx.chain:
            raise Invariant("tx-changed", f"cannot rewrite transaction {tx.txid}: its bytes and its chain never change")
        again = known.state == "rejected" and tx.run != known.run
        if tx.state == "signed" and known.state != "signed" and not again:
            return
        self._sql.execute(changed(TRANSACTIONS, ("txid",)), {"by_txid": tx.txid, **rows.transaction_row(tx)})
        if known.state != tx.state:
            self.follow_payments(tx.txid, tx.state)

    def transaction(self, txid: str) -> StoredTx | None:
        row = self._sql.execute(_TRANSACTION, {"by_txid": txid}).one_or_none()
        return None if row is None else rows.transaction(row)

    def transactions(self, state: str | None = None) -> Sequence[StoredTx]:
        """In the order they were entered."""
        return [rows.transaction(row) for row in self._select(TRANSACTIONS, {"state": state}, "seq")]

    # --- money and history -------------------------------------------------------------------

    def spent_since(self, moment: datetime, kind: str = "") -> int:
        return money.spent_since(self._sql, moment, kind)

    def reserved(self, kind: str = "") -> int:
        return money.reserved(self._sql, kind)

    def booked(self, run_id: str) -> int:
        return money.booked(self._sql, run_id)

    def bookings(self, moment: datetime) -> Sequence[Booking]:
        return money.bookings(self._sql, moment)

    def book(self, run: str, ref: ResourceRef | None, moment: datetime, fees: int, payments: int, locked: int) -> None:
        """One entry a run, at the moment it was first booked; later figures replace earlier ones, and never add to them."""
        row = {
            "run": run,
            "ref": None if ref is None else str(ref),
            "moment": moment,
            "fees": fees,
            "payments": payments,
            "locked": locked,
        }
        trail.booked(self._sql, row)
        upsert(self._sql, BOOKINGS, row, keep=("moment",))

    def note(self, ref: ResourceRef | None, moment: datetime, event: str, detail: Mapping[str, Json]) -> None:
        trail.append(self._sql, None if ref is None else str(ref), moment, event, detail)

    def history(self, ref: ResourceRef | None = None, limit: int = 100) -> Sequence[Mapping[str, Json]]:
        """Newest first: {"seq", "ref", "at", "event", "detail"}."""
        found = select(HISTORY).where(HISTORY.c.event != trail.BOOKED).order_by(HISTORY.c.seq.desc()).limit(limit)
        if ref is not None:
            found = found.where(HISTORY.c.ref == str(ref))
        return [
            {"seq": row.seq, "ref": row.ref, "at": timestamp(row.moment), "event": row.event, "detail": rows.value(row.detail)}
            for row in self._sql.execute(found)
        ]

    def audit_head(self) -> Head:
        return trail.head(self._sql)

    def audit_entries(self, after: int = 0, limit: int = 1000) -> Sequence[Mapping[str, Json]]:
        return trail.entries(self._sql, after, limit)

    def unanchored_since(self, after: int, but: ResourceRef) -> datetime | None:
        return trail.oldest_unanchored(self._sql, after, str(but))

    def get(self, name: str) -> Json | None:
        stored = self._sql.scalar(_CURSOR, {"by_name": name})
        return None if stored is None else rows.value(stored)

    def put(self, name: str, value: Json) -> None:
        if self._news:
            self._news.write(self._sql, named(name, self.get(name), value, self._clock.now()))
        upsert(self._sql, CURSORS, {"name": name, "value": rows.text(value)})

    def _select(self, source: Table, wanted: Mapping[str, Any], order: str) -> Sequence[Any]:
        given = {name: value for name, value in wanted.items() if value is not None}
        found = chosen(source, tuple(given), order)
        return self._sql.execute(found, {f"by_{name}": value for name, value in given.items()}).all()


def _in_any(outpoint: Outpoint, raws: Sequence[bytes]) -> bool:
    return any(coins.is_inside(outpoint, raw) for raw in raws)


def _intent_row(intent: Intent) -> dict[str, Any]:
    return {name: getattr(intent, name) for name in ("run", "seq", "effect", "fingerprint", "fence")}
