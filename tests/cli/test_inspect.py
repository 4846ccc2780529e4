"""The verbs that look, on one applied repository: they read the ledger, and most of them need no network at all."""

import asyncio
import json
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.adapters.process import own_name
from reconciler.compose import workspace
from reconciler.devnet import control
from reconciler.manifest.yaml import parse
from reconciler.model.ref import Outpoint
from reconciler.settings import load
from tests.cli.producer import PRICE, Producer, end, producer, up


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Producer]:
    """A repository that was applied, on a devnet of its own."""
    root = tmp_path_factory.mktemp("inspect")
    state = up(root)
    try:
        made = producer(root / "repo", state)
        made("apply", "--yes")
        yield made
    finally:
        control.down(state)


@pytest.fixture
def offline(shop: Producer, tmp_path: Path) -> Producer:
    """A copy whose network does not exist and whose keys are not there: what the ledger alone must answer."""
    shutil.copytree(shop.root, tmp_path / "copy")
    made = Producer(tmp_path / "copy", shop.devnet, {})
    made.write("network.yaml", re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", (made.root / "network.yaml").read_text()))
    return made


def test_status_needs_neither_network_nor_keys(offline: Producer) -> None:
    text = offline("status").out
    lines = text.splitlines()
    assert re.match(r"REVISION dir@[0-9a-f]{12}  applied \d+[sm] ago   DAEMON not running   BUDGET day \d+/100.000 sat", lines[0])
    assert lines[1].split() == ["KIND/NAME", "READY", "REASON", "GEN", "HOSTS", "CONF", "AGE", "COST"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:-1]}
    assert rows["Dataset/rates"][:5] == ["True", "Published", "1/1", "3/3", "0/1"]
    assert rows["PricePlan/standard"][:5] == ["True", "Recorded", "1/1", "-", "-"]
    assert int(rows["Identity/desk"][6]) > 0
    assert lines[-1] == "4 ready, 0 stalled, 0 drifted, 0 progressing"
    body = offline("status", "Dataset", "-o", "json").json
    assert [one["ref"] for one in body["resources"]] == ["Dataset/rates"]
    assert body["resources"][0]["contentId"] == "Dataset/rates"
    wide = offline("status", "-o", "wide").out
    assert body["resources"][0]["outpoint"] in wide and body["revision"] in wide
    assert "resources:" in offline("status", "-o", "yaml").out
    assert "did you mean Dataset/rates?" in offline("status", "Dataset/rats", expect=64).err


def test_an_empty_ledger_says_what_to_do(tmp_path: Path, shop: Producer) -> None:
    empty = producer(tmp_path, shop.devnet, funded=False)
    assert "Nothing is recorded yet" in empty("status").out
    assert empty("history").out == "" and empty("journal", "list").out == ""


def test_status_watch_shows_what_changes(shop: Producer) -> None:
    process = shop.start("status", "--watch")
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("REVISION")
        process.send_signal(2)
        process.communicate(timeout=30)
    finally:
        end(process)
    assert process.returncode == 130


async def _take(made: Producer, owner: str, *keys: str) -> None:
    async with workspace(load(made.root)) as space:
        for key in keys:
            assert space.ports.queue.take(key, owner, space.ports.clock.now()) is not None


def test_what_a_lost_machine_holds_is_shown_and_ended(offline: Producer) -> None:
    lost, ours = "elsewhere:12:34", own_name()
    asyncio.run(_take(offline, lost, "ref/Dataset/rates", "plan"))
    asyncio.run(_take(offline, ours, "confirm"))
    shown = {one["key"]: one["process"] for one in offline("state", "lock", "show", "-o", "json").json}
    assert shown == {"ref/Dataset/rates": "elsewhere", "plan": "elsewhere", "confirm": "lives"}
    assert re.search(r"plan +elsewhere:12:34 +elsewhere +\d+ +\d+s", offline("state", "lock", "show").out)
    assert "add --yes" in offline("state", "lock", "break", "plan", expect=64).err
    assert "lives on this machine" in offline("state", "lock", "break", "confirm", "--yes", expect=6).err
    ended = offline("state", "lock", "break", "ref/Dataset/rates", "--yes")
    assert f"{lost} holds nothing any more: plan, ref/Dataset/rates" in ended.err
    assert [one["key"] for one in offline("state", "lock", "show", "-o", "json").json] == ["confirm"]
    assert "nobody holds it" in offline("state", "lock", "break", lost, "--yes", expect=1).err


def test_events_are_followed_until_interrupted(shop: Producer) -> None:
    process = shop.start("events", "--follow", "-n", "2", "-o", "json")
    try:
        assert process.stdout is not None
        assert len([json.loads(process.stdout.readline()) for _ in range(2)]) == 2
        process.send_signal(2)
        out, err = process.communicate(timeout=30)
    finally:
        end(process)
    assert (process.returncode, out, err) == (130, "", "")


def test_get_gives_the_envelope_with_its_status(offline: Producer) -> None:
    text = offline("get", "dataset", "rates", "-o", "yaml").out
    documents, faults = parse(text.encode())
    assert len(documents) == 1 and not faults
    shown = offline("get", "Dataset/rates", "-o", "json").json
    assert (shown["apiVersion"], shown["kind"], shown["metadata"]["name"]) == ("overlay.bsv/v1alpha1", "Dataset", "rates")
    status = shown["status"]
    assert status["generation"] == status["observedGeneration"] == 1
    assert {"Ready", "Confirmed"} <= {one["type"] for one in status["conditions"]}
    assert {one["host"] for one in status["hosts"]} == {"overlay-1", "eu1", "us1"}
    assert status["cost"]["feesSat"] > 0 and status["history"][0]["event"] == "change.applied"
    assert Outpoint.parse(status["identity"]["outpoint"]).txid == status["transactions"][0]["txid"]
    assert status["uid"] and status["specDigest"].startswith("sha256:")
    many = offline("get", "PricePlan", "-o", "json").json
    assert [one["metadata"]["name"] for one in many] == ["standard"]


def test_get_selects_by_declared_label(shop: Producer) -> None:
    assert "Dataset/rates" in shop("get", "Dataset", "-l", "team=fx").out
    assert "Dataset/rates" not in shop("get", "Dataset", "-l", "team=rates").out


def test_no_secret_place_leads_to_a_secret(shop: Producer) -> None:
    for words in (("get", "Identity", "desk", "-o", "yaml"), ("describe", "Identity/desk"), ("plan", "-o", "json", "--destroy")):
        text = shop(*words, expect=None).out
        assert not any(secret in text for secret in shop.env.values())


def test_describe_tells_everything(offline: Producer) -> None:
    text = offline("describe", "Dataset/rates").out
    for part in ("declared    dataset.yaml:3", "contentId: Dataset/rates", "data/rates.csv", "Requires", "  PricePlan/standard"):
        assert part in text
    assert re.search(r"Ready +True +Published", text) and re.search(r"[0-9a-f]{64}  seen, not in a block yet", text)
    assert re.search(r"change.applied +create New  [0-9a-f]{8}…  \d+ sat", text)
    assert "cannot read 'rates' as a resource" in offline("describe", "rates", expect=1).err


def test_tree_shows_both_directions(offline: Producer) -> None:
    text = offline("tree", "Identity/desk").out.splitlines()
    assert text == ["Identity/desk  Registered", "└─ Network/local  Recorded", "used by", "└─ Dataset/rates  Published"]
    assert offline("tree").out.splitlines()[0] == "Dataset/rates  Published"


def test_history_and_events(offline: Producer) -> None:
    told = offline("history", "-o", "json").json
    assert [one["ref"] for one in told][-1] == "Dataset/rates" and {one["event"] for one in told} == {"change.applied"}
    assert [one["ref"] for one in offline("history", "Dataset/rates", "-o", "json").json] == ["Dataset/rates"]
    assert len(offline("events", "-n", "2").out.splitlines()) == 2


def test_journal_shows_a_finished_run(offline: Producer) -> None:
    runs = offline("journal", "list", "--all", "-o", "json").json
    (run,) = [one["run"] for one in runs if one["key"] == "Dataset/rates"]
    assert runs[0]["key"] == "funding/devnet"
    shown = offline("journal", "show", run, "-o", "json").json
    effects = [(one["effect"], one["state"]) for one in shown["intents"]]
    assert effects == [(name, "done") for name in ("Attest", "Store", "Store", "Sign", "Broadcast", "Submit")]
    assert "cannot find run nonsense" in offline("journal", "show", "nonsense", expect=1).err


def checks(ran_json: dict) -> dict[str, dict]:
    return {one["name"]: one for one in ran_json["checks"]}


@pytest.mark.row("P-TRB-01", "P-TRB-02", "P-TRB-03")
def test_doctor_is_content_with_a_healthy_repository(shop: Producer) -> None:
    found = checks(shop("doctor", "-o", "json").json)
    assert all(one["ok"] for one in found.values()), found
    assert {"settings", "manifests", "disk", "ledger", "key wallet", "key desk", "overlay overlay-1", "storage eu1"} <= set(found)
    assert {"broadcaster arc", "headers", "clock", "purse", "daemon"} <= set(found)
    assert re.search(r"a durable write takes \d+\.\d\d ms", found["disk"]["detail"])
    assert re.search(r"\d+ ms", found["overlay overlay-1"]["detail"])
    text = shop("doctor").out
    assert text.rstrip().endswith("checks, all well") and "FAIL" not in text


@pytest.mark.row("P-TRB-03")
def test_doctor_looks_at_one_network_without_key_or_ledger(shop: Producer) -> None:
    unknown = shop("doctor", "--network", "nowhere", expect=1).err
    name = unknown.split("there are ")[1].split()[0].rstrip(",")
    found = checks(shop("doctor", "--network", name, "-o", "json", env={"DESK_KEY": "", "WALLET_KEY": ""}).json)
    assert {"overlay overlay-1", "storage eu1", "broadcaster arc", "headers", "clock"} <= set(found)
    assert "serves" in found["overlay overlay-1"]["detail"] and not {"ledger", "purse", "key wallet"} & set(found)


@pytest.mark.row("P-TRB-01")
def test_doctor_names_a_key_that_is_not_there(shop: Producer) -> None:
    ran = shop("doctor", "-o", "json", env={"DESK_KEY": ""}, expect=1)
    lost = checks(ran.json)["key desk"]
    assert not lost["ok"] and "identity restore desk" in lost["fix"]


@pytest.mark.row("P-TRB-02")
def test_doctor_survives_a_damaged_ledger(offline: Producer) -> None:
    (offline.root / ".state/ledger.db").write_bytes(b"not a database" * 1000)
    found = checks(offline("doctor", "-o", "json", expect=1).json)
    assert not found["ledger"]["ok"] and "backup" in found["ledger"]["fix"]


def test_doctor_finds_a_torn_page(offline: Producer) -> None:
    path = offline.root / ".state/ledger.db"
    with sqlite3.connect(path) as sql:
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sql.execute("PRAGMA writable_schema=ON")
        sql.execute("UPDATE sqlite_schema SET rootpage = rootpage + 3 WHERE type = 'index' AND rootpage > 5")
    sql.close()
    found = checks(offline("doctor", "-o", "json", expect=1).json)
    assert not found["ledger"]["ok"] and "damaged" in found["ledger"]["detail"]


@pytest.mark.row("P-TRB-03")
def test_doctor_names_hosts_that_are_gone(offline: Producer) -> None:
    offline.env.update(DESK_KEY="11" * 32, WALLET_KEY="22" * 32)
    found = checks(offline("doctor", "-o", "json", expect=1).json)
    for name in ("overlay overlay-1", "storage eu1", "broadcaster arc", "headers"):
        assert not found[name]["ok"] and "http://127.0.0.1:1 " in found[name]["fix"], found[name]


@pytest.mark.row("P-TRB-04")
def test_what_does_not_propagate_is_found_and_forced(shop: Producer) -> None:
    token = shop("get", "Dataset", "rates", "-o", "json").json["status"]["identity"]["outpoint"]
    control.evict(shop.devnet, "overlay-1", Outpoint.parse(token))
    lost = checks(shop("doctor", "-o", "json", expect=1).json)["Dataset/rates"]
    assert "hosts.overlay-1" in lost["detail"] and lost["fix"] == "reconciler reconcile --force Dataset/rates"
    ran = shop("reconcile", "--force", "Dataset/rates")
    assert "Dataset/rates: done" in ran.out and "no daemon is running" in ran.err
    assert checks(shop("doctor", "-o", "json").json).get("Dataset/rates") is None
    assert "Dataset/rates: as declared" in shop("reconcile", "Dataset/rates").out


def test_doctor_reports_wrong_manifests_and_open_keys(shop: Producer, tmp_path: Path) -> None:
    made = producer(tmp_path / "sick", shop.devnet, funded=False)
    key = made.root / ".keys/wallet.json"
    made.write("reconciler.yaml", "wallet: {key: {file: .keys/wallet.json}}\n")
    made("wallet", "address")
    made.write("price.yaml", PRICE.replace("rate:", "rat:"))
    key.chmod(0o644)
    found = checks(made("doctor", "-o", "json", expect=1).json)
    assert not found["manifests"]["ok"] and "price.yaml:" in found["manifests"]["detail"]
    assert not found["key wallet"]["ok"] and "chmod 600" in found["key wallet"]["fix"] + found["key wallet"]["detail"]


def test_looking_is_quick(offline: Producer) -> None:
    began = time.monotonic()
    json.loads(offline("status", "-o", "json").out)
    assert time.monotonic() - began < 30
