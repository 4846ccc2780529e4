"""What a buyer may spend: windows that slide, and limits that no order of payments passes."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.consumer.budget import Budget, line, overview, read_budget, require, spent
from reconciler.model.booking import Booking
from reconciler.model.errors import GuardRefused

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHOPS = ("02" + "aa" * 32, "03" + "bb" * 32)


def booked(producer: str, ago: timedelta, satoshis: int, fee: int = 0) -> Booking:
    return Booking(line(producer, "0" * 16, "f" * 64), None, NOW - ago, fee, satoshis, 0)


def test_windows_slide_and_other_bookings_are_not_purchases() -> None:
    rows = [
        booked(SHOPS[0], timedelta(minutes=59), 10, 1),
        booked(SHOPS[0], timedelta(hours=1), 100, 1),
        booked(SHOPS[1], timedelta(hours=23), 1000, 1),
        booked(SHOPS[1], timedelta(hours=24), 10_000, 1),
        Booking("payment/x/y", None, NOW, 7, 0, 0),
        Booking("run_1", None, NOW, 7, 9, 11),
    ]
    found = spent(rows, NOW)
    assert (found.hour, found.day) == (11, 1113)
    assert found.producers == {SHOPS[0]: 110, SHOPS[1]: 1000}
    assert overview(Budget(per_hour=20), found) == {
        "perHour": {"limit": 20, "spent": 11, "left": 9},
        "perDay": {"limit": None, "spent": 1113, "left": None},
    }


@pytest.mark.row("C-30")
@pytest.mark.parametrize(
    ("budget", "name"),
    [
        (Budget(per_request=99), "perRequest"),
        (Budget(per_producer=109), "perProducer"),
        (Budget(per_hour=114), "perHour"),
        (Budget(per_day=114), "perDay"),
    ],
)
def test_the_last_satoshi_of_a_limit_may_be_spent_and_none_more(budget: Budget, name: str) -> None:
    known = spent([booked(SHOPS[0], timedelta(minutes=1), 10)], NOW)
    with pytest.raises(GuardRefused) as caught:
        require(budget, known, SHOPS[0], 100, 5)
    assert caught.value.code == f"budget-{name}" and "are left of the budget" in caught.value.message
    require(budget, known, SHOPS[0], 99, 5)


def test_a_budget_is_read_from_the_identity() -> None:
    assert read_budget({}) == Budget()
    said = {"budget": {"perRequest": 1, "perHour": 2, "perDay": 3, "perProducer": 4}}
    assert read_budget(said) == Budget(1, 2, 3, 4)


@pytest.mark.row("C-30")
@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3 * 86_400), st.sampled_from(SHOPS), st.integers(1, 50), st.integers(0, 5)), max_size=40),
    st.builds(Budget, *[st.one_of(st.none(), st.integers(0, 120)) for _ in range(4)]),
)
def test_no_history_of_payments_passes_a_limit_in_any_window(asked: list[tuple[int, str, int, int]], budget: Budget) -> None:
    books: list[Booking] = []
    for second, producer, satoshis, fee in sorted(asked):
        moment = NOW + timedelta(seconds=second)
        try:
            require(budget, spent(books, moment), producer, satoshis, fee)
        except GuardRefused:
            continue
        books.append(Booking(line(producer, "0" * 16, "f" * 64), None, moment, fee, satoshis, 0))
    for end in {one.moment for one in books}:
        known = spent([one for one in books if one.moment <= end], end)
        assert budget.per_hour is None or known.hour <= budget.per_hour
        assert budget.per_day is None or known.day <= budget.per_day
        assert all(budget.per_producer is None or paid <= budget.per_producer for paid in known.producers.values())
    assert all(budget.per_request is None or one.payments <= budget.per_request for one in books)
