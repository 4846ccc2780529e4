"""What the documentation claims is checked: generated pages are current, links resolve, code compiles, manifests are valid."""

import ast
import hashlib
import importlib.util
import inspect
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

from reconciler.adapters.files import DirectorySource
from reconciler.engine import finish, rotation
from reconciler.kinds import controllers
from reconciler.manifest import overlay
from reconciler.manifest.fmt import format_text
from reconciler.manifest.load import Loader
from reconciler.planner import guard

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md"), *(ROOT / "changes").glob("*.md"), *ROOT.glob("*.md")])
SETTINGS = ROOT / "specs" / "reconciler.schema.json"
SCHEMA_LINE = re.compile(r"# yaml-language-server: \$schema=(\S+)")
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
LANGUAGES = {"python", "yaml", "json", "toml", "console", "text"}
UNIT = ROOT / "systemd" / "reconciler.service"
# The inventory's size: a row may be added on purpose, never lost by accident.
ROWS = 814


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def fences(page: Path) -> Iterator[tuple[str, str, str]]:
    """(first word, the other words, body) of every fenced block."""
    for info, body in FENCE.findall(page.read_text("utf-8")):
        language, _, rest = info.strip().partition(" ")
        yield language, rest, body


@cache
def schemas() -> Mapping[str, Any]:
    found = [json.loads(path.read_text("utf-8")) for path in sorted((ROOT / "specs").glob("*.v1alpha1.json"))]
    return {schema["title"]: schema for schema in found}


def faults(document: Any) -> list[str]:
    """Why a manifest is no valid document of its kind."""
    if document.get("kind") not in schemas():
        return [f"there is no kind {document.get('kind')}"]
    validator = jsonschema.Draft202012Validator(schemas()[document["kind"]])
    return [f"{fault.json_path}: {fault.message}" for fault in validator.iter_errors(document)]


# --- generated pages -----------------------------------------------------------------------------


def test_generated_pages_are_current() -> None:
    stale = [name(path) for path, text in generator().pages().items() if not path.is_file() or path.read_text("utf-8") != text]
    assert stale == [], "run `make docs`"


def test_no_page_of_a_kind_outlives_its_schema() -> None:
    module = generator()
    assert set(module.KINDS.glob("*.md")) - set(module.pages()) == set()


def test_every_kind_has_a_page_that_names_every_field() -> None:
    module = generator()
    for kind, schema in schemas().items():
        page = (module.KINDS / f"{kind.lower()}.md").read_text("utf-8")
        missing = [field for field in schema["properties"]["spec"]["properties"] if f"| `{field}` |" not in page]
        assert missing == [], kind


def test_every_row_marker_names_a_row() -> None:
    module = generator()
    rows = module.rows(DOCS / "rows.tsv")
    strangers = {row: tests for row, tests in module.marks(ROOT / "tests").items() if row not in rows}
    assert strangers == {}


def test_the_inventory_is_whole() -> None:
    lines = (DOCS / "rows.tsv").read_text("utf-8").splitlines()
    assert lines[0] == "id\ttext"
    pairs = [line.split("\t") for line in lines[1:]]
    assert len({row for row, _ in pairs}) == len(pairs) == ROWS
    assert [row for row, text in pairs if not 1 <= len(text) <= 60 or text != text.strip()] == []
    assert {row.rpartition("-")[0] for row, _ in pairs} == set(generator().SECTIONS)


def test_markers_are_found_wherever_they_stand() -> None:
    source = """
import pytest
pytestmark = [pytest.mark.slow, pytest.mark.row("A-1")]
CASES = [pytest.param(1, marks=pytest.mark.row("A-2"))]
@pytest.mark.row("A-3", "A-4")
def test_one(): pass
@pytest.mark.row("A-5")
class TestTwo:
    @pytest.mark.row("A-6")
    async def test_three(self): pass
"""
    assert sorted(generator().marked(ast.parse(source), "t.py"), key=lambda found: found[1]) == [
        ("t.py", "A-1"), ("t.py", "A-2"), ("t.py::test_one", "A-3"), ("t.py::test_one", "A-4"),
        ("t.py::TestTwo", "A-5"), ("t.py::TestTwo::test_three", "A-6"),
    ]  # fmt: skip


# --- prose ---------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The fragment of every heading, as renderers make it."""
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.replace("`", "")).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for target in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (fragment and fragment not in anchors(there)):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_snippets_are_sound(page: Path) -> None:
    for language, rest, body in fences(page):
        assert language in LANGUAGES, f"say what this is: {body[:60]!r}"
        if language == "python":
            compile(body, str(page), "exec")
        elif language == "yaml":
            for document in yaml.safe_load_all(body):
                if isinstance(document, dict) and "apiVersion" in document:
                    assert faults(document) == []
        elif language == "console":
            commands = [line for line in body.splitlines() if line.startswith("$ ")]
            assert commands, f"a session without a command: {body[:60]!r}"
            word, _, folder = rest.partition(" ")
            assert word in {"", "run"}, rest
            assert word != "run" or (ROOT / folder).is_dir(), f"no folder {folder} to run in"


# --- verbs, fields, conditions -------------------------------------------------------------------


@cache
def spoken() -> ModuleType:
    generator()
    return sys.modules["code_pages"]


@pytest.mark.row("P-CFG-12")
def test_every_verb_and_everything_it_takes_is_documented() -> None:
    page = (DOCS / "reference" / "cli.md").read_text("utf-8")
    undocumented, seen = [], 0
    for words, command in spoken().verbs():
        if not (command.help or "").strip() or not re.search(rf"^##+ `{words}`$", page, re.MULTILINE):
            undocumented.append(words)
        section = page.partition(f"# `{words}`\n")[2].partition("\n## ")[0]
        for parameter in getattr(command, "params", ()):
            written = max(parameter.opts, key=len)
            if parameter.hidden or written == "--help":
                continue
            seen += 1
            shown = written if written.startswith("-") else (parameter.metavar or parameter.name).strip("[]{}.")
            if not (parameter.help or "").strip() or shown not in section:
                undocumented.append(f"{words} {written}")
    assert undocumented == []
    assert seen > 100


@pytest.mark.row("P-CFG-12")
def test_every_field_at_every_depth_says_what_it_means() -> None:
    module, silent, seen = generator(), [], 0
    for kind, schema in schemas().items():
        page = (module.KINDS / f"{kind.lower()}.md").read_text("utf-8")
        spec = module.follow(schema["properties"]["spec"], schema)
        for field in module.fields(spec, schema):
            seen += 1
            if f"| `{field.path}` |" not in page or not field.schema.get("description"):
                silent.append(f"{kind}.{field.path}")
    assert silent == []
    assert seen > 100


def stated(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(status, reason) of everything that code states about a condition: a Truth, and a word beside it."""
    for node in ast.walk(tree):
        parts = node.elts if isinstance(node, ast.Tuple) else node.args if isinstance(node, ast.Call) else []
        for truth, reason in pairwise(parts):
            named = isinstance(truth, ast.Attribute) and ast.unparse(truth.value) == "Truth"
            if named and isinstance(reason, ast.Constant) and reason.value:
                yield truth.attr.capitalize(), str(reason.value)


def test_the_conditions_are_those_that_the_engine_states() -> None:
    trees = [ast.parse(path.read_text("utf-8")) for path in (ROOT / "reconciler" / "engine").glob("*.py")]
    made = {
        node.args[0].value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Condition" and isinstance(node.args[0], ast.Constant)
    }
    # A succession of keys is told of like a condition, and stands in no status.
    assert made | {rotation.SUCCESSION} == spoken().CONDITIONS.keys()
    said = {pair for tree in trees for pair in stated(tree)} | {("True", word) for word in finish._READY_REASON.values()}
    told = {(status, word) for _, rows in spoken().CONDITIONS.values() for status, word, _ in rows if "*" not in word}
    assert said - told == set(), "say in docs/code_pages.py what it means"
    # What is not stated beside its status stands somewhere as a word of its own, or nobody ever says it.
    words = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert {reason for _, reason in told - said} - words == set()
    assert ("True", "Recorded") in told  # the default of a kind that is not in the table
    assert 'get(change.ref.kind, "Recorded")' in inspect.getsource(finish)


def test_every_guard_has_its_meaning() -> None:
    words = {"APPROVED", "DENIED", "WARNING"}  # how messages begin
    names = {name for name, value in vars(guard).items() if name.isupper() and isinstance(value, str)} - words
    assert names == spoken().GUARDS.keys()


def test_errors_are_read_from_the_code_wherever_they_are_raised() -> None:
    page = (DOCS / "reference" / "errors.md").read_text("utf-8")
    for code in ("insufficient-funds", "replay-divergence", "no-answer", "locked", "E0312"):
        assert f"`{code}`" in page or f"| {code} |" in page
    told = {code for codes in spoken().raised().values() for code in codes}
    lines = {line for path in (ROOT / "reconciler").rglob("*.py") for line in path.read_text("utf-8").splitlines()}
    raw = {found for line in lines for found in re.findall(r'raise \w+\("([a-z][a-z-]+)", ', line)}
    assert raw - told == set()
    assert len(told) > 100


# --- the service ---------------------------------------------------------------------------------


def directives() -> dict[str, list[str]]:
    """Every directive of the unit with its values, sections set aside."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text("utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_the_service_starts_what_exists_as_it_expects() -> None:
    unit = directives()
    assert unit["Type"] == ["notify"] and 'notify("READY=1")' in (ROOT / "reconciler" / "cli" / "daemon.py").read_text("utf-8")
    program, *words = unit["ExecStart"][0].split()
    assert Path(program).name == "reconciler"
    whole = spoken().program()
    flags = {option: parameter for parameter in whole.params for option in parameter.opts}
    while words[0].startswith("-"):
        assert not flags[words[0]].is_flag
        del words[:2]
    (verb,) = words
    assert not whole.commands[verb].hidden
    assert unit["LoadCredential"][0].split(":")[0] == "passphrase"
    assert "{credential: passphrase}" in (DOCS / "how-to" / "run-as-a-service.md").read_text("utf-8")
    assert f"/var/lib/{unit['StateDirectory'][0]}" in unit["ExecStart"][0]


def test_the_service_is_closed() -> None:
    unit = directives()
    for name in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "ProtectKernelModules", "RestrictNamespaces"):
        assert unit[name] == ["yes"], name
    assert unit["ProtectSystem"] == ["strict"] and unit["CapabilityBoundingSet"] == [""] and unit["UMask"] == ["0077"]
    # The daemon reads /proc/PID/stat of other lease holders; hidden, they would pass for dead.
    assert "ProtectProc" not in unit


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit_as_it_is(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text("utf-8").replace("/opt/reconciler/bin/reconciler", sys.executable), "utf-8")
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("path", sorted((DOCS / "decisions").glob("[0-9]*.md")), ids=name)
def test_a_decision_says_what_was_given_up(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.startswith(f"# {path.name[:4]} ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE)[:4] == ["Example", "Forces", "Decision", "What we gave up"]


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    reasons = (DOCS / "decisions" / "0002-dependencies.md").read_text("utf-8").lower()
    cells = {word.strip() for line in reasons.splitlines() if line.startswith("| ") for word in line.split("|")[1].split(",")}
    names = {re.split(r"[\[<>=!~ ]", one)[0].lower() for one in asked}
    assert names - cells == set(), "say why in docs/decisions/0002-dependencies.md"


def test_fragments_are_one_sentence_of_a_known_sort() -> None:
    for path in sorted((ROOT / "changes").glob("*.md")):
        if path.name == "README.md":
            continue
        assert re.fullmatch(r"[a-z0-9-]+\.(added|changed|fixed|removed|security)\.md", path.name)
        text = path.read_text("utf-8")
        assert text.endswith(".\n") and text.count("\n") == 1 and text[0].isupper(), path.name


# --- examples ------------------------------------------------------------------------------------

EXAMPLES = sorted(path.parent for path in (ROOT / "examples").rglob("reconciler.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_an_example_is_a_repository_of_its_own(example: Path) -> None:
    assert any((place / "README.md").is_file() for place in (example, example.parent))
    assert {".keys/", ".state/"} <= set((example / ".gitignore").read_text("utf-8").splitlines())
    seen = set()
    for path in sorted(example.glob("*.yaml")):
        assert path.name == "reconciler.yaml" or format_text(path.read_bytes()) == path.read_bytes(), "reconciler fmt"
        documents = list(yaml.safe_load_all(path.read_text("utf-8")))
        line = SCHEMA_LINE.match(path.read_text("utf-8"))
        assert line is not None, f"{path.name} does not tell editors its schema"
        if path.name == "reconciler.yaml":
            assert (path.parent / line[1]).resolve() == SETTINGS
            jsonschema.validate(documents[0], json.loads(SETTINGS.read_text("utf-8")))
            continue
        assert (path.parent / line[1]).resolve() == ROOT / "specs" / "overlay.bsv_v1alpha1.json"
        for document in documents:
            assert faults(document) == []
            ref = (document["kind"], document["metadata"]["name"])
            assert ref not in seen
            seen.add(ref)
    assert {"Identity", "Network"} <= {kind for kind, _ in seen}


@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_an_example_loads_without_a_word_in_every_environment(example: Path) -> None:
    source = DirectorySource(example)
    revision = source.current()
    for environment in ("", *overlay.environments(revision.texts)):
        loaded = Loader(controllers()).load(revision.texts, source.facts, revision.id, environment)
        assert loaded.diagnostics == ()
        assert loaded.desired is not None and len(loaded.desired.resources) == loaded.documents >= 2


def test_patches_name_something_in_the_base() -> None:
    for path in sorted((ROOT / "examples").glob("*/overlays/*/*.yaml")):
        base = [
            (document["kind"], document["metadata"]["name"])
            for file in path.parents[2].glob("*.yaml")
            if file.name != "reconciler.yaml"
            for document in yaml.safe_load_all(file.read_text("utf-8"))
        ]
        for document in yaml.safe_load_all(path.read_text("utf-8")):
            assert (document["kind"], document["metadata"]["name"]) in base


def test_the_public_data_is_what_its_origin_says() -> None:
    data = ROOT / "examples" / "market-data" / "data"
    stated = dict(
        re.findall(r"\| `(fx-\d{4}\.csv)` \| \d+ \| \d+ \| `([0-9a-f]{64})` \|", (data / "ORIGIN.md").read_text("utf-8"))
    )
    assert stated == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(data.glob("*.csv"))}
    assert len(stated) >= 6
