"""Global flags may stand where people type them: before the verb or after it."""

import pytest
import typer

from reconciler.cli.context import GLOBALS
from reconciler.cli.main import bind, run
from reconciler.cli.words import ordered


def order(line: str) -> str:
    words = line.split()
    return " ".join(ordered(words, typer.main.get_command(bind(words))))


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("plan -C shop", "-C shop plan"),
        ("plan --no-color -o json", "--no-color plan -o json"),
        ("-q plan --state=/tmp/s", "-q --state=/tmp/s plan"),
        ("get Dataset -C shop rates -q", "-C shop -q get Dataset rates"),
        ("devnet up -C shop --base-port 0", "-C shop devnet up --base-port 0"),
        ("apply --yes --log-format json --request-timeout 5s", "--log-format json --request-timeout 5s apply --yes"),
    ],
)
def test_global_flags_go_before_the_verb(typed: str, read: str) -> None:
    assert order(typed) == read


@pytest.mark.parametrize(
    "typed",
    [
        "plan -e prod",  # the verb has this flag itself
        "approve plan.json --reason -q",  # the value of another flag
        "plan -- -q",
        "-C shop plan",
    ],
)
def test_what_is_the_verbs_own_stays(typed: str) -> None:
    assert order(typed) == typed


def test_the_command_line_takes_them_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("directory", "quiet", "colour", "verbose"):
        monkeypatch.setattr(GLOBALS, name, getattr(GLOBALS, name))
    assert run(["explain", "Dataset", "-C", "/nowhere", "-q"]) == 0
    assert "FIELDS" in capsys.readouterr().out
