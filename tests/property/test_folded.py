"""A folded object is the object it was made of, to everyone who looks at it, and to the planner."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.canonical import compact, digest
from reconciler.model.codec import encode
from reconciler.model.folded import Folded, Press
from reconciler.model.record import Record
from reconciler.planner.diff import compare, same
from tests.property.test_planner import BODIES, LAWS, VALUES, Scene, any_scene

SHARED = st.dictionaries(st.sampled_from(["using", "exports"]), VALUES, max_size=1)


@LAWS
@given(BODIES, SHARED)
def test_folding_loses_nothing(own: dict[str, Any], shared: dict[str, Any]) -> None:
    whole = {**own, **shared}
    folded = Folded(own, shared)
    assert folded == whole and whole == folded
    assert list(folded) == list(whole) and len(folded) == len(whole)
    assert {key: folded[key] for key in folded} == whole
    assert encode(folded) == encode(whole) and digest(folded) == digest(whole)
    assert same(folded, whole) and same(whole, folded) and compare(folded, whole) == ()
    assert folded.says(whole, same) and repr(folded) == repr(whole)


@LAWS
@given(st.lists(BODIES, min_size=1, max_size=4), SHARED)
def test_packing_loses_nothing_whatever_came_first(many: list[dict[str, Any]], shared: dict[str, Any]) -> None:
    press = Press()
    for packed, whole in [(Folded(one, shared, press), {**one, **shared}) for one in many]:
        assert packed == whole and whole == packed
        assert list(packed) == list(whole) and len(packed) == len(whole) and repr(packed) == repr(whole)
        assert encode(packed) == encode(whole) and digest(packed) == digest(whole)
        assert same(packed, whole) and same(whole, packed) and compare(packed, whole) == ()
        assert packed.says(whole, same) and not packed.says({**whole, "another": 1}, same)


def test_what_resembles_the_first_takes_little_and_half_a_pair_of_surrogates_comes_back() -> None:
    press = Press()
    first, second = ({"digest": digit * 64, "host": "http://eu1.example.com", "text": "\ud83d"} for digit in "ab")
    assert (dict(Folded(first, press=press)), dict(Folded(second, press=press))) == (first, second)
    assert len(press.packed(compact(second))) < 20


@LAWS
@given(BODIES, SHARED, BODIES, SHARED)
def test_what_a_text_says_is_the_same_value(
    own: dict[str, Any], shared: dict[str, Any], other: dict[str, Any], theirs: dict[str, Any]
) -> None:
    whole = {**other, **theirs}
    if Folded(own, shared).says(whole, same):
        assert same({**own, **shared}, whole)


def test_one_and_true_are_told_apart() -> None:
    folded = Folded({"count": 1}, {"using": {"flag": True}})
    assert folded.says({"count": 1, "using": {"flag": True}}, same)
    assert not folded.says({"count": True, "using": {"flag": True}}, same)
    assert not folded.says({"count": 1, "using": {"flag": 1}}, same)
    assert not folded.says({"count": 1}, same)


def test_what_no_text_can_hold_is_not_said() -> None:
    assert not Folded({"spec": {}}).says({"spec": Folded({})}, same)


def fold(record: Record) -> Record:
    """The record as the ledger's reader in bulk hands it out."""
    own = {key: value for key, value in record.body.items() if key != "using"}
    shared = {"using": record.body["using"]} if "using" in record.body else {}
    facts = Folded(record.status.facts)
    return replace(record, body=Folded(own, shared), outputs=Folded(record.outputs), status=replace(record.status, facts=facts))


@LAWS
@given(any_scene())
def test_a_plan_does_not_depend_on_how_records_are_held(scene: Scene) -> None:
    folded = replace(scene, records={ref: fold(record) for ref, record in scene.records.items()})
    assert folded.plan() == scene.plan()
    assert folded.plan().id == scene.plan().id
