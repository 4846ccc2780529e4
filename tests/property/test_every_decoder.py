"""Whatever a stranger sends to any decoder raises RemoteProtocolError, or nothing. Decoders are found, not listed."""

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.wire import jsontext
from tests.property.decoders import BY_NAME, Fed, decoders, feed, samples, words_of

fuzzing = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
NUMBERS = st.integers(-1, 2**33) | st.sampled_from([2**53, 2**64, -(2**63), 10**30])
HEX = st.binary(max_size=40).map(bytes.hex) | st.binary(min_size=32, max_size=33).map(bytes.hex)


class Drawn:
    """A source that hypothesis draws from, so that a failure shrinks."""

    def __init__(self, data: st.DataObject) -> None:
        self.draw = data.draw

    def bytes(self, words: tuple[str, ...]) -> bytes:
        return self.draw(contents(words))

    def text(self, words: tuple[str, ...]) -> str:
        return self.draw(st.sampled_from(words or ("",)) | st.text(max_size=80) | HEX)

    def integer(self, choices: tuple[int, ...]) -> int:
        return self.draw(st.sampled_from(choices))

    def headers(self, words: tuple[str, ...]) -> dict[str, str]:
        names = st.sampled_from(words or ("",)).map(str.lower) | st.text(max_size=10)
        return self.draw(st.dictionaries(names, st.text(max_size=60) | HEX | NUMBERS.map(str), max_size=8))

    def json(self, words: tuple[str, ...]) -> Any:
        return self.draw(values(words))


@cache
def values(words: tuple[str, ...]) -> st.SearchStrategy[Any]:
    """JSON that speaks of what the decoder knows."""
    known = st.sampled_from(words or ("",))
    leaves = st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False) | st.text(max_size=10) | HEX | known
    members = known | st.text(max_size=6)
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(members, inner, max_size=8), max_leaves=10
    )


@cache
def contents(words: tuple[str, ...]) -> st.SearchStrategy[bytes]:
    """Damaged honest bytes, bytes of no meaning, and JSON."""
    return st.one_of(mutated().map(bytes), st.binary(max_size=200), values(words).map(lambda value: json.dumps(value).encode()))


@st.composite
def mutated(draw: st.DrawFn) -> bytearray:
    """An honest sample with up to three pieces overwritten, put in or taken out."""
    raw = bytearray(draw(st.sampled_from(samples())))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(raw) - 1)))
        piece = draw(st.binary(max_size=6) | st.sampled_from([b"\xff" * 9, b"\xfd\xff\xff", b"\0" * 8, b'"', b"{", b"-1", b"[]"]))
        raw[at : at + draw(st.integers(0, 4))] = piece
    return raw


@pytest.mark.parametrize("name", sorted(decoders()))
@fuzzing
@given(st.data())
def test_a_decoder_raises_remote_protocol_error_or_nothing(name: str, data: st.DataObject) -> None:
    feed(name, Drawn(data))


def test_every_decoder_is_found() -> None:
    """By its name; what has another one is listed, and is there."""
    found = decoders()
    assert set(found) >= BY_NAME
    assert {"beef.parse_beef", "bump.read_bump", "document.open_envelope", "approval.read_approval", "arc.parse_callback"} <= set(
        found
    )
    assert jsontext.parse.__name__ == "parse", "the one that all JSON decoders share is reached through them"


def test_honest_bytes_are_accepted_by_somebody() -> None:
    """Else the fuzzers would begin with garbage."""
    for sample in samples():
        takers = [name for name in decoders() for front in (b"", b"\0", b"\1", b"\2") if feed(name, Fed(front + sample))]
        assert takers, sample[:60]


def test_the_words_of_a_file_are_known() -> None:
    assert {"txid", "txStatus", "merklePath", "competingTxs"} <= set(words_of("arc.parse_callback"))
