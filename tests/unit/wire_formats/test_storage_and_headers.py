"""Storage hosts and header services, both sides of every body."""

import json
from typing import Any

import pytest

from reconciler.model.errors import RemoteProtocolError
from reconciler.wire import headers, storage
from reconciler.wire.bytesio import internal
from reconciler.wire.headers import Confirmation, RootCheck
from reconciler.wire.proof import parse_header
from reconciler.wire.storage import StorageError
from reconciler.wire.uhrp import uhrp_url
from tests.unit.wire_formats.maker import header

HASH = "ab" * 32
GENESIS = bytes.fromhex(
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa"
    "4b1e5e4a29ab5f49ffff001d1dac2b7c"
)


def body(value: object) -> bytes:
    return json.dumps(value).encode()


# --- storage --------------------------------------------------------------------------------------


def test_a_quote_is_asked_in_bytes_and_minutes_and_answered_in_satoshis() -> None:
    assert storage.parse_offer(body(storage.offer(1024, 60))) == (1024, 60)
    assert storage.parse_quote(200, body(storage.quote_answer(0))) == 0


@pytest.mark.parametrize(
    ("offer", "code"),
    [
        ({"retentionPeriod": 1}, "ERR_NO_SIZE"),
        ({"fileSize": 1}, "ERR_NO_RETENTION_PERIOD"),
        ({"fileSize": -1, "retentionPeriod": 1}, "ERR_INVALID_SIZE"),
        ({"fileSize": 11_000_000_001, "retentionPeriod": 1}, "ERR_INVALID_SIZE"),
        ({"fileSize": "1", "retentionPeriod": 1}, "ERR_INVALID_SIZE"),
        ({"fileSize": 1, "retentionPeriod": 69_000_001}, "ERR_INVALID_RETENTION_PERIOD"),
        ({"fileSize": 1, "retentionPeriod": 1.5}, "ERR_INVALID_RETENTION_PERIOD"),
    ],
)
def test_a_bad_offer_carries_the_code_to_answer_with(offer: dict[str, Any], code: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        storage.parse_offer(body(offer))
    assert caught.value.code == code
    status, refusal = storage.error_answer(code)
    assert storage.parse_quote(status, body(refusal)) == StorageError(400, code, refusal["description"])


def test_a_request_that_is_no_object_is_a_bad_request() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        storage.parse_offer(b"[]")
    assert storage.error_answer(caught.value.code)[0] == 400


def test_a_host_may_set_tighter_limits() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        storage.parse_offer(body(storage.offer(1, 10)), storage.Limits(min_retention=15))
    assert caught.value.code == "ERR_INVALID_RETENTION_PERIOD"


def test_an_upload_target_reads_back() -> None:
    target = storage.UploadTarget("https://host.example/put?hmac=1", {"x-goog-custom-time": "t"}, 200, "Upload")
    assert storage.parse_upload(200, body(storage.upload_answer(target))) == target
    bare = storage.parse_upload(200, b'{"status":"success","uploadURL":"https://h.example/put"}')
    assert bare == storage.UploadTarget("https://h.example/put", {}, 0, "")


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"uploadURL": "file:///etc/passwd"},
        {"uploadURL": "https://h.example", "requiredHeaders": {"a": "b\r\nc: d"}},
        {"uploadURL": "https://h.example", "requiredHeaders": {"a": 1}},
        {"uploadURL": "https://h.example", "amount": -5},
    ],
)
def test_a_hostile_upload_answer_is_refused(answer: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        storage.parse_upload(200, body(answer))


def test_payment_and_authentication_come_back_as_refusals() -> None:
    status, refusal = storage.error_answer("ERR_PAYMENT_REQUIRED")
    refused = storage.parse_upload(status, body(refusal))
    assert isinstance(refused, StorageError) and (refused.status, refused.retry) == (402, False)
    unauthorized = storage.parse_list(401, b'{"status":"error","code":"UNAUTHORIZED","message":"Mutual-authentication failed!"}')
    assert isinstance(unauthorized, StorageError) and "authentication" in unauthorized.meaning


def test_not_found_is_an_answer_and_not_an_outage() -> None:
    status, refusal = storage.error_answer("ERR_FIND")
    assert status == 500 and storage.parse_find(status, body(refusal)) is None
    assert storage.parse_find(404, b"{}") is None
    outage = storage.parse_find(500, b"<html>")
    assert isinstance(outage, StorageError) and outage.retry
    lost = storage.parse_find(404, body(storage.error_answer("ERR_ROUTE_NOT_FOUND")[1]))
    assert isinstance(lost, StorageError), "a host without the route says nothing about the file"


def test_a_found_file_reads_back_with_its_size_as_text_or_number() -> None:
    file = storage.StoredFile("cdn/x", 123, "text/csv", 1_893_456_000)
    answer = storage.find_answer(file)
    assert answer["data"]["size"] == "123" and storage.parse_find(200, body(answer)) == file
    answer["data"]["size"] = 123
    assert storage.parse_find(200, body(answer)) == file
    for wrong in ("-1", "1e3", "٣", None, True):
        answer["data"]["size"] = wrong
        with pytest.raises(RemoteProtocolError):
            storage.parse_find(200, body(answer))
    assert storage.find_path(HASH) == f"/find?uhrpUrl={uhrp_url(HASH)}"


def test_lists_and_renewals_read_back() -> None:
    uploads = (storage.Listed(HASH, 5), storage.Listed("cd" * 32, 6))
    assert storage.parse_list(200, body(storage.list_answer(uploads))) == uploads
    assert storage.parse_renewal(body(storage.renewal(HASH, 60))) == (HASH, 60)
    done = storage.Renewal(100, 200, 10)
    assert storage.parse_renew(200, body(storage.renew_answer(done))) == done
    for wrong, code in (({}, "ERR_MISSING_FIELDS"), ({"uhrpUrl": uhrp_url(HASH), "additionalMinutes": 0}, "ERR_INVALID_TIME")):
        with pytest.raises(RemoteProtocolError) as caught:
            storage.parse_renewal(body(wrong))
        assert caught.value.code == code


def test_an_upload_may_be_acknowledged_with_nothing() -> None:
    assert storage.parse_put(200, b"") is None
    assert storage.parse_put(200, b'{"status":"success"}') is None
    refused = storage.parse_put(400, b'{"status":"error","description":"File exists"}')
    assert refused is not None and refused.meaning == "File exists"
    assert storage.parse_put(200, b'{"status":"error","description":"Size mismatch"}') == StorageError(200, "", "Size mismatch")
    assert storage.parse_put(503, b"") == StorageError(503)


# --- headers --------------------------------------------------------------------------------------


def test_the_genesis_header_is_rebuilt_from_its_fields() -> None:
    found = parse_header(GENESIS, 0)
    assert headers.parse_by_height(body([headers.header_json(found)]), 0) == (found,)
    assert headers.header_json(found)["difficultyTarget"] == 0x1D00FFFF
    assert headers.header_json(found)["work"] == "4295032833"
    assert headers.parse_tip(body(headers.tip_json(found))) == found


def test_each_service_spells_the_same_header_its_own_way() -> None:
    found = parse_header(GENESIS, 0)
    numbers = {"version": 1, "time": found.time, "nonce": found.nonce, "hash": found.hash, "height": 0}
    v1 = numbers | {"previousHash": found.prev, "merkleRoot": found.merkle_root, "bits": found.bits}
    v2 = numbers | {"prevHash": found.prev, "merkleroot": found.merkle_root, "bits": found.bits}
    woc = numbers | {"previousblockhash": found.prev, "merkleroot": found.merkle_root, "bits": "1d00ffff"}
    assert headers.parse_chaintracks(body({"status": "success", "value": v1}), 0) == found
    assert headers.parse_chaintracks(body(v2)) == found
    assert headers.parse_whatsonchain(body(woc), 0) == found
    assert headers.parse_chaintracks(body({"status": "success", "value": None})) is None
    with pytest.raises(RemoteProtocolError, match="is not success"):
        headers.parse_chaintracks(body({"status": "error", "value": None, "code": "x"}))


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": 5},
        {"hash": "00" * 32},
        {"merkleRoot": "00" * 32},
        {"version": 2},
        {"creationTimestamp": 1},
        {"prevBlockHash": "11" * 32},
    ],
)
def test_a_header_whose_fields_do_not_hash_to_its_name_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError, match="hash is not that"):
        headers.parse_by_height(body([headers.header_json(parse_header(GENESIS, 0)) | change]), 0)


def test_a_header_of_another_height_is_refused() -> None:
    line = headers.header_json(parse_header(GENESIS, 0)) | {"height": 7}
    with pytest.raises(RemoteProtocolError, match="height is not the 6"):
        headers.parse_by_height(body([line]), 6)


def test_a_version_with_its_high_bit_set_is_signed_in_json() -> None:
    raw = (0xE0000000).to_bytes(4, "little") + GENESIS[4:]
    found = parse_header(raw, 0)
    assert headers.header_json(found)["version"] < 0
    assert headers.parse_by_height(body([headers.header_json(found)]), 0) == (found,)


def test_consecutive_headers_must_build_on_each_other() -> None:
    first = header("aa" * 32, 10)
    second = header("bb" * 32, 11, first.hash)
    stray = header("bb" * 32, 11)
    assert headers.parse_binary(first.raw + second.raw, 10) == (first, second)
    assert headers.parse_by_height(body([headers.header_json(h) for h in (first, second)]), 10) == (first, second)
    for wrong in (first.raw + stray.raw, first.raw[:-1]):
        with pytest.raises(RemoteProtocolError):
            headers.parse_binary(wrong, 10)
    assert first.raw[36:68] == internal("aa" * 32)


def test_merkle_roots_are_verified_in_bulk() -> None:
    asked = [(5, "aa" * 32), (6, "bb" * 32)]
    assert headers.parse_verify_request(body(headers.verify_request(asked))) == tuple(asked)
    checks = (RootCheck(5, "aa" * 32, Confirmation.CONFIRMED, "cc" * 32), RootCheck(6, "bb" * 32, Confirmation.UNABLE_TO_VERIFY))
    answer = headers.verification_json(checks)
    assert answer["confirmationState"] == "UNABLE_TO_VERIFY"
    assert headers.parse_verification(body(answer)) == checks
    assert headers.verification_json(())["confirmationState"] == "CONFIRMED"
    answer["confirmations"][0]["confirmation"] = "PERHAPS"
    with pytest.raises(RemoteProtocolError, match="no state we know"):
        headers.parse_verification(body(answer))


def test_heights_and_spends() -> None:
    assert [headers.parse_height(b) for b in (b'{"status":"success","value":850000}', b'{"height":850000}', b"850000")] == [
        850_000
    ] * 3
    for wrong in (b'"850000"', b"{}", b"-1", b"null"):
        with pytest.raises(RemoteProtocolError):
            headers.parse_height(wrong)
    assert headers.parse_spent(200, body({"txid": HASH, "vin": 0})) == HASH
    assert headers.parse_spent(404, b"Not Found") is None
    for status, wrong in ((500, b""), (200, b"{}"), (200, b'{"txid":"x"}')):
        with pytest.raises(RemoteProtocolError):
            headers.parse_spent(status, wrong)
