"""Terms of a sale and their written form, the quote: pure.

A quote is a sealed document (wire/document.py) that the producer signs; it stands for as long as the plan says, whatever becomes
of the price meanwhile, and for the edition it names, whatever is published meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.model.canonical import Json, digest
from reconciler.model.codec import timestamp
from reconciler.model.errors import Refused
from reconciler.model.sale import ONE_REQUEST, Edition, Quote
from reconciler.sales.offer import Offer
from reconciler.sales.price import Line, Priced, price, units_of

TYPE = "Quote"
STANDS_FOR = timedelta(minutes=30)
_ID_DIGITS = 32
# Models that say what a dataset costs; the others count time or packets, which a dataset does not have.
FOR_CONTENT = frozenset({"per-item", "per-request", "per-mb", "subscription"})
MAX_PERIODS = 1000


@dataclass(frozen=True, slots=True)
class Terms:
    """What an edition costs a buyer now, or as a quote said; `period` is how long a subscription runs."""

    edition: Edition
    units: int
    satoshis: int
    lines: tuple[Line, ...]
    period: timedelta | None = None
    quote: str | None = None


def terms(offer: Offer, edition: Edition, units: int | None, *, tier: str | None, discount: str | None, used: int) -> Terms:
    """What `edition` costs; `units` are the periods of a subscription, and follow from the content elsewhere.

    Refused("not-for-sale") where the plan counts what a dataset does not have, Refused("bad-member") for units without sense.
    """
    model = offer.plan["model"]
    if model not in FOR_CONTENT:
        hint = "its producer must state a price, or a plan of another model"
        raise Refused("not-for-sale", f"cannot sell {offer.name}: its price is {model}", hint=hint)
    own = units_of(offer.plan, bytes=edition.size)
    if units is not None and units != own and (model != "subscription" or not 0 < units <= MAX_PERIODS):
        raise Refused("bad-member", f"cannot sell {units} units of {offer.name}: it is {own}", hint="leave units out")
    count = own if units is None else units
    found: Priced = price(offer.plan, count, tier=tier, discount=discount, used=used)
    span = timedelta(milliseconds=int(offer.plan["period"])) * count if model == "subscription" else None
    span = ONE_REQUEST if model == "per-request" else span
    return Terms(edition, count, found.satoshis, found.lines, span)


def document(
    offer: Offer, found: Terms, producer: str, buyer: str | None, issued: datetime, methods: Sequence[str]
) -> dict[str, Json]:
    """The statement that the producer signs, with its id."""
    stands = timedelta(milliseconds=int(ttl)) if (ttl := offer.plan.get("quoteTtl")) else STANDS_FOR
    said: dict[str, Json] = {
        "type": TYPE,
        "contentId": found.edition.content,
        "sequence": found.edition.sequence,
        "digest": found.edition.digest,
        "units": found.units,
        "satoshis": found.satoshis,
        "price": [line.json() for line in found.lines],
        "period": None if found.period is None else int(found.period.total_seconds()),
        "buyer": buyer,
        "producer": producer,
        "issued": timestamp(issued),
        "expires": timestamp(issued + stands),
        "methods": list(methods),
    }
    return {**said, "id": digest(said)[:_ID_DIGITS]}


def kept(said: Mapping[str, Json], envelope: bytes) -> Quote:
    """The row of a quote."""
    return Quote(
        id=said["id"],
        content=said["contentId"],
        sequence=said["sequence"],
        digest=said["digest"],
        units=said["units"],
        satoshis=said["satoshis"],
        issued=datetime.fromisoformat(said["issued"]),
        expires=datetime.fromisoformat(said["expires"]),
        envelope=envelope,
        lines=tuple(said["price"]),
        period=said["period"],
        buyer=said["buyer"],
    )


def of_quote(quote: Quote, edition: Edition, now: datetime) -> Terms:
    """The terms that a quote stated; Refused("quote-expired") once it stands no more."""
    if now >= quote.expires:
        told = f"cannot use quote {quote.id}: it expired at {timestamp(quote.expires)}"
        raise Refused("quote-expired", told, hint="ask for a new one")
    lines = tuple(Line(one["text"], one["units"], one["rate"], one["satoshis"]) for one in quote.lines)
    period = None if quote.period is None else timedelta(seconds=quote.period)
    return Terms(edition, quote.units, quote.satoshis, lines, period, quote.id)


def usable(quote: Quote, buyer: str, content: str, sequence: int | None) -> None:
    """Refused unless that buyer may use it for that content."""
    if quote.buyer not in (None, buyer):
        raise Refused("quote-of-another", f"cannot use quote {quote.id}: it was given to another buyer", hint="ask for one")
    if quote.content != content or sequence not in (None, quote.sequence):
        told = f"cannot use quote {quote.id} for {content}: it is about {quote.content}@{quote.sequence}"
        raise Refused("quote-of-other-content", told, hint="ask for one about what is to be bought")
