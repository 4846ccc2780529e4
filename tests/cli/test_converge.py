"""`plan`, `diff`, `drift`, `apply` and `destroy` as processes against a served devnet."""

import asyncio
import hashlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reconciler.devnet import control
from reconciler.model.ref import Outpoint
from tests.cli.producer import CSV, DATASET, HEAD, PRICE, Producer, end, fresh, leases, normal, producer

TRANSCRIPTS = Path(__file__).parent / "transcripts"


@pytest.fixture
def shop(tmp_path: Path, devnet: Path) -> Producer:
    """A fresh repository on it, with a filled purse. Its desk has a key of its own, so that tests do not meet."""
    return fresh(tmp_path / "repo", devnet)


def golden(name: str, text: str) -> None:
    """Compare with a stored transcript; RECONCILER_GOLDEN=1 in the environment writes it anew."""
    file = TRANSCRIPTS / name
    if os.environ.get("RECONCILER_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


def test_the_transcript_of_a_first_plan_and_apply(shop: Producer) -> None:
    before = shop.purse()
    first = shop("plan", "--out", "plan.json", "--detailed-exitcode", expect=2)
    golden("plan.txt", normal(first.out))
    assert first.err == ""
    # Planning wrote nothing but the file: no record, no run, no coin moved.
    assert shop.status()["resources"] == [] and shop.purse() == before
    carried = shop("apply", "plan.json", "--parallelism", "1")
    golden("apply.txt", normal(carried.out))
    planned = json.loads((shop.root / "plan.json").read_text())["plan"]
    cost = sum(c["cost"]["fees"] + c["cost"]["locked"] for c in planned["changes"]) + sum(
        f["cost"]["fees"] for f in planned["funding"]
    )
    assert before - shop.purse() == cost
    assert f"spent {cost} sat." in carried.out
    again = shop("plan", "--detailed-exitcode")
    assert "Nothing to do: the network is as declared." in again.out
    assert "4/4 at height" in again.out and "3 of 3 hosts" in again.out
    repeated = shop("apply", "plan.json")
    assert "resuming: 4 already done" in repeated.out and "4 of 4 actions" in repeated.out
    assert before - shop.purse() == cost


@pytest.mark.row("P-PUB-28", "P-ID-21")
def test_the_result_document_has_what_scripts_want(shop: Producer) -> None:
    ran = shop("apply", "--yes", "-o", "json", "--events-to", "events.jsonl")
    result = ran.json
    outputs = {one["ref"]: one["outputs"] for one in result["resources"]}
    record = json.loads(shop("get", "Dataset", "rates", "-o", "json").out)
    assert outputs["Dataset/rates"]["contentId"] == "Dataset/rates"
    assert outputs["Dataset/rates"]["uhrpHash"] == hashlib.sha256(CSV.encode()).hexdigest()
    assert outputs["Dataset/rates"]["uhrp"]["data/rates.csv"].startswith("XU")
    assert outputs["Dataset/rates"]["transactionId"] in {one["txid"] for one in record["status"]["transactions"]}
    assert len(outputs["Identity/desk"]["publicKey"]) == 66
    assert result["exit"] == {"code": 0, "reason": "applied"}
    assert result["spent"] == result["planned"] == 1_000_000 - shop.purse()
    assert {one["fate"] for one in result["resources"]} == {"done"}
    events = [json.loads(line) for line in (shop.root / "events.jsonl").read_text().splitlines()]
    assert {"run.started", "effect.done", "run.done", "result"} <= {one["type"] for one in events}
    assert events[-1]["planId"] == result["planId"]
    # People see the lines on stderr meanwhile.
    assert "[4/4] Dataset/rates" in ran.err
    identity = shop("status", "identity/desk", "-o", "json").json["resources"][0]
    assert identity["producerId"] == "Identity/desk" and identity["identityKey"] == outputs["Identity/desk"]["publicKey"]


def test_without_a_terminal_nothing_is_done_unasked(shop: Producer) -> None:
    ran = shop("apply", expect=64)
    assert "standard input is not a terminal" in ran.err and "--yes" in ran.err and ran.out == ""
    assert shop("destroy", expect=64).out == ""
    assert shop.status()["resources"] == []


def test_manifest_errors_are_shown_as_validate_shows_them(shop: Producer) -> None:
    shop.write("price.yaml", PRICE.replace("rate:", "rat:"))
    shown = shop("validate", expect=1).out
    ran = shop("plan", expect=1)
    assert ran.out == "" and "price.yaml:" in ran.err
    assert all(line in ran.err for line in shown.splitlines()[:4])
    assert shop("apply", "--yes", expect=1).out == ""
    assert shop("diff", expect=2).out == ""


def test_formats_of_a_plan(shop: Producer) -> None:
    whole = shop("plan", "-o", "json").json
    assert whole["totals"]["add"] == 4 and whole["id"].startswith("pl_")
    lines = [json.loads(line) for line in shop("plan", "-o", "jsonl").out.splitlines()]
    assert [one["type"] for one in lines] == ["change"] * 4 + ["summary"]
    assert "| `+` | Dataset/rates |" in shop("plan", "-o", "markdown").out
    assert shop("plan", "-json").json["id"] == whole["id"]


def test_targets_labels_and_exclusions(shop: Producer) -> None:
    def acting(*words: str) -> set[str]:
        return {one["ref"] for one in shop("plan", "-o", "json", *words).json["changes"]}

    assert acting("--target", "PricePlan/standard") == {"PricePlan/standard"}
    assert acting("--target", "team=fx") == {"Dataset/rates", "Identity/desk", "Network/local", "PricePlan/standard"}
    assert "Dataset/rates" not in acting("--exclude", "Dataset/*")
    ran = shop("plan", "--target", "Dataset/rate", expect=64)
    assert "did you mean Dataset/rates?" in ran.err


def test_guards_refuse_with_exit_four_and_an_approval_lets_pass(shop: Producer) -> None:
    ran = shop("plan", "--max-spend", "10sat", "--out", "plan.json", expect=4)
    assert "spend-run REFUSED" in ran.out and "--approve spend-run" in ran.out
    refused = shop("apply", "plan.json", expect=4)
    assert "guard spend-run refuses it" in refused.err
    assert shop("apply", "--yes", "--max-spend", "10", "-o", "json", expect=4).out == ""
    assert shop.status()["resources"] == []
    shop("apply", "plan.json", "--approve", "spend-run")
    assert len(shop.status()["resources"]) == 4


def test_an_empty_purse_is_told_in_figures(tmp_path: Path, devnet: Path) -> None:
    poor = producer(tmp_path, devnet, funded=False)
    poor.env.update(DESK_KEY=os.urandom(32).hex(), WALLET_KEY=os.urandom(32).hex())
    ran = poor("plan", expect=4)
    assert "the purse lacks coins" in ran.out and "missing" in ran.out


def test_a_plan_file_that_was_touched_or_outrun_is_refused(shop: Producer) -> None:
    shop("plan", "--out", "plan.json")
    text = (shop.root / "plan.json").read_text()
    shop.write("altered.json", text.replace('"Rates"', '"Dates"'))
    assert "altered" in shop("apply", "altered.json", expect=4).err
    shop.write("price.yaml", PRICE.replace("25sat", "26sat"))
    shop("apply", "--yes", "--target", "PricePlan/standard")
    stale = shop("apply", "plan.json", expect=5)
    assert "cannot apply this plan to PricePlan/standard" in stale.err and "plan again" in stale.err
    # Work on other resources does not make it stale.
    shop.write("price.yaml", PRICE.replace("25sat", "30sat"))
    shop("plan", "--out", "price.json", "--target", "PricePlan/standard")
    shop("apply", "--yes", "--target", "Identity/desk", "--exclude", "PricePlan/standard")
    assert "1 of 1 action" in shop("apply", "price.json").out


def test_a_plan_id_binds_what_is_applied(shop: Producer) -> None:
    shop("apply", "--yes")
    shop.write("price.yaml", PRICE.replace("25sat", "30sat"))
    planned = shop("plan", "-o", "json").json["id"]
    shop.write("price.yaml", PRICE.replace("25sat", "31sat"))
    ran = shop("apply", "--yes", "--plan-id", planned, expect=5)
    assert f"cannot apply {planned}" in ran.err
    shop.write("price.yaml", PRICE.replace("25sat", "30sat"))
    assert planned in shop("apply", "--yes", "--plan-id", planned).out


def test_diff_keeps_the_exit_codes_of_diff(shop: Producer) -> None:
    assert "+++ declared/Dataset/rates" in shop("diff", expect=1).out
    shop("apply", "--yes")
    assert shop("diff").out == ""
    shop.write("price.yaml", PRICE.replace("25sat", "30sat"))
    lines = shop("diff", "--target", "PricePlan", expect=1).out.splitlines()
    assert [line for line in lines if line[0] in "+-"] == [
        "--- recorded/PricePlan/standard",
        "+++ declared/PricePlan/standard",
        "-  rate: 25",
        "+  rate: 30",
    ]


def test_drift_is_seen_told_and_repaired_without_the_edits(shop: Producer) -> None:
    shop("apply", "--yes")
    looked = shop("drift", "--detailed-exitcode", "--verify").out
    assert "0 drifted" in looked and re.search(r"Proven   0/\d+ transactions, \d+ not in a block yet", looked)
    record = shop("get", "Dataset", "rates", "-o", "json").json
    control.evict(shop.devnet, "overlay-1", Outpoint.parse(record["status"]["identity"]["outpoint"]))
    shop.write("price.yaml", PRICE.replace("25sat", "30sat"))
    told = shop("drift", "--detailed-exitcode", expect=2).out
    assert "hosts.overlay-1.Dataset/rates: held → missing" in told and "PricePlan" not in told
    found = shop("drift", "Dataset/rates", "-o", "json").json["drifted"]
    assert [one["ref"] for one in found] == ["Dataset/rates"] and found[0]["satoshis"] == 0
    before = shop.purse()
    assert "re-submitted to overlay-1 (free)" in shop("apply", "--yes", "--refresh-only").out
    assert shop.purse() == before
    assert shop("drift", "--detailed-exitcode").code == 0
    assert [one["ref"] for one in shop("plan", "-o", "json").json["changes"] if one["verb"] == "update"] == [
        "PricePlan/standard",
        "Dataset/rates",
    ]


def test_partial_failure_is_isolated_and_continues_later(shop: Producer) -> None:
    other = HEAD + "kind: PricePlan\nmetadata: {name: other}\nspec: {model: per-item, rate: 9sat}\n"
    shop.write("other.yaml", other)
    shop("plan", "--out", "plan.json")
    control.drop(shop.devnet, "overlay-1")
    try:
        ran = shop("apply", "plan.json", "-o", "json", expect=3)
    finally:
        control.restore(shop.devnet, "overlay-1")
    fates = {one["ref"]: one["fate"] for one in ran.json["resources"]}
    assert fates == {
        "Network/local": "done",
        "PricePlan/standard": "done",
        "PricePlan/other": "done",
        "Identity/desk": "pending",
        "Dataset/rates": "skipped",
    }
    assert ran.json["exit"]["reason"] == "partial"
    opened = shop("journal", "list", "-o", "json").json
    assert [(one["key"], one["state"]) for one in opened] == [("Identity/desk", "open")]
    detail = shop("journal", "show", opened[0]["run"]).out
    assert "Submit" in detail and "recovery: look the outputs up" in detail
    resumed = shop("apply", "plan.json")
    assert "resuming 1 begun earlier: Identity/desk" in resumed.out and "5 of 5 actions" in resumed.out
    assert shop("journal", "list", "-o", "json").json == []
    assert shop("plan", "--detailed-exitcode").code == 0


def test_wait_ready_carries_on_until_the_host_is_back(shop: Producer) -> None:
    shop("plan", "--out", "plan.json")
    control.drop(shop.devnet, "overlay-1")
    process = shop.start("apply", "plan.json", "--wait", "ready", "--timeout", "60s")
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "waits:" in line:
                break
        control.restore(shop.devnet, "overlay-1")
        out, err = process.communicate(timeout=90)
    finally:
        control.restore(shop.devnet, "overlay-1")
        end(process)
    assert process.returncode == 0, err
    assert "Applied" in out and "4 of 4 actions" in out


@pytest.mark.row("P-PUB-19")
def test_wait_mined_returns_when_every_transaction_is_in_a_block(shop: Producer) -> None:
    process = shop.start("apply", "--yes", "--wait", "mined", "--timeout", "60s")
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "transactions in a block" in line:
                break
        control.mine(shop.devnet, 1)
        process.communicate(timeout=90)
    finally:
        end(process)
    assert process.returncode == 0
    states = [state for one in shop.status()["resources"] for state in one["transactions"].values()]
    assert states and set(states) == {"mined"}
    late = shop("apply", "--yes", "--wait", "mined", "-o", "jsonl").out.splitlines()
    assert [(one["type"], one["exit"]["code"]) for one in map(json.loads, late)] == [("result", 0)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_apply_stops_politely_and_the_same_command_continues(shop: Producer, number: int, code: int) -> None:
    for index in range(12):
        name = f"rates-{index}"
        shop.write(f"d{index}.yaml", DATASET.replace("name: rates,", f"name: {name},"))
    shop("plan", "--out", "plan.json")
    before = shop.purse()
    process = shop.start("apply", "plan.json", "--parallelism", "1")
    try:
        assert process.stdout is not None
        head = []
        for line in process.stdout:
            head.append(line)
            if "Dataset/" in line:
                process.send_signal(number)
                break
        out, err = process.communicate(timeout=60)
    finally:
        end(process)
    assert process.returncode == code, out + err
    assert "stopping: no new actions" in out and "Re-run the same command to continue." in out and "0 in doubt" in out
    done = int(out.split("Interrupted. ")[1].split(" done")[0])
    assert 4 <= done < 16
    # What was in flight was finished: nothing is open, nothing held.
    assert shop("journal", "list", "-o", "json").json == []
    assert asyncio.run(leases(shop)) == []
    again = shop("apply", "plan.json")
    assert f"resuming: {done} already done" in again.out and "16 of 16 actions" in again.out
    planned = json.loads((shop.root / "plan.json").read_text())["plan"]
    cost = sum(c["cost"]["fees"] + c["cost"]["locked"] for c in planned["changes"]) + sum(
        f["cost"]["fees"] for f in planned["funding"]
    )
    assert before - shop.purse() == cost


def test_a_killed_apply_is_resumed_at_once_and_pays_once(shop: Producer) -> None:
    shop.write("data/rates.csv", CSV + "x" * 20_000_000)
    shop("plan", "--out", "plan.json")
    before = shop.purse()
    process = shop.start("apply", "plan.json", "--events-to", "events.jsonl")
    try:
        deadline = time.monotonic() + 60
        while '"effect": "Store"' not in _read(shop.root / "events.jsonl") and time.monotonic() < deadline:
            select.select([], [], [], 0.02)
        process.kill()
        process.communicate()
    finally:
        end(process)
    assert [one["key"] for one in shop("journal", "list", "-o", "json").json] != []
    ran = shop("apply", "plan.json", "-o", "json")
    assert ran.json["recovered"] and set(ran.json["recovered"].values()) == {"done"}
    assert before - shop.purse() == ran.json["spent"] == ran.json["planned"]


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_destroy_asks_for_the_number_and_says_what_stays_readable(shop: Producer) -> None:
    shop("apply", "--yes")
    wrong, text = typed(shop, "destroy", "Type the number of resources", "3\n")
    assert wrong == 1 and "nothing was done" in text and len(shop.status()["resources"]) == 4
    right, text = typed(shop, "destroy", "Type the number of resources", "4\n")
    assert right == 0 and "Applied" in text
    assert "Dataset/rates: its bytes stay readable on eu1, us1 until 20" in text
    assert shop.status()["resources"] == []


def test_on_a_terminal_it_asks_in_colour_and_no_means_no(shop: Producer) -> None:
    code, text = typed(shop, "apply", "Apply 4 changes", "n\n")
    assert code == 1 and "nothing was done" in text and shop.status()["resources"] == []
    assert "\x1b[32m  + Dataset/rates" in text
    shop.write("data/rates.csv", CSV + "x" * 3_000_000)
    code, text = typed(shop, "apply", "Apply 4 changes", "y\n")
    assert code == 0 and "upload to" in text and "×2 … done" in text
    code, text = typed(shop, "apply", None, "", env={"NO_COLOR": "1"})
    assert code == 0 and "\x1b[" not in text and "Nothing to do" in text


def typed(shop: Producer, verb: str, question: str | None, answer: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a verb on a pseudo-terminal, answer its question; the exit code and everything the terminal showed."""
    own, theirs = pty.openpty()
    whole = {**os.environ, **shop.env, "TERM": "xterm-256color", "COLUMNS": "120", **(env or {})}
    whole.pop("NO_COLOR", None) if not env else None
    process = subprocess.Popen(
        [sys.executable, "-m", "reconciler", verb],
        cwd=shop.root,
        env=whole,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        process_group=0,
    )
    os.close(theirs)
    shown, deadline = b"", time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            ready, _, _ = select.select([own], [], [], 1.0)
            try:
                piece = os.read(own, 65536) if ready else None
            except OSError:  # the other side is closed: that is how a pseudo-terminal ends
                break
            shown += piece or b""
            if question and answer and question.encode() in shown:
                os.write(own, answer.encode())
                answer = ""
        code = process.wait(timeout=30)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(own)
    return code, shown.decode(errors="replace")
