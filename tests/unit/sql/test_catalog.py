"""The catalog as somebody with a database browser sees it: through a connection of its own."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.sql.ledger import open_ledger
from reconciler.model.errors import Refused
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.model.status import Condition, Status, Truth
from reconciler.ports import Ledger
from reconciler.wire.keys import public_key
from reconciler.wire.script import pushdrop

BORN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = public_key(bytes(31) + b"\x07")
TXID = "ab" * 32
SHA = "cd" * 32
Query = Callable[..., list[dict[str, Any]]]


class HandClock:
    """Time that moves when the test says so."""

    def __init__(self) -> None:
        self.moment = BORN

    def now(self) -> datetime:
        return self.moment

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: HandClock) -> Iterator[Ledger]:
    ledger, _ = open_ledger(tmp_path / "ledger.db", clock)
    yield ledger
    ledger.close()


@pytest.fixture
def query(ledger: Ledger, tmp_path: Path) -> Query:
    def ask(sql: str, *parameters: Any) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
            other.row_factory = sqlite3.Row
            return [dict(row) for row in other.execute(sql, parameters)]

    return ask


def show(ledger: Ledger, *records: Record) -> None:
    with ledger.begin() as tx:
        for record in records:
            tx.put_record(record)


def drop(ledger: Ledger, record: Record) -> None:
    with ledger.begin() as tx:
        tx.drop_record(record.ref)


def condition(kind: str, truth: Truth, reason: str = "Because") -> Condition:
    return Condition(kind, truth, reason, "", 1, BORN)


def resource(
    kind: str,
    name: str,
    spec: Mapping[str, Any],
    outputs: Mapping[str, Any],
    using: Mapping[str, Any] | None = None,
    **facts: Any,
) -> Record:
    status = Status(1, (condition("Ready", Truth.TRUE),), facts=facts)
    body = {"spec": spec, "files": [], "using": using or {}}
    return Record(ResourceRef(kind, name), f"uid-{name}", 1, body, outputs, status=status)


def identity(name: str = "me", key: str = KEY.hex(), **facts: Any) -> Record:
    spec = {
        "displayName": "CryptoMarkets Pro", "description": "Market data", "contact": {"email": "desk@example.org"},
        "capabilities": ["market-data", "analytics"], "regions": ["EU"],
    }  # fmt: skip
    return resource("Identity", name, spec, {"publicKey": key}, **facts)


def token(kind: str, name: str, vout: int) -> dict[str, Any]:
    script = pushdrop([kind.encode(), KEY, b"https://a.example", name.encode()], KEY, bytes([vout]) * 70)
    return {"type": kind, "name": name, "domain": "https://a.example", "outpoint": f"{TXID}.{vout}", "script": script.hex()}


def offer(**facts: Any) -> Record:
    spec = {
        "identityRef": "me", "serviceType": "data-feed", "capability": "crypto-price-feeds", "pricePlanRef": "per-minute",
        "regions": ["EU", "US"], "availability": {"target": "99.9%"}, "maxConsumers": 5000,
    }  # fmt: skip
    plan = {"PricePlan/per-minute": {"model": "per-minute", "rate": 21_000_000_000_000}}
    outputs = {
        "tokens": [token("SHIP", "tm_ticks", 1), token("SLAP", "ls_ticks", 2), {"type": "DESCRIPTOR", "outpoint": f"{TXID}.0"}]
    }
    return resource("Advertisement", "feed", spec, outputs, plan, **facts)


def dataset(hosts: Mapping[str, Any] | None = None, **facts: Any) -> Record:
    spec = {
        "identityRef": "me", "title": "Bitcoin 2024", "description": "1-minute bars", "tags": ["bitcoin", "ohlcv"],
        "license": "commercial", "price": 5000, "replicas": {"min": 2, "max": 3}, "nodes": ["eu1", "us1"],
    }  # fmt: skip
    outputs = {
        "tokens": [{"outpoint": f"{TXID}.0", "topic": "tm_producer"}],
        "files": [{"path": "a.json", "size": 5_000_000_000, "sha256": SHA, "mediaType": "application/json"}],
        "document": {"digest": "dd" * 32, "size": 900, "sequence": 3},
        "replicas": {"eu1": {SHA: {"location": "https://eu1.example/a"}}} if hosts is None else hosts,
    }
    return resource("Dataset", "btc", spec, outputs, **facts)


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# --- what each table shows -----------------------------------------------------------------------


@pytest.mark.row(
    "P-DB-01", "P-DB-02", "P-DB-03", "P-DB-04", "P-DB-05", "P-DB-06", "P-DB-07", "P-DB-08", "P-DB-09", "P-DB-10", "P-DB-11"
)
def test_an_identity_is_a_producer(ledger: Ledger, query: Query, clock: HandClock) -> None:
    show(ledger, identity())
    (row,) = query("SELECT * FROM producer_identities")
    assert row == {
        "producer_id": "Identity/me",
        "identity_key": KEY.hex(),
        "display_name": "CryptoMarkets Pro",
        "description": "Market data",
        "contact_info": '{"email": "desk@example.org"}',
        "capabilities": '["market-data", "analytics"]',
        "geographic_regions": '["EU"]',
        "reputation_score": None,
        "total_revenue_satoshis": 0,
        "created_at": stamp(BORN),
        "updated_at": stamp(BORN),
    }
    clock.moment = BORN + timedelta(days=1)
    rotated = public_key(bytes(31) + b"\x08").hex()
    show(ledger, identity(key=rotated, reputation=71))
    (row,) = query("SELECT * FROM producer_identities")
    assert (row["identity_key"], row["reputation_score"]) == (rotated, 71.0)
    assert (row["created_at"], row["updated_at"]) == (stamp(BORN), stamp(clock.moment))
    drop(ledger, identity())
    assert query("SELECT * FROM producer_identities") == []


@pytest.mark.row("P-DB-02")
def test_two_identities_cannot_show_the_same_key(ledger: Ledger, query: Query) -> None:
    show(ledger, identity())
    with pytest.raises(Refused, match="already belongs to Identity/me"):
        show(ledger, identity("twin"))
    assert [row["producer_id"] for row in query("SELECT producer_id FROM producer_identities")] == ["Identity/me"]
    assert ledger.read(BORN).records.keys() == {ResourceRef("Identity", "me")}


@pytest.mark.row(
    "P-DB-12",
    "P-DB-13",
    "P-DB-14",
    "P-DB-15",
    "P-DB-16",
    "P-DB-17",
    "P-DB-18",
    "P-DB-19",
    "P-DB-20",
    "P-DB-21",
    "P-DB-22",
    "P-DB-23",
    "P-DB-24",
    "P-DB-25",
)
def test_an_advertisement_is_an_offer(ledger: Ledger, query: Query) -> None:
    deadline = BORN + timedelta(days=30)
    show(ledger, offer(expires=int(deadline.timestamp())))
    (row,) = query("SELECT * FROM producer_advertisements")
    ship, slap = json.loads(row.pop("ship_advertisement_data")), json.loads(row.pop("slap_advertisement_data"))
    assert ship == [{"outpoint": f"{TXID}.1", "host": "https://a.example", "topic": "tm_ticks", "signature": "01" * 70}]
    assert slap == [{"outpoint": f"{TXID}.2", "host": "https://a.example", "service": "ls_ticks", "signature": "02" * 70}]
    assert row == {
        "advertisement_id": "Advertisement/feed",
        "producer_id": "Identity/me",
        "service_type": "data-feed",
        "capability": "crypto-price-feeds",
        "pricing_model": "per-minute",
        "base_rate_satoshis": 21_000_000_000_000,
        "geographic_scope": '["EU", "US"]',
        "availability_sla": 99.9,
        "max_consumers": 5000,
        "status": "active",
        "created_at": stamp(BORN),
        "expires_at": stamp(deadline),
    }


def with_conditions(*conditions: Condition) -> Record:
    return replace(offer(), status=Status(1, conditions))


@pytest.mark.row("P-DB-23")
@pytest.mark.parametrize(
    ("record", "status"),
    [
        (offer(), "active"),
        (with_conditions(), "active"),
        (replace(offer(), retiring=True), "withdrawn"),
        (with_conditions(condition("Ready", Truth.FALSE, "Withdrawn")), "withdrawn"),
        (offer(expires=int(BORN.timestamp())), "expired"),
        (offer(expires=int(BORN.timestamp()) + 1), "active"),
        (with_conditions(condition("Ready", Truth.FALSE)), "error"),
        (with_conditions(condition("Ready", Truth.TRUE), condition("Stalled", Truth.TRUE)), "error"),
        (with_conditions(condition("Ready", Truth.UNKNOWN)), "active"),
    ],
)
def test_the_status_of_an_offer_follows_the_record(record: Record, status: str, ledger: Ledger, query: Query) -> None:
    show(ledger, record)
    assert [row["status"] for row in query("SELECT status FROM producer_advertisements")] == [status]


@pytest.mark.row("P-DB-23", "P-DB-24")
def test_an_offer_that_is_gone_stays_as_withdrawn_and_keeps_its_birthday(ledger: Ledger, query: Query, clock: HandClock) -> None:
    show(ledger, offer())
    drop(ledger, offer())
    clock.moment = BORN + timedelta(days=9)
    asked = "SELECT status, created_at FROM producer_advertisements"
    assert query(asked) == [{"status": "withdrawn", "created_at": stamp(BORN)}]
    show(ledger, offer())
    assert query(asked) == [{"status": "active", "created_at": stamp(BORN)}]


@pytest.mark.row(
    "P-DB-26",
    "P-DB-27",
    "P-DB-28",
    "P-DB-29",
    "P-DB-30",
    "P-DB-31",
    "P-DB-32",
    "P-DB-33",
    "P-DB-34",
    "P-DB-35",
    "P-DB-36",
    "P-DB-37",
    "P-DB-38",
    "P-DB-39",
    "P-DB-40",
    "P-DB-41",
)
def test_a_dataset_is_published_content(ledger: Ledger, query: Query, clock: HandClock) -> None:
    show(ledger, dataset(confirmations=6))
    (row,) = query("SELECT * FROM published_content")
    assert row == {
        "content_id": "Dataset/btc",
        "producer_id": "Identity/me",
        "uhrp_hash": SHA,
        "title": "Bitcoin 2024",
        "description": "1-minute bars",
        "content_type": "application/json",
        "file_size_bytes": 5_000_000_000,
        "tags": '["bitcoin", "ohlcv"]',
        "pricing": '{"model": "per-item", "rate": 5000}',
        "license_type": "commercial",
        "version": 3,
        "brc22_transaction_id": TXID,
        "confirmations": 6,
        "distribution_nodes": '["eu1"]',
        "download_count": 0,
        "total_revenue_satoshis": 0,
        "created_at": stamp(BORN),
        "updated_at": stamp(BORN),
    }


@pytest.mark.row("P-DB-38", "P-DB-39", "P-DB-40", "P-DB-41")
def test_a_row_is_updated_in_place_so_what_others_wrote_into_it_survives(
    ledger: Ledger, query: Query, clock: HandClock, tmp_path: Path
) -> None:
    show(ledger, dataset())
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as sales:
        sales.execute("UPDATE published_content SET download_count = 7, total_revenue_satoshis = 3000000000")
        sales.commit()
    clock.moment = BORN + timedelta(hours=1)
    show(ledger, dataset(confirmations=1))
    asked = "SELECT download_count, total_revenue_satoshis, created_at, updated_at FROM published_content"
    assert [list(row.values()) for row in query(asked)] == [[7, 3_000_000_000, stamp(BORN), stamp(clock.moment)]]


@pytest.mark.row("P-DB-30")
def test_a_description_is_made_from_the_files_where_the_manifest_asks_for_it(ledger: Ledger, query: Query) -> None:
    spec = {key: value for key, value in dataset().body["spec"].items() if key != "description"}
    files = [
        {
            "path": "a.csv",
            "size": 9,
            "sha256": SHA,
            "media_type": "text/csv",
            "details": {"rows": 1234, "columns": ["at", "close"]},
        }
    ]
    for describe, expected in (
        ("auto", f"1 file, text/csv, 9 bytes; 1,234 rows; columns at, close; SHA-256 {SHA}"),
        (None, None),
    ):
        show(ledger, replace(dataset(), body={"spec": {**spec, "describe": describe}, "files": files, "using": {}}))
        assert query("SELECT description FROM published_content") == [{"description": expected}]


@pytest.mark.row("P-DB-25")
def test_an_offer_must_be_renewed_before_the_last_copy_of_its_document_expires(ledger: Ledger, query: Query) -> None:
    sha, day = "dd" * 32, int((BORN + timedelta(days=1)).timestamp())
    kept = {"eu1": {sha: {"expires": day}}, "us1": {sha: {"expires": day - 5}, SHA: {"expires": day + 9}}}
    show(ledger, replace(offer(), outputs={"tokens": [], "document": {"digest": sha}, "replicas": kept}))
    assert query("SELECT expires_at FROM producer_advertisements") == [{"expires_at": stamp(BORN + timedelta(days=1))}]


@pytest.mark.row("P-DB-28")
def test_a_file_set_is_known_by_its_root_and_two_listings_may_share_bytes(ledger: Ledger, query: Query) -> None:
    both = [{"path": name, "size": 2, "sha256": SHA, "mediaType": "text/csv"} for name in "ab"]
    many = replace(dataset(), ref=ResourceRef("Dataset", "many"), outputs={"files": both, "merkleRoot": "ee" * 32})
    twin = replace(dataset(), ref=ResourceRef("Dataset", "twin"))
    show(ledger, dataset(), many, twin)
    asked = "SELECT content_id, uhrp_hash, file_size_bytes, content_type FROM published_content ORDER BY content_id"
    assert [list(row.values()) for row in query(asked)] == [
        ["Dataset/btc", SHA, 5_000_000_000, "application/json"],
        ["Dataset/many", "ee" * 32, 4, "text/csv"],
        ["Dataset/twin", SHA, 5_000_000_000, "application/json"],
    ]


@pytest.mark.row("P-DB-90", "P-DB-91", "P-DB-92", "P-DB-93", "P-DB-94", "P-DB-95", "P-DB-96", "P-DB-97", "P-DB-98")
def test_each_copy_is_a_row_that_follows_the_probes(ledger: Ledger, query: Query, clock: HandClock) -> None:
    show(ledger, dataset())
    asked = "SELECT * FROM content_distribution ORDER BY overlay_node_id"
    eu, us = query(asked)
    assert eu == {
        "distribution_id": "Dataset/btc@eu1",
        "content_id": "Dataset/btc",
        "overlay_node_id": "eu1",
        "distribution_status": "available",
        "replication_factor": 2,
        "last_sync_at": None,
        "node_response_time_ms": None,
        "availability_score": None,
        "created_at": stamp(BORN),
        "region": None,
        "expires_at": None,
        "downloads_per_hour": None,
    }
    assert (us["overlay_node_id"], us["distribution_status"]) == ("us1", "pending")
    checked = BORN + timedelta(minutes=5)
    clock.moment = checked
    probes = {
        "eu1": {"state": "ok", "ms": 12, "checkedAt": stamp(checked), "expires": int(checked.timestamp()) + 60, "perHour": 3},
        "us1": {"state": "corrupt", "ms": 80, "checkedAt": stamp(checked)},
    }
    show(ledger, dataset(replicas=probes, availability={"eu1": 100, "us1": "87.5"}))
    names = ("distribution_status", "last_sync_at", "node_response_time_ms", "availability_score", "created_at", "expires_at")
    assert [[row[name] for name in names] for row in query(asked)] == [
        ["available", stamp(checked), 12, 100.0, stamp(BORN), stamp(checked + timedelta(minutes=1))],
        ["failed", stamp(checked), 80, 87.5, stamp(BORN), None],
    ]
    assert [row["downloads_per_hour"] for row in query(asked)] == [3, None]


@pytest.mark.row("P-DB-37", "P-DB-93", "P-DIST-16")
def test_a_probe_that_learned_nothing_leaves_what_was_known(ledger: Ledger, query: Query) -> None:
    show(
        ledger,
        dataset(replicas={"eu1": {"state": "missing", "ms": 4}, "us1": {"state": "ok", "ms": 9}}, availability={"us1": 50}),
    )
    asked = (
        "SELECT distribution_status, node_response_time_ms, availability_score FROM content_distribution ORDER BY overlay_node_id"
    )
    learned = [["failed", 4, None], ["available", 9, 50.0]]
    assert [list(row.values()) for row in query(asked)] == learned
    assert query("SELECT distribution_nodes FROM published_content") == [{"distribution_nodes": '["us1"]'}]
    show(ledger, dataset(replicas={"eu1": {"state": "unknown"}, "us1": {"state": "unknown"}}))
    assert [list(row.values()) for row in query(asked)] == learned
    assert query("SELECT distribution_nodes FROM published_content") == [{"distribution_nodes": '["us1"]'}]


@pytest.mark.row("P-DIST-16")
def test_a_host_that_holds_only_some_files_is_syncing_and_one_that_holds_none_any_more_is_gone(
    ledger: Ledger, query: Query
) -> None:
    show(ledger, dataset(hosts={"old": {SHA: {}}, "eu1": {"other": {}}}))
    asked = "SELECT overlay_node_id, distribution_status FROM content_distribution ORDER BY overlay_node_id"
    assert [tuple(row.values()) for row in query(asked)] == [("eu1", "syncing"), ("old", "available"), ("us1", "pending")]
    show(ledger, dataset(hosts={"eu1": {SHA: {}}}))
    assert [tuple(row.values()) for row in query(asked)] == [("eu1", "available"), ("us1", "pending")]


def test_content_that_is_gone_takes_its_tags_and_copies_along(ledger: Ledger, query: Query) -> None:
    show(ledger, dataset())
    drop(ledger, dataset())
    for table in ("published_content", "published_content_tags", "content_distribution"):
        assert query(f"SELECT * FROM {table}") == []


@pytest.mark.parametrize("kind", ["Identity", "Advertisement", "Dataset", "PricePlan"])
def test_a_record_with_nothing_in_it_is_still_recorded(kind: str, ledger: Ledger) -> None:
    bare = Record(ResourceRef(kind, "bare"), "u", 1, {}, {})
    odd = replace(bare, body={"spec": None, "using": 3}, outputs={"tokens": 5, "files": [None], "replicas": []})
    show(ledger, bare)
    show(ledger, odd)
    drop(ledger, bare)
    assert not ledger.read(BORN).records


def test_the_catalog_and_the_record_are_one_commit(ledger: Ledger, query: Query) -> None:
    with pytest.raises(ZeroDivisionError), ledger.begin() as tx:
        tx.put_record(dataset())
        raise ZeroDivisionError
    assert query("SELECT * FROM published_content") == []


# --- how it is asked -----------------------------------------------------------------------------

QUESTIONS = {
    "idx_producer_advertisements_producer": (
        "SELECT * FROM producer_advertisements WHERE producer_id = 'Identity/me' AND status = 'active'", offer, 1
    ),
    "idx_producer_advertisements_capability": (
        "SELECT * FROM producer_advertisements WHERE capability = 'crypto-price-feeds'", offer, 1
    ),
    "idx_published_content_producer": (
        "SELECT * FROM published_content WHERE producer_id = 'Identity/me' ORDER BY created_at DESC", dataset, 1
    ),
    "idx_published_content_tags": (
        "SELECT c.* FROM published_content_tags t JOIN published_content c USING (content_id) WHERE t.tag = 'ohlcv'", dataset, 1
    ),
    "uq_published_content_hash": (f"SELECT * FROM published_content WHERE uhrp_hash = '{SHA}'", dataset, 1),
    "idx_content_distribution_content": (
        "SELECT * FROM content_distribution WHERE content_id = 'Dataset/btc' AND distribution_status = 'available'", dataset, 1
    ),
}  # fmt: skip


@pytest.mark.row("P-DB-99")
@pytest.mark.parametrize("index", QUESTIONS)
def test_the_usual_questions_are_answered_from_an_index(index: str, ledger: Ledger, query: Query) -> None:
    question, record, count = QUESTIONS[index]
    show(ledger, record())
    assert len(query(question)) == count
    plan = [step["detail"] for step in query(f"EXPLAIN QUERY PLAN {question}")]
    assert any(index in step for step in plan), plan
    assert not any("TEMP B-TREE" in step or step.startswith("SCAN") for step in plan), plan


@pytest.mark.row("P-DB-33")
def test_tags_follow_the_manifest(ledger: Ledger, query: Query) -> None:
    show(ledger, dataset())
    fewer = {**dataset().body, "spec": {**dataset().body["spec"], "tags": ["ohlcv", "hourly", "hourly"]}}
    show(ledger, replace(dataset(), body=fewer))
    assert [row["tag"] for row in query("SELECT tag FROM published_content_tags ORDER BY tag")] == ["hourly", "ohlcv"]
