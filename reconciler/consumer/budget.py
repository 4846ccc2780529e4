"""What a buyer may spend: pure arithmetic over the books, called by the purse inside the commit that pays.

`perRequest` and `perProducer` bound what a producer can be paid; `perHour` and `perDay` bound what leaves the purse, miners' fees
included. Windows slide: an hour is the last sixty minutes. What was paid for and never answered counts as spent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.model.booking import Booking
from reconciler.model.canonical import Json
from reconciler.model.errors import GuardRefused

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Payments for purchases are booked, fee included, as `purchase/<producer hex33>/<purchase id>/<beginning of the txid>`.
PURCHASE = "purchase/"


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits in satoshis; None is none."""

    per_request: int | None = None
    per_hour: int | None = None
    per_day: int | None = None
    per_producer: int | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """What the books say of the last hour, of the last day, and of the last day with each producer."""

    hour: int
    day: int
    producers: Mapping[str, int]


def read_budget(consumer: Mapping[str, Json]) -> Budget:
    """The budget of an Identity's `consumer` block."""
    said = consumer.get("budget") or {}
    return Budget(said.get("perRequest"), said.get("perHour"), said.get("perDay"), said.get("perProducer"))


def line(producer: str, purchase: str, txid: str) -> str:
    """The name under which a payment for a purchase is booked."""
    return f"{PURCHASE}{producer}/{purchase}/{txid[:16]}"


def spent(bookings: Iterable[Booking], now: datetime) -> Spent:
    """The sums of the windows that end now; `bookings` go back a day at least."""
    hour = day = 0
    producers: dict[str, int] = {}
    for one in bookings:
        if one.moment <= now - DAY or not one.run.startswith(PURCHASE):
            continue
        day += one.satoshis
        hour += one.satoshis if one.moment > now - HOUR else 0
        producer = one.run.split("/")[1]
        producers[producer] = producers.get(producer, 0) + one.payments
    return Spent(hour, day, producers)


def require(budget: Budget, known: Spent, producer: str, satoshis: int, fee: int) -> None:
    """GuardRefused when this payment would pass a limit; it names the limit, what is left of it and what was asked."""
    rows = (
        ("perRequest", budget.per_request, 0, satoshis),
        ("perProducer", budget.per_producer, known.producers.get(producer, 0), satoshis),
        ("perHour", budget.per_hour, known.hour, satoshis + fee),
        ("perDay", budget.per_day, known.day, satoshis + fee),
    )
    for name, limit, gone, more in rows:
        if limit is not None and gone + more > limit:
            left = max(0, limit - gone)
            told = f"cannot pay {more} satoshis: {left} of {limit} are left of the budget {name}"
            raise GuardRefused(f"budget-{name}", told, hint=f"wait, or raise consumer.budget.{name} of the Identity")


def overview(budget: Budget, known: Spent) -> dict[str, dict[str, int | None]]:
    """Limit, spent and left of each window, for reports."""
    rows = {"perHour": (budget.per_hour, known.hour), "perDay": (budget.per_day, known.day)}
    return {
        name: {"limit": limit, "spent": gone, "left": None if limit is None else max(0, limit - gone)}
        for name, (limit, gone) in rows.items()
    }
