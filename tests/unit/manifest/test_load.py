import gc

import pytest

from reconciler.manifest.load import Loaded
from reconciler.model.diagnostic import Severity
from reconciler.model.ref import Position, ResourceRef
from reconciler.model.resource import DeletionPolicy, Lifecycle, Prune, Suspension
from tests.unit.manifest.conftest import World


def told(loaded: Loaded) -> list[tuple[str, str]]:
    return [(one.code, str(one.at)) for one in loaded.diagnostics]


def spec(loaded: Loaded, name: str, kind: str = "Dataset"):
    assert loaded.desired is not None, loaded.diagnostics
    return loaded.desired.resources[ResourceRef(kind, name)].spec


@pytest.mark.row("P-PUB-01", "P-PUB-02", "P-PUB-03", "P-PUB-04", "P-PUB-05", "P-PUB-29")
def test_a_resource_is_normalised_placed_and_complete(world, base, a_dataset) -> None:
    text = a_dataset(
        "x", "  price: 25sat\n  retention: P30D\n  partSize: 8MiB\n  description: D\n  tags: [a]\n  contentType: text/csv\n"
    )
    loaded = world.load(base, text)
    assert (loaded.documents, loaded.files, loaded.errors, loaded.warnings) == (4, 1, (), ())
    assert loaded.desired is not None
    assert (loaded.desired.revision, loaded.desired.environment) == ("r1", "")
    resource = loaded.desired.resources[ResourceRef("Dataset", "x")]
    assert resource.at == Position("a.yaml", base.count("\n") + 4, 18, "/metadata/name")
    assert resource.spec == {
        "identityRef": "main",
        "networkRef": "local",
        "content": {"file": "data/a.csv"},
        "title": "T",
        "price": 25,
        "description": "D",
        "retention": 2_592_000_000,
        "partSize": 8_388_608,
        "tags": ["a"],
        "contentType": "text/csv",
        "license": "commercial",
        "encryption": "none",
        "watermark": False,
        "replicas": 1,
    }
    assert resource.requires == {ResourceRef("Identity", "main"), ResourceRef("Network", "local")}
    assert [fact.path for fact in resource.files] == ["data/a.csv"]
    assert resource.lifecycle == Lifecycle()


@pytest.mark.row("P-AD-23")
def test_many_documents_in_many_files_are_one_state(world, base, a_dataset) -> None:
    loaded = world.load(base, *(a_dataset(f"d{n}") for n in range(50)), more=a_dataset("other"))
    assert loaded.errors == ()
    assert (loaded.documents, loaded.files) == (54, 2)


def test_the_lifecycle_block_is_read(world, base, a_dataset) -> None:
    block = (
        "lifecycle:\n  dependsOn: [{kind: PricePlan, name: standard, until: Seen}]\n  deletionPolicy: Protect\n  prune: never\n"
        "  drift: {correct: never, ignore: [/spec/tags]}\n  suspend: {reason: vendor, until: 2025-07-01T00:00:00Z}\n"
        "  maxSpend: 10sat\n  adopt: true\n"
    )
    loaded = world.load(base, a_dataset("x", "  price: 1\n", block), a_dataset("y", rest="lifecycle: {suspend: null}\n"))
    assert loaded.desired is not None
    resource = loaded.desired.resources[ResourceRef("Dataset", "x")]
    plan = ResourceRef("PricePlan", "standard")
    assert resource.lifecycle == Lifecycle(
        (plan,),
        DeletionPolicy.PROTECT,
        Prune.NEVER,
        False,
        ("/spec/tags",),
        Suspension("vendor", "2025-07-01T00:00:00Z"),
        10,
        True,
    )
    assert plan in resource.requires
    assert loaded.desired.resources[ResourceRef("Dataset", "y")].lifecycle == Lifecycle()


def test_only_manifests_are_read(world, base) -> None:
    texts = {
        "base.yml": base,
        "reconciler.yaml": "{",
        ".github/x.yaml": "{",
        "a/.b.yaml": "{",
        "notes.txt": "{",
        "overlays/prod/x.yaml": "{",
    }
    loaded = world.loader.load({path: text.encode() for path, text in texts.items()}, world.facts, "r")
    assert (loaded.files, loaded.diagnostics) == (1, ())
    below = world.loader.load({"a/reconciler.yaml": b"{", "base.yml": base.encode()}, world.facts, "r")
    assert [one.code for one in below.errors] == ["E0101"]


@pytest.mark.parametrize(
    ("field", "code", "message", "hint"),
    [
        ("prise: 5", "E0107", 'unknown field "prise"', 'did you mean "price"?'),
        ("replicas: two", "E0109", '"replicas" must be a whole number, not text', None),
        ("version: 1", "E0109", '"version" must be text, not a number', 'quote it: "1"'),
        ("tags: one", "E0109", '"tags" must be a list, not text', "write [one]"),
        (
            "watermark: yes",
            "E0109",
            '"watermark" must be true or false, not text',
            "write true or false; yes, no, on and off are text",
        ),
        ("license:", "E0109", '"license" must be text, not nothing', "give it a value or remove the key"),
        (
            "encryption: per-byer",
            "E0110",
            '"encryption" cannot be "per-byer"; it is none or per-buyer',
            'did you mean "per-buyer"?',
        ),
        ("version: one", "E0111", '"one" is not a semantic version such as 1.0.0', None),
        ("replicas: -1", "E0111", '"replicas" must be at least 0', None),
        ("tags: [a, b, a]", "E0111", '"tags" names "a" twice', None),
        ("sample: {rows: 1, bytes: 2}", "E0112", '"sample" wants exactly one of rows or bytes', None),
        ("retention: 5x", "E0201", '"5x" is no duration', "write 500ms, 90s, 1h30m, 7d or ISO 8601 such as P7D"),
        (
            "retention: [1]",
            "E0201",
            '"retention" is a duration, not a list',
            "write 500ms, 90s, 1h30m, 7d or ISO 8601 such as P7D",
        ),
        ("partSize: 5x", "E0202", '"5x" is no size', "write 65536, 100MB (millions) or 8MiB (2^20)"),
        ("price: 1.5", "E0106", "1.5 is a number with a fraction, which has no exact form", 'quote it: "1.5"'),
        ("price: a lot", "E0203", '"a lot" is no amount of satoshis', "write 25sat or a whole number of satoshis"),
        ("contract: ../x", "E0206", '"../x" leaves the repository', "write a path below the repository, such as data/prices.csv"),
    ],
)
def test_a_faulty_field_is_one_error_in_plain_words(world, base, a_dataset, field, code, message, hint) -> None:
    text = a_dataset("x", f"  {field}\n")
    loaded = world.load(base, x=text)
    assert loaded.desired is None
    (one,) = loaded.errors
    assert (one.code, one.message, one.hint) == (code, message, hint)
    assert one.at.file == "x.yaml"
    assert one.at.line == 7


def test_errors_of_all_files_come_at_once_and_in_order(world, base, a_dataset) -> None:
    bad = a_dataset("x", "  replicas: two\n  retention: 5x\n  prise: 1\n")
    loaded = world.load(
        base, b=bad, c="foo: [\n---\n- 1\n---\nkind: Datset\n---\nkind: List\n---\nkind: Dataset\napiVersion: v1\n"
    )
    assert told(loaded) == [
        ("E0109", "b.yaml:7:13"),
        ("E0201", "b.yaml:8:14"),
        ("E0107", "b.yaml:9:3"),
        ("E0101", "c.yaml:2:1"),
        ("E0114", "c.yaml:3:1"),
        ("E0115", "c.yaml:5:7"),
        ("E0115", "c.yaml:7:7"),
        ("E0114", "c.yaml:10:13"),
    ]


def test_missing_fields_point_at_what_lacks_them(world, base) -> None:
    head = "apiVersion: overlay.bsv/v1alpha1\nkind: Dataset\nmetadata: {}\nspec:\n  title: T\n"
    loaded = world.load(base, x=head)
    assert [(one.message, str(one.at)) for one in loaded.errors] == [
        ('missing field "name"', "x.yaml:3:1"),
        ('missing field "content"', "x.yaml:4:1"),
    ]
    subscription = (
        "apiVersion: overlay.bsv/v1alpha1\nkind: PricePlan\nmetadata: {name: s}\nspec: {model: subscription, rate: 1}\n"
    )
    assert [one.message for one in world.load(base, x=subscription).errors] == ['missing field "period"']


def test_status_in_a_file_is_refused_in_its_own_words(world, base, a_dataset) -> None:
    (one,) = world.load(base, x=a_dataset("x", rest="status: {phase: Ready}\n")).errors
    assert (one.code, one.message, one.at.line) == ("E0113", "status is never written in a file", 7)


@pytest.mark.parametrize("name", ["Upper", "-a", "a-", "a_b", "a" * 64, "é", '"a\\n"'])
def test_names_are_labels(world, base, a_dataset, name) -> None:
    assert [one.code for one in world.load(base, a_dataset(name)).errors] == ["E0111"]


@pytest.mark.parametrize("name", ["a", "0", "a" * 63, "btc-2025-06"])
def test_good_names_are_accepted(world, base, a_dataset, name) -> None:
    assert world.load(base, a_dataset(f'"{name}"')).errors == ()


def test_a_resource_declared_twice_shows_both_places(world, base, a_dataset) -> None:
    (one,) = world.load(base, p=a_dataset("x"), q=a_dataset("x")).errors
    assert (one.code, str(one.at)) == ("E0301", "q.yaml:3:18")
    assert [str(at) for at, _ in one.related] == ["p.yaml:3:18"]


def test_a_bare_number_of_milliseconds_is_a_warning(world, base, a_dataset) -> None:
    loaded = world.load(base, a_dataset("x", "  retention: 60000\n"))
    assert spec(loaded, "x")["retention"] == 60_000
    (one,) = loaded.warnings
    assert (one.severity, one.code, one.hint) == (Severity.WARNING, "W0501", "write 1m")


def test_asking_for_what_has_no_effect_is_a_warning(world, base, a_dataset) -> None:
    assert [one.code for one in world.load(base, a_dataset("x", "  encryption: per-buyer\n  watermark: true\n")).warnings] == [
        "W0502"
    ] * 2
    assert world.load(base, a_dataset("x", "  encryption: none\n  watermark: false\n")).warnings == ()


def test_content_files_are_part_of_the_resource(world, base, a_dataset) -> None:
    text = a_dataset("x").replace("{file: data/a.csv}", "{fileSet: {directory: ./data, pattern: '*'}}")
    world.files = {"data/b.csv": "bb", "data/a.csv": "aa"}
    loaded = world.load(base, text)
    assert loaded.desired is not None
    assert [fact.path for fact in loaded.desired.resources[ResourceRef("Dataset", "x")].files] == ["data/a.csv", "data/b.csv"]


def test_missing_and_forbidden_content_is_told_at_its_path(world, base, a_dataset) -> None:
    gone = world.load(base, x=a_dataset("x").replace("a.csv", "none.csv"))
    assert told(gone) == [("E0402", "x.yaml:5:19")]
    out = world.load(base, x=a_dataset("x").replace("data/a.csv", "secret"))
    assert [(one.code, one.message) for one in out.errors] == [("E0403", "cannot read secret: it leaves the repository")]


def test_the_kind_has_the_last_word(world, base, a_dataset) -> None:
    world.kinds["Dataset"].faults = [("/content/file", "no such format"), ("title", "too dull")]
    loaded = world.load(base, x=a_dataset("x"))
    assert [(one.code, one.message, str(one.at)) for one in loaded.errors] == [
        ("E0401", "no such format", "x.yaml:5:19"),
        ("E0401", "too dull", "x.yaml:6:10"),
    ]
    assert world.kinds["Dataset"].checked[0].spec["networkRef"] == "local"


def test_a_second_load_reuses_what_did_not_change_and_sees_what_did(world, base, a_dataset) -> None:
    first = world.load(base, x=a_dataset("x"), y=a_dataset("y"))
    calls = len(world.kinds["Dataset"].checked)
    again = world.load(base, x=a_dataset("x"), y=a_dataset("y"))
    assert len(world.kinds["Dataset"].checked) == calls
    assert again.desired == first.desired
    world.files["data/a.csv"] = "changed"
    moved = world.load(base, x=a_dataset("x"), y=a_dataset("y"))
    assert moved.desired is not None
    assert {resource.files[0].sha256 for resource in moved.desired.resources.values() if resource.files} == {"changed"}
    edited = world.load(base, x=a_dataset("x", "  replicas: 7\n"), y=a_dataset("y"))
    assert (spec(edited, "x")["replicas"], spec(edited, "y")["replicas"]) == (7, 1)
    broken = world.load(base, x=a_dataset("x", "  replicas: no\n"), y=a_dataset("y"))
    assert [one.code for one in broken.errors] == ["E0109"]
    assert [one.code for one in world.load(base, x=a_dataset("x", "  replicas: no\n"), y=a_dataset("y")).errors] == ["E0109"]


def test_the_same_bytes_in_two_files_are_told_in_both(world, base, a_dataset) -> None:
    bad = "kind: Datset\n"
    assert told(world.load(base, p=bad, q=bad)) == [("E0115", "p.yaml:1:7"), ("E0115", "q.yaml:1:7")]


PATCH = "apiVersion: overlay.bsv/v1alpha1\nkind: {}\nmetadata: {{name: {}}}\nspec: {}\n"


def test_an_environment_patches_the_base(world, base, a_dataset) -> None:
    prod = PATCH.format("Network", "local", "{chain: main, topics: {market.data: null, other.data: tm_other}}")
    lists = PATCH.format("Dataset", "x", "{tags: [only], license: null}")
    texts = {
        "x": a_dataset("x", "  tags: [a, b]\n  license: mit\n"),
        "overlays__prod__net": prod,
        "overlays__prod__deep__d": lists,
    }
    plain = world.load(base, **texts)
    assert (spec(plain, "local", "Network")["chain"], spec(plain, "x")["tags"], plain.files) == ("devnet", ["a", "b"], 2)
    loaded = world.load(base, env="prod", **texts)
    assert loaded.files == 4
    assert loaded.desired is not None
    assert loaded.desired.environment == "prod"
    assert spec(loaded, "local", "Network")["topics"] == {"other.data": "tm_other"}
    assert spec(loaded, "local", "Network")["chain"] == "main"
    assert (spec(loaded, "x")["tags"], spec(loaded, "x")["license"]) == (["only"], "commercial")


def test_the_value_of_a_document_goes_when_it_was_judged_and_is_read_again_where_a_patch_needs_it(world, base, a_dataset) -> None:
    patched = PATCH.format("Dataset", "x", "{tags: [only], replicas: no}")
    texts = {"x": a_dataset("x", "  tags: [a, b]\n"), "twice": a_dataset("x"), "overlays__prod__d": patched}
    sound = {**texts, "twice": a_dataset("y"), "overlays__prod__d": patched.replace("replicas: no", "replicas: 2")}
    for env in ("", "prod", "", "prod"):
        for files in (texts, sound):
            loaded = world.load(base, env=env, **files)
            assert loaded == World().load(base, env=env, **files)
            del loaded
    assert [one for one in gc.get_objects() if type(one) is dict and one.get("metadata") in ({"name": "x"}, {"name": "y"})] == []


def test_what_many_documents_say_alike_is_held_once(world, base, a_dataset) -> None:
    resources = world.load(base, x=a_dataset("x"), y=a_dataset("y")).desired.resources
    x, y = (resources[ResourceRef("Dataset", name)] for name in "xy")
    assert x.requires is y.requires and x.labels is y.labels and x.ref.kind is y.ref.kind
    assert all(one is other for one, other in zip(x.spec, y.spec, strict=True))
    assert x.spec["content"]["file"] is y.spec["content"]["file"] and x.spec["title"] is y.spec["title"]


def test_an_unknown_environment_names_the_known_ones(world, base) -> None:
    patch = PATCH.format("Network", "local", "{chain: main}")
    (one,) = world.load(base, env="prd", overlays__prod__net=patch, overlays__test__net=patch).errors
    assert (one.code, one.hint) == ("E0310", 'did you mean "prod"? known: prod, test')
    (alone,) = world.load(base, env="prod").errors
    assert alone.hint == "there is no directory overlays/prod"


def test_a_fault_is_shown_in_the_file_that_wrote_it(world, base, a_dataset) -> None:
    patch = PATCH.format("Dataset", "x", "\n  replicas: two\n  title: null\n  lineage: {inputs: [{}]}")
    loaded = world.load(base, env="prod", x=a_dataset("x", "  prise: 1\n"), overlays__prod__x=patch)
    assert told(loaded) == [
        ("E0109", "overlays/prod/x.yaml:5:13"),
        ("E0108", "overlays/prod/x.yaml:6:10"),
        ("E0112", "overlays/prod/x.yaml:7:22"),
        ("E0107", "x.yaml:7:3"),
    ]


def test_a_complete_patch_of_nothing_is_a_new_resource(world, base, a_dataset) -> None:
    loaded = world.load(base, env="prod", overlays__prod__x=a_dataset("fresh", "  replicas: 2\n"))
    assert spec(loaded, "fresh")["replicas"] == 2
    wrong = world.load(base, env="prod", overlays__prod__x=PATCH.format("Network", "locla", "{cacheTtl: 1m}"))
    assert ("E0311", "overlays/prod/x.yaml:3:18") in told(wrong)
    assert next(one.hint for one in wrong.errors if one.code == "E0311") == "did you mean Network/local?"


def test_two_patches_of_one_resource_in_one_environment_are_refused(world, base) -> None:
    patch = PATCH.format("Network", "local", "{chain: main}")
    loaded = world.load(base, env="p", overlays__p__a=patch, overlays__p__b=patch)
    assert told(loaded) == [("E0301", "overlays/p/b.yaml:3:18")]
