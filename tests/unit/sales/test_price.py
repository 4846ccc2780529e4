"""The arithmetic of a price: exact, never falling with more units, the same in one purchase as in two."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.model.errors import Invariant
from reconciler.sales.price import Line, price, share, units_of

MINUTES = {"model": "per-minute", "rate": 15, "tiers": [{"from": 600, "rate": 12}], "free": {"units": 1}}
MANY = settings(max_examples=200, deadline=None)
COUNT = st.integers(0, 5000)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """Any plan that loading accepts, rates falling or not."""
    starts = sorted(draw(st.sets(st.integers(1, 3000), max_size=4)))
    rate = st.integers(0, 10**9)
    return {
        "model": draw(st.sampled_from(["per-item", "per-request", "per-second", "per-minute", "per-mb", "per-packet"])),
        "rate": draw(rate),
        "tiers": [{"from": start, "rate": draw(rate)} for start in starts],
        "free": {"units": draw(st.integers(0, 3000))},
    }


def slowly(plan: dict[str, Any], units: int, used: int) -> int:
    """Unit by unit, as the words of the module say it."""
    total = 0
    for n in range(used + 1, used + units + 1):
        rate = plan["rate"]
        for step in plan["tiers"]:
            rate = step["rate"] if step["from"] <= n else rate
        total += 0 if n <= plan["free"]["units"] else rate
    return total


@pytest.mark.row("P-PAY-28")
@pytest.mark.parametrize(
    ("units", "satoshis"), [(0, 0), (1, 0), (2, 15), (599, 598 * 15), (600, 598 * 15 + 12), (601, 598 * 15 + 24)]
)
def test_a_step_holds_from_its_first_unit_on(units: int, satoshis: int) -> None:
    assert price(MINUTES, units).satoshis == satoshis


def test_the_lines_say_how_it_comes_about() -> None:
    told = price({**MINUTES, "tierDiscounts": {"premium": "12.5%"}}, 600, tier="premium")
    assert told.satoshis == 7860  # 7859.25, to the next whole satoshi
    assert told.lines == (
        Line("1 minute free", 1, 0, 0),
        Line("598 minutes at 15 sat", 598, 15, 8970),
        Line("1 minute at 12 sat (from 600 on)", 1, 12, 12),
        Line("12.5% off for premium", 0, 0, told.satoshis - 8982),
    )
    assert told.lines[1].json() == {"text": "598 minutes at 15 sat", "units": 598, "rate": 15, "satoshis": 8970}


@pytest.mark.parametrize(
    ("off", "satoshis"), [("10%", 90), ("10.5%", 90), ("99.5%", 1), ("0.001%", 100), ("100%", 0), ("0%", 100), (None, 100)]
)
def test_a_fraction_of_a_satoshi_is_the_sellers(off: str | None, satoshis: int) -> None:
    assert price({"model": "per-item", "rate": 100}, 1, discount=off).satoshis == satoshis


def test_of_two_discounts_the_greater_holds() -> None:
    plan = {"model": "per-item", "rate": 100, "tierDiscounts": {"premium": "10%", "partner": "30%"}}
    assert [price(plan, 1, tier=tier, discount="20%").satoshis for tier in (None, "premium", "partner", "unheard")] == [
        80,
        80,
        70,
        80,
    ]


@given(plan=plans(), used=COUNT, first=COUNT, second=COUNT)
@MANY
def test_two_purchases_cost_what_one_of_both_would(plan: dict[str, Any], used: int, first: int, second: int) -> None:
    parts = price(plan, first, used=used), price(plan, second, used=used + first)
    assert sum(part.satoshis for part in parts) == price(plan, first + second, used=used).satoshis


@given(plan=plans(), used=st.integers(0, 3100), units=st.integers(0, 200))
@MANY
def test_it_is_what_counting_unit_by_unit_gives(plan: dict[str, Any], used: int, units: int) -> None:
    assert price(plan, units, used=used).satoshis == slowly(plan, units, used)


@given(plan=plans(), used=COUNT, units=COUNT, more=COUNT, percent=st.decimals(0, 100, places=3))
@MANY
def test_more_never_costs_less_and_the_lines_add_up(plan: dict[str, Any], used: int, units: int, more: int, percent: Any) -> None:
    off = f"{percent}%"
    fewer, told = price(plan, units, used=used, discount=off), price(plan, units + more, used=used, discount=off)
    assert 0 <= fewer.satoshis <= told.satoshis and type(told.satoshis) is int
    assert sum(line.satoshis for line in told.lines) == told.satoshis
    assert sum(line.units for line in told.lines) == units + more
    full = price(plan, units + more, used=used).satoshis
    assert 0 <= told.satoshis - full * (1 - Fraction(percent) / 100) < 1


@pytest.mark.parametrize(
    ("plan", "use", "units"),
    [
        ({"model": "per-item"}, {"bytes": 10**9}, 1),
        ({"model": "per-request"}, {"requests": 3}, 3),
        ({"model": "per-second"}, {"seconds": 61}, 61),
        ({"model": "per-minute"}, {"seconds": 60}, 1),
        ({"model": "per-minute"}, {"seconds": 61}, 2),
        ({"model": "per-mb"}, {"bytes": 0}, 0),
        ({"model": "per-mb"}, {"bytes": 1}, 1),
        ({"model": "per-mb"}, {"bytes": 1_000_000}, 1),
        ({"model": "per-mb"}, {"bytes": 1_000_001}, 2),
        ({"model": "per-packet"}, {"packets": 7}, 7),
        ({"model": "subscription", "period": 86_400_000}, {}, 1),
        ({"model": "subscription", "period": 86_400_000}, {"seconds": 86_401}, 2),
    ],
)
def test_a_unit_that_was_begun_counts(plan: dict[str, Any], use: dict[str, int], units: int) -> None:
    assert units_of(plan, **use) == units


def test_what_cannot_be_counted_is_our_own_fault() -> None:
    with pytest.raises(Invariant, match="cannot price -1 units after 0"):
        price(MINUTES, -1)
    with pytest.raises(Invariant, match="cannot count units of the model per-mood"):
        units_of({"model": "per-mood"})


def test_a_share_is_exact() -> None:
    assert (share("33.3%"), share(None)) == (Fraction(333, 1000), 0)
