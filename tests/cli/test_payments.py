"""`payments` and `consumers`, over a ledger in which three buyers paid."""

import csv
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.sql.ledger import open_ledger
from reconciler.model.sale import Due, Method, Payment, PaymentState
from tests.cli.conftest import Cli

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEYS = ["02" + f"{n:x}" * 64 for n in (1, 2, 3)]


@pytest.fixture
def till(cli: Cli, repo: Path) -> Cli:
    """The repository of the template, in whose ledger payments stand."""
    state = repo / ".state"
    state.mkdir(exist_ok=True)
    ledger, _ = open_ledger(state / "ledger.db", SystemClock())
    with ledger.begin() as tx:
        for n, key in enumerate(KEYS):
            made = PaymentState.CONFIRMED if n else PaymentState.PENDING
            outpoint = f"{n}" * 64 + ".0"
            payment = Payment(
                f"receipt-{n}", "Identity/corner-desk", key, 100 * (n + 1), Method.BRC105, NOW, content="btc-daily", sequence=1,
                outpoint=outpoint, state=made, splits=({"party": "producer", "satoshis": 90},),
            )  # fmt: skip
            tx.put_payment(payment)
        tx.put_due(Due("receipt-2", "agent", 30, NOW, {"script": "51"}))
        buyer = tx.consumer("Identity/corner-desk", KEYS[0])
        assert buyer is not None
    ledger.close()
    return cli


@pytest.mark.row("P-PAY-15", "P-PAY-26", "P-DASH-18")
def test_payments_are_listed_with_what_is_owed_of_them(till: Cli) -> None:
    lines = till("payments", "list").out.splitlines()
    assert lines[0].split() == ["RECEIPT", "STATE", "METHOD", "SATOSHIS", "OWED", "CONTENT", "CONSUMER"]
    assert [line.split()[:6] for line in lines[1:]] == [
        ["receipt-0", "pending", "brc105", "100", "0", "btc-daily@1"],
        ["receipt-1", "confirmed", "brc105", "200", "0", "btc-daily@1"],
        ["receipt-2", "confirmed", "brc105", "300", "30", "btc-daily@1"],
    ]
    (one,) = till("payments", "list", "--consumer", KEYS[2], "--state", "confirmed", "-o", "json").json
    assert (one["owed"], one["splits"], one["outpoint"]) == (30, [{"party": "producer", "satoshis": 90}], "2" * 64 + ".0")
    assert till("payments", "list", "--content", "other", "-o", "json").json == []


def test_what_cannot_be_paid_out_or_given_back_is_said(till: Cli) -> None:
    # Its transaction is not in this ledger, so no block holds it.
    assert "nobody is owed anything of a payment that is in a block" in till("payments", "settle").err
    assert till("payments", "settle", "-o", "json").json == {"owed": [], "settled": []}
    assert "there is no such payment" in till("payments", "refund", "nothing", "--yes", expect=1).err
    assert "cannot refund payment receipt-0: it is pending" in till("payments", "refund", "receipt-0", "--yes", expect=1).err
    assert "without asking" in till("payments", "refund", "receipt-1", expect=1).err


@pytest.mark.row("P-DASH-07", "P-DASH-08", "P-DASH-09", "P-DASH-10", "P-DOD-12")
def test_buyers_are_listed_by_worth_and_standing(till: Cli, repo: Path) -> None:
    rows = [line.split() for line in till("consumers", "--payment-status").out.splitlines()]
    assert rows[0] == ["CONSUMER", "STATUS", "TIER", "PAID", "PAYMENTS", "LAST", "HIGH", "VALUE", "PENDING", "REFUNDED"]
    assert [(row[0], row[3], row[6], row[7]) for row in rows[1:]] == [
        (KEYS[2][:16], "300", "yes", "0"),
        (KEYS[1][:16], "200", "-", "0"),
        (KEYS[0][:16], "100", "-", "100"),
    ]
    assert [one["consumer"] for one in till("consumers", "--high-value", "--top", "50", "-o", "json").json] == KEYS[:0:-1]
    told = till("consumers", "--active", "--csv", "buyers.csv")
    assert told.err.strip() == "wrote buyers.csv"
    read = list(csv.DictReader(io.StringIO((repo / "buyers.csv").read_bytes().decode(), newline="")))
    assert [(row["consumer"], row["satoshis"], row["highValue"]) for row in read] == [
        (KEYS[2], "300", "True"), (KEYS[1], "200", "False"), (KEYS[0], "100", "False")
    ]  # fmt: skip
    assert till("consumers", "--csv", "-").out.splitlines()[0].startswith('"consumer","producer"')
