"""Submission, lookup and health of overlay nodes, read and written."""

import base64
import json

import pytest

from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire import overlay
from reconciler.wire.beef import parse_beef
from reconciler.wire.proof import verify_beef
from tests.unit.wire_formats.maker import Mined, coin, mine

MINED = mine(coin())
ANSWER = overlay.Answer(MINED.tx.txid, 0, MINED.beef, b"ctx")


def root_ok(height: int, root: str) -> bool:
    return (height, root) == (MINED.header.height, MINED.header.merkle_root)


def test_a_submission_reads_back_with_and_without_off_chain_values() -> None:
    for off_chain in (None, b"", b"secret" * 100):
        sent = overlay.submission(MINED.beef, ["tm_ship", "tm_producer"], off_chain)
        assert overlay.parse_submit(sent.headers, sent.body) == sent
        assert json.loads(sent.headers["x-topics"]) == ["tm_ship", "tm_producer"]
        assert ("x-includes-off-chain-values" in sent.headers) is (off_chain is not None)
    assert overlay.submission(b"beef", []).headers["x-topics"] == "[]"
    with pytest.raises(LocalProtocolError, match="not a legal topic name"):
        overlay.submission(b"", ['tm_x"]'])


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        ({"content-type": "application/json", "x-topics": "[]"}, "Content-Type"),
        ({"content-type": "application/octet-stream"}, "X-Topics header is missing"),
        ({"content-type": "application/octet-stream", "x-topics": "tm_ship"}, "not JSON"),
        ({"content-type": "application/octet-stream", "x-topics": '"tm_ship"'}, "array of strings"),
        ({"content-type": "application/octet-stream", "x-topics": "[1]"}, "array of strings"),
        (
            {"content-type": "application/octet-stream", "x-topics": "[]", "x-includes-off-chain-values": "true"},
            "promised",
        ),
    ],
)
def test_a_faulty_submission_says_why(headers: dict[str, str], fault: str) -> None:
    with pytest.raises(RemoteProtocolError, match=fault):
        overlay.parse_submit(headers, b"\x09abc")


def test_an_admittance_tells_something_from_nothing() -> None:
    steak = {"tm_a": overlay.Admittance((0, 2), (1,)), "tm_b": overlay.Admittance(), "tm_c": overlay.Admittance(removed=(0,))}
    assert overlay.parse_steak(json.dumps(overlay.steak_json(steak)).encode()) == steak
    assert [did.acknowledged for did in steak.values()] == [True, False, True]
    assert overlay.steak_json({"tm_b": overlay.Admittance()}) == {"tm_b": {"outputsToAdmit": [], "coinsToRetain": []}}


@pytest.mark.parametrize(
    "body", [b"[]", b'{"tm_a":[]}', b'{"tm_a":{"outputsToAdmit":[-1]}}', b'{"tm_a":{"outputsToAdmit":[true]}}', b"<html>"]
)
def test_a_faulty_admittance_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        overlay.parse_steak(body)


def test_a_lookup_request_reads_back() -> None:
    body = json.dumps(overlay.lookup_request("ls_ship", "findAll")).encode()
    assert overlay.parse_lookup_request(body) == ("ls_ship", "findAll")
    assert overlay.lookup_headers(aggregated=True)["x-aggregation"] == "yes"
    for wrong in (b"{}", b'{"service":"ls_x"}', b'{"service":1,"query":{}}'):
        with pytest.raises(RemoteProtocolError):
            overlay.parse_lookup_request(wrong)


@pytest.mark.row("P-LKP-01")
def test_both_forms_of_an_answer_give_the_same_outputs() -> None:
    as_json = json.dumps(overlay.output_list([ANSWER])).encode()
    as_bytes = overlay.aggregated([ANSWER])
    for kind, body in (("application/json; charset=utf-8", as_json), ("Application/Octet-Stream", as_bytes)):
        (found,) = overlay.parse_lookup(kind, body)
        assert (found.txid, found.vout, found.context) == (ANSWER.txid, 0, b"ctx")
        verify_beef(parse_beef(found.beef), root_ok)
    assert as_bytes[1:33].hex() == ANSWER.txid, "display order"


def test_go_nodes_write_base64_and_it_is_read() -> None:
    body = {"type": "output-list", "outputs": [{"beef": base64.b64encode(MINED.beef).decode(), "outputIndex": 0}]}
    (found,) = overlay.parse_lookup("application/json", json.dumps(body).encode())
    assert found == overlay.Answer(ANSWER.txid, 0, MINED.beef, b"")


def test_one_shared_beef_serves_many_outputs_and_each_gets_its_own() -> None:
    others = [mine(coin(salt=bytes([i])), height=950 + i) for i in range(4)]
    answers = [overlay.Answer(one.tx.txid, 0, one.beef, bytes([i])) for i, one in enumerate([MINED, *others, MINED])]
    found = overlay.parse_lookup("application/octet-stream", overlay.aggregated(answers))
    assert [(a.txid, a.context) for a in found] == [(a.txid, a.context) for a in answers]
    assert all(list(parse_beef(a.beef).txs) == [a.txid] for a in found)
    shared = parse_beef(overlay.merge_beefs(a.beef for a in answers))
    assert len(shared.txs) == 5 and shared.version == 2


def test_a_proof_given_once_proves_the_transaction_everywhere() -> None:
    merged = parse_beef(overlay.merge_beefs([v1_unproven(MINED), MINED.beef, v1_unproven(MINED)]))
    assert merged.txs[MINED.tx.txid].bump is not None


def v1_unproven(mined: Mined) -> bytes:
    return bytes.fromhex("0100beef0001") + mined.tx.raw + b"\x00"


def test_no_answer_is_an_empty_answer_in_both_forms() -> None:
    assert overlay.parse_lookup("application/json", json.dumps(overlay.output_list([])).encode()) == ()
    assert overlay.parse_lookup("application/octet-stream", overlay.aggregated([])) == ()
    assert overlay.parse_lookup("application/octet-stream", b"\x00") == ()


@pytest.mark.parametrize(
    ("kind", "body", "fault"),
    [
        ("text/html", b"<html>", "of type 'text/html'"),
        ("", b"{}", "of type ''"),
        ("application/json", b'{"type":"freeform","result":{}}', "must be output-list"),
        ("application/json", b'{"type":"output-list"}', "outputs must be an array"),
        ("application/json", b'{"type":"output-list","outputs":[{"beef":[256],"outputIndex":0}]}', "0 to 255"),
        ("application/json", b'{"type":"output-list","outputs":[{"beef":[1,0,190,239],"outputIndex":0}]}', "BEEF"),
        ("application/json", b'{"type":"output-list","outputs":[{"beef":"AB==","outputIndex":0}]}', "stray bits"),
        ("application/octet-stream", b"", "promised"),
        ("application/octet-stream", b"\xff" + b"\xff" * 8, "promised"),
        ("application/octet-stream", b"\x01" + bytes(34) + MINED.beef, "does not prove"),
    ],
)
def test_a_faulty_answer_says_why(kind: str, body: bytes, fault: str) -> None:
    with pytest.raises(RemoteProtocolError, match=fault):
        overlay.parse_lookup(kind, body)


def test_an_output_that_its_transaction_does_not_have_is_refused() -> None:
    wrong = overlay.Answer(ANSWER.txid, 1, MINED.beef)
    with pytest.raises(RemoteProtocolError, match="has no output 1"):
        overlay.parse_lookup("application/json", json.dumps(overlay.output_list([wrong])).encode())
    with pytest.raises(RemoteProtocolError, match="has no output 1"):
        overlay.parse_lookup("application/octet-stream", overlay.aggregated([wrong]))


@pytest.mark.parametrize(
    ("status", "report", "verdict"),
    [
        (200, {"status": "ok", "live": True, "ready": True}, True),
        (200, {"status": "ok"}, True),
        (200, {"status": "degraded", "ready": True}, True),
        (200, {"status": "degraded", "ready": True, "live": False}, False),
        (200, {"status": "ok", "ready": False}, False),
        (200, {"status": "degraded"}, False),
        (503, {"status": "ok", "ready": True}, False),
        (200, ["ok"], False),
    ],
)
def test_health_is_judged_as_nodes_judge_it(status: int, report: object, verdict: bool) -> None:
    assert overlay.healthy(status, json.dumps(report).encode()) is verdict


def test_our_own_health_report_passes_and_an_error_page_does_not() -> None:
    assert overlay.healthy(200, json.dumps(overlay.health_json("x")).encode())
    assert not overlay.healthy(200, json.dumps(overlay.health_json("x", ok=False)).encode())
    assert not overlay.healthy(200, b"<html>ok</html>")


def test_refusals_and_listings() -> None:
    assert overlay.parse_refusal(json.dumps(overlay.refusal_json("no such topic")).encode()) == "no such topic"
    assert overlay.parse_refusal(b"<html>") == overlay.parse_refusal(b'{"message":1}') == ""
    assert overlay.parse_listing(b'{"tm_b":{},"tm_a":{"name":"tm_a"}}') == ("tm_a", "tm_b")
