"""What every Ledger must keep of sales: in the commit of the coin, once, and in the columns that people query."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from reconciler.adapters.sql.dialect import address
from reconciler.adapters.sql.ledger import open_ledger
from reconciler.model.errors import Conflict, Invariant
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.model.sale import Due, Entitlement, Method, Payment, PaymentState, Quote, Rating
from reconciler.ports import Ledger
from tests.contract import postgres
from tests.contract.test_ledger import NOW, coin

PLACES = {"sqlite": lambda path: path / "ledger.db", "postgresql": lambda path: postgres.server().url(path)}
BUYER, OTHER = "02" + "aa" * 32, "03" + "bb" * 32
RATES = ResourceRef("Dataset", "rates")
DESK = ResourceRef("Identity", "desk")
PAID = Payment(
    "r1", "Identity/desk", BUYER, 100, Method.BRC105, NOW, content="rates", sequence=1, outpoint="ab" * 32 + ".0",
    splits=({"party": "overlay", "satoshis": 10},), receipt=b'{"document":{}}',
)  # fmt: skip


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return address(PLACES[request.param](tmp_path))


@pytest.fixture
def ledger(place: str) -> Iterator[Ledger]:
    ledger, _ = open_ledger(place)
    yield ledger
    ledger.close()


def asked(place: str, query: str) -> list[dict[str, object]]:
    """What somebody with a database browser sees."""
    engine = create_engine(place)
    with engine.connect() as sql:
        found = [dict(row._mapping) for row in sql.execute(text(query))]
    engine.dispose()
    return found


def dataset(sequence: int, digest: str) -> Record:
    file = {"path": "rates.csv", "size": 5, "sha256": "cd" * 32, "mediaType": "text/csv"}
    outputs = {
        "publicKey": BUYER,
        "document": {"sequence": sequence, "digest": digest},
        "files": [file],
        "merkleRoot": "ef" * 32,
        "tokens": [{"outpoint": f"{digest}.0"}],
    }
    body = {"spec": {"identityRef": "desk", "version": f"{sequence}.0.0", "license": "CC0-1.0"}, "files": [], "using": {}}
    return Record(RATES, "u", sequence, body, outputs)


@pytest.mark.row("P-DB-68", "P-DB-69", "P-DB-70", "P-DB-71", "P-DB-73", "P-DB-74", "P-DB-75", "P-DB-77", "P-DB-78", "P-DB-79")
def test_a_payment_is_entered_with_its_coin_or_not_at_all(ledger: Ledger, place: str) -> None:
    with pytest.raises(ZeroDivisionError), ledger.begin() as tx:
        tx.put_coin(coin(1, 100))
        tx.put_payment(PAID)
        raise ZeroDivisionError
    with ledger.begin() as tx:
        assert (tx.coins(), tx.payments(), tx.consumers()) == ([], [], [])
        tx.put_coin(coin(1, 100))
        tx.put_payment(PAID)
    with ledger.begin() as tx:
        assert tx.payments() == [PAID] and tx.payment("r1") == PAID == tx.payment_at(PAID.outpoint or "")
        assert tx.payment("r2") is None
    (row,) = asked(place, "SELECT * FROM producer_revenue")
    told = {"producer_id": "Identity/desk", "consumer_id": BUYER, "content_id": "Dataset/rates", "payment_method": "brc41-http"}
    told |= {"amount_satoshis": 100, "brc22_transaction_id": "ab" * 32, "payment_status": "pending", "confirmed_at": None}
    assert {name: row[name] for name in told} == told


def test_no_output_is_entered_as_two_payments(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.put_payment(PAID)
    with pytest.raises(Conflict, match="it is r1"), ledger.begin() as tx:
        tx.put_payment(replace(PAID, id="r2", consumer=OTHER))
    with ledger.begin() as tx:
        assert [one.id for one in tx.payments()] == ["r1"] and tx.consumer("Identity/desk", OTHER) is None
        # Money that came elsewhere has no output, and there may be much of it.
        for number in (3, 4):
            tx.put_payment(replace(PAID, id=f"r{number}", outpoint=None, method=Method.EXTERNAL))
        assert len(tx.payments(consumer=BUYER)) == 3


@pytest.mark.row("P-DB-58", "P-DB-59", "P-DB-60", "P-DB-61", "P-DB-62", "P-DB-63", "P-DB-64", "P-DB-80", "P-DB-55")
def test_sums_follow_the_payments_they_are_of(ledger: Ledger, place: str) -> None:
    with ledger.begin() as tx:
        tx.put_record(Record(DESK, "i", 1, {"spec": {}, "files": [], "using": {}}, {"publicKey": BUYER}))
        tx.put_record(dataset(1, "11" * 32))
        tx.put_payment(PAID)
        tx.put_payment(replace(PAID, id="r2", outpoint="cd" * 32 + ".0", satoshis=50, created=NOW + timedelta(minutes=1)))
        tx.served("Identity/desk", BUYER, "rates", 1234, 1, NOW + timedelta(minutes=2))
        assert (tx.pending(), tx.pending(BUYER), tx.pending(OTHER)) == (150, 150, 0)
        assert (tx.paid_since(BUYER, NOW), tx.paid_since(BUYER, NOW + timedelta(seconds=1))) == (2, 1)

    def sums() -> list[object]:
        return [asked(place, f"SELECT {column} AS n FROM {table}")[0]["n"] for table, column in COLUMNS]

    assert sums() == [150, 150, 150, 1, 1234]
    with ledger.begin() as tx:
        tx.put_payment(replace(PAID, state=PaymentState.CONFIRMED, confirmed=NOW))
        assert (tx.pending(), len(tx.payments(state=PaymentState.PENDING))) == (50, 1)
        # Written again it is still one payment.
        tx.put_payment(replace(PAID, state=PaymentState.CONFIRMED, confirmed=NOW))
    assert sums() == [150, 150, 150, 1, 1234]
    with ledger.begin() as tx:
        tx.put_payment(replace(PAID, state=PaymentState.REJECTED))
    assert sums() == [50, 50, 50, 1, 1234]
    (row,) = asked(place, "SELECT * FROM producer_consumers")
    assert (row["producer_id"], row["consumer_id"], row["relationship_status"]) == ("Identity/desk", BUYER, "active")
    assert (row["consumer_tier"], row["notes"], row["relationship_id"]) == ("standard", None, f"Identity/desk {BUYER}")
    assert row["first_interaction_at"] <= row["last_interaction_at"]  # type: ignore[operator]


COLUMNS = [
    ("producer_consumers", "total_payments_satoshis"), ("published_content", "total_revenue_satoshis"),
    ("producer_identities", "total_revenue_satoshis"), ("published_content", "download_count"),
    ("producer_consumers", "total_data_transferred_bytes"),
]  # fmt: skip


def test_an_amount_below_nothing_is_none(ledger: Ledger) -> None:
    with pytest.raises(Invariant), ledger.begin() as tx:
        tx.put_payment(replace(PAID, satoshis=-1))


def test_every_edition_is_kept_when_another_follows(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        for sequence, digest in ((1, "11" * 32), (2, "22" * 32), (2, "22" * 32)):
            tx.put_record(dataset(sequence, digest))
        tx.drop_record(RATES)
        # Published anew, it counts from 1 again, and is another edition all the same.
        tx.put_record(dataset(1, "33" * 32))
    with ledger.sales() as tx:
        assert [(one.sequence, one.digest[:2], one.version) for one in tx.editions("rates")] == [
            (1, "33", "1.0.0"), (2, "22", "2.0.0"), (1, "11", "1.0.0"),
        ]  # fmt: skip
        newest, old = tx.edition("rates", 1), tx.edition_of("11" * 32)
        assert newest is not None and newest.digest == "33" * 32 and tx.edition_of("44" * 32) is None
        assert old is not None and old.files[0].path == "rates.csv" and old.outpoint == "11" * 32 + ".0"
        assert old.published is not None and tx.edition("rates", 3) is None


def test_what_was_bought_and_quoted_comes_back_as_it_was(ledger: Ledger) -> None:
    quote = Quote("q1", "rates", 1, "11" * 32, 1, 25, NOW, NOW + timedelta(minutes=30), b"{}", ({"text": "x"},), BUYER)
    right = Entitlement("r1", BUYER, "rates", 1, "11" * 32, NOW, timedelta(days=30))
    due, rating = Due("r1", "overlay", 10, NOW, {"identityKey": OTHER}), Rating("r1", "rates", BUYER, 5, NOW, "gut")
    with ledger.begin() as tx:
        tx.put_quote(quote)
        tx.put_entitlement(right)
        tx.put_due(due)
        tx.put_rating(rating)
    with ledger.begin() as tx:
        assert tx.quote("q1") == quote and tx.quote("q2") is None
        assert tx.entitlements(BUYER, "rates") == [right] and tx.entitlements(OTHER, "rates") == []
        assert (tx.dues(), tx.ratings("rates"), tx.rating("r2")) == ([due], [rating], None)
        tx.put_entitlement(replace(right, began=NOW))
        tx.put_due(replace(due, settled=NOW, run="x"))
        tx.put_rating(replace(rating, score=1))
        assert tx.forget_quotes(NOW) == 0 and tx.forget_quotes(NOW + timedelta(hours=1)) == 1
    with ledger.begin() as tx:
        assert tx.entitlement("r1") == replace(right, began=NOW) and tx.quote("q1") is None
        assert tx.dues() == [] and [one.run for one in tx.dues(open_only=False, payment="r1")] == ["x"]
        assert [one.score for one in tx.ratings("rates")] == [1]


def test_a_subscription_runs_from_its_first_byte() -> None:
    right = Entitlement("r1", BUYER, "rates", 1, "11" * 32, NOW, timedelta(days=1))
    later = NOW + timedelta(days=9)
    assert right.holds(later), "nothing was fetched yet"
    assert not replace(right, began=NOW).holds(later) and replace(right, began=NOW).holds(NOW + timedelta(hours=23))
    assert not replace(right, revoked=NOW).holds(NOW) and replace(right, period=None, began=NOW).holds(later)
