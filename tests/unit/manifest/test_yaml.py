import pytest

from reconciler.manifest import yaml
from reconciler.manifest.place import Locator


def value(text: str) -> object:
    documents, broken = yaml.parse(text.encode())
    assert broken == ()
    assert documents[0].faults == ()
    return documents[0].value


def faults(text: str | bytes) -> list[tuple[str, str, tuple[int, int] | None]]:
    documents, broken = yaml.parse(text if isinstance(text, bytes) else text.encode())
    found = [*broken, *(fault for document in documents for fault in document.faults)]
    return [(fault.code, fault.message, fault.mark[:2] if fault.mark else None) for fault in found]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"),
        ("2024-09-01", "2024-09-01"), ("2024-09-01T00:00:00Z", "2024-09-01T00:00:00Z"), ("12:30:45", "12:30:45"),
        ("017", "017"), ("0o17", 15), ("0x1F", 31), ("-7", -7), ("+7", 7), ("0", 0), ("1_000", "1_000"),
        ("true", True), ("True", True), ("FALSE", False), ("tRue", "tRue"),
        ("null", None), ("~", None), ("", None), ("Null", None), ("nUll", "nUll"),
        ("'12'", "12"), ('"true"', "true"), ("!!str 12", "12"), ("1.0.0", "1.0.0"), (".", "."), ("-", [None]),
        ("02b4632d08485ff1df2db55b9dafd2", "02b4632d08485ff1df2db55b9dafd2"), ("<<", "<<"),
    ],
)  # fmt: skip
def test_scalars_are_yaml_1_2_core_and_dates_stay_text(written: str, read: object) -> None:
    assert value(f"[{written}]" if written not in ("", "-") else f"- {written}") == [read]


def test_unquoted_fractions_are_refused_where_they_stand() -> None:
    for text in ("1.5", "-0.1", "1.", ".5", "1e3", "1.5E-3", ".inf", "-.inf", ".nan"):
        documents, _ = yaml.parse(f"a: {text}\n".encode())
        (fault,) = documents[0].faults
        assert (fault.code, fault.path, fault.hint) == ("E0106", ("a",), f'quote it: "{text}"')


def test_integers_beyond_exactness_are_refused() -> None:
    assert value(f"a: {2**53 - 1}") == {"a": 2**53 - 1}
    for text in (str(2**53), "-" + str(2**53), "9" * 5000, "0x" + "f" * 5000):
        assert [code for code, *_ in faults(f"a: {text}")] == ["E0106"]


def test_keys_must_be_text_and_stand_once() -> None:
    assert faults("a: 1\nb: 2\na: 3\n") == [("E0103", '"a" stands twice in one mapping', (3, 1))]
    assert faults("x:\n  1: a\n  true: b\n  null: c\n  [d]: e\n") == [
        ("E0104", "the key 1 is not text", (2, 3)),
        ("E0104", "the key true is not text", (3, 3)),
        ("E0104", "the key null is not text", (4, 3)),
        ("E0104", "the key a collection is not text", (5, 3)),
    ]
    assert value('"1": a\non: b\n') == {"1": "a", "on": "b"}


@pytest.mark.parametrize(
    "tag", ["!secret x", "!!python/object:os.system {}", "!!binary aGk=", "!!set {a}", "!foo [1]", "!!timestamp 2024-01-01"]
)
def test_tags_are_refused(tag: str) -> None:
    assert [code for code, *_ in faults(f"a: {tag}\n")] == ["E0105"]


def test_anchors_and_merge_keys_read_as_what_they_stand_for() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [*a, {z: 4, x: 9}]}\nd: *a\n"
    assert value(text) == {"a": {"x": 1, "y": 2}, "b": {"y": 3, "x": 1}, "c": {"x": 1, "y": 2, "z": 4}, "d": {"x": 1, "y": 2}}
    assert faults("a: {<<: 1}\n")[0][:2] == ("E0105", "a merge key of something that is no mapping")
    assert faults("a: {<<: {b: 1}, <<: {c: 1}}\n")[0][:2] == ("E0103", "a second merge key")
    assert faults("a: *nowhere\n")[0][:2] == ("E0105", "an alias without its anchor")


def test_billion_laughs_are_refused_without_being_written_out() -> None:
    lines = ["a0: &a0 [lol, lol]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 60)]
    assert [code for code, *_ in faults("\n".join(lines))] == ["E0102"]
    long = "x: &x " + "y" * 1_000_000 + "\nall: [" + ", ".join(["*x"] * 100) + "]\n"
    assert [code for code, *_ in faults(long)] == ["E0102"]
    assert [code for code, *_ in faults("a: &a [*a]\n")] == ["E0102"]
    assert [code for code, *_ in faults("a: &a {<<: *a}\n")] == ["E0102"]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        "[" * 70 + "]" * 70,
        "{a: " * 70 + "1" + "}" * 70,
        "- " * 100_000 + "a",
        "? " * 50_000 + "a",
        "[\n" * 100_000,
    ],
)
def test_deep_nesting_is_refused_before_it_can_hurt(text: str) -> None:
    assert "E0102" in [code for code, *_ in faults(text)]


def test_the_deepest_allowed_nesting_is_read() -> None:
    assert value("[" * yaml.MAX_DEPTH + "]" * yaml.MAX_DEPTH) is not None


def test_a_file_beyond_the_limit_is_not_read() -> None:
    assert faults(b"a" * (yaml.MAX_FILE + 1))[0][0] == "E0102"


def test_bytes_that_are_not_text_are_placed() -> None:
    assert faults(b"a: 1\nb: caf\xc3\xa9 \xff\n") == [("E0101", "a byte that is not UTF-8", (2, 9))]
    assert faults("a: 1\nb: x\x00\n")[0] == ("E0101", "a control character (U+0000)", (2, 5))
    assert value("\ufeffa: 1\n") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "message", "mark"),
    [
        ("a:\n\tb: 1\n", "a tab where spaces are wanted", (2, 1)),
        ("a: b: c\n", "an unexpected ':'", (1, 5)),
        ("a: [1, 2\nb: 3\n", "a '[' that is not closed before this", (2, 2)),
        ("a: @x\n", "a character that must be quoted", (1, 4)),
        ('a: "x\n', "the text ends inside a quoted string", (2, 1)),
    ],
)
def test_syntax_errors_are_sentences_at_a_place(text: str, message: str, mark: tuple[int, int]) -> None:
    assert faults(text) == [("E0101", message, mark)]


def test_reading_goes_on_after_a_broken_document() -> None:
    documents, broken = yaml.parse(b"a: 1\n---\nb: [1\n---\nc: 3\n---\nd: }\n---\n---\ne: 5\n")
    assert [document.value for document in documents] == [{"a": 1}, {"c": 3}, {"e": 5}]
    assert [fault.mark[0] for fault in broken if fault.mark] == [4, 7]


def test_positions_survive_broken_documents_aliases_and_wide_characters() -> None:
    text = "x: [\n---\nmetadata: {name: é, k: &k v}\nspec:\n  list:\n    - {ключ: значение}\n    - *k\n".encode()
    documents, broken = yaml.parse(text)
    assert len(broken) == 1
    assert documents[0].at == (3, 18)
    span = Locator(text).span(documents[0].ordinal, ("spec", "list", 0, "ключ"))
    assert (span.line, span.column, span.length) == (6, 14, 8)
    span = Locator(text).span(documents[0].ordinal, ("spec", "list", 1))
    assert (span.line, span.column) == (3, 24)
    span = Locator(text).span(documents[0].ordinal, ("spec", "list", 0, "missing", "deeper"))
    assert span.line == 6
