"""The tables people query: who sells, what is offered, what is published, and where the copies are.

Each row shows one record and is written in the same transaction as that record, so that the catalog and
the ledger never disagree. It is a view, and therefore has no foreign key to another record's row: the
order in which records are written is the engine's business, and a record must never fail to be written
because of how it looks here. Columns that other rooms maintain (sums, counts) are left alone, and a row is
updated in place, so that `created_at` and those sums survive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    MetaData,
    Text,
    bindparam,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlmodel import Field, SQLModel

from reconciler.adapters.sql.dialect import JsonValue, UtcTime, upsert
from reconciler.adapters.sql.projection import advertisement_row, content_row, copy_rows, identity_row
from reconciler.adapters.sql.tables import table
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef


class CatalogTable(SQLModel):
    """Tables of the catalog keep their own catalogue of names, apart from the ledger's."""

    metadata = MetaData()


class ProducerIdentity(CatalogTable, table=True):
    """Who sells. `reputation_score` runs from 0 to 100 and is null until something was measured."""

    __tablename__ = "producer_identities"
    producer_id: str = Field(primary_key=True)
    identity_key: str | None = Field(default=None, unique=True)
    display_name: str
    description: str | None = Field(default=None, sa_column=Column(Text))
    contact_info: Json = Field(sa_column=Column(JsonValue, nullable=False))
    capabilities: Json = Field(sa_column=Column(JsonValue, nullable=False))
    geographic_regions: Json = Field(sa_column=Column(JsonValue, nullable=False))
    reputation_score: float | None = Field(default=None, sa_column=Column(Float))
    total_revenue_satoshis: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    created_at: datetime = Field(sa_column=Column(UtcTime, nullable=False))
    updated_at: datetime = Field(sa_column=Column(UtcTime, nullable=False))


class ProducerAdvertisement(CatalogTable, table=True):
    """What is offered. A withdrawn offer keeps its row; `availability_sla` is a percentage."""

    __tablename__ = "producer_advertisements"
    __table_args__ = (
        Index("idx_producer_advertisements_producer", "producer_id", "status"),
        Index("idx_producer_advertisements_capability", "capability"),
    )
    advertisement_id: str = Field(primary_key=True)
    producer_id: str | None = None
    service_type: str | None = None
    capability: str | None = None
    ship_advertisement_data: Json = Field(sa_column=Column(JsonValue, nullable=False))
    slap_advertisement_data: Json = Field(sa_column=Column(JsonValue, nullable=False))
    pricing_model: str | None = None
    base_rate_satoshis: int | None = Field(default=None, sa_column=Column(BigInteger))
    geographic_scope: Json = Field(sa_column=Column(JsonValue, nullable=False))
    availability_sla: float | None = Field(default=None, sa_column=Column(Float))
    max_consumers: int | None = None
    status: str
    created_at: datetime = Field(sa_column=Column(UtcTime, nullable=False))
    expires_at: datetime | None = Field(default=None, sa_column=Column(UtcTime))


class PublishedContent(CatalogTable, table=True):
    """What is published, at its current version. `uhrp_hash` is the SHA-256 of the file, or the Merkle root of several.

    The hash is unique per content, not alone: two listings may well offer the same bytes.
    """

    __tablename__ = "published_content"
    __table_args__ = (
        Index("uq_published_content_hash", "uhrp_hash", "content_id", unique=True),
        Index("idx_published_content_producer", "producer_id", text("created_at DESC")),
    )
    content_id: str = Field(primary_key=True)
    producer_id: str | None = None
    uhrp_hash: str | None = None
    title: str
    description: str | None = Field(default=None, sa_column=Column(Text))
    content_type: str | None = None
    file_size_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))
    tags: Json = Field(sa_column=Column(JsonValue, nullable=False))
    pricing: Json = Field(sa_column=Column(JsonValue, nullable=False))
    license_type: str | None = None
    version: int | None = None
    brc22_transaction_id: str | None = None
    confirmations: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    distribution_nodes: Json = Field(sa_column=Column(JsonValue, nullable=False))
    download_count: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    total_revenue_satoshis: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    created_at: datetime = Field(sa_column=Column(UtcTime, nullable=False))
    updated_at: datetime = Field(sa_column=Column(UtcTime, nullable=False))


class PublishedContentTag(CatalogTable, table=True):
    """One row per content and tag: the index by tag, which no database has for a list inside a column without extensions."""

    __tablename__ = "published_content_tags"
    __table_args__ = (Index("idx_published_content_tags", "tag", "content_id"),)
    content_id: str = Field(primary_key=True, foreign_key="published_content.content_id", ondelete="CASCADE")
    tag: str = Field(primary_key=True)


class ContentDistribution(CatalogTable, table=True):
    """One copy of one content on one host. `availability_score` runs from 0 to 100 and is null until measured.

    `expires_at` is when the first of its files there stops being paid for; `downloads_per_hour` is null where nobody counts.
    """

    __tablename__ = "content_distribution"
    __table_args__ = (Index("idx_content_distribution_content", "content_id", "distribution_status"),)
    distribution_id: str = Field(primary_key=True)
    content_id: str = Field(sa_column=Column(ForeignKey("published_content.content_id", ondelete="CASCADE"), nullable=False))
    overlay_node_id: str
    distribution_status: str
    replication_factor: int
    last_sync_at: datetime | None = Field(default=None, sa_column=Column(UtcTime))
    node_response_time_ms: int | None = None
    availability_score: float | None = Field(default=None, sa_column=Column(Float))
    created_at: datetime = Field(sa_column=Column(UtcTime, nullable=False))
    region: str | None = None
    expires_at: datetime | None = Field(default=None, sa_column=Column(UtcTime))
    downloads_per_hour: int | None = None


IDENTITIES = table(ProducerIdentity)
ADVERTISEMENTS = table(ProducerAdvertisement)
CONTENT = table(PublishedContent)
TAGS = table(PublishedContentTag)
COPIES = table(ContentDistribution)

# Built once: building a statement costs several times what running it does.
_KEY_OWNER = select(IDENTITIES.c.producer_id).where(
    IDENTITIES.c.identity_key == bindparam("key"), IDENTITIES.c.producer_id != bindparam("id")
)
_COPIES_OF = select(COPIES.c.overlay_node_id, COPIES.c.distribution_status).where(COPIES.c.content_id == bindparam("content"))
_DROP_COPY = delete(COPIES).where(COPIES.c.content_id == bindparam("content"), COPIES.c.overlay_node_id == bindparam("host"))
_SET_NODES = update(CONTENT).where(CONTENT.c.content_id == bindparam("content")).values(distribution_nodes=bindparam("nodes"))
_TAGS_OF = select(TAGS.c.tag).where(TAGS.c.content_id == bindparam("content"))
_DROP_TAGS = delete(TAGS).where(TAGS.c.content_id == bindparam("content"))
_ADD_TAGS = insert(TAGS)


def show(connection: Connection, record: Record, now: datetime) -> None:
    """Make the catalog show the record as it is now; kinds without a table show nothing."""
    writer = _WRITERS.get(record.ref.kind)
    if writer is not None:
        writer(connection, record, now)


def hide(connection: Connection, ref: ResourceRef) -> None:
    """The record is gone: an offer is marked withdrawn, other rows go with it."""
    if ref.kind == "Advertisement":
        connection.execute(update(ADVERTISEMENTS).where(ADVERTISEMENTS.c.advertisement_id == str(ref)).values(status="withdrawn"))
    elif ref.kind == "Identity":
        connection.execute(delete(IDENTITIES).where(IDENTITIES.c.producer_id == str(ref)))
    elif ref.kind == "Dataset":
        connection.execute(delete(CONTENT).where(CONTENT.c.content_id == str(ref)))


def _identity(connection: Connection, record: Record, now: datetime) -> None:
    row = identity_row(record)
    other = connection.scalar(_KEY_OWNER, {"key": row["identity_key"], "id": row["producer_id"]})
    if other is not None:
        raise Refused(
            "duplicate-identity-key",
            f"cannot record {record.ref}: its public key already belongs to {other}",
            hint="give each Identity a key of its own, or keep one of the two",
        )
    upsert(connection, IDENTITIES, {**row, "created_at": now, "updated_at": now}, keep=("created_at",))


def _advertisement(connection: Connection, record: Record, now: datetime) -> None:
    upsert(connection, ADVERTISEMENTS, {**advertisement_row(record, now), "created_at": now}, keep=("created_at",))


def _dataset(connection: Connection, record: Record, now: datetime) -> None:
    row, content = content_row(record), str(record.ref)
    fresh = {"distribution_nodes": [], "created_at": now}
    upsert(connection, CONTENT, {**row, **fresh, "updated_at": now}, keep=tuple(fresh))
    _retag(connection, content, row["tags"])
    rows = copy_rows(record)
    for copy in rows:
        _copy(connection, copy, now)
    hosts = {copy["overlay_node_id"] for copy in rows}
    states = {row.overlay_node_id: row.distribution_status for row in connection.execute(_COPIES_OF, {"content": content})}
    for host in states.keys() - hosts:
        connection.execute(_DROP_COPY, {"content": content, "host": host})
    nodes = sorted(host for host in hosts if states[host] == "available")
    connection.execute(_SET_NODES, {"content": content, "nodes": nodes})


def _copy(connection: Connection, row: Mapping[str, Any], now: datetime) -> None:
    """A fact that was not learned this time (None) leaves what was learned before."""
    known = [name for name, value in row.items() if value is not None]
    unknown = tuple(name for name in row if name not in known)
    full = {**row, "created_at": now}
    if full["distribution_status"] is None:
        full["distribution_status"] = "pending"
    upsert(connection, COPIES, full, keep=("created_at", *unknown))


def _retag(connection: Connection, content: str, tags: Sequence[str]) -> None:
    wanted = set(tags)
    if set(connection.scalars(_TAGS_OF, {"content": content})) == wanted:
        return
    connection.execute(_DROP_TAGS, {"content": content})
    if wanted:
        connection.execute(_ADD_TAGS, [{"content_id": content, "tag": tag} for tag in sorted(wanted)])


_WRITERS: Mapping[str, Callable[[Connection, Record, datetime], None]] = {
    "Identity": _identity,
    "Advertisement": _advertisement,
    "Dataset": _dataset,
}
