"""Points from facts, held against a second program that knows only the published formula."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.planner.reputation import reputation

DAY = 86_400
# What a stranger writes who has read the formula: JSON lines of {"at", "evidence"} in, points out.
STRANGER = """
import json, sys
for line in sys.stdin:
    said = json.loads(line)
    rows = said["evidence"]
    first = [row["at"] for row in rows if row["fact"] == "advertised"]
    days = max(0, said["at"] - min(first)) // 86400 if first else 0
    sales = [row for row in rows if row["fact"] == "sale"]
    kept = len([row for row in sales if row["outcome"] == "kept"])
    looks = [row for row in rows if row["fact"] == "looks"]
    points = 30 * min(days, 365) // 365 + 30 * kept // max(len(sales), 10)
    points += 40 * sum(row["sound"] for row in looks) // max(sum(row["asked"] for row in looks), 100)
    print(max(0, points - 25 * len([row for row in rows if row["fact"] == "revoked"])))
"""

ROW = st.one_of(
    st.integers(0, 10**9).map(lambda at: {"fact": "advertised", "at": at}),
    st.sampled_from(["kept", "refunded", "refused"]).map(lambda said: {"fact": "sale", "outcome": said}),
    st.tuples(st.integers(0, 500), st.integers(0, 500)).map(lambda two: {"fact": "looks", "sound": min(two), "asked": max(two)}),
    st.just({"fact": "revoked", "key": "02" * 33}),
)
CASES: list[tuple[str, int]] = []


@given(evidence=st.lists(ROW, max_size=30), at=st.integers(0, 10**9))
@settings(max_examples=100, deadline=None)
def test_points_are_whole_and_between_nothing_and_a_hundred(evidence: list[dict[str, object]], at: int) -> None:
    found = reputation(evidence, at)
    assert 0 <= found.points <= 100
    assert reputation([*reversed(evidence)], at) == found
    assert reputation([*evidence, {"fact": "revoked", "key": "03" * 33}], at).points == max(0, found.points - 25) or (
        found.revoked > found.age + found.sales + found.uptime
    )
    CASES.append((json.dumps({"at": at, "evidence": evidence}), found.points))


@pytest.mark.row("P-ID-07")
def test_a_stranger_comes_to_the_same_points() -> None:
    assert len(CASES) >= 50, "the laws above give the cases"
    text = "\n".join(case for case, _ in CASES)
    told = subprocess.run([sys.executable, "-c", STRANGER], input=text, capture_output=True, text=True, check=True)
    assert [int(line) for line in told.stdout.split()] == [points for _, points in CASES]


def test_what_nobody_can_look_up_gives_nothing_and_one_good_day_is_no_record() -> None:
    assert reputation([], 10**9).points == 0
    advertised = {"fact": "advertised", "at": 0}
    assert reputation([advertised], 365 * DAY).points == 30
    assert reputation([{"fact": "sale", "outcome": "kept"}], 0).points == 3
    assert reputation([{"fact": "looks", "sound": 1, "asked": 1}], 0).points == 0
    whole = [advertised, *[{"fact": "sale", "outcome": "kept"}] * 10, {"fact": "looks", "sound": 100, "asked": 100}]
    assert reputation(whole, 365 * DAY).points == 100
    assert reputation([*whole, {"fact": "revoked", "key": "02"}], 365 * DAY).points == 75
