"""Proof bundles: complete ones verify offline, and every broken link is reported by its own name."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.canonical import canonical, digest
from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire import bundle, descriptor
from reconciler.wire.beef import parse_beef, write_beef
from reconciler.wire.keys import sign_digest
from reconciler.wire.script import unlock_p2pkh
from reconciler.wire.tx import DEFAULT_FLAGS, Tx, TxIn, TxOut, sighash
from tests.unit.wire_formats.maker import (
    FILES,
    IDENTITY,
    OTHER,
    SECRET,
    coin,
    describe,
    header,
    manifest,
    mine,
    prove,
    seal,
    spending,
    token_script,
)

PROOF = prove()
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


def resealed(**changes: Any) -> bytes:
    """The bundle with members replaced and the checksum made to fit: what an author of forgeries would hand out."""
    body = json.loads(PROOF.data) | changes
    del body["checksum"]
    return canonical({**body, "checksum": digest(body)})


def broken(data: bytes, sha256: str | None = PROOF.content_sha256) -> list[str]:
    return [check.name for check in bundle.verify_bundle(data, sha256, PROOF.trusted) if check.ok is False]


@pytest.mark.row("P-PUB-20", "P-PAY-23")
@pytest.mark.parametrize("path", sorted(FILES))
def test_a_published_file_is_proven_from_its_bytes_to_a_block(path: str) -> None:
    proof = prove(path)
    checks = bundle.verify_bundle(proof.data, proof.content_sha256, proof.trusted)
    assert [(check.name, check.ok) for check in checks] == [(name, True) for name in LINKS]
    assert bundle.holds(checks)


def test_without_bytes_and_without_a_chain_those_links_are_left_open() -> None:
    checks = {check.name: check.ok for check in bundle.verify_bundle(PROOF.data)}
    assert [name for name, ok in checks.items() if ok is None] == ["content", "chain"]
    assert [name for name, ok in checks.items() if ok is False] == []


def test_a_document_without_files_needs_no_inclusion() -> None:
    envelope = seal({"title": "terms"})
    said = describe(envelope, "Advertisement/feed")
    mined = mine(spending(TxOut(1, token_script(descriptor.fields(said), descriptor.lock_of(said.subject)))))
    data = bundle.build(said.subject, envelope, Outpoint(mined.tx.txid, 0), mined.beef, [mined.header])
    assert [check.name for check in bundle.verify_bundle(data)] == [
        name for name in LINKS if name not in ("content", "inclusion")
    ]
    assert broken_names(bundle.verify_bundle(data, "00" * 32)) == ["content"]


def broken_names(checks: list[bundle.Check]) -> list[str]:
    return [check.name for check in checks if check.ok is False]


def test_other_bytes_are_not_the_file() -> None:
    assert broken(PROOF.data, "00" * 32) == ["content"]


def test_a_file_that_was_not_published_breaks_the_inclusion() -> None:
    entry = json.loads(PROOF.data)["file"]
    other = hashlib.sha256(b"forged").hexdigest()
    assert broken(resealed(file=entry | {"sha256": other}), other) == ["inclusion"]
    assert broken(resealed(file=entry | {"mediaType": "text/plain"})) == ["inclusion"]
    assert broken(resealed(file=None), None) == ["inclusion"]


@pytest.mark.parametrize("change", [{"index": 1}, {"index": 5}, {"size": 6}, {"size": 4}, {"path": []}])
def test_a_wrong_place_in_the_tree_breaks_the_inclusion(change: dict[str, Any]) -> None:
    inclusion = json.loads(PROOF.data)["inclusion"]
    assert broken(resealed(inclusion=inclusion | change)) == ["inclusion"]


def test_a_document_with_another_text_breaks_the_signature() -> None:
    envelope = json.loads(PROOF.data)["document"]
    envelope["document"]["title"] = "Other"
    assert broken(resealed(document=envelope)) == ["signature", "digest"]


def test_another_document_of_the_same_author_breaks_the_digest() -> None:
    other = json.loads(seal(manifest() | {"title": "Other"}))
    assert broken(resealed(document=other)) == ["digest"]


def test_another_authors_copy_of_the_document_breaks_digest_and_owner() -> None:
    assert broken(resealed(document=json.loads(seal(manifest(), OTHER)))) == ["digest", "owner"]


def test_a_token_of_another_subject_breaks_the_descriptor() -> None:
    assert broken(resealed(subject="Dataset/eth-2024")) == ["descriptor"]


def test_an_output_that_is_no_descriptor_breaks_it() -> None:
    assert broken(resealed(outpoint=f"{PROOF.mined.tx.txid}.1")) == ["descriptor"]
    mined = mine(coin())
    changes = {
        "outpoint": f"{mined.tx.txid}.0",
        "beef": mined.beef.hex(),
        "headers": [{"height": mined.header.height, "raw": mined.header.raw.hex()}],
    }
    checks = bundle.verify_bundle(resealed(**changes), PROOF.content_sha256)
    assert broken_names(checks) == ["descriptor"]


def test_a_transaction_of_another_id_breaks_the_transaction() -> None:
    assert broken(resealed(outpoint="00" * 32 + ".0")) == ["transaction"]
    assert broken(resealed(beef="0100beef")) == ["transaction"]


def test_a_header_of_another_block_breaks_the_transaction() -> None:
    foreign = header("77" * 32)
    data = resealed(headers=[{"height": foreign.height, "raw": foreign.raw.hex()}])
    assert broken(data) == ["transaction", "chain"]
    high = [{"height": PROOF.mined.header.height + 1, "raw": PROOF.mined.header.raw.hex()}]
    assert broken(resealed(headers=high)) == ["transaction", "chain"]
    assert broken(resealed(headers=[])) == ["transaction", "work", "chain"]


def test_a_header_without_its_work_breaks_the_work() -> None:
    raw = PROOF.mined.header.raw
    hard = raw[:72] + (0x1D00FFFF).to_bytes(4, "little") + raw[76:]
    assert broken(resealed(headers=[{"height": PROOF.mined.header.height, "raw": hard.hex()}])) == ["work", "chain"]


def test_neighbouring_headers_must_build_on_each_other() -> None:
    first = PROOF.mined.header
    good = header("55" * 32, first.height + 1, first.hash)
    bad = header("55" * 32, first.height + 1, "22" * 32)
    pairs = [[{"height": h.height, "raw": h.raw.hex()} for h in (first, second)] for second in (good, bad)]
    checks = [bundle.verify_bundle(resealed(headers=pair), PROOF.content_sha256) for pair in pairs]
    assert [broken_names(found) for found in checks] == [[], ["work"]]
    twice = pairs[0][:1] * 2
    assert broken(resealed(headers=twice)) == ["work"]


def test_a_chain_that_does_not_have_the_header_breaks_the_chain() -> None:
    checks = bundle.verify_bundle(PROOF.data, PROOF.content_sha256, lambda height, block: False)
    assert broken_names(checks) == ["chain"]


def test_a_publication_that_is_not_mined_yet_is_reported_as_such() -> None:
    funding = mine(coin())
    envelope = seal(manifest())
    said = describe(envelope)
    script = token_script(descriptor.fields(said), descriptor.lock_of(said.subject))
    draft = Tx((TxIn(funding.tx.txid, 0),), (TxOut(1, script),))
    signature = sign_digest(SECRET, sighash(draft, 0, funding.tx.outputs[0].script, 1000)) + bytes([DEFAULT_FLAGS])
    child = replace(draft, inputs=(TxIn(funding.tx.txid, 0, unlock_p2pkh(signature, IDENTITY)),))
    parts = {funding.tx.txid: (funding.tx.raw, funding.proof), child.txid: (child.raw, b"")}
    beef = write_beef(child.txid, parts.get)
    with pytest.raises(LocalProtocolError, match=r"mined: .* not proven to be in a block"):
        bundle.build(said.subject, envelope, Outpoint(child.txid, 0), beef, [funding.header])


def test_a_bundle_of_parts_that_do_not_fit_is_not_written() -> None:
    said = describe(PROOF.envelope)
    outpoint = Outpoint(PROOF.mined.tx.txid, 0)
    with pytest.raises(LocalProtocolError, match="not among the files"):
        bundle.build(said.subject, PROOF.envelope, outpoint, PROOF.mined.beef, [PROOF.mined.header], "2025/01.csv")
    with pytest.raises(LocalProtocolError, match="transaction"):
        bundle.build(said.subject, PROOF.envelope, outpoint, PROOF.mined.beef, [])


def test_an_accidental_change_without_a_claim_breaks_the_checksum_alone() -> None:
    body = json.loads(PROOF.data)
    body["checksum"] = "00" * 32
    assert broken(canonical(body)) == ["checksum"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"format": "reconciler-proof/2"}, "format must be"),
        ({"subject": 1}, "subject must be a string"),
        ({"document": None}, "not an object"),
        ({"document": {"a": 0.5}}, "canonical"),
        ({"file": {"path": "a", "size": 1}}, "sha256"),
        ({"inclusion": {"index": 0, "size": 1, "path": ["00"]}}, "32-byte hashes"),
        ({"inclusion": {"index": 0, "size": 1}}, "path is missing"),
        ({"outpoint": "x"}, "outpoint"),
        ({"beef": "xyz"}, "lower-case hex"),
        ({"headers": [{"height": 1, "raw": "00"}]}, "hex of 80 bytes"),
        ({"headers": [[]]}, "not an object"),
        ({"more": 1}, "more is not part"),
    ],
)
def test_what_is_no_bundle_is_refused(change: dict[str, Any], fault: str) -> None:
    body = json.loads(PROOF.data) | change
    with pytest.raises(RemoteProtocolError, match=fault):
        bundle.verify_bundle(json.dumps(body).encode())


def test_the_bundle_is_canonical_json_and_small() -> None:
    assert canonical(json.loads(PROOF.data)) == PROOF.data
    assert len(PROOF.data) < 6000
    assert parse_beef(bundle.parse_bundle(PROOF.data).beef).subject == PROOF.mined.tx.txid
