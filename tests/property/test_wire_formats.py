"""Laws of the formats: what is written reads back, and whatever a stranger sends raises RemoteProtocolError or nothing."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.model.canonical import canonical, digest
from reconciler.model.errors import RemoteProtocolError
from reconciler.wire import advert, arc, bundle, descriptor, document, headers, merkle, message, names, overlay, storage, uhrp
from reconciler.wire.beef import parse_beef
from reconciler.wire.proof import parse_header, roots_needed
from reconciler.wire.script import pushdrop
from tests.unit.wire_formats.maker import IDENTITY, SECRET, coin, describe, manifest, mine, prove, seal, token_script

laws = settings(max_examples=60, deadline=None)
many = settings(max_examples=200, deadline=None)

HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
WORDS = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)
NAMES = st.lists(WORDS, min_size=1, max_size=4).map("_".join)
HOSTS = st.lists(WORDS, min_size=1, max_size=3).map(lambda labels: "https://" + ".".join([*labels, "example"]))
KINDS = st.from_regex(r"[A-Z][A-Za-z0-9]{0,20}", fullmatch=True)
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10) | HASHES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
STATES = st.builds(
    arc.TxState,
    txid=HASHES,
    status=st.sampled_from(sorted(arc.STATUSES)),
    height=st.integers(0, 2**32 - 1),
    block=st.just("") | HASHES,
    proof=st.binary(max_size=50),
    extra=st.text(max_size=20),
    competing=st.lists(HASHES, max_size=3).map(tuple),
    timestamp=st.text(max_size=20),
)
NUMBERS = st.integers(1, 2**53 - 1)

PROOF = prove()
MINED = mine(coin())
ANSWER = overlay.Answer(MINED.tx.txid, 0, MINED.beef, b"context")
AD = advert.Advert("SHIP", IDENTITY, "https://producer.example.com", "tm_demo_stream")
PROMISE = uhrp.UhrpToken(IDENTITY, "ab" * 32, "https://storage.example.com/cdn/abc", 1_893_456_000, 1234)
SAID = describe(seal(manifest()))
SIGNED = message.sign_message(SECRET, b"message", bytes(range(32)))


# --- round trips ----------------------------------------------------------------------------------


@laws
@given(st.sampled_from(["SHIP", "SLAP"]), HOSTS, NAMES)
def test_advertisements_read_back(kind: str, domain: str, name: str) -> None:
    said = advert.Advert(kind, IDENTITY, domain, ("tm_" if kind == "SHIP" else "ls_") + name[:40].rstrip("_"))
    assert advert.parse_advert(token_script(advert.fields(said), advert.lock_of(kind))) == said


@laws
@given(HASHES, HOSTS, NUMBERS, NUMBERS.filter(lambda n: n != 16))
def test_storage_promises_read_back(sha256: str, host: str, expires: int, size: int) -> None:
    if expires == 16:
        expires += 1
    promise = uhrp.UhrpToken(IDENTITY, sha256, host + "/cdn/x", expires, size)
    assert uhrp.parse_uhrp_token(token_script(uhrp.fields(promise), uhrp.lock())) == promise
    assert uhrp.parse_uhrp(uhrp.uhrp_url(sha256)) == sha256


@laws
@given(KINDS, LABELS, HASHES, NUMBERS)
def test_descriptors_read_back(kind: str, label: str, sha256: str, version: int) -> None:
    said = descriptor.Descriptor(IDENTITY, f"{kind}/{label}", sha256, f"uhrp://{uhrp.uhrp_url(sha256)}", version)
    assert descriptor.parse_descriptor(token_script(descriptor.fields(said), descriptor.lock_of(said.subject))) == said


@laws
@given(st.binary(max_size=200), st.binary(min_size=32, max_size=32))
def test_messages_verify_and_only_for_their_text(text: bytes, key_id: bytes) -> None:
    signed = message.sign_message(SECRET, text, key_id)
    assert message.verify_message(signed, text) == IDENTITY
    with pytest.raises(RemoteProtocolError):
        message.verify_message(signed, text + b"\x00")


@laws
@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_sealed_documents_open_to_themselves(content: dict[str, Any]) -> None:
    try:
        canonical(content)
    except UnicodeEncodeError:  # a lone surrogate has no canonical form
        return
    assert document.open_envelope(seal(content)) == (content, IDENTITY.hex())


@laws
@given(STATES, st.lists(STATES, max_size=3))
def test_broadcast_states_read_back(state: arc.TxState, batch: list[arc.TxState]) -> None:
    assert arc.parse_answer(200, json.dumps(arc.state_answer(state)).encode()) == state
    assert arc.parse_callback(json.dumps({"callbacks": [arc.callback_json(one) for one in batch]}).encode()) == tuple(batch)


@laws
@given(
    st.binary(max_size=300),
    st.lists(NAMES.map(lambda n: "tm_" + n[:40].rstrip("_")), max_size=4),
    st.none() | st.binary(max_size=300),
)
def test_submissions_read_back(beef: bytes, topics: list[str], off_chain: bytes | None) -> None:
    sent = overlay.submission(beef, topics, off_chain)
    assert overlay.parse_submit(sent.headers, sent.body) == sent


@laws
@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=40)), max_size=6))
def test_both_forms_of_a_lookup_answer_agree(wanted: list[tuple[int, bytes]]) -> None:
    made = [mine(coin(salt=bytes([i])), height=800 + i) for i in range(4)]
    answers = [overlay.Answer(made[i].tx.txid, 0, made[i].beef, context) for i, context in wanted]
    plain = overlay.parse_lookup("application/json", json.dumps(overlay.output_list(answers)).encode())
    shared = overlay.parse_lookup(overlay.OCTETS, overlay.aggregated(answers))
    assert plain == shared == tuple(answers)


@laws
@given(st.binary(min_size=80, max_size=80), st.integers(0, 2**32 - 1))
def test_headers_read_back_whatever_the_service(raw: bytes, height: int) -> None:
    header = parse_header(raw, height)
    assert headers.parse_tip(json.dumps(headers.tip_json(header)).encode()) == header
    assert headers.parse_binary(raw, height) == (header,)


@many
@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70), st.data())
def test_every_leaf_is_included_and_no_other_leaf_is(entries: list[bytes], data: st.DataObject) -> None:
    leaves = [merkle.leaf_hash(entry) for entry in entries]
    tree = merkle.Tree.of(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = tree.path(index)
    assert tree.root == merkle.root(leaves) == naive_root(leaves)
    assert merkle.verify_inclusion(leaves[index], index, len(leaves), path, tree.root)
    stranger = merkle.leaf_hash(data.draw(st.binary(min_size=9, max_size=12)))
    assert not merkle.verify_inclusion(stranger, index, len(leaves), path, tree.root)


def naive_root(leaves: list[bytes]) -> bytes:
    """The definition of RFC 6962 section 2.1, recursion and all."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


# --- strangers ------------------------------------------------------------------------------------


def submitted(body: bytes) -> object:
    return overlay.parse_submit({"content-type": overlay.OCTETS, "x-topics": "[]", "x-includes-off-chain-values": "true"}, body)


# name -> (decoder of bytes, a sample it accepts)
DECODERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "advert": (advert.parse_advert, token_script(advert.fields(AD), advert.lock_of("SHIP"))),
    "uhrp token": (uhrp.parse_uhrp_token, token_script(uhrp.fields(PROMISE), uhrp.lock())),
    "descriptor": (descriptor.parse_descriptor, token_script(descriptor.fields(SAID), descriptor.lock_of(SAID.subject))),
    "message": (lambda raw: message.verify_message(raw, b"message"), SIGNED),
    "document": (document.open_envelope, seal({"title": "x", "rate": 5})),
    "bundle": (bundle.verify_bundle, PROOF.data),
    "arc answer": (
        lambda raw: arc.parse_answer(200, raw),
        json.dumps(arc.state_answer(arc.TxState("ab" * 32, "MINED"))).encode(),
    ),
    "arc problem": (lambda raw: arc.parse_answer(465, raw), json.dumps(arc.problem_answer(arc.Problem(465))).encode()),
    "arc answers": (lambda raw: arc.parse_answers(200, raw), arc.answers_json([arc.Problem(465)])),
    "arc callback": (arc.parse_callback, json.dumps(arc.callback_json(arc.TxState("ab" * 32, "MINED"))).encode()),
    "arc policy": (arc.parse_policy, b'{"policy":{"miningFee":{"satoshis":1,"bytes":1000}}}'),
    "arc submit json": (lambda raw: arc.parse_submit("application/json", raw), b'{"rawTx":"00"}'),
    "arc submit text": (lambda raw: arc.parse_submit("text/plain", raw), b"00"),
    "arc submit many": (lambda raw: arc.parse_submits(arc.OCTETS, raw), coin().raw * 2),
    "steak": (overlay.parse_steak, b'{"tm_a":{"outputsToAdmit":[0],"coinsToRetain":[]}}'),
    "submit": (submitted, b"\x04beefoff"),
    "lookup request": (overlay.parse_lookup_request, b'{"service":"ls_a","query":{}}'),
    "lookup json": (
        lambda raw: overlay.parse_lookup("application/json", raw),
        json.dumps(overlay.output_list([ANSWER])).encode(),
    ),
    "lookup octets": (lambda raw: overlay.parse_lookup(overlay.OCTETS, raw), overlay.aggregated([ANSWER])),
    "listing": (overlay.parse_listing, b'{"tm_a":{}}'),
    "refusal": (overlay.parse_refusal, b'{"status":"error","message":"no"}'),
    "health": (lambda raw: overlay.healthy(200, raw), json.dumps(overlay.health_json("n")).encode()),
    "quote": (lambda raw: storage.parse_quote(200, raw), b'{"quote":5}'),
    "upload": (
        lambda raw: storage.parse_upload(200, raw),
        b'{"uploadURL":"https://h.example","requiredHeaders":{"a":"b"},"amount":1}',
    ),
    "find": (
        lambda raw: storage.parse_find(200, raw),
        json.dumps(storage.find_answer(storage.StoredFile("cdn/x", 1, "a/b", 5))).encode(),
    ),
    "list": (lambda raw: storage.parse_list(200, raw), json.dumps(storage.list_answer([storage.Listed("ab" * 32, 5)])).encode()),
    "renew": (lambda raw: storage.parse_renew(200, raw), json.dumps(storage.renew_answer(storage.Renewal(1, 2, 3))).encode()),
    "offer": (storage.parse_offer, b'{"fileSize":1,"retentionPeriod":1}'),
    "renewal": (storage.parse_renewal, json.dumps(storage.renewal("ab" * 32, 5)).encode()),
    "headers": (lambda raw: headers.parse_by_height(raw, 5), json.dumps([headers.header_json(MINED.header)]).encode()),
    "tip": (headers.parse_tip, json.dumps(headers.tip_json(MINED.header)).encode()),
    "chaintracks": (headers.parse_chaintracks, json.dumps({**headers.header_json(MINED.header), "height": 5}).encode()),
    "height": (headers.parse_height, b'{"status":"success","value":5}'),
    "binary headers": (lambda raw: headers.parse_binary(raw, 5), MINED.header.raw),
    "verdicts": (
        headers.parse_verification,
        json.dumps(headers.verification_json([headers.RootCheck(5, "ab" * 32, headers.Confirmation.INVALID)])).encode(),
    ),
    "roots": (headers.parse_verify_request, json.dumps(headers.verify_request([(5, "ab" * 32)])).encode()),
    "spent": (lambda raw: headers.parse_spent(200, raw), json.dumps({"txid": "ab" * 32}).encode()),
    "uhrp url": (lambda raw: uhrp.parse_uhrp(raw.decode("latin-1")), uhrp.uhrp_url("ab" * 32).encode()),
}


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_the_sample_of_each_decoder_is_accepted(name: str) -> None:
    decode, sample = DECODERS[name]
    decode(sample)


@pytest.mark.parametrize("name", sorted(DECODERS))
@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=120) | JSON.map(lambda value: json.dumps(value).encode()))
def test_garbage_raises_remote_protocol_error_or_nothing(name: str, garbage: bytes) -> None:
    only_remote_faults(name, garbage)


@pytest.mark.parametrize("name", sorted(DECODERS))
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_mutated_samples_raise_remote_protocol_error_or_nothing(name: str, data: st.DataObject) -> None:
    raw = bytearray(DECODERS[name][1])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "digit"])):
            case "flip":
                raw[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del raw[at:]
                raw += b"\x00"
            case "digit":
                raw[at] = data.draw(st.sampled_from(b'0159-.e"[]{},nfabt'))
            case _:
                raw[at:at] = data.draw(st.binary(max_size=9))
    only_remote_faults(name, bytes(raw))


def only_remote_faults(name: str, raw: bytes) -> None:
    try:
        DECODERS[name][0](raw)
    except RemoteProtocolError as fault:
        assert fault.message.startswith("cannot ")


@many
@given(JSON)
def test_queries_of_strangers(value: object) -> None:
    try:
        asked = descriptor.parse_query(value)
    except RemoteProtocolError:
        return
    assert descriptor.parse_query(asked.json()) == asked


@many
@given(st.text(max_size=60) | st.text("https:/+wrt.@[]?#exampl0129%-", max_size=40).map(lambda tail: "https://" + tail))
def test_any_text_is_advertisable_or_says_why_not(uri: str) -> None:
    fault = names.advertisable(uri)
    assert fault is None or fault
    if fault is None:
        assert uri.isascii() and "://" in uri and " " not in uri


@many
@given(st.lists(st.binary(min_size=1, max_size=70), min_size=1, max_size=8), st.binary(min_size=1, max_size=72))
def test_unsigned_tokens_are_never_admitted(fields: list[bytes], signature: bytes) -> None:
    script = pushdrop(fields, IDENTITY, signature)
    for parse in (advert.parse_advert, uhrp.parse_uhrp_token, descriptor.parse_descriptor):
        with pytest.raises(RemoteProtocolError):
            parse(script)


@many
@given(st.sampled_from(["advert", "uhrp token", "descriptor", "message"]), st.data())
def test_any_flipped_bit_of_a_signed_thing_is_caught(name: str, data: st.DataObject) -> None:
    decode, sample = DECODERS[name]
    at, bit = data.draw(st.integers(0, len(sample) - 1)), data.draw(st.integers(0, 7))
    with pytest.raises(RemoteProtocolError):
        decode(sample[:at] + bytes([sample[at] ^ (1 << bit)]) + sample[at + 1 :])


# --- bundles --------------------------------------------------------------------------------------

BODY = json.loads(PROOF.data)


def flip(text: str, at: int, bit: int) -> str:
    """Hex text with one bit of one byte changed."""
    raw = bytearray.fromhex(text)
    raw[at % len(raw)] ^= 1 << bit
    return raw.hex()


def failing(body: dict[str, Any], *, forged: bool) -> set[str]:
    """The links that break; a forger makes the checksum fit, an accident does not."""
    if forged:
        body = {name: value for name, value in body.items() if name != "checksum"}
        body["checksum"] = digest(body)
    checks = bundle.verify_bundle(canonical(body), PROOF.content_sha256, PROOF.trusted)
    return {check.name for check in checks if check.ok is False}


PLACES: dict[str, tuple[Callable[[int, int], dict[str, Any]], set[str]]] = {
    "header": (
        lambda at, bit: {"headers": [BODY["headers"][0] | {"raw": flip(BODY["headers"][0]["raw"], at, bit)}]},
        {"transaction", "work", "chain"},
    ),
    "path": (
        lambda at, bit: {
            "inclusion": BODY["inclusion"]
            | {"path": [flip(BODY["inclusion"]["path"][0], at, bit), *BODY["inclusion"]["path"][1:]]}
        },
        {"inclusion"},
    ),
    "file": (
        lambda at, bit: {"file": BODY["file"] | {"sha256": flip(BODY["file"]["sha256"], at, bit)}},
        {"content", "inclusion"},
    ),
    "outpoint": (lambda at, bit: {"outpoint": flip(BODY["outpoint"][:64], at, bit) + ".0"}, {"transaction"}),
    "root": (
        lambda at, bit: {
            "document": BODY["document"]
            | {
                "document": BODY["document"]["document"]
                | {"merkleRoot": flip(BODY["document"]["document"]["merkleRoot"], at, bit)}
            }
        },
        {"inclusion", "signature", "digest"},
    ),
}


@pytest.mark.row("P-PUB-24", "P-SEC-02")
@many
@given(st.sampled_from(sorted(PLACES)), st.integers(0, 10**6), st.integers(0, 7))
def test_a_forged_bit_breaks_the_link_it_stands_in(place: str, at: int, bit: int) -> None:
    change, links = PLACES[place]
    broken = failing(BODY | change(at, bit), forged=True)
    assert broken and broken <= links


@pytest.mark.row("P-PUB-24", "P-SEC-02")
@many
@given(st.integers(0, 10**6), st.integers(0, 7))
def test_any_flipped_bit_of_the_transaction_envelope_is_caught(at: int, bit: int) -> None:
    body = BODY | {"beef": flip(BODY["beef"], at, bit)}
    assert "checksum" in failing(body, forged=False)
    broken = failing(body, forged=True)
    # Everything but the marks of a merkle path (which of its leaves the sender cared for) carries a claim.
    assert broken & {"transaction", "descriptor", "mined"} or same_claims(body["beef"])


def same_claims(beef: str) -> bool:
    ours, theirs = parse_beef(bytes.fromhex(BODY["beef"])), parse_beef(bytes.fromhex(beef))
    return {k: v.tx for k, v in ours.txs.items()} == {k: v.tx for k, v in theirs.txs.items()} and roots_needed(
        ours
    ) == roots_needed(theirs)


def test_every_byte_of_a_bundle_matters() -> None:
    """Exhaustive: each character of the file, one bit changed, is either no bundle any more or breaks a named link."""
    unnoticed = []
    for at in range(len(PROOF.data)):
        changed = PROOF.data[:at] + bytes([PROOF.data[at] ^ 1]) + PROOF.data[at + 1 :]
        try:
            checks = bundle.verify_bundle(changed)
        except RemoteProtocolError:
            continue
        if bundle.holds(checks):
            unnoticed.append(at)
    assert unnoticed == []
