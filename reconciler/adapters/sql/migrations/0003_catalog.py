"""The tables people query about identities, offers, contents and copies, with the indexes they are queried by."""

from sqlalchemy import BigInteger, Column, Connection, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text, text

from reconciler.adapters.sql.dialect import JsonValue, UtcTime

_SCHEMA = MetaData()

Table(
    "producer_identities",
    _SCHEMA,
    Column("producer_id", String, primary_key=True),
    Column("identity_key", String, unique=True),
    Column("display_name", String, nullable=False),
    Column("description", Text),
    Column("contact_info", JsonValue, nullable=False),
    Column("capabilities", JsonValue, nullable=False),
    Column("geographic_regions", JsonValue, nullable=False),
    Column("reputation_score", Float),
    Column("total_revenue_satoshis", BigInteger, nullable=False, server_default="0"),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)
Table(
    "producer_advertisements",
    _SCHEMA,
    Column("advertisement_id", String, primary_key=True),
    Column("producer_id", String),
    Column("service_type", String),
    Column("capability", String),
    Column("ship_advertisement_data", JsonValue, nullable=False),
    Column("slap_advertisement_data", JsonValue, nullable=False),
    Column("pricing_model", String),
    Column("base_rate_satoshis", BigInteger),
    Column("geographic_scope", JsonValue, nullable=False),
    Column("availability_sla", Float),
    Column("max_consumers", Integer),
    Column("status", String, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Index("idx_producer_advertisements_producer", "producer_id", "status"),
    Index("idx_producer_advertisements_capability", "capability"),
)
Table(
    "published_content",
    _SCHEMA,
    Column("content_id", String, primary_key=True),
    Column("producer_id", String),
    Column("uhrp_hash", String),
    Column("title", String, nullable=False),
    Column("description", Text),
    Column("content_type", String),
    Column("file_size_bytes", BigInteger),
    Column("tags", JsonValue, nullable=False),
    Column("pricing", JsonValue, nullable=False),
    Column("license_type", String),
    Column("version", Integer),
    Column("brc22_transaction_id", String),
    Column("confirmations", Integer, nullable=False, server_default="0"),
    Column("distribution_nodes", JsonValue, nullable=False),
    Column("download_count", BigInteger, nullable=False, server_default="0"),
    Column("total_revenue_satoshis", BigInteger, nullable=False, server_default="0"),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Index("uq_published_content_hash", "uhrp_hash", "content_id", unique=True),
    Index("idx_published_content_producer", "producer_id", text("created_at DESC")),
)
Table(
    "published_content_tags",
    _SCHEMA,
    Column("content_id", String, ForeignKey("published_content.content_id", ondelete="CASCADE"), primary_key=True),
    Column("tag", String, primary_key=True),
    Index("idx_published_content_tags", "tag", "content_id"),
)
Table(
    "content_distribution",
    _SCHEMA,
    Column("distribution_id", String, primary_key=True),
    Column("content_id", String, ForeignKey("published_content.content_id", ondelete="CASCADE"), nullable=False),
    Column("overlay_node_id", String, nullable=False),
    Column("distribution_status", String, nullable=False),
    Column("replication_factor", Integer, nullable=False),
    Column("last_sync_at", UtcTime),
    Column("node_response_time_ms", Integer),
    Column("availability_score", Float),
    Column("created_at", UtcTime, nullable=False),
    Index("idx_content_distribution_content", "content_id", "distribution_status"),
)


def up(connection: Connection) -> None:
    """Empty catalog tables; each later write of a record fills its rows."""
    _SCHEMA.create_all(connection, checkfirst=False)
