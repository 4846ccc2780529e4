"""trade.TradeRows on one SQL connection: the part of a ledger transaction that is about sales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, bindparam, delete, func, or_, select, update

from reconciler.adapters.sql import rows
from reconciler.adapters.sql.catalog import CONTENT, IDENTITIES
from reconciler.adapters.sql.dialect import chosen, insert_if_absent, upsert
from reconciler.adapters.sql.trade_tables import CONSUMERS, DUES, EDITIONS, ENTITLEMENTS, QUOTES, RATINGS, REVENUE
from reconciler.model.codec import decode
from reconciler.model.errors import Conflict
from reconciler.model.record import Record
from reconciler.model.sale import Consumer, Due, Edition, Entitlement, Method, Payment, PaymentState, Quote, Rating
from reconciler.ports import Clock
from reconciler.sales.offer import edition_of
from reconciler.sales.states import followed

# The words of `producer_revenue.payment_method`.
_METHODS = {Method.BRC105: "brc41-http", Method.NATIVE: "d21-native", Method.EXTERNAL: "external"}
_METHOD_OF = {word: method for method, word in _METHODS.items()}
# Money in these states is nobody's revenue.
_LOST = (PaymentState.REJECTED, PaymentState.REFUNDED)

Row = dict[str, Any]

# Statements are built once: building one costs more than running it.
_ENTITLEMENTS = chosen(ENTITLEMENTS, ("consumer", "content")).order_by(ENTITLEMENTS.c.granted.desc(), ENTITLEMENTS.c.id)
# What was sold by the request (a period of nothing) is used up as it begins; there may be any number of those.
_RIGHTS = _ENTITLEMENTS.where(
    ENTITLEMENTS.c.revoked.is_(None),
    or_(ENTITLEMENTS.c.period.is_(None), ENTITLEMENTS.c.period > 0, ENTITLEMENTS.c.began.is_(None)),
)
_PENDING = select(func.coalesce(func.sum(REVENUE.c.amount_satoshis), 0)).where(
    REVENUE.c.payment_status == PaymentState.PENDING.value
)
_PAID_SINCE = (
    select(func.count())
    .select_from(REVENUE)
    .where(REVENUE.c.consumer_id == bindparam("who"), REVENUE.c.created_at >= bindparam("moment"))
)
# The sums that show a payment: table, what names its row, and the statement.
_SUMS = {
    name: update(table)
    .where(table.c[name] == bindparam("row"))
    .values(total_revenue_satoshis=table.c.total_revenue_satoshis + bindparam("more"))
    for table, name in ((CONTENT, "content_id"), (IDENTITIES, "producer_id"))
}


class TradeSql:
    """Rows of sales, read and written in the transaction this is a part of."""

    _sql: Connection
    _clock: Clock

    # --- editions ----------------------------------------------------------------------------

    def show_edition(self, record: Record) -> None:
        """Keep the version that a Dataset's record shows; one that is kept already stays as it was."""
        found = edition_of(record) if record.ref.kind == "Dataset" else None
        if found is None or self._one(EDITIONS, digest=found.digest) is not None:
            return
        last = select(func.max(EDITIONS.c.number)).where(EDITIONS.c.content == found.content)
        row = {name: getattr(found, name) for name in ("digest", "content", "sequence")}
        document = rows.text(replace(found, published=self._clock.now()))
        insert_if_absent(self._sql, EDITIONS, {**row, "number": (self._sql.scalar(last) or 0) + 1, "document": document})

    def edition(self, content: str, sequence: int) -> Edition | None:
        given = (EDITIONS.c.content == content, EDITIONS.c.sequence == sequence)
        found = self._sql.scalar(select(EDITIONS.c.document).where(*given).order_by(EDITIONS.c.number.desc()).limit(1))
        return None if found is None else _edition(found)

    def edition_of(self, digest: str) -> Edition | None:
        row = self._one(EDITIONS, digest=digest)
        return None if row is None else _edition(row.document)

    def editions(self, content: str) -> Sequence[Edition]:
        found = select(EDITIONS.c.document).where(EDITIONS.c.content == content).order_by(EDITIONS.c.number.desc())
        return [_edition(one) for one in self._sql.scalars(found)]

    # --- quotes ------------------------------------------------------------------------------

    def quote(self, quote_id: str) -> Quote | None:
        return _quote(self._one(QUOTES, id=quote_id))

    def put_quote(self, quote: Quote) -> None:
        row = {"id": quote.id, "expires": quote.expires, "document": rows.text(quote)}
        upsert(self._sql, QUOTES, row)

    def forget_quotes(self, before: datetime) -> int:
        return self._sql.execute(delete(QUOTES).where(QUOTES.c.expires < before)).rowcount

    # --- payments ----------------------------------------------------------------------------

    def payment(self, payment_id: str) -> Payment | None:
        return _payment(self._one(REVENUE, revenue_id=payment_id))

    def payment_at(self, outpoint: str) -> Payment | None:
        return _payment(self._one(REVENUE, outpoint=outpoint))

    def payments(
        self,
        *,
        state: PaymentState | None = None,
        consumer: str | None = None,
        content: str | None = None,
        since: datetime | None = None,
    ) -> Sequence[Payment]:
        wanted = {
            "payment_status": state.value if state is not None else None,
            "consumer_id": consumer,
            "content_id": _as("Dataset", content),
        }
        given: list[ColumnElement[bool]] = [REVENUE.c[name] == value for name, value in wanted.items() if value is not None]
        if since is not None:
            given.append(REVENUE.c.created_at >= since)
        found = select(REVENUE).where(*given).order_by(REVENUE.c.created_at, REVENUE.c.revenue_id)
        return [payment for row in self._sql.execute(found) if (payment := _payment(row)) is not None]

    def put_payment(self, payment: Payment) -> None:
        before = self.payment(payment.id)
        if payment.outpoint is not None:
            other = self.payment_at(payment.outpoint)
            if other is not None and other.id != payment.id:
                raise Conflict("paid-already", f"cannot enter {payment.outpoint} as payment {payment.id}: it is {other.id}")
        upsert(self._sql, REVENUE, _revenue_row(payment))
        self._count(payment, _counted(payment) - (_counted(before) if before is not None else 0))

    def _count(self, payment: Payment, more: int) -> None:
        """The sums that show the payment; `more` is negative where money was lost again."""
        now = self._clock.now()
        known = self.consumer(payment.producer, payment.consumer)
        known = known or Consumer(payment.producer, payment.consumer, now, now)
        self.put_consumer(replace(known, last=max(known.last, payment.created), satoshis=known.satoshis + more))
        for name, value in (("content_id", _as("Dataset", payment.content)), ("producer_id", payment.producer)):
            if more and value is not None:
                self._sql.execute(_SUMS[name], {"row": value, "more": more})

    def follow_payments(self, txid: str, state: str) -> None:
        """A transaction has come to `state`, and with it what it pays; a right that rests on money we shall never have ends."""
        now = self._clock.now()
        for row in self._sql.execute(chosen(REVENUE, ("brc22_transaction_id",)), {"by_brc22_transaction_id": txid}).all():
            before = _payment(row)
            after = followed(before, state, now) if before is not None else None
            if after is None:
                continue
            self.put_payment(after)
            right = self.entitlement(after.id)
            if right is not None and PaymentState.REJECTED in (row.payment_status, after.state):
                self.put_entitlement(replace(right, revoked=now if after.state is PaymentState.REJECTED else None))

    def pending(self, consumer: str | None = None) -> int:
        found = _PENDING if consumer is None else _PENDING.where(REVENUE.c.consumer_id == consumer)
        return int(self._sql.scalar(found) or 0)

    def paid_since(self, consumer: str, moment: datetime) -> int:
        return int(self._sql.scalar(_PAID_SINCE, {"who": consumer, "moment": moment}) or 0)

    # --- what was bought ---------------------------------------------------------------------

    def entitlement(self, entitlement_id: str) -> Entitlement | None:
        row = self._one(ENTITLEMENTS, id=entitlement_id)
        return None if row is None else _entitlement(row)

    def entitlements(self, consumer: str, content: str) -> Sequence[Entitlement]:
        given = {"by_consumer": consumer, "by_content": content}
        return [_entitlement(row) for row in self._sql.execute(_ENTITLEMENTS, given)]

    def rights(self, consumer: str, content: str) -> Sequence[Entitlement]:
        given = {"by_consumer": consumer, "by_content": content}
        return [_entitlement(row) for row in self._sql.execute(_RIGHTS, given)]

    def put_entitlement(self, entitlement: Entitlement) -> None:
        period = entitlement.period
        row = _fields(ENTITLEMENTS, entitlement)
        upsert(self._sql, ENTITLEMENTS, {**row, "period": None if period is None else round(period.total_seconds())})

    # --- parties, consumers, ratings ---------------------------------------------------------

    def dues(
        self, *, open_only: bool = True, payment: str | None = None, after: Due | None = None, most: int | None = None
    ) -> Sequence[Due]:
        order = (DUES.c.since, DUES.c.payment, DUES.c.party)
        given: list[ColumnElement[bool]] = [DUES.c.settled.is_(None)] if open_only else []
        given += [DUES.c.payment == payment] if payment is not None else []
        if after is not None:
            since, named, party = order
            same = and_(since == after.since, or_(named > after.payment, and_(named == after.payment, party > after.party)))
            given.append(or_(since > after.since, same))
        return [_due(row) for row in self._sql.execute(select(DUES).where(*given).order_by(*order).limit(most))]

    def put_due(self, due: Due) -> None:
        upsert(self._sql, DUES, {**_fields(DUES, due), "terms": rows.text(due.terms)})

    def consumer(self, producer: str, consumer: str) -> Consumer | None:
        row = self._one(CONSUMERS, relationship_id=_relation(producer, consumer))
        return None if row is None else _consumer(row)

    def consumers(self, producer: str | None = None) -> Sequence[Consumer]:
        found = select(CONSUMERS).order_by(CONSUMERS.c.producer_id, CONSUMERS.c.first_interaction_at, CONSUMERS.c.consumer_id)
        found = found if producer is None else found.where(CONSUMERS.c.producer_id == producer)
        return [_consumer(row) for row in self._sql.execute(found)]

    def put_consumer(self, consumer: Consumer) -> None:
        upsert(self._sql, CONSUMERS, _consumer_row(consumer))

    def served(self, producer: str, consumer: str, content: str, count: int, downloads: int, moment: datetime) -> None:
        known = self.consumer(producer, consumer) or Consumer(producer, consumer, moment, moment)
        self.put_consumer(replace(known, last=max(known.last, moment), bytes=known.bytes + count))
        total = CONTENT.c.download_count
        found = update(CONTENT).where(CONTENT.c.content_id == _as("Dataset", content))
        self._sql.execute(found.values(download_count=total + downloads))

    def rating(self, receipt: str) -> Rating | None:
        row = self._one(RATINGS, receipt=receipt)
        return None if row is None else _rating(row)

    def ratings(self, content: str) -> Sequence[Rating]:
        found = select(RATINGS).where(RATINGS.c.content == content).order_by(RATINGS.c.at, RATINGS.c.receipt)
        return [_rating(row) for row in self._sql.execute(found)]

    def put_rating(self, rating: Rating) -> None:
        upsert(self._sql, RATINGS, _fields(RATINGS, rating))

    def _one(self, source: Table, **by: str) -> Any | None:
        ((name, value),) = by.items()
        return self._sql.execute(chosen(source, (name,)), {f"by_{name}": value}).one_or_none()


def _fields(source: Table, value: Any) -> Row:
    """The columns that are called as the fields they hold."""
    return {column.name: getattr(value, column.name) for column in source.columns}


def _edition(stored: str) -> Edition:
    found: Edition = decode(Edition, rows.value(stored))
    return found


def _quote(row: Any) -> Quote | None:
    return None if row is None else decode(Quote, rows.value(row.document))


def _as(kind: str, name: str | None) -> str | None:
    """How the catalog's tables name a resource."""
    return None if name is None else f"{kind}/{name}"


def _name(stored: str | None) -> str | None:
    return None if stored is None else stored.partition("/")[2]


def _relation(producer: str, consumer: str) -> str:
    return f"{producer} {consumer}"


def _counted(payment: Payment) -> int:
    return 0 if payment.state in _LOST else payment.satoshis


def _revenue_row(payment: Payment) -> Row:
    return {
        "revenue_id": payment.id,
        "producer_id": payment.producer,
        "consumer_id": payment.consumer,
        "content_id": _as("Dataset", payment.content),
        "stream_id": _as("Stream", payment.stream),
        "payment_method": _METHODS[payment.method],
        "amount_satoshis": payment.satoshis,
        "brc22_transaction_id": payment.txid or None,
        "d21_template_id": payment.template,
        "payment_status": payment.state.value,
        "revenue_splits": [dict(split) for split in payment.splits],
        "created_at": payment.created,
        "confirmed_at": payment.confirmed,
        "content_sequence": payment.sequence,
        "outpoint": payment.outpoint,
        "receipt": payment.receipt.decode(),
        "refund_transaction_id": payment.refund,
    }


def _payment(row: Any) -> Payment | None:
    if row is None:
        return None
    return Payment(
        id=row.revenue_id,
        producer=row.producer_id,
        consumer=row.consumer_id,
        satoshis=row.amount_satoshis,
        method=_METHOD_OF[row.payment_method],
        created=row.created_at,
        content=_name(row.content_id),
        sequence=row.content_sequence,
        stream=_name(row.stream_id),
        outpoint=row.outpoint,
        template=row.d21_template_id,
        state=PaymentState(row.payment_status),
        splits=tuple(row.revenue_splits),
        receipt=row.receipt.encode(),
        confirmed=row.confirmed_at,
        refund=row.refund_transaction_id,
    )


def _entitlement(row: Any) -> Entitlement:
    given: Mapping[str, Any] = row._mapping
    return Entitlement(**{**given, "period": None if row.period is None else timedelta(seconds=row.period)})


def _due(row: Any) -> Due:
    return Due(**{**row._mapping, "terms": rows.value(row.terms)})


def _rating(row: Any) -> Rating:
    return Rating(**row._mapping)


def _consumer_row(found: Consumer) -> Row:
    return {
        "relationship_id": _relation(found.producer, found.consumer),
        "producer_id": found.producer,
        "consumer_id": found.consumer,
        "first_interaction_at": found.first,
        "last_interaction_at": found.last,
        "total_payments_satoshis": found.satoshis,
        "total_data_transferred_bytes": found.bytes,
        "relationship_status": found.status,
        "consumer_tier": found.tier,
        "notes": found.notes,
    }


def _consumer(row: Any) -> Consumer:
    return Consumer(
        producer=row.producer_id,
        consumer=row.consumer_id,
        first=row.first_interaction_at,
        last=row.last_interaction_at,
        satoshis=row.total_payments_satoshis,
        bytes=row.total_data_transferred_bytes,
        status=row.relationship_status,
        tier=row.consumer_tier,
        notes=row.notes,
    )
