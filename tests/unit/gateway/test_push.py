"""The door for pushes: who is let in, about which branch, and how little that means."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.gateway.push import MAX_BODY, Receiver, authentic, ref_of

SECRET = b"a secret between two"
MAIN = json.dumps({"ref": "refs/heads/main", "after": "ab" * 20, "commits": []}).encode()


def mac(body: bytes, secret: bytes = SECRET) -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def standard(body: bytes, secret: bytes = SECRET, id_: str = "msg_1", moment: str = "1767225600") -> dict[str, str]:
    signed = hmac.new(secret, f"{id_}.{moment}.".encode() + body, hashlib.sha256).digest()
    return {"webhook-id": id_, "webhook-timestamp": moment, "webhook-signature": f"v1,{base64.b64encode(signed).decode()}"}


def github(body: bytes, event: str = "push") -> dict[str, str]:
    return {"x-github-event": event, "x-hub-signature-256": f"sha256={mac(body)}", "content-type": "application/json"}


def gitea(body: bytes) -> dict[str, str]:
    return {"x-gitea-event": "push", "x-gitea-signature": mac(body), "content-type": "application/json"}


def forgejo(body: bytes) -> dict[str, str]:
    return {
        **gitea(body),
        "x-forgejo-event": "push",
        "x-forgejo-signature": mac(body),
        "x-hub-signature-256": f"sha256={mac(body)}",
    }


def gitlab(body: bytes) -> dict[str, str]:
    return {"x-gitlab-event": "Push Hook", "x-gitlab-token": SECRET.decode(), "content-type": "application/json"}


def gitlab_signed(body: bytes) -> dict[str, str]:
    return {"x-gitlab-event": "Push Hook", **standard(body), "content-type": "application/json"}


SENDERS = [github, gitea, forgejo, gitlab, gitlab_signed]


class Door:
    """A receiver, and what it made of what came in."""

    def __init__(self) -> None:
        self.hints = 0
        self.results: list[str] = []
        self.receiver = Receiver("refs/heads/main", lambda: SECRET, self.hinted, self.results.append)

    def hinted(self) -> None:
        self.hints += 1

    def post(self, body: bytes | AsyncIterator[bytes], headers: dict[str, str], path: str = "/push") -> httpx.Response:
        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self.receiver.app())
            async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
                return await client.post(path, content=body, headers=headers)

        return asyncio.run(call())


@pytest.mark.row("P-CFG-16")
@pytest.mark.parametrize("sender", SENDERS)
def test_a_push_of_any_host_is_a_hint(sender: Any) -> None:
    door = Door()
    answer = door.post(MAIN, sender(MAIN))
    assert (answer.status_code, answer.json(), door.hints) == (202, {"result": "heard"}, 1)
    # A replay is as good, and as little.
    assert door.post(MAIN, sender(MAIN)).status_code == 202
    assert door.hints == 2


@pytest.mark.parametrize("sender", SENDERS)
def test_whoever_does_not_know_the_secret_is_turned_away(sender: Any, caplog: pytest.LogCaptureFixture) -> None:
    door = Door()
    headers = sender(MAIN)
    other = MAIN.replace(b"commits", b"commitz")
    assert door.post(other, headers).status_code == (202 if sender is gitlab else 401), "the body is signed"
    for name in ("x-hub-signature-256", "x-gitea-signature", "x-gitlab-token", "webhook-signature"):
        if name in headers:
            wrong = {**headers, name: headers[name][:-1] + ("0" if headers[name][-1] != "0" else "1")}
            assert door.post(MAIN, wrong).status_code == 401
            assert door.post(MAIN, {**headers, name: ""}).status_code == 401
    bare = {name: value for name, value in headers.items() if "signature" not in name and "token" not in name}
    assert door.post(MAIN, bare).status_code == 401
    assert door.hints == (1 if sender is gitlab else 0)
    refusals = [record for record in caplog.records if record.getMessage() == "push.refused"]
    assert len(refusals) <= 2, "whoever floods the door fills the log"
    assert SECRET.decode() not in caplog.text


def test_one_signature_that_does_not_fit_outweighs_one_that_does() -> None:
    headers = {**gitea(MAIN), "x-hub-signature-256": "sha256=" + "0" * 64}
    assert not authentic(SECRET, headers, MAIN)


def test_a_new_secret_may_be_signed_with_beside_the_old_one() -> None:
    new, old = standard(MAIN), standard(MAIN, b"the old secret")
    both = {**new, "webhook-signature": f"{old['webhook-signature']} {new['webhook-signature']}"}
    assert authentic(SECRET, both, MAIN)
    assert not authentic(b"a third", both, MAIN)
    printed = b"whsec_" + base64.b64encode(b"bytes of a key")
    assert authentic(printed, standard(MAIN, b"bytes of a key"), MAIN)


@pytest.mark.parametrize(
    ("body", "event", "result"),
    [
        ({"ref": "refs/heads/other"}, "push", "ignored"),
        ({"ref": "refs/tags/main"}, "push", "ignored"),
        ({"zen": "be brief"}, "ping", "ignored"),
        ({"ref": "main", "ref_type": "branch"}, "create", "heard"),
        ({"ref": "main", "ref_type": "tag"}, "create", "ignored"),
        ({"anything": 1}, "push", "heard"),
        ([1, 2], "push", "malformed"),
        ({"ref": {"not": "text"}}, "push", "malformed"),
    ],
)
def test_only_our_branch_is_news(body: Any, event: str, result: str) -> None:
    door, raw = Door(), json.dumps(body).encode()
    answer = door.post(raw, github(raw, event))
    assert (answer.json()["result"], answer.status_code) == (result, 400 if result == "malformed" else 202)
    assert door.hints == (result == "heard")
    assert door.results == [result]


def test_a_form_is_read_too() -> None:
    door, raw = Door(), urlencode({"payload": MAIN.decode()}).encode()
    headers = {**github(raw), "content-type": "application/x-www-form-urlencoded"}
    assert door.post(raw, headers).json() == {"result": "heard"}


def test_a_body_has_a_limit_whether_or_not_its_length_is_stated() -> None:
    door = Door()
    assert door.post(b"x" * (MAX_BODY + 1), {}).status_code == 413

    async def endless() -> AsyncIterator[bytes]:
        sent = 0
        while sent < 4 * MAX_BODY:
            sent += 1 << 20
            yield b"x" * (1 << 20)
        pytest.fail("all of it was read")

    assert door.post(endless(), {}).status_code == 413
    assert door.results == ["too-large", "too-large"] and door.hints == 0


def test_there_is_one_door_and_it_takes_posts() -> None:
    door = Door()
    assert door.post(MAIN, github(MAIN), "/").status_code == 404
    assert door.post(MAIN, github(MAIN), "/control/reconcile").status_code == 404


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            ["x-hub-signature-256", "x-gitea-signature", "x-forgejo-signature", "x-gitlab-token", "webhook-signature",
             "webhook-id", "webhook-timestamp"]
        ),
        st.text(max_size=80),
    ),
    st.binary(max_size=200),
)  # fmt: skip
def test_nothing_that_is_not_signed_is_let_in_and_nothing_crashes(headers: dict[str, str], body: bytes) -> None:
    assert not authentic(SECRET, headers, body)
    assert ref_of("application/json", body) is None or body.strip()[:1] == b"{"
    ref_of("application/x-www-form-urlencoded", body)
