"""What a person, a reviewer and a program read."""

import json
from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.canonical import digest
from reconciler.model.change import Change, Cost, Reason, Verb
from reconciler.model.codec import encode
from reconciler.model.observation import Present, Unknown
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import FileFact, Lifecycle, Suspension
from reconciler.planner import phrases
from reconciler.planner.markdown import as_markdown
from reconciler.planner.render import as_json, as_lines, as_text, totals

GOLDEN = """\
Source   main@9f2c1ab   env prod   10 resources
Observed 8/8 at height 912345, 4 of 5 hosts

  + Dataset/btc-2025-06                new in feed.yaml:19
      identityRef    main
      networkRef     net
      storage        3 450
      tags           a, b
      title          Bitcoin ticks June 2025
      content        data/btc.parquet  sha256 7d1f…e0  18.3 MiB
      cost           fee 40 sat + storage 3 450 sat, locks 1 sat (1 transaction)
  ~ Dataset/eth                        changed in feed.yaml:13
      hook           none → secret: sha256:4ddbb67bf993
      title          eth → Ether
      cost           fee 40 sat (1 transaction)
-/+ Advertisement/btc                  domain cannot change in place: retired and made anew
      domain         old.example → feeds.example
      cost           fee 40 sat (1 transaction)
  - Dataset/legacy                     no longer declared
      cost           fee 40 sat, returns 1 sat locked (1 transaction)
  - Dataset/kept                       no longer declared
      ! protected: take the protection away before it is removed

Drift
  ≈ Dataset/btc                        → repair, free
      hosts.two      ≈ present → missing

Not decided
  ? Dataset/deaf                       4 of 5 hosts silent
  ‖ Dataset/pause                      vendor outage until 2030-01-04T00:00:00Z

Plan PLAN: 1 to add, 1 to change, 1 to replace, 1 to retire, 1 to repair, 1 deferred, 1 blocked, 3 unchanged
Cost: 190 sat fees + 3 450 sat storage = 3 640 sat
      5 transactions, 18.3 MiB to upload      budget 0 sat today + 3 640 sat, 50 000 sat per day, left 46 360 sat after
      first 1 coin split into 3 on devnet, fee 30 sat
Guards: empty-source ok · protected REFUSED · deletes 1/9 (11.1 % ≤ 30 %) ok · spend-run ok · spend-day ok · funds ok
      ! protected: to be removed, but protected: Dataset/kept
Refused. To let it pass after review: --approve protected
"""


@pytest.fixture
def busy(market: Any) -> Any:
    """A world in which everything a plan can say is to be said."""
    for name in ("legacy", "kept", "pause", "deaf"):
        market.declare(f"Dataset/{name}", {"networkRef": "net"}, "Network/net")
    market.apply(market.plan())
    spec = {"identityRef": "main", "networkRef": "net", "title": "Bitcoin ticks June 2025", "tags": ["a", "b"], "storage": 3450}
    content = FileFact("data/btc.parquet", 19_293_798, "7d1f" + "ab" * 29 + "e0", "application/vnd.apache.parquet")
    market.declare("Dataset/btc-2025-06", spec, "Identity/main", "Network/net", files=(content,))
    spec = {"identityRef": "main", "networkRef": "net", "title": "Ether", "hook": {"secret": "hunter2"}}
    market.change("Dataset/eth", spec=spec)
    market.change("Advertisement/btc", spec={"datasetRef": "btc", "networkRef": "net", "domain": "feeds.example"})
    market.undeclare("Dataset/legacy")
    market.undeclare("Dataset/kept")
    market.record("Dataset/kept", protected=True)
    market.change("Dataset/pause", lifecycle=Lifecycle(suspend=Suspension("vendor outage", "2030-01-04T00:00:00Z")))
    market.see("Dataset/deaf", Unknown("4 of 5 hosts silent"))
    market.see("Dataset/btc", Present({"hosts": ["one"]}))
    market.coins = (100_000, 50)
    return market.plan(notes=("Observed 8/8 at height 912345, 4 of 5 hosts",), spend_day=50_000, spend_run=5_000)


def test_the_text_of_a_plan(busy: Any) -> None:
    text = as_text(busy)
    assert text.replace("\u2009", " ") == GOLDEN.replace("PLAN", busy.id)
    assert "3\u2009450" in text and "hunter2" not in text


def test_a_style_paints_and_changes_no_word(busy: Any) -> None:
    roles = set()

    def paint(role: str, text: str) -> str:
        roles.add(role)
        return f"\x1b[1m{text}\x1b[0m"

    painted = as_text(busy, style=paint)
    assert painted.replace("\x1b[1m", "").replace("\x1b[0m", "") == as_text(busy)
    assert roles == {"add", "change", "replace", "remove", "repair", "bold", "dim", "good", "bad"}


def test_a_tree_of_splits_is_told_as_the_coins_it_ends_in(market: Any) -> None:
    for number in range(140):
        market.declare(f"Dataset/new-{number}", {"networkRef": "net"}, "Network/net")
    market.coins = (1_000_000,)
    made = market.plan()
    fees = sum(funding.cost.fees for funding in made.funding)
    assert [len(funding.outputs) for funding in made.funding] == [2, 70, 70]
    assert f"      first 1 coin split into 140 on devnet in 3 transactions, fee {fees} sat" in as_text(made).splitlines()
    assert [run_id for run_id, _ in made.splits] == [f"run_{made.id}_devnet{which}" for which in ("", "_2", "_3")]


def test_the_last_line_says_what_to_do_next(market: Any) -> None:
    assert as_text(market.plan()).endswith(
        "5 unchanged\nGuards: empty-source ok · deletes 0/5 (0.0 % ≤ 30 %) ok\nNothing to do: the network is as declared.\n"
    )
    market.see("Dataset/eth", Unknown("silence"))
    assert as_text(market.plan()).endswith("Nothing can be done now; see what is blocked or deferred above.\n")
    market.see("Dataset/btc", Present({"hosts": []}))
    assert as_text(market.plan()).endswith("\nApply with: reconciler apply\n")
    assert as_text(market.plan(), next_step="Saved to plan.json.").endswith("\nSaved to plan.json.\n")
    market.declare("Dataset/new", {"networkRef": "net"}, "Network/net")
    market.coins = ()
    last = as_text(market.plan()).splitlines()[-2:]
    assert last == [
        "      ! funds: 1 transaction on devnet: needed 42 sat, available 0 sat, missing 42 sat",
        "Refused: the purse lacks coins. Pay in what is missing, then plan again.",
    ]


def test_an_approved_guard_is_shown_as_such(market: Any) -> None:
    market.undeclare("Dataset/eth")
    text = as_text(market.plan(delete_count=0, approved=frozenset({"deletes"})))
    assert "deletes approved (1/5, more than 0 at once) ok" in text


def test_the_arithmetic_of_the_cost_can_be_checked(market: Any) -> None:
    market.undeclare("Advertisement/btc")
    assert "Cost: 40 sat fees − 1 sat returned = 39 sat\n      1 transaction\n" in as_text(market.plan())
    market.declare("Dataset/new", {"networkRef": "net", "storage": 5}, "Network/net")
    market.declare("Dataset/newer", {"networkRef": "net", "storage": 5}, "Network/net")
    assert "Cost: 120 sat fees + 10 sat storage + 1 sat locked = 131 sat\n" in as_text(market.plan())


def test_exports_known_after_apply_are_said_so(market: Any) -> None:
    market.change("Dataset/btc", spec={"identityRef": "main", "networkRef": "net", "title": "new"})
    assert "(known after apply of Dataset/btc)" in as_text(market.plan())


def test_many_fields_of_a_new_resource_are_cut(market: Any) -> None:
    market.declare("Dataset/wide", {"networkRef": "net", **{f"f{i:02}": i for i in range(40)}}, "Network/net")
    text = as_text(market.plan())
    assert "f11" in text and "f12" not in text and "and 29 more fields" in text


def test_no_escape_sequence_reaches_the_terminal(market: Any) -> None:
    evil = "\x1b]0;owned\x07\u202e"
    market.declare("Dataset/new", {"networkRef": "net", "title": evil, evil: 1}, "Network/net")
    market.see("Dataset/eth", Unknown(evil))
    text = as_text(market.plan(notes=(evil,)))
    assert all(char.isprintable() or char in "\n\u2009" for char in text)
    assert text.count("\\x1b]0;owned\\x07\\u202e") == 4


def test_the_json_of_a_plan_is_the_plan_with_its_sums(busy: Any) -> None:
    whole = json.loads(json.dumps(as_json(busy)))
    assert whole["formatVersion"] == 1 and whole["id"] == busy.id
    assert whole["totals"] == totals(busy)
    assert [change["ref"] for change in whole["changes"]] == [str(change.ref) for change in busy.changes]
    assert whole["guards"] == encode(busy.guards) and whole["funding"] == encode(busy.funding)
    assert "hunter2" not in json.dumps(whole)
    counted = {name: whole["totals"][name] for name in ("add", "change", "replace", "repair", "retire", "forget")}
    assert counted == {"add": 1, "change": 1, "replace": 1, "repair": 1, "retire": 1, "forget": 0}
    assert whole["totals"]["satoshis"] == 3640 == busy.cost.satoshis


def test_the_lines_of_a_plan_end_in_a_summary(busy: Any) -> None:
    lines = [json.loads(line) for line in as_lines(busy)]
    assert [line["type"] for line in lines] == ["change"] * len(busy.changes) + ["summary"]
    assert lines[-1]["id"] == busy.id and lines[-1]["totals"] == totals(busy) and "changes" not in lines[-1]
    assert all("\n" not in line for line in as_lines(busy))
    assert digest(lines[0]["after"]) == digest(sorted(map(str, busy.after.get(busy.changes[0].ref, ()))))


def test_the_markdown_of_a_plan(busy: Any) -> None:
    text = as_markdown(busy).replace("\u2009", " ")
    assert text.startswith(f"### Plan `{busy.id}`: 1 to add, 1 to change, 1 to replace")
    assert "| `-/+` | Advertisement/btc | domain cannot change in place: retired and made anew | fee 40 sat |\n" in text
    assert "- content: data/btc.parquet  sha256 7d1f…e0  18.3 MiB\n" in text
    assert "**Cost:** 190 sat fees + 3 450 sat storage = 3 640 sat in 5 transactions\n" in text
    assert "- ❌ **protected** to be removed, but protected: Dataset/kept\n" in text
    assert "hunter2" not in text and "main\\@9f2c1ab" in text
    assert ", base\n" in as_markdown(replace(busy, environment=""))


def test_markdown_cannot_be_injected(market: Any) -> None:
    spec = {"networkRef": "net", "title": "<script>|@team [x](http://y)\n# head"}
    market.declare("Dataset/new", spec, "Network/net")
    text = as_markdown(market.plan())
    assert "- title: \\<script\\>\\|\\@team \\[x\\](http://y)\\\\n\\# head\n" in text


def test_markdown_of_many_changes_stays_readable(market: Any) -> None:
    for index in range(150):
        market.declare(f"Dataset/n{index:03}", {"networkRef": "net"}, "Network/net")
    text = as_markdown(market.plan())
    assert "| | … and 50 more | | |" in text and "Dataset/n120" not in text


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (1 << 20, "1.0 MiB"), (1 << 50, "1\u2009024.0 TiB")],
)
def test_sizes(count: int, said: str) -> None:
    assert phrases.size(count) == said


def test_numbers_and_prices() -> None:
    assert phrases.grouped(-1234567) == "\u22121\u2009234\u2009567"
    assert phrases.percent(1, 3) == "33.3 %" and phrases.percent(0, 0) == "0.0 %"
    assert phrases.price(Cost()) == "free"
    assert phrases.price(Cost(1, 2, 3, -4)) == "fee 2 sat + storage 3 sat, returns 4 sat locked"
    assert phrases.value("x" * 100).endswith("x…") and len(phrases.value("x" * 100)) == 60
    assert [phrases.value(v) for v in (None, True, "", [1, {"a": None}], 1234)] == [
        "none", "true", '""', '1, {a: null}', "1\u2009234",
    ]  # fmt: skip


def test_every_verb_and_reason_can_be_told(market: Any) -> None:
    from reconciler.model.plan import Plan

    changes = tuple(
        Change(ResourceRef("Dataset", f"{verb.value}-{reason.value}"), verb, reason, 1) for verb in Verb for reason in Reason
    )
    made = Plan("lin", 1, "r", "e", changes)
    text = as_text(made)
    assert sum(
        totals(made)[name] for name in ("add", "change", "replace", "repair", "retire", "move", "forget", "deferred", "unchanged")
    ) == len(changes)
    for change in changes:
        if change.verb is not Verb.NONE or change.reason in (Reason.DRIFTED, Reason.SUSPENDED):
            assert str(change.ref) in text
    assert as_markdown(made)
