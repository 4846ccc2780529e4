"""How offers are compared, which prices compare at all, and when content may be used."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.consumer import ready
from reconciler.consumer.ceiling import Ceiling, read_ceiling
from reconciler.consumer.offers import whole
from reconciler.consumer.probing import Probed, after
from reconciler.consumer.rank import ONE, WEIGHTS, Facts, score, scores
from reconciler.model.errors import Refused

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEY, OTHER = "02" + "11" * 32, "03" + "22" * 32


# --- prices ---------------------------------------------------------------------------------------


@pytest.mark.row("C-03", "C-35")
@pytest.mark.parametrize(
    ("ceiling", "price", "fits"),
    [
        ("5000", {"model": "per-item", "rate": 5000}, True),
        ("4999sat", {"model": "per-item", "rate": 5000}, False),
        ("15sat/minute", {"model": "per-minute", "rate": 15}, True),
        ("14sat/minute", {"model": "per-minute", "rate": 15}, False),
        ("60/min", {"model": "per-second", "rate": 1}, True),
        ("59/minute", {"model": "per-second", "rate": 1}, False),
        ("900/hour", {"model": "per-minute", "rate": 15}, True),
        ("2/MB", {"model": "per-mb", "rate": 2}, True),
        ("1999/gb", {"model": "per-mb", "rate": 2}, False),
        # A price by the minute is no price by the megabyte, however low.
        ("9999/MB", {"model": "per-minute", "rate": 1}, False),
        ("1/hour", {"model": "subscription", "rate": 24, "period": 86_400_000}, True),
        ("1/hour", {"model": "subscription", "rate": 25, "period": 86_400_000}, False),
        ("0", {}, True),
    ],
)
def test_prices_compare_in_their_own_unit_only(ceiling: str, price: dict[str, object], fits: bool) -> None:
    found = read_ceiling(ceiling).fault(price, whole(price, 10))
    assert (found is None) is fits, found


def test_a_price_without_unit_is_for_all_of_it() -> None:
    price = {"model": "per-mb", "rate": 2}
    assert (whole(price, 1_000_000), whole(price, 1_000_001), whole({}, 5)) == (2, 4, 0)
    assert Ceiling(3).fault(price, whole(price, 1_000_001)) == "costs 4 satoshis"
    told = Ceiling(3).fault({"model": "per-minute", "rate": 1}, None)
    assert told is not None and "3sat/minute" in told
    for text in ("", "five", "5/parsec", "5/", "-1"):
        with pytest.raises(Refused):
            read_ceiling(text)


# --- order ----------------------------------------------------------------------------------------

GOOD = Facts(price=100, regions=("EU",), ms=0, asked=98, answered=98, age=400, paid=20, kept=20)


@pytest.mark.row("C-31", "P-LKP-04")
def test_a_score_is_the_sum_of_its_published_terms() -> None:
    found = score(GOOD, cheapest=50, regions=["eu"])
    assert {term.name: term.value for term in found.terms} == {
        "price": 500, "region": 1000, "latency": 1000, "uptime": 990, "reputation": 990,
    }  # fmt: skip
    assert found.points == 200 + 150 + 150 + 148 + 148 == sum(term.points for term in found.terms)
    assert sum(WEIGHTS.values()) == ONE


@pytest.mark.row("C-31", "E-302")
@pytest.mark.parametrize(
    "worse",
    [
        {"price": 101},
        {"price": None},
        {"regions": ("US",)},
        {"regions": ()},
        {"ms": 40},
        {"ms": None},
        {"answered": 90},
        {"age": 10},
        {"kept": 10},
        {"revoked": True},
    ],
)
def test_each_fact_counts(worse: dict[str, object]) -> None:
    good, bad = scores([GOOD, replace(GOOD, **worse)], ["EU"])
    assert good.points > bad.points


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.builds(
            Facts,
            price=st.one_of(st.none(), st.integers(0, 2**50)),
            regions=st.sampled_from([(), ("EU",), ("global",)]),
            ms=st.one_of(st.none(), st.integers(-1, 10**6)),
            asked=st.integers(0, 100),
            answered=st.just(0),
            age=st.one_of(st.none(), st.integers(0, 10**5)),
            paid=st.integers(0, 5),
            revoked=st.booleans(),
        ),
        max_size=5,
    )
)
def test_scores_stay_within_a_thousand_whatever_is_found(facts: list[Facts]) -> None:
    for one in scores(facts, ["EU"]):
        assert 0 <= one.points <= ONE and all(0 <= term.value <= ONE for term in one.terms)


def test_probes_are_smoothed_and_forgotten_by_halves() -> None:
    one = after(Probed(), 100)
    assert one == Probed(1, 1, 100) and after(one, 500) == Probed(2, 2, 200)
    assert after(one, None) == Probed(2, 1, None) and after(after(one, None), 40).ms == 40
    assert after(Probed(200, 150, 5), 5) == Probed(101, 76, 5)


# --- readiness ------------------------------------------------------------------------------------

STANDING = ready.Standing(KEY, "CC0-1.0", 100, 6, NOW - timedelta(hours=1))
POLICY = ready.Policy(6, timedelta(days=1), ("cc0-1.0",), 100, (KEY,), (OTHER,))


@pytest.mark.row("C-40")
@pytest.mark.parametrize(
    ("change", "rule", "verdict"),
    [
        ({"confirmations": 5}, "confirmations", "block"),
        ({"confirmations": 0}, "confirmations", "block"),
        ({"license": "MIT"}, "license", "block"),
        ({"license": ""}, "license", "block"),
        ({"price": 101}, "price", "block"),
        ({"price": None}, "price", "warn"),
        ({"producer": "02" + "33" * 32}, "producer", "block"),
        ({"producer": OTHER}, "producer", "block"),
        ({"published": NOW - timedelta(days=2)}, "age", "block"),
        ({"published": None}, "age", "warn"),
        ({"recall": "wrong numbers"}, "recall", "block"),
        ({"newest": False}, "version", "warn"),
        ({"faults": ("the receipt is another's",)}, "proof", "block"),
    ],
)
def test_each_reason_counts(change: dict[str, object], rule: str, verdict: str) -> None:
    found = ready.judge(POLICY, replace(STANDING, **change), NOW)
    assert found.verdict == verdict
    assert [(one.rule, one.verdict) for one in found.reasons if one.verdict != "allow"] == [(rule, verdict)]


def test_what_fits_is_allowed_and_what_is_not_asked_is_not_judged() -> None:
    assert ready.judge(POLICY, STANDING, NOW).verdict == "allow"
    bare = ready.judge(ready.Policy(), replace(STANDING, confirmations=0, license="", published=None), NOW)
    assert [(one.rule, one.verdict) for one in bare.reasons] == [("proof", "allow")]
    said = {"readiness": {"minConfirmations": 6, "maxAge": 86_400_000, "licenses": ["cc0-1.0"], "maxPrice": 100}}
    said["readiness"] |= {"producers": [KEY], "denied": [OTHER]}
    assert ready.read_policy(said) == POLICY
