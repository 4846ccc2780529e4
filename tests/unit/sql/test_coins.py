"""Which coin pays for what."""

from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.adapters.sql.coins import assign, insufficient, is_inside
from reconciler.model.errors import Invariant
from reconciler.model.ref import Outpoint

PURSE = st.lists(st.integers(1, 60), max_size=6).map(lambda values: [(satoshis, f"c{i}") for i, satoshis in enumerate(values)])
NEEDS = st.lists(st.integers(1, 60), max_size=4)


def can_pay(needs: list[int], purse: list[tuple[int, str]]) -> bool:
    """By trying every arrangement."""
    tries = permutations([satoshis for satoshis, _ in purse], len(needs))
    return any(all(have >= need for have, need in zip(got, needs, strict=True)) for got in tries)


@given(needs=NEEDS, purse=PURSE)
@settings(max_examples=200, deadline=None)
def test_needs_are_met_whenever_they_can_be_and_no_coin_serves_two(needs: list[int], purse: list[tuple[int, str]]) -> None:
    worth = {name: satoshis for satoshis, name in purse}
    got = assign(needs, [], purse)
    if isinstance(got, int):
        assert got in needs
        assert not can_pay(needs, purse)
        return
    assert all(worth[name] >= need for name, need in zip(got, needs, strict=True))
    assert max(Counter(got).values(), default=1) == 1
    again = assign(needs, [(worth[name], name) for name in got], [coin for coin in purse if coin[1] not in got])
    assert again == got


def test_the_smallest_sufficient_coin_is_taken_and_a_held_one_before_a_free_one() -> None:
    assert assign([50], [], [(500, "big"), (60, "small"), (10, "tiny")]) == ["small"]
    assert assign([50], [(500, "held")], [(60, "small")]) == ["held"]
    assert assign([50, 50], [(500, "held")], [(60, "small")]) == ["held", "small"]
    assert assign([50, 70], [], [(60, "small")]) == 70


def test_the_largest_need_chooses_first() -> None:
    assert assign([50, 70], [], [(70, "exact"), (80, "larger")]) == ["larger", "exact"]


@pytest.mark.parametrize("need", [0, -5])
def test_a_need_of_nothing_is_our_own_mistake(need: int) -> None:
    with pytest.raises(Invariant, match="at least 1 satoshi"):
        assign([need], [], [(60, "small")])


def test_the_refusal_says_what_is_needed_what_there_is_and_how_much_to_send() -> None:
    error = insufficient("main", [900, 300], 900, [500, 400])
    assert error.code == "insufficient-funds"
    assert error.message == (
        "cannot fund this on main: it needs 1200 satoshis in 2 coins, 900 of them in one coin; "
        "900 satoshis are free in 2 coins, the largest 500"
    )
    assert error.hint is not None and "send at least 900 satoshis" in error.hint


def test_an_outpoint_is_recognised_inside_bytes_in_wire_order() -> None:
    outpoint = Outpoint("00" * 31 + "ff", 258)
    raw = b"\x01" + b"\xff" + bytes(31) + b"\x02\x01\x00\x00" + b"\x00"
    assert is_inside(outpoint, raw)
    assert not is_inside(Outpoint(outpoint.txid, 259), raw)
