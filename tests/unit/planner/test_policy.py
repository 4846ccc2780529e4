"""Rules over a plan's document: what each says, in which order, and that the document is what the schema promises."""

from dataclasses import replace
from typing import Any

import jsonschema_rs
import pytest

from reconciler.manifest.policies import compiled
from reconciler.model.ref import ResourceRef
from reconciler.planner.guard import Limits
from reconciler.planner.markdown import as_markdown
from reconciler.planner.policy import ASK, DENY, WARN, Policy, document, document_schema
from reconciler.planner.render import as_json, as_text
from reconciler.planner.rules import limits_of

RETIRES = {"properties": {"totals": {"properties": {"retire": {"minimum": 1}}}}}
DATASET_GOES = {
    "properties": {
        "changes": {
            "contains": {
                "properties": {"verb": {"const": "delete"}, "ref": {"pattern": "^Dataset/"}},
                "required": ["verb", "ref"],
            }
        }
    }
}


def policy(action: str, when: dict[str, Any] = RETIRES, message: str = "keep it") -> Policy:
    return Policy("keep", action, when, compiled(when), message)


def said(made: Any) -> list[tuple[str, bool, str]]:
    return [(guard.name, guard.ok, guard.message) for guard in made.guards if guard.name.startswith("policy:")]


@pytest.mark.parametrize(
    ("action", "ok", "message"),
    [(DENY, False, "denied: keep it"), (ASK, False, "keep it"), (WARN, True, "warning: keep it")],
)
def test_a_policy_speaks_where_it_matches_and_only_there(market: Any, action: str, ok: bool, message: str) -> None:
    market.change("Dataset/eth", spec={"identityRef": "main", "networkRef": "net", "title": "new"})
    assert said(market.plan(policies=(policy(action),))) == [("policy:keep", True, "does not apply")]
    market.undeclare("Dataset/eth")
    assert said(market.plan(policies=(policy(action),))) == [("policy:keep", ok, message)]
    assert said(market.plan(policies=(policy(action, DATASET_GOES),))) == [("policy:keep", ok, message)]
    market.declare("Dataset/eth", {"identityRef": "main", "networkRef": "net", "title": "new"}, "Identity/main", "Network/net")


def test_a_ban_is_lifted_by_nobody_and_a_question_by_one_word(market: Any) -> None:
    market.undeclare("Dataset/eth")
    word = frozenset({"policy:keep"})
    assert [guard.name for guard in market.plan(policies=(policy(DENY),), approved=word).refusals] == ["policy:keep"]
    assert [guard.name for guard in market.plan(policies=(policy(ASK),)).refusals] == ["policy:keep"]
    assert said(market.plan(policies=(policy(ASK),), approved=word)) == [("policy:keep", True, "approved (keep it)")]


def test_a_plan_that_does_nothing_offends_no_policy(market: Any) -> None:
    always = policy(DENY, {"type": "object"})
    made = market.plan(policies=(always,))
    assert made.acting == () and made.refusals == () and said(made) == []


def test_verdicts_stand_after_the_budgets_and_before_the_signatures(market: Any) -> None:
    market.undeclare("Dataset/eth")
    values = {"approvals": {"required": 1, "keys": [{"name": "ann", "publicKey": "02" + "11" * 32}]}}
    panel = limits_of(values, compiled).panel
    made = market.plan(spend_run=10, policies=(policy(WARN), replace(policy(DENY), name="never")), panel=panel)
    names = [guard.name for guard in made.guards]
    assert names == ["empty-source", "deletes", "spend-run", "funds", "policy:keep", "policy:never", "approvals"]


def test_every_form_of_the_plan_tells_the_verdicts(market: Any) -> None:
    market.undeclare("Dataset/eth")
    made = market.plan(policies=(policy(WARN), replace(policy(DENY), name="never")))
    text, page, shown = as_text(made), as_markdown(made), as_json(made)
    assert "policy:keep WARNING · policy:never REFUSED" in text
    assert "! policy:keep: warning: keep it" in text and "! policy:never: denied: keep it" in text
    assert "Refused by policy:never, which nobody can let pass" in text
    assert "- ⚠️ **policy:keep** warning: keep it" in page and "- ❌ **policy:never** denied: keep it" in page
    assert {"name": "policy:never", "ok": False, "message": "denied: keep it"} in shown["guards"]


def test_the_document_is_what_its_schema_says_and_knows_nothing_of_policies(market: Any) -> None:
    market.undeclare("Dataset/eth")
    market.change("Dataset/btc", spec={"identityRef": "main", "networkRef": "net", "title": "new"})
    made = market.plan(policies=(policy(DENY),))
    shown = document(made)
    jsonschema_rs.Draft202012Validator(document_schema()).validate(shown)
    assert "id" not in shown and [guard["name"] for guard in shown["guards"]] == ["empty-source", "deletes", "funds"]
    assert shown == {**document(replace(made, guards=made.guards[:3]))}
    assert {change["verb"] for change in shown["changes"]} == {"delete", "update", "none"}


def test_secrets_are_not_shown_to_policies(market: Any) -> None:
    market.change("Dataset/btc", spec={"identityRef": "main", "networkRef": "net", "secret": "hunter2"})
    assert "hunter2" not in str(document(market.plan()))


def test_budgets_of_kinds_count_what_is_spent_and_what_is_set_aside(market: Any) -> None:
    market.change("Dataset/eth", spec={"identityRef": "main", "networkRef": "net", "storage": 60})
    recorded = market.recorded
    btc, eth = ResourceRef("Dataset", "btc"), ResourceRef("Dataset", "eth")
    market.recorded = lambda: replace(recorded(), spent_kinds={"Dataset": 500, "Identity": 7}, reserved={btc: 300, eth: 999})
    limits = {"spend_kinds": {"Dataset": 900, "Identity": 1}}
    made = market.plan(**limits)
    # What eth has set aside is what this plan replaces; 500 + 300 + 100 is just enough. Identity spends nothing.
    assert [guard.name for guard in made.guards if guard.name.startswith("spend-")] == ["spend-day:Dataset"]
    assert made.refusals == ()
    limits["spend_kinds"]["Dataset"] = 899
    assert [guard.name for guard in market.plan(**limits).refusals] == ["spend-day:Dataset"]
    assert market.plan(**limits, approved=frozenset({"spend-day:Dataset"})).refusals == ()
    assert [guard.name for guard in market.plan(spend_day=399).refusals] == ["spend-day"]
    assert market.plan(spend_day=400).refusals == ()


def test_changes_are_bounded_by_count_whatever_their_number(market: Any) -> None:
    for name in ("eth", "btc"):
        market.change(f"Dataset/{name}", spec={"identityRef": "main", "networkRef": "net", "title": "new"})
    touched = len(market.plan().acting)
    assert market.plan(change_count=touched).refusals == ()
    made = market.plan(change_count=touched - 1)
    assert [guard.name for guard in made.refusals] == ["changes"]
    assert f"more than {touched - 1} at once" in next(guard.message for guard in made.guards if guard.name == "changes")


def test_settings_become_limits() -> None:
    values = {
        "guards": {"deletes": {"count": 2}, "changes": {"count": 3}, "spend": {"run": 5, "kinds": {"Dataset": {"day": 7}}}},
        "policies": [{"name": "keep", "action": "deny", "when": RETIRES}],
    }
    limits = limits_of(values, compiled)
    assert (limits.delete_count, limits.delete_percent, limits.change_count) == (2, 30, 3)
    assert (limits.spend_run, limits.spend_kinds, limits.panel) == (5, {"Dataset": 7}, None)
    # The same words are the same limits, however often they are compiled: a daemon that reads them again sees no change.
    assert limits == limits_of(values, compiled) and limits != Limits()
