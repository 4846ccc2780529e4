"""The rules hosts are judged by, one row each."""

from datetime import UTC, datetime, timedelta

import pytest

from reconciler.wire.reputation import FAILURE_MS, NEW, UNKNOWN_MS, Reputation, answered, failed, ready

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def after(failures: int, *, unnamed: bool = False) -> Reputation:
    known = NEW
    for _ in range(failures):
        known = failed(known, NOW, unnamed=unnamed)
    return known


@pytest.mark.row("P-AD-20")
@pytest.mark.parametrize(
    ("failures", "rest"),
    [(1, None), (2, None), (3, 1), (4, 2), (5, 4), (6, 8), (7, 16), (8, 32), (9, 60), (10, 60), (500, 60)],
)
def test_two_failures_are_free_and_then_each_doubles_the_rest(failures: int, rest: int | None) -> None:
    known = after(failures)
    assert known.failures == failures
    assert known.until == (None if rest is None else NOW + timedelta(seconds=rest))
    assert known.rests(NOW) is (rest is not None)
    if rest is not None:
        assert not known.rests(NOW + timedelta(seconds=rest))


@pytest.mark.parametrize(("failures", "rest"), [(1, 1), (2, 2), (3, 4), (8, 60)])
def test_a_name_that_does_not_resolve_rests_at_once(failures: int, rest: int) -> None:
    assert after(failures, unnamed=True).until == NOW + timedelta(seconds=rest)


def test_latency_is_a_moving_average_that_begins_with_the_first_answer() -> None:
    assert NEW.rank == UNKNOWN_MS == 1500
    first = answered(NEW, 100)
    assert first.latency == 100
    assert answered(first, 500).latency == 200  # a quarter of the new, three of the old
    assert answered(answered(first, 500), 200).latency == 200


def test_one_answer_clears_the_failures_and_keeps_the_average() -> None:
    known = failed(failed(failed(answered(NEW, 80), NOW), NOW), NOW)
    assert (known.latency, known.failures) == (80, 3)
    assert known.rank == 80 + 3 * FAILURE_MS
    assert answered(known, 80) == Reputation(80)


def test_the_best_come_first_and_those_who_rest_are_left_out() -> None:
    known = {
        "slow": answered(NEW, 900),
        "quick": answered(NEW, 30),
        "flaky": failed(answered(NEW, 30), NOW),
        "down": after(4),
        "gone": after(3),
    }
    up, again = ready(["down", "new", "flaky", "slow", "gone", "quick"], known, NOW)
    assert up == ["quick", "flaky", "slow", "new"]
    assert again == NOW + timedelta(seconds=1)
    assert ready(["down"], known, NOW + timedelta(seconds=2)) == (["down"], None)
    assert ready([], known, NOW) == ([], None)
