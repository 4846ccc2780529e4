"""The pure parts of a sale: states, tokens, samples, ranges."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.gateway.ranges import matches, span
from reconciler.model.errors import Invariant, Refused
from reconciler.model.sale import Method, Payment, PaymentState
from reconciler.sales.sample import MAX_SAMPLE, sample_of
from reconciler.sales.states import FOLLOWS, followed, moved
from reconciler.sales.token import Access, read_token, write_token

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PAID = Payment("r", "Identity/desk", "02" + "aa" * 32, 100, Method.BRC105, NOW)
ACCESS = Access(NOW + timedelta(hours=1), "02" + "aa" * 32, "cd" * 32, "ef" * 16)


# --- states ---------------------------------------------------------------------------------------


def test_the_table_names_every_state_and_no_other_step_is_taken() -> None:
    assert set(FOLLOWS) == set(PaymentState)
    for before, after in product(PaymentState, PaymentState):
        payment = replace(PAID, state=before)
        if after in FOLLOWS[before]:
            assert moved(payment, after, NOW).state is after
        else:
            with pytest.raises(Invariant):
                moved(payment, after, NOW)


def test_a_block_confirms_once_and_a_reorganisation_takes_it_back() -> None:
    confirmed = followed(PAID, "mined", NOW)
    assert confirmed is not None and confirmed.confirmed == NOW
    assert followed(confirmed, "mined", NOW) is None
    back = followed(confirmed, "seen", NOW + timedelta(hours=1))
    assert back is not None and back.state is PaymentState.PENDING
    again = followed(back, "mined", NOW + timedelta(hours=2))
    assert again is not None and again.confirmed == NOW, "the first time it was in a block"
    assert followed(replace(PAID, state=PaymentState.REFUNDING), "rejected", NOW) is None
    assert followed(PAID, "lost", NOW) is None


# --- tokens ---------------------------------------------------------------------------------------


def mac(purpose: str, message: bytes) -> bytes:
    return sha256(b"secret" + purpose.encode() + message).digest()


def test_a_token_says_what_it_was_written_for_until_it_expires() -> None:
    text = write_token(ACCESS, mac)
    assert read_token(text, mac, NOW) == ACCESS
    with pytest.raises(Refused) as caught:
        read_token(text, mac, ACCESS.expires)
    assert caught.value.code == "token-expired"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_other_text_is_a_token(data: st.DataObject) -> None:
    text = write_token(ACCESS, mac)
    at = data.draw(st.integers(0, len(text) - 1))
    other = text[:at] + data.draw(st.characters()) + text[at + data.draw(st.integers(0, 1)) :]
    if other != text:
        with pytest.raises(Refused) as caught:
            read_token(other, mac, NOW)
        assert caught.value.code == "bad-token"
    with pytest.raises(Refused):
        read_token(data.draw(st.text(max_size=30)), mac, NOW)


# --- ranges ---------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 50), st.integers(0, 60) | st.none(), st.integers(0, 60) | st.none())
def test_a_range_is_what_slicing_would_give(size: int, first: int | None, last: int | None) -> None:
    whole = bytes(range(size))
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    want = whole[-last:] if first is None and last else whole[first : None if last is None else last + 1]
    try:
        found = span(header, size)
    except ValueError:
        assert (first is None and last == 0) or (first is not None and first >= size)
        return
    if found is None:
        assert (first is None and last is None) or (first is not None and last is not None and last < first)
    else:
        assert whole[found[0] : found[1]] == want != b""


def test_conditions_name_tags() -> None:
    assert matches('"a", W/"b"', '"b"') and matches("*", '"b"') and not matches('"a"', '"b"') and not matches(None, '"b"')


# --- samples --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "kind", "sample", "want"),
    [
        (b"h\n1\n2\n3\n", "text/csv", {"rows": 2}, b"h\n1\n2\n"),
        (b"1\n2\n3\n", "application/x-ndjson; charset=utf-8", {"rows": 2}, b"1\n2\n"),
        (b"abcdef", "application/octet-stream", {"bytes": 4}, b"abcd"),
        (b'[ {"a": 1},\n {"a": 2}, {"a": 3}]', "application/json", {"rows": 2}, b'[\n {\n  "a": 1\n },\n {\n  "a": 2\n }\n]'),
        (b'{"a": 1}\n', "application/json", {"rows": 2}, b'{"a": 1}\n'),
        (b"x" * 3 * MAX_SAMPLE, "text/plain", {"bytes": 2 * MAX_SAMPLE}, b"x" * MAX_SAMPLE),
        (b"ab\n" * MAX_SAMPLE, "text/plain", {"rows": 10**9}, b"ab\n" * (MAX_SAMPLE // 3)),
    ],
)
def test_a_sample_is_the_beginning(tmp_path: Path, content: bytes, kind: str, sample: dict[str, int], want: bytes) -> None:
    place = tmp_path / "file"
    place.write_bytes(content)
    assert sample_of(place, kind, sample) == want
