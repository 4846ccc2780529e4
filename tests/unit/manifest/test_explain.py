import pytest

from reconciler.manifest import explain
from reconciler.manifest.describe import describe, kind_named, schema
from reconciler.manifest.fault import CODES
from reconciler.manifest.schema import packaged
from reconciler.manifest.shape import walk
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.errors import Refused
from reconciler.model.ref import Position

FEEDS = "\n" * 13 + "    dataset: btc-tick\n"


def one(**changes) -> Diagnostic:
    fields = {
        "severity": Severity.ERROR,
        "code": "E0312",
        "message": 'Advertisement/btc-feed refers to Dataset "btc-tick", which does not exist',
        "at": Position("producers/feeds.yaml", 14, 14, "/spec/dataset"),
        "length": 8,
        "hint": 'did you mean "btc-ticks" (producers/data.yaml:3)?',
    }
    return Diagnostic(**(fields | changes))


def test_a_diagnostic_is_drawn_with_its_line_and_a_caret() -> None:
    text = """\
error[E0312]: Advertisement/btc-feed refers to Dataset "btc-tick", which does not exist
  --> producers/feeds.yaml:14:14
   |
14 |     dataset: btc-tick
   |              ^^^^^^^^ did you mean "btc-ticks" (producers/data.yaml:3)?"""
    assert explain.render(one(), {"producers/feeds.yaml": FEEDS.encode()}) == text


def test_related_places_follow_as_notes() -> None:
    related = ((Position("a.yaml", 1, 3), "Dataset/a needs Dataset/b"),)
    text = explain.render(one(related=related, hint=None), {"producers/feeds.yaml": FEEDS.encode(), "a.yaml": b"x: y\n"})
    assert text.splitlines()[5:] == ["note: Dataset/a needs Dataset/b", "  --> a.yaml:1:3", "   |", " 1 | x: y", "   |   ^"]


def test_a_place_without_a_file_is_still_told() -> None:
    text = explain.render(one(at=Position("overlays/prod", 1, 1)), {})
    assert text.splitlines()[1:] == ["  --> overlays/prod:1:1", '   | did you mean "btc-ticks" (producers/data.yaml:3)?']


def test_long_lines_are_shown_around_the_caret_and_wide_numbers_widen_the_gutter() -> None:
    data = ("\n" * 1233 + "x" * 500 + "HERE" + "y" * 500).encode()
    lines = explain.render(one(at=Position("f", 1234, 501), length=4, hint=None), {"f": data}).splitlines()
    assert lines[1] == "    --> f:1234:501"
    assert lines[4].index("^") == lines[3].index("HERE")
    assert lines[4].count("^") == 4
    assert len(lines[3]) < 140


def test_colour_is_asked_for_by_role() -> None:
    text = explain.render(one(), {"producers/feeds.yaml": FEEDS.encode()}, lambda role, part: f"<{role}>{part}</>")
    assert text.startswith("<error>error[E0312]</>: Adv")
    assert "<caret>^^^^^^^^</> <hint>did you mean" in text


def test_the_summary_counts() -> None:
    assert explain.summary(2, 0, 48, 12, 0.21) == "2 errors, 0 warnings in 48 resources (12 files, 0.21s)"
    assert explain.summary(1, 1, 1, 1) == "1 error, 1 warning in 1 resource (1 file)"


def test_sarif_carries_rules_regions_and_related_places() -> None:
    found = explain.sarif(
        [one(related=((Position("a.yaml", 1, 3), "here"),)), one(severity=Severity.WARNING, code="W0501")], "1.2"
    )
    run = found["runs"][0]
    assert found["version"] == "2.1.0"
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["E0312", "W0501"]
    assert [(result["ruleIndex"], result["level"]) for result in run["results"]] == [(0, "error"), (1, "warning")]
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place == {
        "artifactLocation": {"uri": "producers/feeds.yaml"},
        "region": {"startLine": 14, "startColumn": 14, "endColumn": 22},
    }
    assert run["results"][0]["relatedLocations"][0]["message"] == {"text": "here"}


def test_github_commands_are_escaped() -> None:
    text = explain.github([one(message="100% sure\nof it", at=Position("a,b:c.yaml", 2, 3), hint=None)])
    assert text == "::error file=a%2Cb%3Ac.yaml,line=2,col=3,endColumn=11,title=E0312::100%25 sure%0Aof it"


def test_json_and_strictness() -> None:
    found = explain.as_json([one()])[0]
    assert (found["file"], found["line"], found["column"], found["pointer"]) == ("producers/feeds.yaml", 14, 14, "/spec/dataset")
    warning = [one(severity=Severity.WARNING)]
    assert (explain.worst(warning), explain.worst(warning, strict=True), explain.worst([one()])) == (False, True, True)


def test_every_code_is_unique_and_explained() -> None:
    assert len(set(CODES.values())) == len(CODES)
    assert all(len(code) == 5 and code[0] in "EW" for code in CODES)


@pytest.mark.row("P-CFG-12")
def test_every_field_of_every_kind_can_be_explained() -> None:
    for kind, document in packaged().items():
        for path, _ in walk(document):
            if "*" in path:
                continue
            doc = describe(kind, ".".join(part for part in path if part != "[]"))
            assert doc.type
            assert doc.description


def test_a_field_is_described_from_its_schema() -> None:
    doc = describe("dataset", "retention")
    assert (doc.kind, doc.path, doc.type, doc.unit, doc.default, doc.required) == (
        "Dataset",
        "spec.retention",
        "duration",
        "duration",
        "180d",
        False,
    )
    assert "7d" in doc.examples
    assert describe("Datasets", "spec.content.fileSet.directory").required
    inherited = describe("Dataset", "pricePlanRef")
    assert inherited.reference == "PricePlan"
    assert inherited.source == "defaults.pricePlanRef of the resource that identityRef names, unless price is set"
    assert describe("Dataset", "networkRef").source == "the only Network of the environment"
    assert describe("Dataset", "networkRef").immutable
    assert describe("Dataset", "encryption").choices == ("none", "per-buyer")
    assert describe("Dataset", "encryption").inert == ("per-buyer",)
    overlays = describe("network", "overlays")
    assert (overlays.type, [field.path for field in overlays.fields]) == (
        "list of mapping",
        ["spec.overlays[].name", "spec.overlays[].url", "spec.overlays[].region"],
    )
    assert describe("network", "overlays[].url").path == "spec.overlays[].url"
    assert describe("network", "topics").type == "mapping of names to text"
    assert [field.path for field in describe("PricePlan").fields] == ["apiVersion", "kind", "metadata", "spec", "lifecycle"]


def test_what_does_not_exist_is_refused_with_a_guess() -> None:
    with pytest.raises(Refused) as kind:
        kind_named("datset")
    assert kind.value.hint == "did you mean Dataset?"
    with pytest.raises(Refused) as field:
        describe("Dataset", "contnt.file")
    assert (field.value.message, field.value.hint) == ("cannot find a field 'contnt' in Dataset.spec", "did you mean content?")
    assert schema("priceplans")["title"] == "PricePlan"


def test_fields_of_one_form_among_several_are_found() -> None:
    from reconciler.manifest.describe import describe

    assert describe("Network", "ack.quorum").type == "whole number"
    assert [field.path for field in describe("Network", "ack").fields] == ["spec.ack.quorum"]
