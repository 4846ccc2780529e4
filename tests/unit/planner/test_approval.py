"""m of n: whose signature counts, for what, and what it lets pass."""

from dataclasses import replace
from typing import Any

import pytest

from reconciler.manifest.policies import compiled
from reconciler.model.approval import Approval
from reconciler.planner.approval import Seat, tally
from reconciler.planner.policy import document
from reconciler.planner.render import as_text
from reconciler.planner.rules import limits_of

ANN, BOB, CYD, EVE = ("02" + digit * 64 for digit in "1234")
KEYS = [{"name": "ann", "publicKey": ANN}, {"name": "bob", "publicKey": BOB}, {"name": "cyd", "publicKey": CYD}]
RETIRES = {"properties": {"totals": {"properties": {"retire": {"minimum": 1}}}}}


def panel(**said: Any) -> Any:
    return limits_of({"approvals": {"keys": KEYS, **said}}, compiled).panel


def by(made: Any, key: str, *guards: str, **more: str) -> Approval:
    return replace(Approval(made.id, made.digest, key, guards), **more)


@pytest.fixture
def made(market: Any) -> Any:
    market.undeclare("Dataset/eth")
    market.undeclare("Advertisement/btc")
    return market.plan(delete_count=1)


@pytest.mark.row("S-13")
def test_so_many_distinct_keys_must_sign(made: Any) -> None:
    two = panel(required=2)
    one = tally(made, two, 2, [by(made, ANN), by(made, ANN, approver="ann again")])
    assert (len(one.counted), one.enough, one.passes) == (1, False, frozenset())
    both = tally(made, two, 2, [by(made, ANN), by(made, BOB)])
    assert (len(both.counted), both.enough, both.passes) == (2, True, {"approvals"})


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"plan": "pl_0000000000"}, "it is for plan pl_0000000000"),
        ({"sha256": "00" * 32}, "it is for other content under the same id"),
        ({"key": EVE}, "its key is not among approvals.keys"),
    ],
)
def test_another_plan_other_content_or_a_stranger_never_counts(made: Any, changed: dict[str, str], why: str) -> None:
    other = by(made, changed.pop("key", BOB), "deletes", **changed)
    found = tally(made, panel(required=1), 1, [other])
    assert (found.counted, found.enough, found.passes) == ((), False, frozenset())
    assert found.ignored == ((other, why),)


def test_a_refusal_passes_when_as_many_name_it_as_must_sign(made: Any) -> None:
    two = panel(required=2)
    assert tally(made, two, 2, [by(made, ANN, "deletes"), by(made, BOB)]).passes == {"approvals"}
    assert tally(made, two, 2, [by(made, ANN, "deletes"), by(made, BOB, "deletes")]).passes == {"approvals", "deletes"}
    # Without any number, one signature lets pass what it names, and "approvals" is nothing that can be named.
    assert tally(made, panel(), 0, [by(made, ANN, "deletes", "approvals")]).passes == {"deletes"}


def test_rules_ask_for_more_where_they_match(market: Any) -> None:
    rules = [{"name": "goes", "when": RETIRES, "required": 2}, {"when": {"type": "object"}, "required": 1}]
    some = panel(rules=rules)
    market.change("Dataset/eth", spec={"identityRef": "main", "networkRef": "net", "title": "new"})
    shown = document(market.plan())
    assert some.needed(shown, []) == (1, ("rule 2",))
    market.undeclare("Dataset/eth")
    made = market.plan(panel=some)
    assert [(guard.name, guard.message) for guard in made.refusals] == [("approvals", "2 of ann, bob, cyd must sign (goes)")]
    assert "Refused until it is signed" in as_text(made)


def test_a_word_at_the_terminal_does_not_replace_a_signature(market: Any) -> None:
    market.undeclare("Dataset/eth")
    market.undeclare("Advertisement/btc")
    strict = panel(guards=["deletes", "policy:*"])
    made = market.plan(delete_count=1, panel=strict, approved=frozenset({"deletes", "approvals"}))
    assert [guard.name for guard in made.refusals] == ["deletes", "approvals"]
    assert made.refusals[1].message == "1 of ann, bob, cyd must sign (deletes)"
    assert strict.signed("policy:anything") and strict.signed("approvals") and not strict.signed("changes")
    loose = market.plan(delete_count=1, panel=panel(), approved=frozenset({"deletes"}))
    assert loose.refusals == ()


def test_nothing_to_do_needs_nobody(market: Any) -> None:
    assert market.plan(panel=panel(required=3)).guards == market.plan().guards


@pytest.mark.row("S-13")
def test_a_seat_counts_its_own_keys_and_no_others(made: Any) -> None:
    own = Seat("Identity/desk", 1, frozenset({CYD, EVE}))
    both = replace(panel(required=1, keys=KEYS[:2]), seats=(own,))
    word = f"1 of desk:{CYD[:8]}, desk:{EVE[:8]} must sign for Identity/desk"
    verdict = both.verdict(document(made), [])
    assert verdict is not None and verdict.message == f"1 of ann, bob must sign; {word}"
    cases = [
        ((), ("1 more of ann, bob must sign", word)),
        ((ANN,), (word,)),
        ((ANN, BOB), (word,)),
        ((EVE,), ("1 more of ann, bob must sign",)),
        ((CYD, EVE), ("1 more of ann, bob must sign",)),
        ((ANN, EVE), ()),
    ]
    for keys, lacking in cases:
        found = tally(made, both, 1, [by(made, key) for key in keys])
        assert (found.lacking, found.enough) == (lacking, not lacking)
        assert found.passes == (set() if lacking else {"approvals"})
    # Who has a seat lets no other refusal pass.
    assert tally(made, both, 1, [by(made, EVE, "deletes"), by(made, CYD, "deletes")]).passes == frozenset()
    alone = replace(panel(required=0), seats=(own,))
    assert not tally(made, alone, 0, []).enough and tally(made, alone, 0, [by(made, CYD)]).passes == {"approvals"}
