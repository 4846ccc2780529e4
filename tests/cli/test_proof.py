"""`proof` and `verify`, and `identity verify`, over a publication on a devnet: evidence that a stranger can check offline."""

import asyncio
import json
from pathlib import Path

import pytest

from reconciler.compose import workspace
from reconciler.devnet import control
from reconciler.engine.execute import Executor, Fate
from reconciler.model.ref import Outpoint
from reconciler.settings import load
from tests.cli.conftest import PASSPHRASE, ROOT, Ran, Shop, run

LINKS = [
    "checksum",
    "content",
    "inclusion",
    "signature",
    "digest",
    "descriptor",
    "owner",
    "transaction",
    "mined",
    "work",
    "chain",
]
FILE = "data/btc-daily.csv"


async def publish(root: Path) -> None:
    """Plan and apply everything, as the apply verb does."""
    async with workspace(load(root)) as space:
        survey = await space.surveyor.survey()
        plan = space.surveyor.plan(survey, space.settings.limits)
        report = await Executor(space.runner, plan).run()
        assert {result.fate for result in report.results.values()} == {Fate.DONE}


@pytest.fixture(scope="module")
def published(shop: Shop) -> Shop:
    """The shop after its first apply, with nothing mined yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONCILER_PASSPHRASE", PASSPHRASE)
        (shop.root / "data" / "eth.csv").write_text("a,b\n1,2\n")
        shop("set", "dataset/btc-daily", "content={fileSet: {directory: data}}")
        ran = shop("proof", "dataset/btc-daily", "--out", "early.json", expect=1)
        assert "cannot prove Dataset/btc-daily: it has not been published" in ran.err
        asyncio.run(publish(shop.root))
    return shop


@pytest.mark.row("P-PUB-25")
def test_content_is_brought_back_from_storage_hosts(published: Shop, tmp_path: Path) -> None:
    ran = published("fetch", "dataset/btc-daily", "--to", str(tmp_path), "--file", FILE)
    assert ran.out.startswith(f"{tmp_path / FILE}  ") and " from " in ran.out
    assert (tmp_path / FILE).read_bytes() == (published.root / FILE).read_bytes()
    (again, other) = json.loads(published("fetch", "dataset/btc-daily", "--to", str(tmp_path), "-o", "json").out)
    assert (again["path"], again["host"]) == (FILE, None)
    assert other["host"] is not None
    ran = published("fetch", "identity/nobody", "--to", str(tmp_path), expect=1)
    assert "cannot fetch Identity/nobody: it has not been published" in ran.err


@pytest.fixture(scope="module")
def mined(published: Shop) -> Shop:
    """The same, in a block."""
    ran = published("proof", "dataset/btc-daily", "--out", "early.json", expect=1)
    assert "cannot prove Dataset/btc-daily yet" in ran.err and "not in a block yet" in ran.err
    assert not (published.root / "early.json").exists()
    published("devnet", "mine", "2")
    return published


@pytest.fixture(scope="module")
def proof(mined: Shop) -> Path:
    """A proof of one file."""
    told = mined("proof", "Dataset/btc-daily", "--file", FILE, "--out", "proof.json", "-o", "json").json
    assert told["size"] == (mined.root / "proof.json").stat().st_size and told["height"] > 0
    return mined.root / "proof.json"


def headers(shop: Shop, count: int, path: Path) -> Path:
    """The devnet's own headers as a file, 80 bytes each from height 0."""

    async def read() -> bytes:
        from reconciler.model.effect import Endpoint

        async with workspace(load(shop.root)) as space:
            source = Endpoint("headers", shop("devnet", "status", "-o", "json").json["urls"]["headers"])
            found = [await space.ports.chain.header(height, source) for height in range(count)]
            return b"".join(header.raw for header in found if header)

    path.write_bytes(asyncio.run(read()))
    return path


def offline(*words: str | Path, cwd: Path, expect: int | None = 0) -> Ran:
    """Run in an empty directory without passphrase or reachable proxy: neither ledger nor settings nor keys."""
    return run(*words, cwd=cwd, env={"RECONCILER_PASSPHRASE": "", "HOME": str(cwd)}, expect=expect)


@pytest.mark.row("P-PUB-20")
def test_every_link_from_bytes_to_block_holds_without_repository_or_network(mined: Shop, proof: Path, tmp_path: Path) -> None:
    content = tmp_path / "copy.csv"
    content.write_bytes((mined.root / FILE).read_bytes())
    mined("devnet", "drop", "headers")
    try:
        told = offline("verify", "dataset", proof, "--content", content, "-o", "json", cwd=tmp_path).json
    finally:
        mined("devnet", "restore", "headers")
    assert [check["name"] for check in told["checks"]] == LINKS
    assert {check["name"]: check["ok"] for check in told["checks"]} == dict.fromkeys(LINKS, True) | {"chain": None}
    assert told["holds"] and told["subject"] == "Dataset/btc-daily"
    assert [path.name for path in tmp_path.iterdir()] == ["copy.csv"]
    text = offline("verify", "dataset", proof, "--content", content, cwd=tmp_path)
    assert text.out.count("ok ") == len(LINKS) - 1 and "left open: chain" in text.err


def test_headers_one_trusts_close_the_last_link(mined: Shop, proof: Path, tmp_path: Path) -> None:
    height = mined("devnet", "status", "-o", "json").json["height"]
    mine = headers(mined, height + 1, tmp_path / "headers.bin")
    told = offline("verify", "dataset", proof, "--headers", mine, "-o", "json", cwd=tmp_path).json
    assert told["checks"][-1]["name"] == "chain" and told["checks"][-1]["ok"] is True
    mine.write_bytes(bytes(80) + mine.read_bytes())
    ran = offline("verify", "dataset", proof, "--headers", mine, cwd=tmp_path, expect=1)
    assert "chain failed" in ran.err


def test_a_flipped_byte_in_the_content_names_the_content(mined: Shop, proof: Path, tmp_path: Path) -> None:
    data = bytearray((mined.root / FILE).read_bytes())
    data[10] ^= 1
    (tmp_path / "x.csv").write_bytes(data)
    ran = offline("verify", "dataset", proof, "--content", tmp_path / "x.csv", cwd=tmp_path, expect=1)
    assert "content failed" in ran.err
    assert [line.split()[1] for line in ran.out.splitlines() if line.startswith("failed")] == ["content"]


def test_a_flipped_byte_anywhere_in_the_bundle_names_a_link(proof: Path, tmp_path: Path) -> None:
    from reconciler.cli.proof import _checks
    from reconciler.wire.bundle import holds

    data = proof.read_bytes()
    for place in range(0, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 1
        checks, _ = _checks("Dataset", bytes(changed), None, None)
        assert not holds(checks), f"byte {place} may be anything"
    body = json.loads(data)
    for field, link in (("beef", "transaction"), ("outpoint", "transaction")):
        text = body[field]
        place = data.index(text.encode()) + 20
        changed = bytearray(data)
        changed[place] = ord("1" if chr(changed[place]) != "1" else "2")
        (tmp_path / "bad.json").write_bytes(changed)
        ran = offline("verify", "dataset", tmp_path / "bad.json", cwd=tmp_path, expect=1)
        assert f"{link}" in ran.err.rpartition(": ")[2], ran.err
    (tmp_path / "bad.json").write_bytes(data[:-1])
    assert "form failed" in offline("verify", "dataset", tmp_path / "bad.json", cwd=tmp_path, expect=1).err


def test_a_proof_is_checked_as_what_it_is_said_to_be(proof: Path, tmp_path: Path) -> None:
    ran = offline("verify", "identity", proof, cwd=tmp_path, expect=1)
    assert "it is about Dataset/btc-daily, which is no Identity" in ran.out and "subject failed" in ran.err
    assert "cannot read" in offline("verify", "dataset", "nowhere.json", cwd=tmp_path, expect=1).err


@pytest.mark.parametrize("kind", ["identity/corner-desk", "advertisement/btc-daily", "dataset/btc-daily"])
def test_every_published_document_has_a_proof(mined: Shop, kind: str, tmp_path: Path) -> None:
    said = mined("proof", kind, "--out", tmp_path / "p.json")
    assert "reconciler verify " + kind.partition("/")[0] in said.err
    told = offline("verify", kind.partition("/")[0], tmp_path / "p.json", "-o", "json", cwd=tmp_path).json
    assert told["holds"] and told["subject"].lower() == kind
    assert mined("proof", kind, "--out", "-").out.encode() == (tmp_path / "p.json").read_bytes()


def test_what_published_nothing_or_has_no_such_file_is_refused(mined: Shop) -> None:
    assert "published no signed document" in mined("proof", "priceplan/standard", "--out", "p.json", expect=1).err
    ran = mined("proof", "dataset/btc-daily", "--file", "data/none.csv", "--out", "p.json", expect=1)
    assert "it is not a file of Dataset/btc-daily" in ran.err and FILE in ran.err


def test_a_reorganised_block_is_noticed_before_a_proof_is_written(mined: Shop) -> None:
    before = mined("proof", "dataset/btc-daily", "--out", "r.json", "-o", "json").json["height"]
    height = mined("devnet", "status", "-o", "json").json["height"]
    mined("devnet", "reorg", str(height - before + 1))
    after = mined("proof", "dataset/btc-daily", "--out", "r.json", "-o", "json", expect=None)
    if after.code:
        assert "not in a block yet" in after.err
        mined("devnet", "mine", "1")
        after = mined("proof", "dataset/btc-daily", "--out", "r.json", "-o", "json")
    run("verify", "dataset", mined.root / "r.json", cwd=ROOT)
    assert after.json["height"] != before


@pytest.mark.row("P-ID-04")
def test_identity_verify_compares_key_records_and_hosts(mined: Shop) -> None:
    told = mined("identity", "verify", "-o", "json").json
    assert told["holds"] and {one["ok"] for one in told["findings"]} == {True}
    shown = mined("identity", "show", "-o", "json").json
    assert shown["registered"] in {token["outpoint"] for token in shown["tokens"]} and len(shown["tokens"]) == 5
    control.evict(mined.root / ".devnet", "overlay-1", Outpoint.parse(shown["registered"]))
    broken = mined("identity", "verify", "-o", "json", expect=1).json
    wrong = [one for one in broken["findings"] if one["ok"] is False]
    assert [one["what"] for one in wrong] == ["Identity/corner-desk on overlay-1"] and shown["registered"] in wrong[0]["detail"]
    mined("devnet", "drop", "overlay-2")
    try:
        silent = mined("identity", "verify", "-o", "json", expect=1).json["findings"]
        assert {one["what"] for one in silent if one["ok"] is None} >= {"Identity/corner-desk on overlay-2"}
    finally:
        mined("devnet", "restore", "overlay-2")


def test_a_replaced_key_is_not_the_one_on_record(mined: Shop, tmp_path: Path) -> None:
    mined("identity", "backup", "corner-desk", tmp_path / "old.json")
    ran = mined("identity", "setup", "--force", "--yes")
    try:
        assert "5 tokens on the chain are locked to it" in ran.err
        findings = mined("identity", "verify", "-o", "json", expect=1).json["findings"]
        assert findings[0]["what"] == "key" and findings[0]["ok"] is False and "on record" in findings[0]["detail"]
    finally:
        mined("identity", "restore", "corner-desk", tmp_path / "old.json", "--force", "--yes")
