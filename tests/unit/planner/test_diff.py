"""What counts as the same, and how a difference is told."""

import pytest

from reconciler.model.change import Cause, FieldDelta
from reconciler.planner.diff import compare, covers, redact, related, same, unignored


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": None}, True),
        ({"a": 1, "b": None}, {"a": 1}, True),
        ({"a": None, "b": 1}, {"b": 1, "c": 2}, False),
        ({"a": None}, {"b": None}, True),
        ({"a": True}, {"a": 1}, False),
        ({"a": 0}, {"a": False}, False),
        ([1], [True], False),
        ([1, 2], (1, 2), True),
        ([1, 2], [2, 1], False),
        ([], {}, False),
        ({}, None, False),
        ("1", 1, False),
        (1.5, 1.5, True),
        ({"a": {"b": "x"}}, {"a": {"b": "y"}}, False),
    ],
)
def test_the_same_means_the_same_canonical_json_but_for_nulls(left: object, right: object, equal: bool) -> None:
    assert same(left, right) is equal
    assert same(right, left) is equal


def test_changed_added_and_removed_fields_have_dotted_paths() -> None:
    before = {"spec": {"price": {"satoshis": 100}, "old": 1, "kept": "x"}}
    after = {"spec": {"price": {"satoshis": 80}, "new": {"deep": True}, "kept": "x"}}
    assert compare(before, after) == (
        FieldDelta("spec.new", None, {"deep": True}),
        FieldDelta("spec.old", 1, None),
        FieldDelta("spec.price.satoshis", 100, 80),
    )


def test_lists_of_named_things_are_told_by_name() -> None:
    before = {"hosts": [{"name": "eu", "url": "a"}, {"name": "us", "url": "b"}]}
    after = {"hosts": [{"name": "us", "url": "c"}, {"name": "asia", "url": "d"}]}
    assert [(d.path, d.before, d.after) for d in compare(before, after)] == [
        ("hosts.asia", None, {"name": "asia", "url": "d"}),
        ("hosts.eu", {"name": "eu", "url": "a"}, None),
        ("hosts.us.url", "b", "c"),
    ]


def test_files_are_told_by_path_and_a_new_order_is_a_difference() -> None:
    one, two = {"path": "a.csv", "size": 1}, {"path": "b.csv", "size": 2}
    assert compare({"files": [one]}, {"files": [{**one, "size": 9}]}) == (FieldDelta("files.a.csv.size", 1, 9),)
    assert compare({"files": [one, two]}, {"files": [two, one]}) == (FieldDelta("files", ["a.csv", "b.csv"], ["b.csv", "a.csv"]),)


def test_other_lists_are_told_by_index_or_whole() -> None:
    assert compare({"t": [{"at": 1}, {"at": 2}]}, {"t": [{"at": 1}, {"at": 3}]}) == (FieldDelta("t.1.at", 2, 3),)
    assert compare({"t": ["a", "b"]}, {"t": ["x", "a", "b"]}) == (FieldDelta("t", ["a", "b"], ["x", "a", "b"]),)
    assert compare({"t": [{"at": 1}]}, {"t": [{"at": 1}, None]}) == (FieldDelta("t", [{"at": 1}], [{"at": 1}, None]),)


def test_exports_known_after_apply_are_shown_as_such_and_not_taken_apart() -> None:
    before = {"using": {"Dataset/a": {"outpoint": "x.0"}}}
    after = {"using": {"Dataset/a": {"$after": "Dataset/a"}}}
    assert compare(before, after) == (FieldDelta("using.Dataset/a", {"outpoint": "x.0"}, {"$after": "Dataset/a"}),)


def test_a_secret_never_shows_yet_its_change_does() -> None:
    before = {"spec": {"hook": {"secret": "hunter2"}, "list": [{"name": "a", "passphrase": "swordfish"}]}}
    after = {"spec": {"hook": {"secret": "hunter3"}, "list": [{"name": "a", "passphrase": "swordfish"}], "x": {"secret": "s3"}}}
    deltas = compare(before, after)
    assert [d.path for d in deltas] == ["spec.hook.secret", "spec.x"]
    assert deltas[0].before != deltas[0].after
    for secret in ("hunter", "swordfish", "s3"):
        assert secret not in str(deltas)
    assert compare(after, after) == ()
    assert "swordfish" not in str(redact(after))


def test_an_immutable_path_replaces_when_it_its_parent_or_its_child_changes() -> None:
    immutable = ("spec.key",)
    cases = {
        "spec.key": ({"spec": {"key": "a"}}, {"spec": {"key": "b"}}),
        "spec.key.file": ({"spec": {"key": {"file": "a"}}}, {"spec": {"key": {"file": "b"}}}),
        "spec": ({}, {"spec": {"key": "b"}}),
    }
    for path, (before, after) in cases.items():
        (delta,) = compare(before, after, immutable)
        assert (delta.path, delta.replaces) == (path, True)
    (other,) = compare({"spec": {"keys": 1}}, {"spec": {"keys": 2}}, immutable)
    assert not other.replaces
    assert related("spec", "spec.key") and not covers("spec.key", "spec.keys")


def test_ignored_pointers_cover_everything_below_them() -> None:
    deltas = [FieldDelta(path, 1, 2, Cause.DRIFT) for path in ("spec.title", "spec.hosts.0.url", "spec.titles", "labels.a/b")]
    left = unignored(deltas, ["/spec/title", "/spec/hosts", "/labels/a~1b"])
    assert [delta.path for delta in left] == ["spec.titles"]
    assert unignored(deltas, ()) == tuple(deltas)
