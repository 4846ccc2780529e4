"""The most that a buyer would pay, with its unit: `5000`, `15sat/minute`, `2sat/MB`. Prices in other units are not compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from reconciler.manifest import units
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused

# How a unit is written -> the model it compares with, and how many of that model's units it is.
_UNITS: Mapping[str, tuple[str, Fraction]] = {
    "item": ("per-item", Fraction(1)),
    "request": ("per-request", Fraction(1)),
    "packet": ("per-packet", Fraction(1)),
    "mb": ("per-mb", Fraction(1)),
    "gb": ("per-mb", Fraction(1000)),
    "second": ("per-second", Fraction(1)),
    "s": ("per-second", Fraction(1)),
    "minute": ("per-second", Fraction(60)),
    "min": ("per-second", Fraction(60)),
    "hour": ("per-second", Fraction(3600)),
    "h": ("per-second", Fraction(3600)),
}
_MODELS: Mapping[str, tuple[str, Fraction]] = {"per-minute": ("per-second", Fraction(60))}


@dataclass(frozen=True, slots=True)
class Ceiling:
    """`satoshis` for one `unit`; without a unit, for all of what is bought."""

    satoshis: int
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.satoshis} sat" + (f"/{self.unit}" if self.unit else "")

    def fault(self, price: Mapping[str, Json], whole: int | None) -> str | None:
        """Why a price is not within it, None when it is. `whole` is what all of it costs, where that is known."""
        if not price:
            return None
        if not self.unit:
            if whole is None:
                return f"is priced {price['model']}: say the most for a unit, such as {self.satoshis}sat/minute"
            return None if whole <= self.satoshis else f"costs {whole} satoshis"
        model, amount = _UNITS[self.unit]
        asked = _rate(price)
        if asked is None or asked[0] != model:
            return f"is priced {price['model']}, which does not compare with a price per {self.unit}"
        return None if asked[1] * amount <= self.satoshis else f"costs {price['rate']} satoshis {price['model']}"


def _rate(price: Mapping[str, Json]) -> tuple[str, Fraction] | None:
    """The price of one base unit, and which; a subscription costs its rate over its period."""
    rate = Fraction(int(price["rate"]))
    if price["model"] == "subscription":
        period = int(price.get("period") or 0)
        return ("per-second", rate / Fraction(period, 1000)) if period else None
    model, amount = _MODELS.get(str(price["model"]), (str(price["model"]), Fraction(1)))
    return model, rate / amount


def read_ceiling(text: str) -> Ceiling:
    """Read what a person wrote; Refused with the spellings there are."""
    amount, slash, unit = text.partition("/")
    unit = unit.strip().lower()
    try:
        satoshis = units.satoshis(int(amount) if amount.strip().isdecimal() else amount.strip())
    except units.UnitError as error:
        hint = "write 5000sat, 15sat/minute or 2sat/MB"
        raise Refused("price", f"cannot read the price {text!r}: {error}", hint=hint) from error
    if slash and unit not in _UNITS:
        hint = f"units are {', '.join(_UNITS)}"
        raise Refused("price", f"cannot read the price {text!r}: {unit or 'nothing'} is no unit", hint=hint)
    return Ceiling(satoshis, unit)
