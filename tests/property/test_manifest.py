"""Laws of manifests: spellings do not matter, patches merge, edits touch one place, formatting keeps the meaning."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.manifest import units
from reconciler.manifest.edit import set_value
from reconciler.manifest.fmt import format_text
from reconciler.manifest.load import Loader
from reconciler.manifest.overlay import merge
from reconciler.manifest.scaffold import to_yaml
from reconciler.manifest.yaml import parse

LAW = settings(max_examples=200, deadline=None)
FEW = settings(max_examples=60, deadline=None)

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)
MAPPINGS = st.dictionaries(TEXT, JSON, max_size=4)


def decimal(value: int, scale: int, zeros: int) -> str:
    """value / 10^scale, with needless zeros behind it."""
    digits = str(value).rjust(scale + 1, "0")
    return digits if scale == 0 else f"{digits[:-scale]}.{digits[-scale:]}{'0' * zeros}"


@LAW
@given(st.integers(0, 10**12), st.integers(0, 2))
def test_two_spellings_of_a_duration_never_differ(ms: int, zeros: int) -> None:
    days, rest = divmod(ms, 86_400_000)
    hours, rest = divmod(rest, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    seconds, milli = divmod(rest, 1000)
    fraction = decimal(seconds * 1000 + milli, 3, zeros)
    spellings = [
        ms,
        str(ms),
        f"{ms}ms",
        f"{decimal(ms, 3, zeros)}s",
        f"{days}d{hours}h{minutes}m{seconds}s{milli}ms",
        f"P{days}DT{hours}H{minutes}M{fraction}S",
        units.show("duration", ms),
    ]
    assert {units.duration(spelling) for spelling in spellings} == {ms}


@LAW
@given(st.integers(0, 2**53 - 1))
def test_two_spellings_of_a_size_never_differ(count: int) -> None:
    spellings = [count, str(count), f"{count}B", f"{count} B", units.show("size", count)]
    spellings += [f"{decimal(count, 3, 0)}kB", f"{decimal(count, 6, 2)}MB"]
    assert {units.size(spelling) for spelling in spellings} == {count}


@LAW
@given(st.integers(0, units.MAX_SATOSHIS), st.integers(1, 10_000))
def test_money_and_rates_have_one_form(amount: int, count: int) -> None:
    assert {units.satoshis(one) for one in (amount, str(amount), f"{amount}sat", f"{amount} sats")} == {amount}
    rate = units.rate(f"{amount % 10**9}sat/{count}B")
    assert rate["satoshis"] * count == amount % 10**9 * rate["bytes"]
    assert units.rate(rate) == rate == units.rate(units.show("rate", rate))


@LAW
@given(st.integers(0, 10_000), st.integers(0, 5))
def test_percentages_have_one_form(hundredths: int, zeros: int) -> None:
    assert units.percent(decimal(hundredths, 2, zeros) + "%") == units.percent(f"{hundredths / 100:.2f}%")
    assert units.percent(stored := units.percent(decimal(hundredths, 2, zeros) + " %")) == stored


@LAW
@given(st.sampled_from(sorted(units.PARSERS)), TEXT | st.from_regex(r"[0-9.]{1,6} ?[a-zA-Z%/]{0,5}", fullmatch=True))
def test_a_unit_reads_or_refuses_and_its_form_is_a_fixed_point(unit: str, text: str) -> None:
    try:
        stored = units.PARSERS[unit](text)
    except units.UnitError:
        return
    assert units.PARSERS[unit](stored) == stored


@LAW
@given(JSON)
def test_what_is_written_reads_back(value: Any) -> None:
    documents, broken = parse(to_yaml(value).encode())
    assert broken == ()
    assert [document.faults for document in documents] in ([], [()])
    assert (documents[0].value if documents else None) == value


@LAW
@given(st.binary(max_size=60) | st.text(st.sampled_from("ab:-[]{}&*!|>'\"#%@`?,\n\t <=~10."), max_size=40).map(str.encode))
def test_any_bytes_are_documents_or_diagnostics_never_an_exception(data: bytes) -> None:
    loaded = Loader({}).load({"x.yaml": data}, lambda pattern: [], "r")
    assert loaded.desired is None or loaded.documents == 0
    lines = data.decode("utf-8", "replace").count("\n") + 2
    assert all(1 <= one.at.line <= lines and one.at.column >= 1 and one.length >= 1 for one in loaded.diagnostics)


@LAW
@given(MAPPINGS, MAPPINGS, MAPPINGS)
def test_merging_is_a_merge_patch(base: Any, first: Any, second: Any) -> None:
    assert merge(base, {}) == base
    merged = merge(base, first)
    assert merge(merged, first) == merged
    assert None not in [value for key, value in merged.items() if key in first]
    assert merge(merge(base, first), second) == merge(merge(base, first), merge({}, second) | nulls(second))


def nulls(patch: Any) -> dict[str, Any]:
    """The part of a patch that merging onto nothing would lose."""
    return {key: value for key, value in patch.items() if value is None or isinstance(value, dict)}


NAMES = st.from_regex(r"[a-z]{1,5}", fullmatch=True)
FIELDS = st.dictionaries(NAMES, JSON, max_size=5)


@FEW
@given(FIELDS, NAMES, JSON, st.booleans())
def test_an_edit_changes_one_field_and_no_other_line(fields: Any, name: str, value: Any, flow: bool) -> None:
    head = b"# head\nkind: K\nmetadata: {name: n} # beside\n"
    body = to_yaml({"spec": fields}).encode() if not flow else b"spec: " + to_yaml([fields]).strip()[1:-1].encode() + b"\n"
    tail = b"# below\n---\nother: 1 # too\n"
    text = head + body + tail
    after = set_value(text, "K", "n", name, "=", value)
    assert after.startswith(head)
    assert after.endswith(tail)
    assert parse(after)[0][0].value["spec"] == {**fields, name: value}
    assert set_value(after, "K", "n", name, "=", value) == after


@FEW
@given(st.permutations(["apiVersion", "kind", "metadata", "spec", "lifecycle", "extra"]), FIELDS, st.booleans())
def test_formatting_keeps_meaning_and_comments_and_settles_at_once(order: list[str], fields: Any, crlf: bool) -> None:
    parts = {
        "apiVersion": "# c-version\napiVersion: overlay.bsv/v1alpha1\n",
        "kind": "kind: Dataset # c-kind\n",
        "metadata": "metadata:\n  labels: {a: b}\n  # c-name\n  name: x\n",
        "spec": "spec:\n  # c-spec\n" + "  tags: [a]\n  title: t\n",
        "lifecycle": "\n# c-life\nlifecycle:\n  prune: never\n",
        "extra": to_yaml({"extra": fields}),
    }
    text = "".join(parts[name] for name in order)
    data = text.replace("\n", "\r\n").encode() if crlf else text.encode()
    done = format_text(data)
    assert [one.value for one in parse(done)[0]] == [one.value for one in parse(data)[0]]
    assert all(done.count(comment) == 1 for comment in (b"# c-version", b"# c-kind", b"# c-name", b"# c-spec", b"# c-life"))
    assert format_text(done) == done
    keys = list(parse(done)[0][0].value)
    assert keys == ["apiVersion", "kind", "metadata", "spec", "lifecycle", "extra"]


KINDS_TEXT = st.sampled_from(
    ["retention: 1d", "retention: 24h", "retention: P1D", "retention: PT24H", "retention: 86400s", "retention: 1440m"]
)


@FEW
@given(KINDS_TEXT, KINDS_TEXT)
def test_two_spellings_of_a_spec_are_one_resource(first: str, second: str) -> None:
    from reconciler.kinds import controllers
    from reconciler.model.resource import FileFact

    head = "apiVersion: overlay.bsv/v1alpha1\n"
    world = f"{head}kind: Network\nmetadata: {{name: n}}\nspec: {{chain: devnet}}\n---\n"
    world += f"{head}kind: Identity\nmetadata: {{name: i}}\nspec: {{key: {{env: K}}}}\n---\n"
    world += f"{head}kind: Dataset\nmetadata: {{name: d}}\nspec:\n  title: T\n  content: {{file: "

    def load(text: str) -> Any:
        return Loader(controllers()).load({"a.yaml": text.encode()}, lambda p: [FileFact("a.csv", 1, "0" * 64, "text/csv")], "r")

    one, two = load(f"{world}./a.csv}}\n  {first}\n"), load(f"{world}a.csv}}\n  {second}\n")
    assert one.desired is not None
    assert one.desired == two.desired
