"""Who may go on: blocked and suspended keys, tiers, quotas at their borders."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.sales.access import Allowed, Denied, Meter, Usage, decide, standing

NOON = datetime(2026, 3, 1, 12, 0, 20, tzinfo=UTC)
MEMBER, STRANGER, BLOCKED, PAUSED, OUT = (bytes([2]) + bytes([n]) * 32 for n in range(1, 6))
POLICY: dict[str, Any] = {
    "defaultTier": "standard",
    "tiers": [
        {"name": "standard", "quota": {"requestsPerMinute": 60, "bytesPerDay": 1000, "concurrentStreams": 2}},
        {"name": "premium", "members": [MEMBER.hex(), BLOCKED.hex()], "quota": {"requestsPerMinute": 600}, "discount": "10%"},
    ],
    "blocked": [{"identityKey": BLOCKED.hex(), "reason": "resold the data"}],
    "suspended": [
        {"identityKey": PAUSED.hex(), "reason": "unpaid invoice", "until": "2026-03-01T12:01:00Z"},
        {"identityKey": OUT.hex(), "reason": "under review"},
    ],
}
QUIET = Usage(NOON)


@pytest.mark.row("P-DASH-15", "P-DB-65", "P-DB-66")
@pytest.mark.parametrize(
    ("identity", "verdict"),
    [
        (MEMBER, Allowed("premium", "10%")),
        (STRANGER, Allowed("standard")),
        (None, Allowed("standard")),
        (BLOCKED, Denied("blocked", "this key is blocked")),
        (PAUSED, Denied("suspended", "this key is suspended: unpaid invoice", 40)),
        (OUT, Denied("suspended", "this key is suspended: under review")),
    ],
)
def test_a_key_is_judged_by_where_it_stands(identity: bytes | None, verdict: Any) -> None:
    assert decide(POLICY, identity, QUIET) == verdict


def test_a_suspension_ends_at_its_time_and_a_block_never() -> None:
    late = replace(QUIET, now=NOON + timedelta(seconds=40))
    assert decide(POLICY, PAUSED, replace(late, now=late.now - timedelta(microseconds=1))).retry_after == 1  # type: ignore[union-attr]
    assert decide(POLICY, PAUSED, late) == Allowed("standard")
    assert isinstance(decide(POLICY, BLOCKED, replace(QUIET, now=NOON + timedelta(days=9999))), Denied)


def test_without_a_policy_or_a_tier_everybody_may() -> None:
    assert decide(None, STRANGER, QUIET) == decide({}, STRANGER, QUIET) == Allowed()
    assert decide({"blocked": []}, None, Usage(NOON, 10**9, 10**18, 10**6)) == Allowed()


@pytest.mark.parametrize(
    ("usage", "code", "retry"),
    [
        (Usage(NOON, requests=59), None, None),
        (Usage(NOON, requests=60), "quota-requests", 40),
        (Usage(NOON, bytes=400, wanted=600), None, None),
        (Usage(NOON, bytes=400, wanted=601), "quota-bytes", 11 * 3600 + 59 * 60 + 40),
        (Usage(NOON, bytes=999), None, None),
        (Usage(NOON, bytes=1000), "quota-bytes", 11 * 3600 + 59 * 60 + 40),
        (Usage(NOON, wanted=1001), "quota-bytes", None),
        (Usage(NOON, streams=1), None, None),
        (Usage(NOON, streams=2), "quota-streams", None),
    ],
)
def test_a_quota_is_used_up_to_its_last_unit(usage: Usage, code: str | None, retry: int | None) -> None:
    verdict = decide(POLICY, STRANGER, usage)
    assert isinstance(verdict, Allowed) if code is None else (verdict.code, verdict.retry_after) == (code, retry)  # type: ignore[union-attr]


def test_where_a_key_stands_does_not_depend_on_what_it_used() -> None:
    keys = (MEMBER, BLOCKED, PAUSED, OUT)
    assert [standing(POLICY, key.hex(), NOON) for key in keys] == ["active", "blocked", "suspended", "suspended"]
    assert standing(None, MEMBER.hex(), NOON) == "active"


@given(steps=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 3), st.integers(0, 50)), max_size=40))
@settings(max_examples=100, deadline=None)
def test_a_meter_counts_what_fell_into_the_minute_and_the_day_that_are(steps: list[tuple[int, int, int]]) -> None:
    meter, now, told = Meter(), datetime(2026, 3, 1, 23, 30, tzinfo=UTC), []
    for later, requests, size in steps:
        now += timedelta(seconds=later)
        meter.count("a", now, requests=requests, bytes=size)
        told.append((now, requests, size))
    found = meter.usage("a", now)
    minute = now.replace(second=0, microsecond=0)
    assert found.requests == sum(requests for at, requests, _ in told if at >= minute)
    assert found.bytes == sum(size for at, _, size in told if at.date() == now.date())
    assert meter.usage("b", now) == Usage(now)


def test_a_meter_counts_open_streams_and_remembers_no_more_than_it_may() -> None:
    meter = Meter(most=2)
    for who in ("a", "b", "a", "c"):
        meter.count(who, NOON, streams=1, requests=1)
    meter.count("a", NOON, streams=-1)
    assert (meter.usage("a", NOON).streams, meter.usage("b", NOON).requests, meter.usage("c", NOON).requests) == (1, 0, 1)
