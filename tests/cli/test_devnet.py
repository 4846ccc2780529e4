"""`devnet`: one network per directory, every fault on demand, and nothing left behind."""

import hashlib
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from reconciler.cli.devnet import OVERLAYS, PORTS, STORAGE
from tests.cli.conftest import ROOT, Shop


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@pytest.mark.row("E-512")
def test_up_serves_every_host_and_a_second_up_changes_nothing(shop: Shop) -> None:
    first = shop("devnet", "up", "-o", "json").json
    assert set(first["urls"]) == {"arc", "headers", "overlay-1", "overlay-2", "eu1", "us1", "ap1"}
    assert all(answers(url) for url in first["urls"].values())
    assert first["regions"]["ap1"] == "AP"
    assert shop("devnet", "up", "-o", "json").json["pid"] == first["pid"]
    status = shop("devnet", "status", "-o", "json").json
    assert (status["pid"], status["down"], status["partitioned"]) == (first["pid"], [], [])
    text = shop("devnet", "status").out
    assert "overlay-1" in text and f"height {status['height']}," in text


def test_mine_and_reorg_move_the_height(shop: Shop) -> None:
    before = shop("devnet", "status", "-o", "json").json["height"]
    assert shop("devnet", "mine", "3", "-o", "json").json == {"height": before + 3}
    assert shop("devnet", "reorg", "2").out == f"height {before + 4}\n"
    shop("devnet", "mine", "0", expect=64)


def test_a_dropped_host_refuses_and_a_restored_one_answers(shop: Shop) -> None:
    urls = shop("devnet", "status", "-o", "json").json["urls"]
    shop("devnet", "drop", "overlay-2")
    assert not answers(urls["overlay-2"] + "/health") and answers(urls["overlay-1"] + "/health")
    assert shop("devnet", "status", "-o", "json").json["down"] == ["overlay-2"]
    shop("devnet", "partition", "us1")
    assert shop("devnet", "status").out.count("silent") == 1
    for host in ("overlay-2", "us1"):
        shop("devnet", "restore", host)
    assert answers(urls["overlay-2"] + "/health")
    ran = shop("devnet", "drop", "nobody", expect=1)
    assert "cannot" in ran.err and "overlay-1" in ran.err


def test_a_fault_on_a_host_that_is_down_is_said_plainly(shop: Shop) -> None:
    shop("devnet", "drop", "eu1")
    try:
        ran = shop("devnet", "wipe", "eu1", expect=3)
        assert "cannot reach http://127.0.0.1:" in ran.err and "devnet restore" in ran.err
    finally:
        shop("devnet", "restore", "eu1")
    shop("devnet", "wipe", "eu1")
    sha256 = hashlib.sha256(b"nowhere").hexdigest()
    shop("devnet", "corrupt", "eu1", sha256, expect=None)
    assert "cannot read 'x' as an outpoint" in shop("devnet", "evict", "overlay-1", "x", expect=1).err


def test_the_manifest_that_is_printed_is_valid(shop: Shop) -> None:
    spec = yaml.safe_load(shop("devnet", "manifest").out)["spec"]
    urls = shop("devnet", "status", "-o", "json").json["urls"]
    assert spec["headers"] == {"url": urls["headers"]}
    assert {one["name"]: one["url"] for one in spec["overlays"]} == {name: urls[name] for name in ("overlay-1", "overlay-2")}
    shop("validate")


def test_without_a_network_every_verb_says_so(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    ran = shop("devnet", "status", expect=3)
    assert "none is running" in ran.err and "devnet up" in ran.err
    assert "no network was running" in shop("devnet", "down").err


def test_up_and_down_leave_neither_process_nor_file(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    made = shop(
        "devnet", "up", "--base-port", "0", "--overlay", "solo:EU", "--storage", "disk:EU", "--block-every", "500ms", "-o", "json"
    ).json
    try:
        assert set(made["urls"]) == {"arc", "headers", "solo", "disk"}
        assert shop("devnet", "status", "-o", "json").json["blockEvery"] == 0.5
    finally:
        shop("devnet", "down")
    assert list((tmp_path / ".devnet").iterdir()) == []
    assert not any(answers(url) for url in made["urls"].values())


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        ran = shop("devnet", "up", "--base-port", "0", "--port", f"arc={port}", expect=3)
    assert f"cannot listen on port {port}" in ran.err
    assert "NAME=PORT" in shop("devnet", "up", "--port", "arc", expect=1).err


@pytest.mark.parametrize(
    "example", ["01-identity", "02-advertisement", "03-dataset", "04-fileset", "06-distribution", "market-data"]
)
def test_the_default_ports_are_those_of_the_examples(example: str) -> None:
    spec = yaml.safe_load((ROOT / "examples" / example / "network.yaml").read_text())["spec"]
    hosts = [*spec["overlays"], *spec["storage"], *spec["broadcasters"], {"name": "headers", **spec["headers"]}]
    assert {one["name"]: one["url"] for one in hosts} == {one["name"]: f"http://127.0.0.1:{PORTS[one['name']]}" for one in hosts}
    assert {one["name"] for one in [*spec["overlays"], *spec["storage"]]} <= {
        label.partition(":")[0] for label in (*OVERLAYS, *STORAGE)
    }
