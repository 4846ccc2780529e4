"""The tables of sales: two that people query beside the catalog, and what the ledger needs to keep its word to a buyer."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Text
from sqlmodel import Field

from reconciler.adapters.sql.catalog import CatalogTable
from reconciler.adapters.sql.dialect import JsonValue, UtcTime
from reconciler.adapters.sql.tables import LedgerTable, table
from reconciler.model.canonical import Json


class ProducerRevenue(CatalogTable, table=True):
    """One payment that came in. `outpoint` is unique: no money is entered twice; `receipt` is the signed document."""

    __tablename__ = "producer_revenue"
    __table_args__ = (
        CheckConstraint("amount_satoshis >= 0", name="ck_producer_revenue_amount"),
        Index("idx_producer_revenue_producer", "producer_id", "created_at"),
        Index("idx_producer_revenue_consumer", "consumer_id", "created_at"),
        Index("idx_producer_revenue_content", "content_id", "created_at"),
        Index("idx_producer_revenue_transaction", "brc22_transaction_id"),
        Index("idx_producer_revenue_status", "payment_status", "consumer_id"),
    )
    revenue_id: str = Field(primary_key=True)
    producer_id: str
    consumer_id: str
    content_id: str | None = None
    stream_id: str | None = None
    payment_method: str
    amount_satoshis: int = Field(sa_column=Column(BigInteger, nullable=False))
    brc22_transaction_id: str | None = None
    d21_template_id: str | None = None
    payment_status: str
    revenue_splits: Json = Field(sa_column=Column(JsonValue, nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcTime, nullable=False))
    confirmed_at: datetime | None = Field(default=None, sa_column=Column(UtcTime))
    content_sequence: int = 0
    outpoint: str | None = Field(default=None, unique=True)
    receipt: str = Field(sa_column=Column(Text, nullable=False))
    refund_transaction_id: str | None = None


class ProducerConsumer(CatalogTable, table=True):
    """One producer and one buyer. `relationship_id` is `producer_id consumer_id`."""

    __tablename__ = "producer_consumers"
    __table_args__ = (Index("uq_producer_consumers_pair", "producer_id", "consumer_id", unique=True),)
    relationship_id: str = Field(primary_key=True)
    producer_id: str
    consumer_id: str
    first_interaction_at: datetime = Field(sa_column=Column(UtcTime, nullable=False))
    last_interaction_at: datetime = Field(sa_column=Column(UtcTime, nullable=False))
    total_payments_satoshis: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    total_data_transferred_bytes: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    relationship_status: str
    consumer_tier: str
    notes: str | None = Field(default=None, sa_column=Column(Text))


class EditionRow(LedgerTable, table=True):
    """A version of a dataset, written with the record that shows it and kept when that shows another.

    `number` counts the editions of one content in the order in which they were published.
    """

    __tablename__ = "editions"
    __table_args__ = (Index("ix_editions_content", "content", "number"),)
    digest: str = Field(primary_key=True)
    content: str
    sequence: int
    number: int
    document: str = Field(sa_column=Column(Text, nullable=False))


class EntitlementRow(LedgerTable, table=True):
    """What a buyer may fetch; `period` in seconds, null for ever."""

    __tablename__ = "entitlements"
    __table_args__ = (Index("ix_entitlements_consumer", "consumer", "content"),)
    id: str = Field(primary_key=True)
    consumer: str
    content: str
    sequence: int
    digest: str
    granted: datetime = Field(sa_column=Column(UtcTime, nullable=False))
    period: int | None = Field(default=None, sa_column=Column(BigInteger))
    began: datetime | None = Field(default=None, sa_column=Column(UtcTime))
    revoked: datetime | None = Field(default=None, sa_column=Column(UtcTime))


class QuoteRow(LedgerTable, table=True):
    """A signed price."""

    __tablename__ = "quotes"
    __table_args__ = (Index("ix_quotes_expires", "expires"),)
    id: str = Field(primary_key=True)
    expires: datetime = Field(sa_column=Column(UtcTime, nullable=False))
    document: str = Field(sa_column=Column(Text, nullable=False))


class DueRow(LedgerTable, table=True):
    """A party's part of a payment, until a transaction has paid it."""

    __tablename__ = "dues"
    __table_args__ = (Index("ix_dues_settled", "settled", "since"),)
    payment: str = Field(primary_key=True)
    party: str = Field(primary_key=True)
    satoshis: int = Field(sa_column=Column(BigInteger, nullable=False))
    since: datetime = Field(sa_column=Column(UtcTime, nullable=False))
    terms: str = Field(sa_column=Column(Text, nullable=False))
    run: str | None = None
    settled: datetime | None = Field(default=None, sa_column=Column(UtcTime))


class RatingRow(LedgerTable, table=True):
    """What a buyer thought of what a receipt bought."""

    __tablename__ = "ratings"
    __table_args__ = (Index("ix_ratings_content", "content", "at"),)
    receipt: str = Field(primary_key=True)
    content: str
    consumer: str
    score: int
    at: datetime = Field(sa_column=Column(UtcTime, nullable=False))
    comment: str | None = Field(default=None, sa_column=Column(Text))


REVENUE = table(ProducerRevenue)
CONSUMERS = table(ProducerConsumer)
EDITIONS = table(EditionRow)
ENTITLEMENTS = table(EntitlementRow)
QUOTES = table(QuoteRow)
DUES = table(DueRow)
RATINGS = table(RatingRow)
