"""The ledger's tables: what must survive a crash, and nothing that people are meant to query (that is the catalog).

Values travel as the JSON text of `reconciler.model.codec`; a column of its own stands only for what a
statement selects, orders or compares by. The migrations create these tables; a test holds the two together.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, LargeBinary, MetaData, Table, Text, text
from sqlmodel import Field, SQLModel

from reconciler.adapters.sql.dialect import Serial, UtcTime


class LedgerTable(SQLModel):
    """Tables of the ledger keep their own catalogue of names, so that no other library's table is ever among them."""

    metadata = MetaData()


class LineageRow(LedgerTable, table=True):
    """Which ledger this is: one row, written at creation and never again."""

    __tablename__ = "lineage"
    __table_args__ = (CheckConstraint("id = 1", name="ck_lineage_single"),)
    id: int = Field(primary_key=True)
    lineage: str
    created_at: datetime = Field(sa_column=Column(UtcTime, nullable=False))


class CounterRow(LedgerTable, table=True):
    """Numbers that only grow: `serial`, `fence`, and the versions by which readers know that a cache still holds."""

    __tablename__ = "counters"
    name: str = Field(primary_key=True)
    value: int = Field(sa_column=Column(BigInteger, nullable=False))


class RecordRow(LedgerTable, table=True):
    """One resource as last applied. `version` is drawn from the counter `records` at every write."""

    __tablename__ = "records"
    ref: str = Field(primary_key=True)
    version: int = Field(sa_column=Column(BigInteger, nullable=False, index=True))
    document: str = Field(sa_column=Column(Text, nullable=False))


class RunRow(LedgerTable, table=True):
    """A journaled sequence of effects; `subject` is the change it executes."""

    __tablename__ = "runs"
    __table_args__ = (Index("ix_runs_key_state", "key", "state"), Index("ix_runs_state", "state"))
    seq: int | None = Field(default=None, sa_column=Column(Serial, primary_key=True, autoincrement=True))
    id: str = Field(unique=True)
    key: str
    subject: str = Field(sa_column=Column(Text, nullable=False))
    version: str
    state: str
    error: str | None = None
    began: datetime = Field(sa_column=Column(UtcTime, nullable=False))
    reserved: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0")))


class IntentRow(LedgerTable, table=True):
    """An effect written down before it happens."""

    __tablename__ = "intents"
    run: str = Field(primary_key=True, foreign_key="runs.id")
    seq: int = Field(primary_key=True)
    effect: str
    fingerprint: str
    state: str
    result: str = Field(sa_column=Column(Text, nullable=False))
    fence: int = Field(sa_column=Column(BigInteger, nullable=False))


class CoinRow(LedgerTable, table=True):
    """A spendable output; its outpoint is its identity, so it can be entered, and spent, only once."""

    __tablename__ = "coins"
    __table_args__ = (
        CheckConstraint("state IN ('reserved', 'pending', 'free', 'spent')", name="ck_coins_state"),
        CheckConstraint("satoshis >= 0", name="ck_coins_satoshis"),
        Index("ix_coins_purse", "chain", "state", "satoshis"),
        Index("ix_coins_run", "run"),
    )
    outpoint: str = Field(primary_key=True)
    chain: str
    satoshis: int = Field(sa_column=Column(BigInteger, nullable=False))
    script: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    lock: str = Field(sa_column=Column(Text, nullable=False))
    state: str
    run: str


class TransactionRow(LedgerTable, table=True):
    """Bytes we made or rely on, kept for ever: they are what is sent again."""

    __tablename__ = "transactions"
    __table_args__ = (Index("ix_transactions_state", "state"), Index("ix_transactions_run", "run"))
    seq: int | None = Field(default=None, sa_column=Column(Serial, primary_key=True, autoincrement=True))
    txid: str = Field(unique=True)
    raw: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    chain: str
    state: str
    proof: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    height: int
    block: str
    run: str


class BookingRow(LedgerTable, table=True):
    """What a run really moved, in satoshis; one row a run."""

    __tablename__ = "bookings"
    run: str = Field(primary_key=True)
    ref: str | None = None
    moment: datetime = Field(sa_column=Column(UtcTime, nullable=False, index=True))
    fees: int = Field(sa_column=Column(BigInteger, nullable=False))
    payments: int = Field(sa_column=Column(BigInteger, nullable=False))
    locked: int = Field(sa_column=Column(BigInteger, nullable=False))


class HistoryRow(LedgerTable, table=True):
    """What happened, appended and never changed. `digest` covers the entry and the one before it (wire/auditlog.py)."""

    __tablename__ = "history"
    __table_args__ = (Index("ix_history_ref", "ref", "seq"), Index("uq_history_number", "number", unique=True))
    seq: int | None = Field(default=None, sa_column=Column(Serial, primary_key=True, autoincrement=True))
    ref: str | None = None
    moment: datetime = Field(sa_column=Column(UtcTime, nullable=False))
    event: str
    detail: str = Field(sa_column=Column(Text, nullable=False))
    number: int | None = Field(default=None, sa_column=Column(BigInteger))
    digest: str | None = None


class OutboxRow(LedgerTable, table=True):
    """A notice that is still to be delivered to one sink; gone once it was."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_due", "due"),)
    id: str = Field(primary_key=True)
    sink: str = Field(primary_key=True)
    at: datetime = Field(sa_column=Column(UtcTime, nullable=False))
    body: str = Field(sa_column=Column(Text, nullable=False))
    due: datetime = Field(sa_column=Column(UtcTime, nullable=False))
    attempts: int
    error: str | None = Field(default=None, sa_column=Column(Text))


class CursorRow(LedgerTable, table=True):
    """A named position or setting."""

    __tablename__ = "cursors"
    name: str = Field(primary_key=True)
    value: str = Field(sa_column=Column(Text, nullable=False))


class QueueRow(LedgerTable, table=True):
    """One key of work: queued, leased, or both.

    `ready` and `rank` say when, and how urgently, the next claim may have it: what was put while nobody
    holds it, the end and the rank of the lease while somebody does. `due` and `priority` hold what was put
    and not yet claimed; both are null when nothing was.
    """

    __tablename__ = "queue"
    # The order of claims, so that the next one is read from the head of the index.
    __table_args__ = (Index("ix_queue_order", text("rank DESC"), "ready", "key"),)
    key: str = Field(primary_key=True)
    ready: datetime = Field(sa_column=Column(UtcTime, nullable=False))
    rank: int
    due: datetime | None = Field(default=None, sa_column=Column(UtcTime, nullable=True))
    priority: int | None = None
    owner: str | None = None
    fence: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    until: datetime | None = Field(default=None, sa_column=Column(UtcTime, nullable=True))
    attempts: int = 0


def table(row: type[SQLModel]) -> Table:
    """The Core table behind a row class: statements are written on it, because bulk reads build no objects."""
    found: Table = row.metadata.tables[str(row.__tablename__)]
    return found


LINEAGE = table(LineageRow)
COUNTERS = table(CounterRow)
RECORDS = table(RecordRow)
RUNS = table(RunRow)
INTENTS = table(IntentRow)
COINS = table(CoinRow)
TRANSACTIONS = table(TransactionRow)
BOOKINGS = table(BookingRow)
HISTORY = table(HistoryRow)
OUTBOX = table(OutboxRow)
CURSORS = table(CursorRow)
QUEUE = table(QueueRow)
