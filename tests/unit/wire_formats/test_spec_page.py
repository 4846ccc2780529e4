"""The published rules of `tm_producer`: every example on the page does what the page says."""

import json
import re
from pathlib import Path

import pytest

from reconciler.model.errors import RemoteProtocolError
from reconciler.wire import descriptor, document, overlay
from reconciler.wire.keys import public_key, sha256

PAGE = (Path(__file__).parents[3] / "specs" / "tm_producer.md").read_text()


def examples(kind: str) -> list[str]:
    """The contents of the fenced blocks marked with this word."""
    return [text.strip() for text in re.findall(rf"^```\w+ {kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]


def test_the_admitted_example_is_admitted_and_says_what_the_page_says() -> None:
    (script,), (digest,) = examples("admitted"), examples("digest")
    found = descriptor.parse_descriptor(bytes.fromhex(script))
    assert found.identity == public_key(sha256(b"tm_producer example"))
    assert (found.subject, found.version, found.digest) == ("Dataset/btc-2024", 1, digest)
    assert found.identity.hex() in PAGE


def test_the_document_of_the_example_opens_and_has_the_digest_of_the_token() -> None:
    (envelope,), (digest,) = examples("sealed"), examples("digest")
    said, signer = document.open_envelope(envelope.encode())
    assert document.digest_of(envelope.encode()) == digest
    assert said["title"] == "Bitcoin 2024"
    assert signer == public_key(sha256(b"tm_producer example")).hex()


@pytest.mark.parametrize(("index", "fault"), [(0, "do not belong"), (1, "do not belong"), (2, "version")])
def test_the_refused_examples_are_refused_by_the_rule_named(index: int, fault: str) -> None:
    refused = examples("refused")
    assert len(refused) == 3
    with pytest.raises(RemoteProtocolError, match=fault):
        descriptor.parse_descriptor(bytes.fromhex(refused[index]))


def test_the_retention_example_follows_the_rule() -> None:
    (steak,) = examples("steak")
    identity = public_key(sha256(b"tm_producer example"))
    btc, eth = (descriptor.Descriptor(identity, f"Dataset/{n}-2024", "ab" * 32, "https://h.example/d", 1) for n in ("btc", "eth"))
    did = overlay.Admittance((0,), descriptor.retained({1: btc, 2: eth}, [btc]))
    assert overlay.steak_json({descriptor.TOPIC: did}) == json.loads(steak)


def test_the_page_states_the_constants_of_the_code() -> None:
    service, query = overlay.parse_lookup_request(re.search(r'^(\{"service".*\})$', PAGE, re.MULTILINE)[1].encode())
    assert service == descriptor.SERVICE and descriptor.parse_query(query).kind == "Dataset"
    for fact in (
        descriptor.PROTOCOL,
        descriptor.TAG.decode(),
        f"default {descriptor.DEFAULT_LIMIT}",
        f"1 to {descriptor.MAX_LIMIT}",
    ):
        assert fact in PAGE
    assert f"at most {descriptor.MAX_URL} bytes" in PAGE and document.MAX_ENVELOPE == 16 * 1024 * 1024
