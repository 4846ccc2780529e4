"""Broadcasters: what a status or a problem means, and both sides of every body."""

import json

import pytest

from reconciler.model.change import FeeRate
from reconciler.model.errors import RemoteProtocolError
from reconciler.wire import arc
from reconciler.wire.arc import Problem, TxState, Verdict
from tests.unit.wire_formats.maker import coin

TX = coin()
STATE = TxState(TX.txid, "MINED", 900, "ab" * 32, b"\x01\x02", "", ("cd" * 32,), "2024-03-26T16:02:29.65Z")


@pytest.mark.row("P-PAY-21")
def test_progress_is_ordered_and_unknown_words_come_first() -> None:
    order = [
        *("UNKNOWN", "QUEUED", "RECEIVED", "STORED", "ANNOUNCED_TO_NETWORK", "REQUESTED_BY_NETWORK", "SENT_TO_NETWORK"),
        *("ACCEPTED_BY_NETWORK", "SEEN_IN_ORPHAN_MEMPOOL", "SEEN_ON_NETWORK", "DOUBLE_SPEND_ATTEMPTED", "REJECTED"),
        *("MINED_IN_STALE_BLOCK", "MINED", "IMMUTABLE"),
    ]
    ranks = [arc.rank(status) for status in order]
    assert ranks == sorted(set(ranks))
    assert arc.rank("SOMETHING_NEW") == arc.rank("UNKNOWN") == 0
    assert arc.rank("mined") == arc.rank("MINED")


@pytest.mark.row("P-PAY-21")
@pytest.mark.parametrize(
    ("status", "extra", "verdict"),
    [
        ("RECEIVED", "", Verdict.PENDING),
        ("STORED", "", Verdict.PENDING),
        ("SOMETHING_NEW", "", Verdict.PENDING),
        ("ACCEPTED_BY_NETWORK", "", Verdict.ACCEPTED),
        ("SEEN_ON_NETWORK", "", Verdict.ACCEPTED),
        ("SEEN_MULTIPLE_NODES", "", Verdict.ACCEPTED),
        ("SEEN_ON_NETWORK", "parent is an orphan", Verdict.PENDING),
        ("SEEN_IN_ORPHAN_MEMPOOL", "", Verdict.PENDING),
        ("DOUBLE_SPEND_ATTEMPTED", "", Verdict.DOUBLE_SPEND),
        ("REJECTED", "", Verdict.REJECTED),
        ("REJECTED", "orphan", Verdict.REJECTED),
        ("INVALID", "", Verdict.REJECTED),
        ("MALFORMED", "", Verdict.REJECTED),
        ("MINED_IN_STALE_BLOCK", "", Verdict.STALE),
        ("MINED", "", Verdict.MINED),
        ("MINED", "was an orphan once", Verdict.MINED),
        ("IMMUTABLE", "", Verdict.MINED),
    ],
)
def test_a_status_means_one_thing(status: str, extra: str, verdict: Verdict) -> None:
    assert arc.verdict(status, extra) is verdict


def test_http_200_with_a_rejection_is_a_rejection() -> None:
    body = json.dumps({"txid": TX.txid, "txStatus": "REJECTED", "status": 200, "title": "OK"}).encode()
    answer = arc.parse_answer(200, body)
    assert isinstance(answer, TxState) and answer.verdict is Verdict.REJECTED


def test_arcade_answers_202() -> None:
    answer = arc.parse_answer(202, json.dumps({"txid": TX.txid, "status": 202, "txStatus": "RECEIVED"}).encode())
    assert answer == TxState(TX.txid, "RECEIVED")


def test_a_status_object_reads_back_in_every_place_it_stands() -> None:
    assert arc.parse_answer(200, json.dumps(arc.state_answer(STATE)).encode()) == STATE
    assert arc.parse_answer(200, json.dumps({"data": arc.state_answer(STATE)}).encode()) == STATE
    assert arc.parse_callback(json.dumps(arc.callback_json(STATE)).encode()) == (STATE,)
    batch = {"count": 2, "callbacks": [arc.callback_json(STATE)] * 2}
    assert arc.parse_callback(json.dumps(batch).encode()) == (STATE, STATE)


def test_absent_and_null_members_are_the_same() -> None:
    bare = {"txid": TX.txid, "txStatus": "STORED", "merklePath": None, "competingTxs": None, "extraInfo": None, "blockHash": ""}
    assert arc.parse_answer(200, json.dumps(bare).encode()) == TxState(TX.txid, "STORED")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        json.dumps({"txid": TX.txid}).encode(),
        json.dumps({"txid": TX.txid, "txStatus": ""}).encode(),
        json.dumps({"txid": TX.txid.upper(), "txStatus": "MINED"}).encode(),
        json.dumps({"txid": TX.txid, "txStatus": "MINED", "merklePath": "xy"}).encode(),
        json.dumps({"txid": TX.txid, "txStatus": "MINED", "blockHeight": "5"}).encode(),
        json.dumps({"txid": TX.txid, "txStatus": "MINED", "competingTxs": ["x"]}).encode(),
    ],
)
def test_a_malformed_status_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        arc.parse_answer(200, body)
    with pytest.raises(RemoteProtocolError):
        arc.parse_callback(body)


def test_a_problem_reads_back_and_a_proxys_page_keeps_its_status() -> None:
    problem = Problem(465, "Fee too low", "50 < 100", TX.txid, "policy")
    assert arc.parse_answer(465, json.dumps(arc.problem_answer(problem)).encode()) == problem
    assert arc.parse_answer(502, b"<html>Bad gateway</html>") == Problem(502)
    arcade = {"error": "fee too low", "reason": "min 100", "txid": TX.txid, "status": 400}
    assert arc.parse_answer(400, json.dumps(arcade).encode()) == Problem(400, "", "fee too low", TX.txid, "min 100")


@pytest.mark.parametrize(
    ("status", "retry", "verdict"),
    [
        (400, False, Verdict.PENDING),
        (401, False, Verdict.PENDING),
        (404, True, Verdict.PENDING),
        (409, True, Verdict.PENDING),
        (429, True, Verdict.PENDING),
        (460, False, Verdict.PENDING),
        (461, False, Verdict.REJECTED),
        (465, False, Verdict.REJECTED),
        (466, False, Verdict.DOUBLE_SPEND),
        (469, False, Verdict.PENDING),
        (473, False, Verdict.REJECTED),
        (475, False, Verdict.PENDING),
        (476, True, Verdict.PENDING),
        (418, False, Verdict.PENDING),
        (503, True, Verdict.PENDING),
    ],
)
def test_a_problem_says_whether_to_retry_and_whether_the_bytes_are_dead(status: int, retry: bool, verdict: Verdict) -> None:
    problem = Problem(status)
    assert (problem.retry, problem.verdict) == (retry, verdict)
    assert problem.meaning


def test_a_batch_mixes_states_and_problems_under_200() -> None:
    answers = [STATE, Problem(461, "t", "d", TX.txid)]
    assert arc.parse_answers(200, arc.answers_json(answers)) == tuple(answers)
    assert arc.parse_answers(400, b"{}") == (Problem(400),)
    for wrong in (b"{}", b"[1]", b"[{}]"):
        with pytest.raises(RemoteProtocolError):
            arc.parse_answers(200, wrong)


def test_a_submission_is_read_in_all_three_forms() -> None:
    raw = TX.raw
    forms = {
        "application/json; charset=utf-8": json.dumps(arc.submit_json(raw)).encode(),
        "text/plain": raw.hex().upper().encode() + b"\n",
        "application/octet-stream": raw,
    }
    assert {arc.parse_submit(kind, body) for kind, body in forms.items()} == {raw}
    for kind, body in (("application/json", b"{}"), ("text/plain", b"zz"), ("text/plain", b""), (arc.OCTETS, b""), ("a/b", raw)):
        with pytest.raises(RemoteProtocolError):
            arc.parse_submit(kind, body)


def test_a_batch_is_read_in_all_three_forms() -> None:
    two = (TX.raw, coin(5, b"other").raw)
    forms = {
        "application/json": json.dumps([arc.submit_json(raw) for raw in two]).encode(),
        "text/plain": b"\n".join(raw.hex().encode() for raw in two),
        "application/octet-stream": b"".join(two),
    }
    assert {arc.parse_submits(kind, body) for kind, body in forms.items()} == {two}
    for kind, body in (
        ("application/json", b"[]"),
        ("application/json", b"{}"),
        (arc.OCTETS, TX.raw[:-1]),
        (arc.OCTETS, b""),
        ("x", b""),
    ):
        with pytest.raises(RemoteProtocolError):
            arc.parse_submits(kind, body)


def test_request_headers_carry_only_what_was_asked() -> None:
    assert arc.submit_headers() == {"content-type": "application/octet-stream"}
    asked = arc.submit_headers(
        callback="https://me.example/cb", callback_token="t", wait_for="SEEN_ON_NETWORK", full_updates=True
    )
    assert asked == {
        "content-type": "application/octet-stream",
        "x-callbackurl": "https://me.example/cb",
        "x-callbacktoken": "t",
        "x-waitfor": "SEEN_ON_NETWORK",
        "x-fullstatusupdates": "true",
    }


@pytest.mark.row("P-PUB-22")
def test_the_quoted_policy_is_the_fee_rate() -> None:
    rate = FeeRate(100, 1000)
    assert arc.parse_policy(json.dumps(arc.policy_answer(rate, "2024-01-01T00:00:00Z")).encode()) == rate
    assert arc.parse_policy(b'{"miningFee":{"satoshis":1,"bytes":1000}}') == FeeRate(1, 1000)
    for wrong in (
        b"{}",
        b'{"policy":{"miningFee":{"satoshis":1,"bytes":0}}}',
        b'{"policy":{"miningFee":{"satoshis":-1,"bytes":1}}}',
    ):
        with pytest.raises(RemoteProtocolError):
            arc.parse_policy(wrong)


def test_health() -> None:
    assert arc.parse_health(200, b'{"healthy":true}')
    assert not arc.parse_health(200, b"{}")
    assert not arc.parse_health(503, b"<html>")
