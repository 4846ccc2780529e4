"""A producer is its key: another one is believed at its address only when both keys said so."""

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from reconciler.consumer.pins import Pin, followed, origin_of, pin, pinned, require
from reconciler.model.canonical import canonical
from reconciler.model.errors import GuardRefused
from reconciler.wire import keys, succession
from reconciler.wire.message import key_id_for, sign_message

SECRETS = [keys.sha256(name) for name in (b"first", b"second", b"third")]
FIRST, SECOND, THIRD = (keys.public_key(secret).hex() for secret in SECRETS)
URL = "https://Shop.Example.com:8443/content?x=1"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Rows:
    """Named rows and notes, as a ledger's transaction has them."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.notes: list[str] = []

    def get(self, name: str) -> Any:
        return self.rows.get(name)

    def put(self, name: str, value: Any) -> None:
        self.rows[name] = value

    def note(self, ref: object, moment: datetime, event: str, detail: dict[str, Any]) -> None:
        self.notes.append(f"{event} {detail['how']} {detail['key'][:8]}")


def profile(*links: tuple[int, int], signer: str, by: int | None = None) -> dict[str, Any]:
    """An identity's document whose key changed hands so; `by` signs in the place of the new key."""
    said = []
    for old, new in links:
        names = [keys.public_key(SECRETS[one]).hex() for one in (old, new)]
        told = succession.statement("desk", *names, "2026-01-01T00:00:00Z", "2026-01-08T00:00:00Z", None)
        message = canonical(told)
        marks = []
        for one in (old, new if by is None else by):
            public = keys.public_key(SECRETS[one])
            value = base64.b64encode(sign_message(SECRETS[one], message, key_id_for(public, message))).decode()
            marks.append({"signer": public.hex(), "value": value})
        said.append({"statement": told, "signatures": marks})
    return {"type": "IdentityProfile", "name": "desk", "publicKey": signer, "successions": said}


@pytest.mark.row("C-17")
def test_the_first_key_stays_unless_a_signed_succession_leads_on() -> None:
    rows: Any = Rows()
    assert pinned(rows, URL) is None and require(None, URL, FIRST)
    pin(rows, URL, FIRST, NOW)
    known = pinned(rows, "https://shop.example.com:8443")
    assert known == Pin("https://shop.example.com:8443", FIRST, "2026-03-01T00:00:00Z", "first-use")
    assert not require(known, URL, FIRST)
    with pytest.raises(GuardRefused, match=f"pinned since 2026-03-01T00:00:00Z is {FIRST}"):
        require(known, URL, SECOND)
    # Two steps lead from the first key to the third; a profile without the first does not.
    assert require(known, URL, THIRD, followed(profile((0, 1), (1, 2), signer=THIRD), THIRD))
    for others in (profile((1, 2), signer=THIRD), profile(signer=THIRD), profile((0, 2), signer=THIRD, by=1)):
        with pytest.raises(GuardRefused):
            require(known, URL, THIRD, followed(others, THIRD))
    pin(rows, URL, THIRD, NOW)
    pin(rows, URL, THIRD, NOW)
    after = pinned(rows, URL)
    assert after is not None and (after.key, after.how, after.before) == (THIRD, "succession", (FIRST,))
    assert rows.notes == [f"producer.pinned first-use {FIRST[:8]}", f"producer.pinned succession {THIRD[:8]}"]


def test_a_pin_is_about_scheme_host_and_port() -> None:
    assert origin_of("https://user@Host.example/x") == "https://host.example"
    assert origin_of("http://host.example") != origin_of("https://host.example")
