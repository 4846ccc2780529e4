"""Who buys, where each stands, what each is worth; and a table that runs nothing."""

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.model.ref import ResourceRef
from reconciler.model.sale import Consumer, Method, Payment, PaymentState
from reconciler.sales.customers import COLUMNS, customers, declared, policies, write_csv

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEYS = [f"02{n:064x}" for n in range(100)]


def buyer(n: int, satoshis: int = 0, **more: Any) -> Consumer:
    return Consumer("Identity/desk", KEYS[n], NOW, NOW + timedelta(days=n), satoshis, **more)


def paid(n: int, satoshis: int, state: PaymentState = PaymentState.CONFIRMED) -> Payment:
    return Payment(f"r{n}-{satoshis}-{state}", "Identity/desk", KEYS[n], satoshis, Method.BRC105, NOW, state=state)


@pytest.mark.row("P-DASH-09", "S-21")
@pytest.mark.parametrize(("count", "top", "rich"), [(100, 10, 10), (100, 1, 1), (15, 10, 2), (1, 10, 1), (100, 25, 25)])
def test_the_top_share_by_revenue_is_of_high_value(count: int, top: int, rich: int) -> None:
    found = customers([buyer(n, n + 1) for n in range(count)], [], top)
    assert [one.high_value for one in found] == [True] * rich + [False] * (count - rich)
    assert [one.consumer.satoshis for one in found] == list(range(count, 0, -1))


@pytest.mark.row("S-21")
def test_who_ties_with_the_last_is_of_high_value_too_and_who_paid_nothing_never() -> None:
    found = customers([buyer(n, 50 if n < 5 else 1) for n in range(10)], [])
    assert [one.high_value for one in found] == [True] * 5 + [False] * 5
    assert not any(one.high_value for one in customers([buyer(n) for n in range(3)], []))
    assert customers([], []) == []


@pytest.mark.row("P-DASH-08", "P-DASH-18", "P-DB-63")
def test_payments_are_summed_by_how_they_stand() -> None:
    payments = [
        paid(1, 100),
        paid(1, 30, PaymentState.PENDING),
        paid(1, 7, PaymentState.REJECTED),
        paid(1, 5, PaymentState.REFUNDED),
    ]
    (one,) = customers([buyer(1, 130)], [*payments, paid(2, 9)])
    assert (one.payments, one.pending, one.refunded) == (2, 30, 5)


def test_fifths_are_by_rank() -> None:
    found = customers([buyer(n, n * n) for n in range(10)], [paid(n, 1) for n in range(5, 10)])
    assert [one.recency for one in found] == [one.money for one in found] == [5, 5, 4, 4, 3, 3, 2, 2, 1, 1]
    assert [one.frequency for one in found] == [3] * 5 + [1] * 5


@pytest.mark.row("P-DB-65", "P-DB-66", "P-DB-67", "P-DASH-15")
def test_policies_say_status_tier_and_notes() -> None:
    said = [
        {"defaultTier": "standard", "tiers": [{"name": "standard"}, {"name": "premium", "members": [KEYS[1]]}]},
        {
            "suspended": [{"identityKey": KEYS[2], "reason": "unpaid", "until": "2026-04-01T00:00:00Z"}],
            "notes": {KEYS[1]: "likes CSV"},
        },
        {"blocked": [{"identityKey": KEYS[2], "reason": "resold"}]},
    ]
    one, two, three = (declared(buyer(n), said, NOW) for n in (1, 2, 3))
    assert (one.status, one.tier, one.notes) == ("active", "premium", "likes CSV")
    assert (two.status, two.tier) == ("blocked", "standard") and declared(buyer(2), said[:2], NOW).status == "suspended"
    assert declared(buyer(2), said[:2], NOW + timedelta(days=60)).status == "active"
    assert (three.status, three.tier, three.notes) == ("active", "standard", None)
    assert declared(replace(three, tier="old"), [], NOW).tier == "old"


def test_the_policies_of_a_producer_are_those_its_datasets_name() -> None:
    class Recorded:
        def __init__(self, identity: str, policy: str) -> None:
            spec = {"identityRef": identity, "accessPolicyRef": policy}
            self.body = {"spec": spec, "using": {f"AccessPolicy/{policy}": {"defaultTier": policy}}}

    records: Any = {
        ResourceRef("Dataset", "a"): Recorded("desk", "x"),
        ResourceRef("Dataset", "b"): Recorded("desk", "x"),
        ResourceRef("Dataset", "c"): Recorded("other", "y"),
    }
    assert policies(records, "Identity/desk") == [{"defaultTier": "x"}]


@pytest.mark.row("P-DASH-10")
@given(notes=st.lists(st.text(max_size=30), max_size=5))
@settings(max_examples=100, deadline=None)
def test_the_table_reads_back_and_begins_no_formula(notes: list[str]) -> None:
    attacks = ["=1+1", "+cmd|' /C calc'!A0", "-2", "@SUM(A1)", "\t=1", "\r=1", "\n=1", 'a,"b"\r\nc', *notes]
    found = customers([replace(buyer(n, 1), notes=note) for n, note in enumerate(attacks)], [])
    rows = list(csv.DictReader(io.StringIO(write_csv(found), newline="")))
    assert tuple(rows[0]) == COLUMNS and len(rows) == len(attacks)
    for row, one in zip(rows, found, strict=True):
        note = one.consumer.notes or ""
        assert not any((cell or "").startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in row.values())
        assert row["notes"] in (note, f"'{note}") and row["consumer"] == one.consumer.consumer
