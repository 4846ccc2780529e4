"""What a producer knows of its buyers: where each stands by the policies, what each is worth, and a table of it. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from reconciler.model.codec import timestamp
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.model.sale import Consumer, Payment, PaymentState
from reconciler.sales.access import standing, tier_of

# The share of buyers, by what they paid, that counts as of high value where nobody says another.
TOP = 10
# The worse wins where several policies speak of a key.
_WORSE = ("active", "suspended", "blocked")
# What spreadsheets take for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
COLUMNS = (
    "consumer", "producer", "status", "tier", "satoshis", "payments", "pending", "refunded", "bytes", "first", "last",
    "recency", "frequency", "money", "highValue", "notes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Customer:
    """One buyer of one producer. `recency`, `frequency` and `money` are fifths, 5 the best; sums are in satoshis."""

    consumer: Consumer
    payments: int
    pending: int
    refunded: int
    recency: int
    frequency: int
    money: int
    high_value: bool

    def row(self) -> dict[str, Any]:
        """As the columns name it."""
        one = self.consumer
        said = (
            one.consumer, one.producer, one.status, one.tier, one.satoshis, self.payments, self.pending, self.refunded, one.bytes,
            timestamp(one.first), timestamp(one.last), self.recency, self.frequency, self.money, self.high_value, one.notes,
        )  # fmt: skip
        return dict(zip(COLUMNS, said, strict=True))


def policies(records: Mapping[ResourceRef, Record], producer: str) -> list[Mapping[str, Any]]:
    """The access policies under which a producer (`Identity/name`) sells anything."""
    bodies = [record.body for ref, record in sorted(records.items()) if ref.kind == "Dataset"]
    mine = [body for body in bodies if f"Identity/{body['spec'].get('identityRef')}" == producer]
    names = dict.fromkeys(
        f"AccessPolicy/{body['spec']['accessPolicyRef']}" for body in mine if body["spec"].get("accessPolicyRef")
    )
    found = {name: body["using"][name] for body in mine for name in names if name in body["using"]}
    return list(found.values())


def declared(consumer: Consumer, said: Sequence[Mapping[str, Any]], now: datetime) -> Consumer:
    """A buyer with the status, the tier and the notes that policies declare: the worst status, the first tier and note."""
    key = consumer.consumer
    status = max((standing(policy, key, now) for policy in said), key=_WORSE.index, default=consumer.status)
    tier = next((tier["name"] for policy in said if (tier := tier_of(policy, key))), consumer.tier)
    notes = next((policy["notes"][key] for policy in said if key in (policy.get("notes") or {})), None)
    return replace(consumer, status=status, tier=tier, notes=notes)


def customers(known: Sequence[Consumer], payments: Iterable[Payment], top: int = TOP) -> list[Customer]:
    """Every buyer with his payments, best first; the `top` percent by what they paid, and who ties, are of high value."""
    paid: dict[tuple[str, str], list[Payment]] = {}
    for payment in payments:
        paid.setdefault((payment.producer, payment.consumer), []).append(payment)
    counts = {_key(one): len(_in(paid.get(_key(one), ()), PaymentState.PENDING, PaymentState.CONFIRMED)) for one in known}
    recency = _fifths({_key(one): one.last.timestamp() for one in known})
    frequency, money = _fifths(counts), _fifths({_key(one): one.satoshis for one in known})
    sums = sorted((one.satoshis for one in known), reverse=True)
    enough = sums[max(0, -(-len(sums) * top // 100) - 1)] if sums else 0

    def made(one: Consumer) -> Customer:
        key, own = _key(one), paid.get(_key(one), [])
        pending = sum(payment.satoshis for payment in _in(own, PaymentState.PENDING))
        refunded = sum(payment.satoshis for payment in _in(own, PaymentState.REFUNDING, PaymentState.REFUNDED))
        rich = one.satoshis > 0 and one.satoshis >= enough
        return Customer(one, counts[key], pending, refunded, recency[key], frequency[key], money[key], rich)

    return sorted(map(made, known), key=lambda one: (-one.consumer.satoshis, one.consumer.consumer))


def _key(one: Consumer) -> tuple[str, str]:
    return one.producer, one.consumer


def _in(payments: Iterable[Payment], *states: PaymentState) -> list[Payment]:
    return [payment for payment in payments if payment.state in states]


def _fifths(values: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], int]:
    """In which fifth of all each stands, equal values in the same one; 5 is the highest."""
    ordered = sorted(values.values())
    below: dict[float, int] = {}
    for index, value in enumerate(ordered):
        below.setdefault(value, index)
    return {key: 1 + below[value] * 5 // len(ordered) for key, value in values.items()}


def write_csv(rows: Iterable[Customer]) -> str:
    """A table (RFC 4180) that spreadsheets read as text: no cell begins a formula, whatever a note says."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for one in rows:
        writer.writerow([_cell(value) for value in one.row().values()])
    return out.getvalue()


def _cell(value: Any) -> str:
    """Text that no program takes for a formula: such a beginning is kept behind an apostrophe."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
