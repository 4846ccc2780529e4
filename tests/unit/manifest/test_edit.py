import pytest

from reconciler.manifest.edit import parse_path, parse_value, set_value
from reconciler.manifest.yaml import parse
from reconciler.model.errors import Refused

TEXT = """\
# top
apiVersion: overlay.bsv/v1alpha1
kind: Identity
metadata: {name: main}   # who
spec:
  displayName: Old name  # shown é
  capabilities:          # words
    - market-data   # first
    - 'analytics'
    # keep me
  regions: [US, EU]  # where
  empty: []
  nothing:
  block: |
    text
    # not a comment

  key: {env: KEY}
# end of first
---
apiVersion: overlay.bsv/v1alpha1
kind: PricePlan
metadata:
  name: p
spec:
  tiers:
    - {from: 1, rate: 5sat}
    - from: 10
      rate: 4sat
"""


def edit(path: str, op: str, value: object, kind: str = "Identity", name: str = "main", text: str = TEXT) -> str:
    return set_value(text.encode(), kind, name, path, op, value).decode()


@pytest.mark.row("P-REG-08", "P-REG-09", "P-REG-10", "P-AD-08", "P-AD-09", "P-AD-10", "P-AD-11", "P-AD-12")
@pytest.mark.parametrize(
    ("path", "op", "value", "old", "new"),
    [
        ("spec.displayName", "=", "New: name", "Old name  #", '"New: name"  #'),
        ("displayName", "=", "12", "Old name  #", '"12"  #'),
        ("capabilities", "+=", "options-data", "'analytics'\n", "'analytics'\n    - options-data\n"),
        ("capabilities", "-=", "market-data", "    - market-data   # first\n", ""),
        ("capabilities", "-=", "analytics", "    - 'analytics'\n", ""),
        (
            "capabilities",
            "=",
            ["a", "b"],
            "          # words\n    - market-data   # first\n    - 'analytics'\n",
            " [a, b]          # words\n",
        ),
        ("regions", "+=", "AS", "[US, EU]", "[US, EU, AS]"),
        ("regions", "-=", "US", "[US, EU]", "[EU]"),
        ("regions", "-=", "EU", "[US, EU]", "[US]"),
        ("empty", "+=", "x", "empty: []", "empty: [x]"),
        ("nothing", "+=", "x", "nothing:\n", "nothing: [x]\n"),
        ("nothing", "=", 5, "nothing:\n", "nothing: 5\n"),
        ("nothing.deep.er", "=", 5, "nothing:\n", "nothing: {deep: {er: 5}}\n"),
        ("block", "=", "short", "|\n    text\n    # not a comment\n", "short\n"),
        ("key.generate", "=", "ifMissing", "{env: KEY}", "{env: KEY, generate: ifMissing}"),
        ("key", "=", {"file": "~/x"}, "{env: KEY}", '{file: "~/x"}'),
        ("contact", "=", "a@b.example", "{env: KEY}\n", "{env: KEY}\n  contact: a@b.example\n"),
        ("defaults.tags", "+=", "x", "{env: KEY}\n", "{env: KEY}\n  defaults: {tags: [x]}\n"),
        ("metadata.labels.team", "=", "markets", "{name: main}", "{name: main, labels: {team: markets}}"),
        ("lifecycle.prune", "=", "never", "{env: KEY}\n", "{env: KEY}\nlifecycle: {prune: never}\n"),
        ('labels."a.b"', "=", "x", "{env: KEY}\n", "{env: KEY}\n  labels: {a.b: x}\n"),
    ],
)
def test_one_splice_and_every_other_byte_stays(path: str, op: str, value: object, old: str, new: str) -> None:
    assert TEXT.count(old) == 1
    assert edit(path, op, value) == TEXT.replace(old, new)


def test_list_entries_are_reached_by_index() -> None:
    changed = edit("tiers[0].rate", "=", "3sat", "PricePlan", "p")
    assert changed == TEXT.replace("rate: 5sat", "rate: 3sat")
    assert edit("tiers[1].rate", "=", "3sat", "PricePlan", "p") == TEXT.replace("rate: 4sat", "rate: 3sat")
    appended = edit("tiers", "+=", {"from": 20, "rate": 1}, "PricePlan", "p")
    assert appended == TEXT + "    - {from: 20, rate: 1}\n"
    assert edit("tiers", "-=", {"from": 10, "rate": "4sat"}, "PricePlan", "p") == TEXT.replace(
        "    - from: 10\n      rate: 4sat\n", ""
    )


def test_removing_the_last_entry_leaves_an_empty_list() -> None:
    text = "kind: K\nmetadata: {name: n}\nspec:\n  a: # why\n    - x\n  b: [y]\n"
    assert edit("a", "-=", "x", "K", "n", text) == "kind: K\nmetadata: {name: n}\nspec:\n  a: [] # why\n  b: [y]\n"
    assert edit("b", "-=", "y", "K", "n", text).endswith("b: []\n")


def test_adding_what_is_there_and_setting_what_is_set_change_nothing() -> None:
    assert edit("regions", "+=", "US") == TEXT
    assert edit("displayName", "=", "Old name") == TEXT


def test_windows_line_ends_a_byte_order_mark_and_a_missing_last_line_break_stay() -> None:
    text = "\ufeff" + TEXT.replace("\n", "\r\n").rstrip()
    assert edit("capabilities", "+=", "x", text=text) == text.replace("'analytics'\r\n", "'analytics'\r\n    - x\r\n")
    assert edit("tiers", "+=", 1, "PricePlan", "p", text) == text + "\r\n    - 1"


@pytest.mark.parametrize(
    ("kind", "path", "op", "value", "code"),
    [
        ("Dataset", "title", "=", "x", "unknown-resource"),
        ("Identity", "displayName", "+=", "x", "not-a-list"),
        ("Identity", "regions", "-=", "AS", "not-in-list"),
        ("Identity", "gone", "-=", "AS", "not-in-list"),
        ("Identity", "regions[7]", "=", "AS", "bad-path"),
        ("Identity", "displayName.x", "=", "AS", "bad-path"),
        ("Identity", "a]b", "=", "AS", "bad-path"),
        ("Identity", "", "=", "AS", "bad-path"),
        ("Identity", "displayName", "*=", "x", "bad-operator"),
    ],
)
def test_what_cannot_be_done_is_refused(kind: str, path: str, op: str, value: object, code: str) -> None:
    with pytest.raises(Refused) as refused:
        edit(path, op, value, kind)
    assert refused.value.code == code
    assert refused.value.message.startswith("cannot ")


def test_an_edit_that_would_reach_further_than_asked_is_refused() -> None:
    shared = "kind: K\nmetadata: {name: n}\nspec:\n  a: &x {p: 1}\n  b: *x\n"
    with pytest.raises(Refused) as refused:
        edit("b.p", "=", 2, "K", "n", shared)
    assert refused.value.code == "cannot-edit"
    with pytest.raises(Refused) as broken:
        edit("b", "=", 2, "K", "n", "a: [\n")
    assert broken.value.code == "unreadable-manifest"


def test_values_are_read_as_yaml() -> None:
    assert [parse_value(text) for text in ("25sat", "5", "true", "[a, b]", "{a: 1}", "''", "")] == [
        "25sat",
        5,
        True,
        ["a", "b"],
        {"a": 1},
        "",
        None,
    ]
    for text in ("1.5", "[a", "!x y"):
        with pytest.raises(Refused, match="cannot read"):
            parse_value(text)


def test_paths_are_below_spec_unless_they_say_otherwise() -> None:
    assert parse_path("title") == ("spec", "title")
    assert parse_path("spec.title") == ("spec", "title")
    assert parse_path('topics."a.b"') == ("spec", "topics", "a.b")
    assert parse_path("lifecycle.drift.ignore[0]") == ("lifecycle", "drift", "ignore", 0)
    assert parse(TEXT.encode())[1] == ()
