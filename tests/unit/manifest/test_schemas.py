import json
from pathlib import Path

import jsonschema
import jsonschema_rs
import pytest

from reconciler.kinds import controllers
from reconciler.manifest.load import Loader
from reconciler.manifest.normalise import Out, compile_plan
from reconciler.manifest.scaffold import to_yaml
from reconciler.manifest.schema import COMBINED, combined, packaged, packaged_schema
from reconciler.manifest.shape import resolve, walk
from reconciler.manifest.units import PARSERS
from reconciler.model.canonical import canonical
from reconciler.model.resource import FileFact

SPECS = Path(__file__).parents[3] / "specs"
KINDS = [
    "AccessPolicy", "Advertisement", "Dataset", "DistributionRule", "Identity", "Network", "PaymentPolicy", "PricePlan",
]  # fmt: skip
ANNOTATIONS = {"x-unit", "x-ref", "x-sole", "x-weak", "x-inherit", "x-alias", "x-immutable", "x-inert", "x-refused", "x-says"}


def test_every_kind_is_shipped_with_its_prose() -> None:
    assert list(packaged()) == KINDS
    for kind in KINDS:
        text = (SPECS / f"{kind.lower()}.md").read_text("utf-8")
        assert text.startswith(f"# {kind}\n")
        assert f"({kind.lower()}.v1alpha1.json)" in text


def test_a_field_that_nobody_acts_on_is_refused_with_what_to_do_instead() -> None:
    out, schema = Out(), {"type": "object", "properties": {"later": {"x-refused": "leave it out"}, "now": {}}}
    plan = compile_plan(schema, schema)
    plan({"now": 1}, ("spec",), out)
    assert out.faults == []
    plan({"later": 1}, ("spec",), out)
    (one,) = out.faults
    assert (one.code, one.path, one.message, one.hint) == (
        "E0116", ("spec", "later"), '"later" is not acted on by this version', "leave it out"
    )  # fmt: skip


def test_the_editor_schema_is_current_and_agrees_with_the_single_ones() -> None:
    written = json.loads((SPECS / COMBINED).read_text("utf-8"))
    assert written == combined(packaged())
    validator = jsonschema.Draft202012Validator(written)
    validator.check_schema(written)
    quick = jsonschema_rs.Draft202012Validator(written)
    for schema in packaged().values():
        for example in schema["examples"]:
            assert validator.is_valid(example)
            for broken in ({**example, "kind": "Nothing"}, {**example, "more": 1}, {**example, "spec": 1}):
                assert not validator.is_valid(broken)
                assert not quick.is_valid(broken)


def test_shared_definitions_are_the_same_in_every_file() -> None:
    first: dict[str, object] = {}
    for schema in packaged().values():
        for name, node in schema["$defs"].items():
            assert first.setdefault(name, node) == node, name


@pytest.mark.row("P-CFG-12")
@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_closed_described_and_annotated_with_known_words(kind: str) -> None:
    schema = packaged()[kind]
    jsonschema.Draft202012Validator.check_schema(schema)
    for path, node in walk(schema):
        assert len(node.get("description", "")) > 5 or path[-1] in ("[]", "*"), path
        assert {key for key in node if key.startswith("x-")} <= ANNOTATIONS, path
        assert node.get("x-unit") is None or node["x-unit"] in PARSERS, path
        if "properties" in node:
            assert node["additionalProperties"] is False or isinstance(node["additionalProperties"], dict), path
        for keyword in ("oneOf", "anyOf", "pattern"):
            assert keyword not in node or "x-says" in node or path == (), path


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_are_valid_where_they_stand(kind: str) -> None:
    schema = packaged()[kind]
    found = 0
    for path, node in walk(schema):
        if "default" in node:
            found += 1
            here = {**node, "$defs": schema["$defs"]}
            assert jsonschema.Draft202012Validator(here).is_valid(node["default"]), path
    assert found


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_two_examples_and_their_normal_form_is_stable(kind: str) -> None:
    schema = packaged_schema(kind)
    assert len(schema.document["examples"]) >= 2
    for example in schema.document["examples"]:
        once = schema.spec(example["spec"], ("spec",), out := Out())
        assert out.faults == []
        assert schema.spec(once, ("spec",), Out()) == once
        canonical(once)
        assert schema.is_valid({**example, "spec": once}), "the canonical form is itself a valid spec"


def test_all_examples_together_are_one_sound_repository() -> None:
    documents = [example for schema in packaged().values() for example in schema["examples"]]
    text = "---\n".join(map(to_yaml, documents)).encode()
    loaded = Loader(controllers()).load({"all.yaml": text}, lambda pattern: [FileFact(pattern, 1, "0" * 64, "text/csv")], "r")
    assert loaded.diagnostics == ()
    assert loaded.documents == len(documents)


def test_every_controller_agrees_with_its_schema() -> None:
    for kind, controller in controllers().items():
        schema = packaged_schema(kind)
        fields = resolve(schema.document, schema.document["properties"]["spec"])["properties"]
        marked = {f"spec.{name}" for name, node in fields.items() if resolve(schema.document, node).get("x-immutable")}
        assert set(controller.immutable) <= marked, kind


@pytest.mark.row("P-PUB-07", "P-PUB-12", "P-PUB-13", "P-PUB-14", "P-PUB-16", "P-PUB-25", "P-DIST-18")
def test_the_fields_of_a_dataset_are_checked_each() -> None:
    is_valid = packaged_schema("Dataset").is_valid
    example = packaged()["Dataset"]["examples"][1]

    def with_spec(**changes: object) -> bool:
        return is_valid({**example, "spec": {**example["spec"], **changes}})

    assert with_spec(replicas=0, retention="180d", partSize="8MiB")
    assert not with_spec(replicas=-1)
    assert not with_spec(content={"fileSet": {"directory": "x", "parallelUploads": 0}})
    assert not with_spec(content={"fileSet": {"pattern": "*"}})
    assert not with_spec(content={"file": "a", "fileSet": {"directory": "x"}})
    assert not with_spec(content={})
