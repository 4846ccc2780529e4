"""Keys of work, their leases, and the counter every lease draws its fence from."""

from sqlalchemy import BigInteger, Column, Connection, Index, Integer, MetaData, String, Table, column, insert, table, text

from reconciler.adapters.sql.dialect import UtcTime

_SCHEMA = MetaData()

Table(
    "queue",
    _SCHEMA,
    Column("key", String, primary_key=True),
    Column("ready", UtcTime, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("due", UtcTime),
    Column("priority", Integer),
    Column("owner", String),
    Column("fence", BigInteger, nullable=False),
    Column("until", UtcTime),
    Column("attempts", Integer, nullable=False),
    Index("ix_queue_order", text("rank DESC"), "ready", "key"),
)


def up(connection: Connection) -> None:
    """An empty queue beside the ledger, in the same database so that a fence is checked in the same commit."""
    _SCHEMA.create_all(connection, checkfirst=False)
    counters = table("counters", column("name"), column("value"))
    connection.execute(insert(counters).values(name="fence", value=0))
