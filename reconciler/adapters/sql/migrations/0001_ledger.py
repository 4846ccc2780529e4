"""The inventory and the journal: records, runs, intents, coins, transactions, bookings, history, cursors."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from reconciler.adapters.sql.dialect import Serial, UtcTime

_SCHEMA = MetaData()

Table(
    "lineage",
    _SCHEMA,
    Column("id", Integer, CheckConstraint("id = 1", name="ck_lineage_single"), primary_key=True, autoincrement=False),
    Column("lineage", String, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)
Table("counters", _SCHEMA, Column("name", String, primary_key=True), Column("value", BigInteger, nullable=False))
Table(
    "records",
    _SCHEMA,
    Column("ref", String, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
    Index("ix_records_version", "version"),
)
Table(
    "runs",
    _SCHEMA,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("key", String, nullable=False),
    Column("subject", Text, nullable=False),
    Column("version", String, nullable=False),
    Column("state", String, nullable=False),
    Column("error", String),
    Column("began", UtcTime, nullable=False),
    Index("ix_runs_key_state", "key", "state"),
    Index("ix_runs_state", "state"),
)
Table(
    "intents",
    _SCHEMA,
    Column("run", String, ForeignKey("runs.id"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("effect", String, nullable=False),
    Column("fingerprint", String, nullable=False),
    Column("state", String, nullable=False),
    Column("result", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
)
Table(
    "coins",
    _SCHEMA,
    Column("outpoint", String, primary_key=True),
    Column("chain", String, nullable=False),
    Column("satoshis", BigInteger, nullable=False),
    Column("script", LargeBinary, nullable=False),
    Column("lock", Text, nullable=False),
    Column("state", String, nullable=False),
    Column("run", String, nullable=False),
    CheckConstraint("state IN ('reserved', 'pending', 'free', 'spent')", name="ck_coins_state"),
    CheckConstraint("satoshis >= 0", name="ck_coins_satoshis"),
    Index("ix_coins_purse", "chain", "state", "satoshis"),
    Index("ix_coins_run", "run"),
)
Table(
    "transactions",
    _SCHEMA,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("txid", String, nullable=False, unique=True),
    Column("raw", LargeBinary, nullable=False),
    Column("chain", String, nullable=False),
    Column("state", String, nullable=False),
    Column("proof", LargeBinary, nullable=False),
    Column("height", Integer, nullable=False),
    Column("block", String, nullable=False),
    Column("run", String, nullable=False),
    Index("ix_transactions_state", "state"),
    Index("ix_transactions_run", "run"),
)
Table(
    "bookings",
    _SCHEMA,
    Column("run", String, primary_key=True),
    Column("ref", String),
    Column("moment", UtcTime, nullable=False),
    Column("fees", BigInteger, nullable=False),
    Column("payments", BigInteger, nullable=False),
    Column("locked", BigInteger, nullable=False),
    Index("ix_bookings_moment", "moment"),
)
Table(
    "history",
    _SCHEMA,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("ref", String),
    Column("moment", UtcTime, nullable=False),
    Column("event", String, nullable=False),
    Column("detail", Text, nullable=False),
    Index("ix_history_ref", "ref", "seq"),
)
Table("cursors", _SCHEMA, Column("name", String, primary_key=True), Column("value", Text, nullable=False))


def up(connection: Connection) -> None:
    """From nothing to an empty ledger; its counters start at zero."""
    _SCHEMA.create_all(connection, checkfirst=False)
    counters = _SCHEMA.tables["counters"]
    connection.execute(counters.insert(), [{"name": name, "value": 0} for name in ("serial", "records", "runs")])
