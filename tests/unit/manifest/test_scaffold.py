import pytest

from reconciler.kinds import controllers
from reconciler.manifest.fmt import format_text
from reconciler.manifest.load import Loader
from reconciler.manifest.scaffold import MODELINE, SCHEMA_FILE, TEMPLATES, new_manifest, skeleton, to_yaml
from reconciler.manifest.yaml import parse
from reconciler.model.errors import Refused
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import FileFact


def load(texts: dict[str, str]):
    files = {path: text.encode() for path, text in texts.items()}
    return Loader(controllers()).load(files, lambda p: [FileFact(p, 1, "0" * 64, "text/csv")] if p in files else [], "r")


@pytest.mark.row("P-REG-01", "P-REG-05", "P-REG-20")
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("chain", ["devnet", "main", "test"])
def test_a_new_repository_is_valid_formatted_and_points_editors_at_its_schema(template: str, chain: str) -> None:
    files = skeleton(template, name="acme", chain=chain, overlay="https://overlay.example.org")
    loaded = load(dict(files))
    assert loaded.diagnostics == ()
    assert loaded.desired is not None
    assert ResourceRef("Identity", "acme") in loaded.desired.resources
    networks = [resource.spec for ref, resource in loaded.desired.resources.items() if ref.kind == "Network"]
    assert [(net["chain"], net["overlays"][0]["url"]) for net in networks] == [(chain, "https://overlay.example.org")]
    for path, text in files.items():
        if path.endswith(".yaml"):
            assert text.startswith(MODELINE)
            assert format_text(text.encode()).decode() == text
    assert SCHEMA_FILE in files
    assert ("datasets.yaml" in files) == (template != "minimal")


def test_an_unknown_template_is_refused() -> None:
    with pytest.raises(Refused, match="cannot find a template"):
        skeleton("retail")


@pytest.mark.row("P-PUB-30")
def test_a_new_resource_is_written_in_canonical_order() -> None:
    text = new_manifest(
        "dataset",
        "x",
        {"price": "5sat", "title": "A: b", "content.file": "a.csv", "metadata.labels": {"t": "1"}, "lifecycle.maxSpend": 9},
    )
    assert text == (
        "apiVersion: overlay.bsv/v1alpha1\nkind: Dataset\nmetadata:\n  name: x\n  labels:\n    t: \"1\"\n"
        'spec:\n  content:\n    file: a.csv\n  title: "A: b"\n  price: 5sat\nlifecycle:\n  maxSpend: 9\n'
    )  # fmt: skip


def test_needed_fields_that_are_missing_stand_as_comments() -> None:
    assert "spec:\n  # content: needed. What is sold." in new_manifest("dataset", "x", {"title": "T"})
    bare = new_manifest("priceplan", "p", {})
    assert "spec:\n  # model: needed. What one unit is.\n  # rate: needed." in bare
    assert parse(bare.encode())[0][0].value["spec"] is None


def test_a_value_cannot_stand_below_a_value() -> None:
    with pytest.raises(Refused, match="cannot put a value"):
        new_manifest("dataset", "x", {"title": "T", "title.sub": 1})


def test_any_value_is_written_so_that_it_reads_back() -> None:
    value = {
        "a": [1, {"b": [True, None, "yes", "1.5", "- x", "#", "a: b", "é\n", "", " x "]}],
        "<<": "=",
        "1": {},
        "l": ["x" * 60] * 3,
    }
    assert parse(to_yaml(value).encode())[0][0].value == value
    assert to_yaml([1, 2]) == "[1, 2]\n"
