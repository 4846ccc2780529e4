"""`approve`, `verify`, `budget` and `cost` as a person uses them: one plan, two signatures, no network for the approver."""

import shutil
from pathlib import Path

import pytest

from reconciler.wire.keys import public_key, wif_encode
from tests.cli.conftest import run
from tests.cli.producer import PRICE, SETTINGS, Producer, fresh

ANN, BOB = bytes.fromhex("55" * 32), bytes.fromhex("66" * 32)
RULES = f"""\
approvals:
  required: 2
  guards: [spend-run]
  keys:
    - {{name: ann, publicKey: "{public_key(ANN).hex()}"}}
    - {{name: bob, publicKey: "{public_key(BOB).hex()}"}}
policies:
  - name: prices-move-slowly
    action: warn
    message: tell the customers first
    when: {{properties: {{changes: {{contains: {{required: [ref], properties: {{ref: {{pattern: ^PricePlan/}}}}}}}}}}}}
"""


@pytest.fixture
def shop(tmp_path: Path, devnet: Path) -> Producer:
    made = fresh(tmp_path / "repo", devnet)
    made.write("reconciler.yaml", SETTINGS + RULES)
    return made


def key(at: Path, name: str, secret: bytes) -> Path:
    file = at / f"{name}.wif"
    file.touch(0o600)
    file.write_text(wif_encode(secret, "devnet") + "\n")
    return file


@pytest.mark.slow
@pytest.mark.row("S-13", "P-CFG-13", "P-SEC-01")
def test_a_plan_goes_to_two_people_and_comes_back_signed(shop: Producer, tmp_path: Path) -> None:
    made = shop("plan", "--out", "plan.json", expect=4)
    assert "approvals REFUSED" in made.out and "policy:prices-move-slowly WARNING" in made.out
    assert "Have it signed with: reconciler approve plan.json" in made.out
    refused = shop("apply", "plan.json", "--approve", "approvals", expect=4)
    assert "guard approvals refuses it (2 of ann, bob must sign)" in refused.err
    assert "reconciler approve plan.json" in refused.err and shop.status()["resources"] == []
    # The approver has the plan, the settings and a key: no ledger, no network, no manifests.
    desk = tmp_path / "desk"
    desk.mkdir()
    for name in ("plan.json", "reconciler.yaml"):
        shutil.copy(shop.root / name, desk / name)
    for name, secret in (("ann", ANN), ("bob", BOB)):
        assert "1 of 2" in run("verify", "plan.json", cwd=desk, expect=4).out or name == "ann"
        signed = run("approve", "plan.json", "--wif-file", key(tmp_path, name, secret), "--reason", "looked at it", cwd=desk)
        assert signed.out == f"plan.json.{name}.sig\n"
    told = run("verify", "plan.json", cwd=desk)
    assert "2 of 2 signatures: enough" in told.out and '"looked at it"' in told.out
    assert run("verify", "plan", "plan.json", "-o", "json", cwd=desk).json["suffices"] is True
    assert not (desk / ".state").exists()
    # One found beside the plan, one named.
    shutil.copy(desk / "plan.json.ann.sig", shop.root)
    applied = shop("apply", "plan.json", "--approval", desk / "plan.json.bob.sig")
    assert "approved by ann" in applied.err and "approved by bob" in applied.err
    assert len(shop.status()["resources"]) == 4
    assert f"plan.approved    {applied.out.split()[0]} by ann, bob" in shop("history").out
    # They approved that plan, and no other.
    shop.write("price.yaml", PRICE.replace("25sat", "26sat"))
    shop("plan", "--out", "next.json", expect=4)
    other = shop("apply", "next.json", "--approval", desk / "plan.json.bob.sig", expect=4)
    assert "ignored the approval of bob: it is for plan pl_" in other.err


@pytest.mark.slow
def test_a_signature_names_what_it_lets_pass_and_an_altered_plan_has_none(shop: Producer, tmp_path: Path) -> None:
    shop("plan", "--max-spend", "10sat", "--out", "plan.json", expect=4)
    for name, secret in (("ann", ANN), ("bob", BOB)):
        shop("approve", "plan.json", "--wif-file", key(tmp_path, name, secret))
    held = shop("apply", "plan.json", "--approve", "spend-run", expect=4)
    assert "guard spend-run refuses it" in held.err and "reconciler approve plan.json --guard spend-run" in held.err
    assert "that does not refuse" in shop("approve", "plan.json", "--guard", "deletes", expect=64).err
    for name in ("ann", "bob"):
        shop("approve", "plan.json", "--wif-file", tmp_path / f"{name}.wif", "--guard", "spend-run", "--reason", "launch")
    text = (shop.root / "plan.json").read_text()
    shop.write("altered.json", text.replace('"Rates"', '"Dates"'))
    shutil.copy(shop.root / "plan.json.ann.sig", shop.root / "altered.json.ann.sig")
    assert "altered" in shop("verify", "altered.json", expect=4).err
    bad = (shop.root / "plan.json.bob.sig").read_text().replace("launch", "lunch!")
    shop.write("plan.json.bad.sig", bad)
    assert "plan.json.bad.sig" in shop("verify", "plan.json").out
    assert "cannot use" in shop("apply", "plan.json", "--approval", "plan.json.bad.sig", expect=4).err
    shop("apply", "plan.json")
    assert len(shop.status()["resources"]) == 4


@pytest.mark.slow
def test_budgets_are_shown_set_and_kept(shop: Producer) -> None:
    shop.write("reconciler.yaml", SETTINGS)
    assert "there is no budget" in shop("budget", "set", "Datset", "5", expect=64).err
    shop("budget", "set", "Dataset", "1sat", "--for", "2h", "--reason", "quiet night")
    refused = shop("apply", "--yes", expect=4)
    assert "guard spend-day:Dataset refuses it" in refused.err and "the budget renews at" in refused.err
    assert "reconciler apply --approve spend-day:Dataset" in refused.err
    shown = {row["name"]: row for row in shop("budget", "show", "-o", "json").json["budgets"]}
    assert (shown["day"]["limit"], shown["day"]["from"], shown["Dataset"]["limit"]) == (100_000, "settings", 1)
    assert shown["Dataset"]["reason"] == "quiet night" and shown["Dataset"]["until"]
    shop("budget", "set", "Dataset", "default")
    shop("apply", "--yes")
    text = shop("budget", "show").out
    assert "Dataset" in text and "quiet night" not in text
    costs = shop("cost", "--by", "kind", "-o", "json").json
    assert {row["kind"] for row in costs["rows"]} >= {"Dataset", "Identity"}
    spent = {row["name"]: row for row in shop("budget", "show", "-o", "json").json["budgets"]}["day"]
    assert spent["spent"] == costs["total"]["satoshis"] > 0 and spent["reserved"] == 0
    assert spent["left"] == spent["limit"] - spent["spent"]
    by_day = shop("cost", "--since", "1d", "--by", "day", "-o", "json").json
    assert sum(row["satoshis"] for row in by_day["rows"]) == costs["total"]["satoshis"]
    assert "total" in shop("cost", "--by", "resource").out


def test_a_policy_that_could_never_speak_stops_every_verb(shop: Producer) -> None:
    shop.write("reconciler.yaml", SETTINGS + RULES.replace("contains", "contain"))
    told = shop("plan", expect=1).err
    assert 'unknown keyword "contain"' in told and 'did you mean "contains"?' in told
    assert shop("apply", "--yes", expect=1).err == told
