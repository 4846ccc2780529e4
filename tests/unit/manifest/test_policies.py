"""A policy that could never speak is refused where it is written."""

from typing import Any

import pytest

from reconciler.manifest.policies import MAX_DEPTH, MAX_NODES, compiled, faults
from reconciler.manifest.process import read_settings
from reconciler.planner.policy import document_schema

SHAPE = document_schema()
_IN_CHANGES, _IN_TOTALS = "properties/changes/contains/properties/", "properties/totals/"


LISTED = {"properties": {"totals": {"contains": {"const": 3}}}}


def told(when: Any) -> list[tuple[str, str, str]]:
    found = [("/".join(map(str, fault.path)), fault.code, fault.message) for fault in faults(when, SHAPE, ())]
    return [(path.replace(_IN_CHANGES, "…/").replace(_IN_TOTALS, "…/"), code, message) for path, code, message in found]


def totals(**said: Any) -> dict[str, Any]:
    return {"properties": {"totals": {"properties": said}}}


def changes(**said: Any) -> dict[str, Any]:
    return {"properties": {"changes": {"contains": {"properties": said, "required": list(said)}}}}


@pytest.mark.parametrize(
    "when",
    [
        totals(retire={"minimum": 1}),
        changes(verb={"enum": ["delete", "replace"]}, ref={"pattern": "^(Dataset|Identity)/"}),
        {"properties": {"environment": {"const": "prod"}, "changes": {"minItems": 5}}, "not": totals(satoshis={"maximum": 10})},
        changes(
            after={"type": "object", "properties": {"spec": {"properties": {"anything": {"const": 3}}, "required": ["anything"]}}}
        ),
        changes(before={"type": ["object", "null"]}, blocked={"const": None}),
        {"type": "object"},
    ],
)
def test_what_can_be_judged_is_let_in(when: Any) -> None:
    assert told(when) == []
    compiled(when)({})


@pytest.mark.parametrize(
    ("when", "fault"),
    [
        (totals(retire={"minimun": 1}), ("…/properties/retire/minimun", "E0107", 'unknown keyword "minimun"')),
        (totals(retired={"minimum": 1}), ("…/properties/retired", "E0107", 'a plan has no field "retired" here')),
        (changes(verbs={"const": "delete"}), ("…/verbs", "E0107", 'a plan has no field "verbs" here')),
        (changes(verb={"const": "deleted"}), ("…/verb/const", "E0110", "'deleted' never stands here")),
        (totals(satoshis={"const": "10"}), ("…/properties/satoshis/const", "E0109", "'10' never stands here: this is integer")),
        (changes(ref={"minimum": 3}), ("…/ref/minimum", "E0109", '"minimum" speaks of a number, and this is string')),
        (LISTED, ("…/contains", "E0109", '"contains" speaks of a list, and this is object')),
        ({"required": ["chnges"]}, ("required/0", "E0107", 'a plan has no field "chnges" here')),
        ({"$ref": "https://example.com/rule.json"}, ("$ref", "E0107", 'unknown keyword "$ref"')),
        ({}, ("", "E0111", "when is empty, so it would mean every plan")),
        ([], ("", "E0109", "when must be a mapping: a JSON Schema of the plans it means")),
    ],
)  # fmt: skip
def test_what_would_never_speak_is_named(when: Any, fault: tuple[str, str, str]) -> None:
    assert fault in told(when)


@pytest.mark.parametrize(
    "when", [changes(ref={"pattern": "("}), totals(retire={"minimum": "x"}), changes(ref={"pattern": "(?=x)y"})]
)
def test_what_cannot_be_compiled_is_named(when: Any) -> None:
    assert [code for _, code, _ in told(when)] == ["E0111"]


def test_a_rule_has_bounds() -> None:
    deep: Any = {"type": "object"}
    for _ in range(MAX_DEPTH + 1):
        deep = {"not": deep}
    assert [code for _, code, _ in told(deep)] == ["E0111"]
    assert "more than" in told({"enum": [None] * MAX_NODES})[0][2]


def test_a_pattern_cannot_be_made_to_backtrack() -> None:
    # On an engine that backtracks this would not end in our lifetime.
    assert not compiled(changes(ref={"pattern": "^(a+)+$"}))({"changes": [{"ref": "a" * 5000 + "!"}]})


SETTINGS = """\
guards: {spend: {kinds: {Datset: {day: 5sat}}}}
policies:
  - {name: one, action: deny, when: {properties: {totals: {properties: {retired: {minimum: 1}}}}}}
  - {name: one, action: warn, when: {type: object}}
approvals:
  required: 2
  keys: [{name: ann, publicKey: "021111111111111111111111111111111111111111111111111111111111111111"}]
"""


def test_settings_that_could_not_be_kept_are_refused_with_their_place() -> None:
    _, found = read_settings(SETTINGS.encode(), "reconciler.yaml", document_schema)
    assert [(one.at.line, one.code) for one in found] == [(1, "E0115"), (3, "E0107"), (4, "E0111"), (6, "E0112")]
    assert found[0].hint == 'did you mean "Dataset"?' and found[1].hint == 'did you mean "retire"?'
    assert found[3].message == "2 must sign, and 1 can: no plan would ever pass"
