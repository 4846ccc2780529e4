"""The tables of sales, and the present version of every dataset as the first of its editions."""

import json
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Column, Connection, Index, Integer, MetaData, String, Table, Text, text

from reconciler.adapters.sql.dialect import JsonValue, UtcTime

_SCHEMA = MetaData()

Table(
    "producer_revenue",
    _SCHEMA,
    Column("revenue_id", String, primary_key=True),
    Column("producer_id", String, nullable=False),
    Column("consumer_id", String, nullable=False),
    Column("content_id", String),
    Column("stream_id", String),
    Column("payment_method", String, nullable=False),
    Column("amount_satoshis", BigInteger, nullable=False),
    Column("brc22_transaction_id", String),
    Column("d21_template_id", String),
    Column("payment_status", String, nullable=False),
    Column("revenue_splits", JsonValue, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("confirmed_at", UtcTime),
    Column("content_sequence", Integer, nullable=False),
    Column("outpoint", String, unique=True),
    Column("receipt", Text, nullable=False),
    Column("refund_transaction_id", String),
    CheckConstraint("amount_satoshis >= 0", name="ck_producer_revenue_amount"),
    Index("idx_producer_revenue_producer", "producer_id", "created_at"),
    Index("idx_producer_revenue_consumer", "consumer_id", "created_at"),
    Index("idx_producer_revenue_content", "content_id", "created_at"),
    Index("idx_producer_revenue_transaction", "brc22_transaction_id"),
    Index("idx_producer_revenue_status", "payment_status", "consumer_id"),
)
Table(
    "producer_consumers",
    _SCHEMA,
    Column("relationship_id", String, primary_key=True),
    Column("producer_id", String, nullable=False),
    Column("consumer_id", String, nullable=False),
    Column("first_interaction_at", UtcTime, nullable=False),
    Column("last_interaction_at", UtcTime, nullable=False),
    Column("total_payments_satoshis", BigInteger, nullable=False, server_default="0"),
    Column("total_data_transferred_bytes", BigInteger, nullable=False, server_default="0"),
    Column("relationship_status", String, nullable=False),
    Column("consumer_tier", String, nullable=False),
    Column("notes", Text),
    Index("uq_producer_consumers_pair", "producer_id", "consumer_id", unique=True),
)
Table(
    "editions",
    _SCHEMA,
    Column("digest", String, primary_key=True),
    Column("content", String, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("document", Text, nullable=False),
    Index("ix_editions_content", "content", "number"),
)
Table(
    "entitlements",
    _SCHEMA,
    Column("id", String, primary_key=True),
    Column("consumer", String, nullable=False),
    Column("content", String, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("digest", String, nullable=False),
    Column("granted", UtcTime, nullable=False),
    Column("period", BigInteger),
    Column("began", UtcTime),
    Column("revoked", UtcTime),
    Index("ix_entitlements_consumer", "consumer", "content"),
)
Table(
    "quotes",
    _SCHEMA,
    Column("id", String, primary_key=True),
    Column("expires", UtcTime, nullable=False),
    Column("document", Text, nullable=False),
    Index("ix_quotes_expires", "expires"),
)
Table(
    "dues",
    _SCHEMA,
    Column("payment", String, primary_key=True),
    Column("party", String, primary_key=True),
    Column("satoshis", BigInteger, nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("terms", Text, nullable=False),
    Column("run", String),
    Column("settled", UtcTime),
    Index("ix_dues_settled", "settled", "since"),
)
Table(
    "ratings",
    _SCHEMA,
    Column("receipt", String, primary_key=True),
    Column("content", String, nullable=False),
    Column("consumer", String, nullable=False),
    Column("score", Integer, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("comment", Text),
    Index("ix_ratings_content", "content", "at"),
)


def up(connection: Connection) -> None:
    """Empty tables, but for what records already show: a version that is sold tomorrow may be the one of today."""
    _SCHEMA.create_all(connection, checkfirst=False)
    for ref, stored in connection.execute(text("SELECT ref, document FROM records WHERE ref LIKE 'Dataset/%'")).all():
        row = _edition(ref.partition("/")[2], json.loads(stored))
        if row is not None:
            connection.execute(_SCHEMA.tables["editions"].insert(), row)


def _edition(name: str, record: dict[str, Any]) -> dict[str, object] | None:
    outputs, spec = record["outputs"], record["body"].get("spec") or {}
    signed, files = outputs.get("document"), outputs.get("files")
    if not signed or not files or not outputs.get("publicKey"):
        return None
    found = {
        "content": name,
        "sequence": signed["sequence"],
        "digest": signed["digest"],
        "merkle_root": outputs.get("merkleRoot") or "",
        "files": [{"path": f["path"], "size": f["size"], "sha256": f["sha256"], "media_type": f["mediaType"]} for f in files],
        "producer": f"Identity/{spec.get('identityRef')}",
        "version": spec.get("version"),
        "license": spec.get("license"),
        "outpoint": next((token["outpoint"] for token in outputs.get("tokens") or () if token.get("outpoint")), None),
        "published": None,
    }
    row = {"digest": signed["digest"], "content": name, "sequence": signed["sequence"], "number": 1}
    return {**row, "document": json.dumps(found)}
