"""`validate` in a process of its own: what it says, what it exits with, and what it must not load."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, Cli, run


def test_a_sound_repository_is_said_to_be_sound(cli: Cli) -> None:
    ran = cli("validate")
    assert ran.out.startswith("0 errors, 0 warnings in 5 resources (5 files, ")
    assert ran.err == ""


def test_every_fault_is_shown_where_it_stands_and_counted(cli: Cli, repo: Path) -> None:
    text = (repo / "datasets.yaml").read_text()
    (repo / "datasets.yaml").write_text(
        text.replace("title:", "titel:").replace("pricePlanRef: standard", "pricePlanRef: standart")
    )
    ran = cli("validate", expect=1)
    line = next(number for number, line in enumerate(text.splitlines(), 1) if "title:" in line)
    assert f'error[E0107]: unknown field "titel"\n  --> datasets.yaml:{line}:3\n' in ran.out
    assert "^^^^^ did you mean" in ran.out
    assert 'error[E0312]: Dataset/btc-daily refers to PricePlan "standart", which does not exist' in ran.out
    errors = ran.out.count("error[")
    assert ran.out.rstrip().splitlines()[-1].startswith(f"{errors} errors, 0 warnings in 5 resources (5 files, ")


@pytest.mark.row("P-CFG-13")
def test_json_names_file_line_and_column_for_programs(cli: Cli, repo: Path) -> None:
    with (repo / "prices.yaml").open("a") as stream:
        stream.write("  prise: 100\n")
    told = cli("validate", "-o", "json", expect=1).json
    assert (told["valid"], told["errors"], told["warnings"], told["resources"]) == (False, 1, 0, 5)
    (one,) = told["diagnostics"]
    line = (repo / "prices.yaml").read_text().splitlines().index("  prise: 100") + 1
    assert (one["code"], one["file"], one["line"], one["column"]) == ("E0107", "prices.yaml", line, 3)
    assert cli("validate", "-json", expect=1).json["errors"] == 1


def test_annotations_name_files_as_the_caller_sees_them(cli: Cli, repo: Path) -> None:
    (repo / "prices.yaml").write_text("kind: PricePlan\n")
    said = run("validate", "shop", "-o", "github", cwd=repo.parent, expect=1)
    assert "::error file=shop/prices.yaml,line=1,col=1," in said.out
    assert all(line.startswith("::error file=shop/") for line in said.out.splitlines())
    assert "errors, 0 warnings" in said.err
    sarif = run("-C", "shop", "validate", "-o", "sarif", cwd=repo.parent, expect=1).json
    results = sarif["runs"][0]["results"]
    assert {one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in results} >= {"shop/prices.yaml"}


def test_one_file_is_judged_among_the_others_but_reported_alone(cli: Cli, repo: Path) -> None:
    (repo / "prices.yaml").write_text("kind: PricePlan\n")
    assert cli("validate", "network.yaml", "-o", "json").json["diagnostics"] == []
    told = cli("validate", "prices.yaml", "-o", "json", expect=1).json["diagnostics"]
    assert {one["file"] for one in told} == {"prices.yaml"}


def test_a_wrong_settings_file_is_reported_together_with_wrong_manifests(cli: Cli, repo: Path) -> None:
    (repo / "reconciler.yaml").write_text("mode: autto\n")
    (repo / "prices.yaml").write_text((repo / "prices.yaml").read_text().replace("per-item", "per-thing"))
    files = {one["file"] for one in cli("validate", "-o", "json", expect=1).json["diagnostics"]}
    assert files == {"reconciler.yaml", "prices.yaml"}
    # Every other verb tells it the same way, on the stream for talk.
    ran = cli("identity", "show", expect=1)
    assert ran.out == ""
    assert ran.err.startswith("error[E0110]") and "--> reconciler.yaml:1:7" in ran.err


def test_warnings_fail_only_when_they_should(cli: Cli, repo: Path) -> None:
    text = (repo / "datasets.yaml").read_text()
    (repo / "datasets.yaml").write_text(f"{text.rstrip()}\n  retention: 86400000\n")
    ran = cli("validate")
    assert "warning[W0501]" in ran.out and "0 errors, 1 warning in" in ran.out
    cli("validate", "--strict", expect=1)


def test_environments_are_checked_one_by_one_or_all(cli: Cli, repo: Path) -> None:
    patch = repo / "overlays" / "prod" / "prices.yaml"
    patch.parent.mkdir(parents=True)
    patch.write_text("kind: PricePlan\nmetadata: {name: standard}\nspec: {rate: much}\n")
    cli("validate")
    for words in (("validate", "-e", "prod"), ("-e", "prod", "validate"), ("validate", "--all")):
        assert "--> overlays/prod/prices.yaml:3:14" in cli(*words, expect=1).out
    assert "unknown environment" in cli("validate", "-e", "prot", expect=1).out


@pytest.mark.row("P-CFG-13")
def test_a_command_line_that_cannot_be_read_exits_64_and_says_how_it_is_used(cli: Cli) -> None:
    for words in (("validate", "--nonsense"), ("validate", "-o", "xml"), ("validate", "nowhere"), ("vallidate",)):
        ran = cli(*words, expect=64)
        assert ran.out == ""
        assert "error: " in ran.err and "--help" in ran.err


def test_validation_loads_neither_database_nor_network_nor_keys() -> None:
    code = (
        "import sys, json; from reconciler.cli import main; code = main.run(['-q', 'validate']);"
        "print(json.dumps([code, sorted({name.partition('.')[0] for name in sys.modules})]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "examples" / "01-identity",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    code_, modules = json.loads(done.stdout)
    assert code_ == 0
    # typer brings pydantic, and the wire formats bring coincurve.
    heavy = {
        "sqlmodel",
        "sqlalchemy",
        "httpx",
        "bitcoinx",
        "cryptography",
        "uvicorn",
        "starlette",
        "rich",
    }
    assert heavy & set(modules) == set()


def test_a_verb_bound_alone_is_the_verb_of_its_family() -> None:
    import importlib

    import typer

    from reconciler.cli import main

    for verb, family in main._ALONE.items():
        app = typer.Typer()
        importlib.import_module(f"reconciler.cli.{family}").bind(app)
        names = {one.name or one.callback.__name__ for one in app.registered_commands} | {
            one.name for one in app.registered_groups
        }
        assert family in main._FAMILIES and verb in names


@pytest.mark.parametrize(
    "words",
    [[], ["."], ["--all"], ["--strict"], ["-o", "json"], ["--output", "sarif"], ["-e", "prod"], ["prices.yaml"], ["--all", "."]],
)
def test_plain_words_take_the_short_way_to_the_same_words(
    words: list[str], repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from reconciler.cli import context, main, quick

    monkeypatch.chdir(repo)
    (repo / "prices.yaml").write_text("kind: PricePlan\n")
    monkeypatch.setattr(context.GLOBALS, "environment", None)
    code = quick.validate(words)
    short = _timeless(capsys.readouterr())
    monkeypatch.setattr(context.GLOBALS, "environment", None)
    assert (main.run(["validate", *words]), _timeless(capsys.readouterr())) == (code, short)
    assert code is not None and any(short)


@pytest.mark.parametrize("words", [["nowhere"], ["-o", "yaml"], ["-o"], ["--help"], ["-x"], ["a", "b"], ["--output=json"]])
def test_anything_else_is_left_to_the_real_parser(words: list[str], repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler.cli import quick

    monkeypatch.chdir(repo)
    assert quick.validate(words) is None


def _timeless(said: "pytest.CaptureResult[str]") -> tuple[str, str]:
    import re

    return re.sub(r"\d+\.\d+s", "", said.out), re.sub(r"\d+\.\d+s", "", said.err)
