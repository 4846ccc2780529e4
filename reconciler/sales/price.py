"""What a number of units costs: the one arithmetic behind a quote, a demand for payment, a bill and `explain`.

Pure and exact. Rates are whole satoshis. Units are counted per buyer from the first one on: the n-th unit costs the rate of the
last step that begins at or before n, so a step never changes what earlier units cost, and two purchases cost what one of both
would. Free units are the first ones, and count. One discount holds, the greater of those a buyer has, taken off the whole sum;
where it leaves a fraction of a satoshi, the sum is the next whole one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from reconciler.kinds.paymentpolicy import decimal
from reconciler.model.errors import Invariant

# One megabyte is a million bytes, as in `100MB`.
MEGABYTE = 10**6
_WORDS = {
    "per-item": "item", "per-request": "request", "per-second": "second", "per-minute": "minute", "per-mb": "MB",
    "per-packet": "packet", "subscription": "period",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """One step of the arithmetic. `satoshis` is negative for what a discount takes off; its units and rate are 0."""

    text: str
    units: int
    rate: int
    satoshis: int

    def json(self) -> dict[str, Any]:
        """As a quote and a receipt state it."""
        return {"text": self.text, "units": self.units, "rate": self.rate, "satoshis": self.satoshis}


@dataclass(frozen=True, slots=True)
class Priced:
    """What is to be paid, and the lines that add up to it."""

    satoshis: int
    lines: tuple[Line, ...]


def price(plan: Mapping[str, Any], units: int, *, tier: str | None = None, discount: str | None = None, used: int = 0) -> Priced:
    """What `units` more cost a buyer who had `used` before.

    `plan` is the normalised spec of a PricePlan. `tier` names the buyer's tier, for `tierDiscounts`; `discount` is the percentage
    that an AccessPolicy gives that tier.
    """
    if units < 0 or used < 0:
        raise Invariant("negative-units", f"cannot price {units} units after {used}")
    lines = list(_steps(plan, units, used))
    total = sum(line.satoshis for line in lines)
    least = discounted(total, off := _discount(plan, tier, discount))
    if least != total:
        whose = f" for {tier}" if tier else ""
        lines.append(Line(f"{decimal(off * 100)}% off{whose}", 0, 0, least - total))
    return Priced(least, tuple(lines))


def discounted(satoshis: int, off: Fraction) -> int:
    """An amount less a share of it, to the next whole satoshi."""
    left = satoshis * (1 - off)
    return -(-left.numerator // left.denominator)


def units_of(plan: Mapping[str, Any], *, bytes: int = 0, seconds: int = 0, requests: int = 1, packets: int = 0) -> int:  # noqa: A002
    """How many units a use is, by the plan's model. A unit that was begun counts whole; a subscription is one period at least."""
    match plan["model"]:
        case "per-item" | "per-request":
            return requests
        case "per-second":
            return seconds
        case "per-minute":
            return -(-seconds // 60)
        case "per-mb":
            return -(-bytes // MEGABYTE)
        case "per-packet":
            return packets
        case "subscription":
            period: int = plan["period"]
            return max(1, -(-seconds * 1000 // period))
    raise Invariant("unknown-model", f"cannot count units of the model {plan['model']}")


def share(percent: str | None) -> Fraction:
    """The exact part of a whole that a percentage says; nothing is none."""
    return Fraction(percent.removesuffix("%")) / 100 if percent else Fraction(0)


def _discount(plan: Mapping[str, Any], tier: str | None, discount: str | None) -> Fraction:
    """The greater of what the plan and what the access policy give; they do not add up."""
    listed = (plan.get("tierDiscounts") or {}).get(tier) if tier else None
    return max(share(listed), share(discount))


def _steps(plan: Mapping[str, Any], units: int, used: int) -> Iterator[Line]:
    """A line for every rate that some of the units fall under, in order."""
    word = _WORDS[plan["model"]]
    free = (plan.get("free") or {}).get("units", 0)
    # (first unit that the step holds for, rate, what a line says of it); the last one has no end.
    rates = [(1, plan["rate"], f"at {plan['rate']} sat")]
    rates += [(step["from"], step["rate"], f"at {step['rate']} sat (from {step['from']} on)") for step in plan.get("tiers") or ()]
    starts = [(1, 0, "free"), *((max(first, free + 1), rate, words) for first, rate, words in rates)]
    ends = [start[0] - 1 for start in starts[1:]] + [used + units]
    for (first, rate, words), last in zip(starts, ends, strict=True):
        count = min(last, used + units) - max(first, used + 1) + 1
        if count > 0:
            yield Line(f"{count} {word if count == 1 else _many(word)} {words}", count, rate, count * rate)


def _many(word: str) -> str:
    return word if word == "MB" else f"{word}s"
