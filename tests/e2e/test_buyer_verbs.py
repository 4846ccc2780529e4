"""The verbs of `consumer` as scripts meet them: documents on stdout, one exit code for each way to end."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli import consumer, consumer_data
from reconciler.cli.main import run
from reconciler.consumer.client import Client
from reconciler.devnet.network import Trouble
from tests.e2e.fair import PRICE, URL, Fair
from tests.e2e.scene import FULL, play

Verb = Callable[..., tuple[int, Any]]


@pytest.fixture
def verb(fair: Fair, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    """`reconciler consumer ...` in the world of the fair, with the shop open: exit code and document."""

    def with_client(work: Callable[[Client], Awaitable[Any]], identity: str = "", network: str = "") -> Any:
        async def main() -> Any:
            async with fair.shop(), fair.buying() as buyer:
                return await work(buyer)

        return play(main, fair.world.clock)

    for module in (consumer, consumer_data):
        monkeypatch.setattr(module, "with_client", with_client)

    def call(*words: str | Path) -> tuple[int, Any]:
        code = run(["consumer", *map(str, words), "-o", "json"])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else said.err

    return call


@pytest.mark.row("C-01", "C-08", "C-09", "C-13", "C-14", "C-15", "C-23", "C-29", "C-37", "E-306")
def test_a_script_can_buy(fair: Fair, verb: Verb, tmp_path: Path) -> None:
    code, found = verb("search", "rates", "--tags", "fx,daily", "--max-price", f"{PRICE}sat")
    (offer,) = found["offers"]
    assert (code, offer["contentId"], offer["satoshis"], offer["gateway"]) == (0, "rates", PRICE, URL)
    assert sum(term["points"] for term in offer["score"]["terms"]) == offer["score"]["points"]
    assert verb("search", "--max-price", str(PRICE - 1))[1]["offers"] == []
    code, found = verb("discover", "--service-type", "data-feed", "--region", "EU")
    assert (code, [one["name"] for one in found["services"]]) == (0, ["feed"])
    assert verb("access", "rates", "--to", tmp_path)[0] == 1
    code, quote = verb("quote", "rates", "--provider", offer["producer"], "--cost", str(PRICE))
    assert (code, quote["satoshis"], quote["producer"]) == (0, PRICE, offer["producer"])
    code, bought = verb("pay", "--quote-id", quote["quoteId"])
    assert (code, bought["state"], bought["satoshis"]) == (0, "had", PRICE)
    assert verb("pay", quote["quoteId"]) == (code, bought)
    code, had = verb("access", "--content-id", "rates", "--to", tmp_path / "rates.csv")
    assert (code, (tmp_path / "rates.csv").read_text()) == (0, FULL["data/rates.csv"])
    assert had["files"][0]["source"].startswith(URL)
    code, told = verb("report", "--time-range", "1h", "--include-payments")
    assert (code, told["total"]["satoshis"], told["total"]["receipts"], len(told["payments"])) == (0, PRICE, 1, 1)
    assert told["payments"][0]["receipt"] == bought["receiptId"] == verb("receipts")[1][0]["receipt"]
    assert verb("verify", "rates", "--content", tmp_path / "rates.csv")[1]["ok"] is True
    (tmp_path / "rates.csv").write_text("something else")
    code, checked = verb("verify", "rates", "--content", tmp_path / "rates.csv")
    assert (code, [one["name"] for one in checked["checks"] if one["ok"] is False]) == (1, ["content"])
    assert verb("access", "rates", "--to", tmp_path / "rates.csv")[0] == 5
    code, status = verb("status", bought["purchase"])
    assert (code, status["payment"], status["transaction"], status["confirmations"]) == (0, "taken", "seen", 0)
    assert verb("status", status["txid"])[1]["txid"] == status["txid"]
    code, told = verb("lineage", "rates")
    assert (code, told["complete"], [one["version"] for one in told["versions"]]) == (0, True, [1])


@pytest.mark.row("C-07", "C-34", "C-35", "C-36", "C-37", "C-40", "P-CFG-14")
def test_each_way_to_end_has_its_code(fair: Fair, verb: Verb, tmp_path: Path) -> None:
    assert verb("quote", "rates", "--cost", str(PRICE - 1))[0] == 4
    assert verb("quote", "rents")[0] == 1
    assert verb("quote", "rates", "--cost", "five")[0] == 64
    assert verb("search", "--max-price", "5/parsec")[0] == 64
    assert verb("pay")[0] == 64
    assert verb("pay", "no-such-quote")[0] == 1
    assert verb("report", "--time-range", "soon")[0] == 64
    assert verb("access", "https://elsewhere.example.com/x", "--cost", "5", "--to", tmp_path / "x")[0] == 3
    assert verb("refund", "rates")[0] == 1
    quote = verb("quote", "rates")[1]["quoteId"]
    fair.lose("/purchases", 1, Trouble.LOSE)
    code, told = verb("pay", quote)
    assert (code, "cannot tell whether" in told) == (7, True)
    assert verb("status", "rates")[1]["payment"] == "open"
    assert verb("pay", quote)[0] == 0
    fair.budget("{readiness: {licenses: [MIT]}}")
    code, told = verb("ready", "rates")
    assert (code, told["verdict"]) == (4, "block")
    assert [one["rule"] for one in told["reasons"] if one["verdict"] == "block"] == ["license"]


@pytest.mark.row("C-28", "C-37")
def test_a_receipt_is_checked_by_a_file_alone(verb: Verb, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("access", "rates", "--cost", str(PRICE), "--to", tmp_path / "rates.csv")[0] == 0
    place = tmp_path / "receipt.json"
    assert verb("receipts", "rates", "--out", place)[0] == 0
    assert run(["verify", "receipt", str(place), "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["receipt"]["satoshis"], told["receipt"]["contentId"]) == (True, PRICE, "rates")
    place.write_bytes(place.read_bytes().replace(b'"satoshis":25', b'"satoshis":24'))
    assert run(["verify", "receipt", str(place)]) == 1
    assert "failed  signature" in capsys.readouterr().out
    assert run(["verify", "receipt", str(tmp_path / "none.json")]) == 1


@pytest.mark.row("C-01", "C-15", "C-16", "C-38")
def test_a_buyer_begins_with_a_key_a_budget_and_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "reader"
    words = ["consumer", "init", str(place), "--name", "Data Reader", "--per-day", "900sat", "--chain", "main"]
    assert run([*words, "--overlay-url", "https://overlay.example.com", "-o", "json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert files == [".gitignore", "identity.yaml", "network.yaml", "reconciler.yaml"]
    assert run(["-C", str(place), "validate", "--strict"]) == 0
    text = (place / "identity.yaml").read_text()
    assert "roles: [consumer]" in text and "perDay: 900sat" in text and "https://overlay.example.com" not in text
    assert run(words) == 1 and "exist" in capsys.readouterr().err
    assert run(["consumer", "init", "--help"]) == 0 and "--overlay-url" in capsys.readouterr().out
