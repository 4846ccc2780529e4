"""Formats of the overlay against vectors and recorded exchanges of other implementations.

`vectors/README.md` names the origin of each file. Four of them are shapes with known mistakes; the tests below use what is sound
in them and name what is left out. `fixtures/` hold exchanges recorded between deployed client and server software.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler.model.errors import RemoteProtocolError
from reconciler.wire import advert, arc, message, names, overlay, storage, token, uhrp
from reconciler.wire.beef import parse_beef
from reconciler.wire.keys import ANYONE, child_secret, invoice, public_key, sign
from reconciler.wire.proof import roots_needed, verify_beef
from reconciler.wire.script import decode_pushdrop, pushdrop

HERE = Path(__file__).parent


def load(folder: str, name: str) -> Any:
    return json.loads((HERE / folder / f"{name}.json").read_text())


def vector(name: str) -> Any:
    return load("vectors", name)


def shapes(name: str, path: str) -> list[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """(id, input, expected) of the vectors of one route."""
    cases = vector(name)["vectors"]
    return [(v["id"], v["input"], v["expected"]) for v in cases if v["input"].get("path", "").startswith(path)]


# --- names, URLs, tokens --------------------------------------------------------------------------

NAMES = vector("names_and_uris")
TOKENS = vector("generated_advertisements")
ROOT = bytes.fromhex(TOKENS["root_private_key_hex"])
IDENTITY = bytes.fromhex(TOKENS["identity_key"])


@pytest.mark.row("P-AD-15")
@pytest.mark.parametrize(("verdict", "name"), [(v, n) for v in ("valid", "invalid") for n in NAMES["names"][v]])
def test_names(verdict: str, name: str) -> None:
    assert names.name_ok(name) is (verdict == "valid")


@pytest.mark.parametrize(("verdict", "uri"), [(v, u) for v in ("valid", "invalid") for u in NAMES["uris"][v]])
def test_advertisable_urls(verdict: str, uri: str) -> None:
    assert (names.advertisable(uri) is None) is (verdict == "valid")


def rebuilt(fields: tuple[bytes, ...], lock: tuple[str, str], root: bytes, counterparty: bytes = ANYONE) -> bytes:
    child = child_secret(root, counterparty, invoice(*lock))
    return pushdrop(fields, public_key(child), sign(child, b"".join(fields)))


def ad_of(kind: str) -> advert.Advert:
    _, identity, domain, name = (bytes.fromhex(field) for field in TOKENS[kind.lower()]["fields_hex"])
    return advert.Advert(kind, identity, domain.decode(), name.decode())


@pytest.mark.row("P-AD-15", "P-AD-16")
@pytest.mark.parametrize("kind", ["SHIP", "SLAP"])
def test_advertisements_are_read_and_rebuilt_byte_for_byte(kind: str) -> None:
    given, said = TOKENS[kind.lower()], ad_of(kind)
    script = bytes.fromhex(given["locking_script_hex"])
    assert advert.parse_advert(script) == said
    assert advert.lock_of(kind) == (given["protocolID"][1], given["keyID"])
    assert b"".join(advert.fields(said)).hex() == given["signed_data_hex"]
    assert public_key(ROOT) == IDENTITY
    assert rebuilt(advert.fields(said), advert.lock_of(kind), ROOT) == script


@pytest.mark.row("P-PUB-23")
def test_the_uhrp_token_is_read_and_rebuilt_byte_for_byte() -> None:
    given = TOKENS["uhrp"]
    promise = uhrp.parse_uhrp_token(bytes.fromhex(given["locking_script_hex"]))
    url = bytes.fromhex(given["fields_hex"][2]).decode()
    assert promise == uhrp.UhrpToken(IDENTITY, given["content_sha256"], url, given["expiry_unix_seconds"], given["size"])
    assert uhrp.uhrp_url(promise.sha256) == given["uhrp_url_bare"]
    assert rebuilt(uhrp.fields(promise), uhrp.lock(), ROOT).hex() == given["locking_script_hex"]


def test_the_token_towards_oneself_is_rebuilt_and_refused() -> None:
    given = TOKENS["negative_ship_counterparty_self"]
    script = bytes.fromhex(given["locking_script_hex"])
    protocol = (given["protocolID"][1], given["keyID"])
    child = child_secret(ROOT, IDENTITY, invoice(*protocol))
    assert public_key(child).hex() == given["locking_public_key"]
    opened = decode_pushdrop(script)
    assert opened.signature.hex() == given["signature_der_hex"]
    assert token.link_ok(IDENTITY, *protocol, opened.fields, opened.signature, opened.key) is False
    with pytest.raises(RemoteProtocolError, match="do not belong to the identity"):
        advert.parse_advert(script)


LAB = load("fixtures", "tokens")


@pytest.mark.row("P-AD-15", "P-AD-16", "P-PUB-23")
@pytest.mark.parametrize("given", LAB["tokens"], ids=lambda t: t["name"])
def test_tokens_made_by_the_reference_sdk(given: Mapping[str, Any]) -> None:
    script, fields = bytes.fromhex(given["lockingScript"]), tuple(map(bytes.fromhex, given["fields"]))
    if given["name"] == "UHRP":
        promise = uhrp.parse_uhrp_token(script)
        assert uhrp.fields(promise) == fields and uhrp.lock() == (given["protocolID"][1], given["keyID"])
        assert uhrp.uhrp_url(promise.sha256) == given["uhrpUrl"] and promise.size == len(bytes.fromhex(given["content"]))
    else:
        said = advert.parse_advert(script)
        assert advert.fields(said) == fields and advert.lock_of(said.type) == (given["protocolID"][1], given["keyID"])
    lock = (given["protocolID"][1], given["keyID"])
    assert rebuilt(fields, lock, bytes.fromhex(LAB["privateKey"])) == script


@pytest.mark.row("P-PUB-23")
@pytest.mark.parametrize("case", vector("uhrp_url")["vectors"], ids=lambda c: c["id"])
def test_uhrp_urls(case: Mapping[str, Any]) -> None:
    given, expected = case["input"], case["expected"]
    if "hash_hex" in given:
        assert uhrp.uhrp_url(given["hash_hex"]) == expected["url"]
    elif expected.get("valid") is False:
        with pytest.raises(RemoteProtocolError):
            uhrp.parse_uhrp(given["url"])
    else:
        assert uhrp.uhrp_url(uhrp.parse_uhrp(given["url"])) == given["url"]
        assert expected.get("hash_hex") in (None, uhrp.parse_uhrp(given["url"]))


# --- signed messages ------------------------------------------------------------------------------

MESSAGES = vector("generated_messages_brc77_78")
TEXT = MESSAGES["message_utf8"].encode()


def test_messages_signed_by_the_reference_sdk() -> None:
    signer, verifier = (bytes.fromhex(MESSAGES[f"{who}_private_key_hex"]) for who in ("signer", "verifier"))
    public = bytes.fromhex(MESSAGES["brc77_anyone_hex"])
    assert message.verify_message(public, TEXT) == public_key(signer)
    private = bytes.fromhex(MESSAGES["brc77_private_hex"])
    assert message.verify_message(private, TEXT, verifier) == public_key(signer)
    for signature, secret in ((public, verifier), (private, None), (private, signer)):
        with pytest.raises(RemoteProtocolError, match="somebody else"):
            message.verify_message(signature, TEXT, secret)
    # Key IDs are random there; with the same one our bytes are the same.
    assert message.sign_message(signer, TEXT, message.parse_message(public).key_id) == public


@pytest.mark.parametrize("text", vector("brc77_78_examples")["brc77_hex"])
def test_the_published_examples_have_our_layout(text: str) -> None:
    raw = bytes.fromhex(text)
    found = message.parse_message(raw)
    assert message.VERSION + found.signer + (found.verifier or b"\x00") + found.key_id + found.signature == raw
    assert len(found.key_id) == 32 and found.signature[0] == 0x30


@pytest.mark.parametrize("text", vector("brc77_78_examples")["brc78_hex"])
def test_an_encrypted_message_is_no_signature(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match="another version"):
        message.parse_message(bytes.fromhex(text))


# --- overlay nodes --------------------------------------------------------------------------------

FRAMES = vector("generated_lookup_submit")


def test_both_generated_lookup_answers_name_the_same_output() -> None:
    given = FRAMES["lookup"]
    plain = overlay.parse_lookup("application/json", json.dumps(given["json_answer"]).encode())
    shared = overlay.parse_lookup(overlay.OCTETS, bytes.fromhex(given["aggregated_binary_hex"]))
    for (found,) in (plain, shared):
        assert (found.txid, found.vout, found.context) == (given["txid_display_hex"], 0, b"ctx")
        assert parse_beef(found.beef).subject == found.txid
    assert roots_needed(parse_beef(plain[0].beef)) == roots_needed(parse_beef(shared[0].beef))
    assert overlay.output_list(plain) == given["json_answer"]
    again = overlay.parse_lookup(overlay.OCTETS, overlay.aggregated(plain))
    assert [(a.txid, a.vout, a.context) for a in again] == [(a.txid, a.vout, a.context) for a in plain]
    assert overlay.aggregated(plain)[:37] == bytes.fromhex(given["aggregated_binary_hex"])[:37]


@pytest.mark.parametrize(
    ("headers", "body", "extra"),
    [("headers_plain", "body_plain_hex", None), ("headers_off_chain", "body_off_chain_hex", "off_chain_values_hex")],
)
def test_generated_submissions_are_read_and_rebuilt(headers: str, body: str, extra: str | None) -> None:
    given = FRAMES["submit"]
    sent = {name.lower(): value for name, value in given[headers].items()}
    found = overlay.parse_submit(sent, bytes.fromhex(given[body]))
    assert list(found.topics) == given["topics"]
    assert found.off_chain == (bytes.fromhex(given[extra]) if extra else None)
    ours = overlay.submission(found.beef, found.topics, found.off_chain)
    assert ours.headers == sent and ours.body.hex() == given[body]


@pytest.mark.parametrize(("case", "given", "expected"), shapes("overlay_submit_shapes", "/submit"))
def test_submit_shapes(case: str, given: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Left out: the BEEF bytes (placeholders) and `coinstakeOutputsToRetain` (the field is `coinsToRetain`).

    Vector 8 puts the off-chain values first, so what it calls off-chain values is read as the BEEF. Vectors 5 to 7 are refused
    by the node for what it hosts, not for the framing.
    """
    headers, body = {k.lower(): v for k, v in given["headers"].items()}, bytes.fromhex(given["body_hex"])
    framing_is_wrong = expected["status"] == 400 and case.rpartition(".")[2] not in ("5", "6", "7")
    if framing_is_wrong:
        with pytest.raises(RemoteProtocolError):
            overlay.parse_submit(headers, body)
        return
    found = overlay.parse_submit(headers, body)
    assert found.beef == (bytes.fromhex("deadbeef") if case.endswith(".8") else body)
    assert list(found.topics) == given.get("topics", json.loads(headers["x-topics"]))
    if expected["status"] == 200:
        steak = overlay.parse_steak(json.dumps(expected["body"]).encode())
        assert {topic: list(did.admit) for topic, did in steak.items()} == {
            topic: did["outputsToAdmit"] for topic, did in expected["body"].items()
        }
        assert all(did.retain == () for did in steak.values()), "a misspelled field is not read"


@pytest.mark.parametrize(("case", "given", "expected"), shapes("overlay_lookup_shapes", "/lookup"))
def test_lookup_shapes(case: str, given: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Left out: the BEEF bytes (placeholders) and the claim that aggregated txids are little endian."""
    body = json.dumps(given["body"]).encode()
    if expected.get("status") == 400:
        with pytest.raises(RemoteProtocolError):
            overlay.parse_lookup_request(body)
        return
    service, query = overlay.parse_lookup_request(body)
    assert overlay.lookup_request(service, query) == given["body"]
    answer = expected.get("body", {})
    if answer.get("type") == "output-list" and not answer["outputs"]:
        assert overlay.parse_lookup("application/json", json.dumps(answer).encode()) == ()
    elif "type" in answer:  # freeform, which no node sends any more, and outputs that are no BEEF
        with pytest.raises(RemoteProtocolError):
            overlay.parse_lookup("application/json", json.dumps(answer).encode())


@pytest.mark.parametrize(
    "case", [v for v in vector("overlay_lookup_shapes")["vectors"] if "example_body" in v["expected"]], ids=lambda v: v["id"]
)
def test_listing_shapes(case: Mapping[str, Any]) -> None:
    example = case["expected"]["example_body"]
    assert list(overlay.parse_listing(json.dumps(example).encode())) == sorted(example)


# --- recorded exchanges ---------------------------------------------------------------------------


def exchanges(name: str, path: str = "") -> Iterator[tuple[dict[str, str], bytes, int, str, bytes]]:
    """(request headers, request body, status, response content type, response body) in order."""
    for recorded in load("fixtures", name)["exchanges"]:
        sent, got = recorded["request"], recorded["response"]
        if sent["path"] == path or not path:
            headers = {key.lower(): value for key, value in sent["headers"]}
            kind = {key.lower(): value for key, value in got["headers"]}["content-type"]
            yield headers, octets(sent), got["status"], kind, octets(got)


def octets(part: Mapping[str, str]) -> bytes:
    return bytes.fromhex(part["bodyHex"]) if "bodyHex" in part else part["bodyText"].encode()


@pytest.mark.row("P-PUB-18")
def test_the_sdk_broadcaster_sends_what_we_would_send() -> None:
    ((headers, body, status, _, answer),) = exchanges("sdk-submit")
    found = overlay.parse_submit(headers, body)
    ours = overlay.submission(found.beef, found.topics)
    assert ours.body == body and json.loads(ours.headers["x-topics"]) == json.loads(headers["x-topics"])
    assert status == 200 and overlay.parse_steak(answer) == {"tm_ship": overlay.Admittance((0,))}


@pytest.mark.row("P-AD-15")
def test_the_sdk_resolvers_aggregated_answer_holds_an_admissible_token() -> None:
    ((headers, body, _, kind, answer),) = exchanges("sdk-lookup")
    service, query = overlay.parse_lookup_request(body)
    assert (service, headers["x-aggregation"]) == ("ls_ship", "yes")
    (found,) = overlay.parse_lookup(kind, answer)
    beef = parse_beef(found.beef)
    said = advert.parse_advert(beef.tx.outputs[found.vout].script)
    assert said.name in query["topics"] and said.identity.hex() == LAB["identityKey"]
    verify_beef(beef, lambda height, root: (height, root) in roots_needed(beef))


def test_every_recorded_conversation_with_a_node_is_understood() -> None:
    seen: dict[tuple[str, int], int] = {}
    for headers, body, status, _, answer in exchanges("overlay-roundtrip", "/submit"):
        seen["submit", status] = seen.get(("submit", status), 0) + 1
        if status == 200:
            steak = overlay.parse_steak(answer)
            assert set(steak) == set(overlay.parse_submit(headers, body).topics)
            assert overlay.steak_json(steak) == json.loads(answer)
        else:
            assert overlay.parse_refusal(answer)
            assert overlay.refusal_json(overlay.parse_refusal(answer)) == json.loads(answer)
    assert seen["submit", 200] >= 10 and seen["submit", 400] >= 4


@pytest.mark.row("P-AD-15", "P-AD-16", "P-PUB-23")
def test_every_recorded_lookup_gives_tokens_we_accept() -> None:
    parsers = {"ls_ship": advert.parse_advert, "ls_slap": advert.parse_advert, "ls_uhrp": uhrp.parse_uhrp_token}
    found: dict[str, int] = {}
    for _, body, status, kind, answer in exchanges("overlay-roundtrip", "/lookup"):
        service, query = overlay.parse_lookup_request(body)
        assert status == 200
        answers = overlay.parse_lookup(kind, answer)
        for one in answers:
            said = parsers[service](parse_beef(one.beef).tx.outputs[one.vout].script)
            wanted = query.get("identityKey", query.get("hostIdentityKey"))
            assert said.identity.hex() == wanted
        found[service] = found.get(service, 0) + len(answers)
        assert overlay.output_list(answers) == json.loads(answer)
    assert all(found[service] >= 1 for service in parsers)


def test_tokens_that_the_node_did_not_admit_are_refused_by_us_too() -> None:
    """The recording submits one faulty SHIP token after another; the node answers 200 and admits nothing."""
    seen: set[str] = set()
    judged = {True: 0, False: 0}
    for headers, body, status, _, answer in exchanges("overlay-roundtrip", "/submit"):
        sent = overlay.parse_submit(headers, body) if "x-topics" in headers else None
        if sent is None or status != 200 or sent.topics != ("tm_ship",):
            continue
        tx = parse_beef(sent.beef).tx
        if tx.txid in seen:
            continue  # a repeated submission admits nothing, whatever it holds
        seen.add(tx.txid)
        admitted = overlay.parse_steak(answer)["tm_ship"].admit
        ours = tuple(i for i, output in enumerate(tx.outputs) if is_ship(output.script))
        assert ours == admitted, tx.txid
        judged[bool(admitted)] += 1
    assert judged[True] >= 1 and judged[False] >= 5


def is_ship(script: bytes) -> bool:
    try:
        return advert.parse_advert(script).type == "SHIP"
    except RemoteProtocolError:
        return False


# --- broadcasters ---------------------------------------------------------------------------------


@pytest.mark.row("P-PAY-21")
@pytest.mark.parametrize(("case", "given", "expected"), shapes("arc_submit_shapes", "/v1/tx"))
def test_arc_shapes(case: str, given: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Left out: the transactions (placeholders that do not parse) and vector 14, which is the callback of an overlay node."""
    if "body" not in expected:
        assert case.endswith(".15")
        with pytest.raises(RemoteProtocolError):
            arc.parse_submit(given["headers"]["Content-Type"], json.dumps(given["body"]).encode())
        return
    status, body = expected["status"], json.dumps(expected["body"]).encode()
    if isinstance(expected["body"], list):
        answers = arc.parse_answers(status, body)
        assert [a.txid for a in answers] == [item["txid"] for item in expected["body"]]
        return
    answer = arc.parse_answer(status, body)
    if status != 200:
        assert isinstance(answer, arc.Problem)
        assert answer.status == status and answer.title == expected["body"]["title"]
        assert answer.verdict is arc.Verdict.PENDING
        return
    assert isinstance(answer, arc.TxState) and answer.status == expected["body"]["txStatus"]
    failed = expected.get("sdk_treatment", "").startswith("BroadcastFailure")
    assert (answer.verdict in (arc.Verdict.REJECTED, arc.Verdict.DOUBLE_SPEND)) is failed
    assert list(answer.competing) == expected["body"].get("competingTxs", [])


def test_a_transaction_that_is_not_hex_is_refused_before_it_is_sent_on() -> None:
    (given,) = (v["input"] for v in vector("arc_submit_shapes")["vectors"] if v["expected"].get("status") == 422)
    with pytest.raises(RemoteProtocolError, match="hex"):
        arc.parse_submit("application/json", json.dumps(given["body"]).encode())


# --- storage hosts --------------------------------------------------------------------------------


def test_storage_shapes() -> None:
    """Sound in that file: requests count `fileSize` and `retentionPeriod`, a missing size is refused, and both spellings of a URL
    name content. Left out, because no deployed server speaks so: `contentType`, `files`, `URLs`, `MIMEType`, `additionalPeriod`,
    bearer tokens, 404 of `/find`, expiry as text.
    """
    for case, given, expected in shapes("uhrp_http_shapes", "/upload"):
        body = json.dumps(given["body"]).encode()
        if expected["status"] == 400:
            with pytest.raises(RemoteProtocolError) as caught:
                storage.parse_offer(body)
            assert caught.value.code == "ERR_NO_SIZE", case
        else:
            assert storage.parse_offer(body) == (1024, 2592000), case
    (examples,) = (v["input"]["examples"] for v in vector("uhrp_http_shapes")["vectors"] if "examples" in v["input"])
    for url in examples:
        assert uhrp.uhrp_url(uhrp.parse_uhrp(url)) == url.removeprefix("uhrp://")
    for _, given, expected in shapes("uhrp_http_shapes", "/renew"):
        if expected["status"] == 200:
            with pytest.raises(RemoteProtocolError) as caught:
                storage.parse_renewal(json.dumps(given["body"]).encode())
            assert caught.value.code == "ERR_MISSING_FIELDS", "additionalPeriod is not what servers read"
