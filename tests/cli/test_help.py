"""`--help` is told from a file, so that it costs no imports; here the file is kept in step with the verbs."""

import sys

import pytest

from reconciler.__main__ import main, overview
from reconciler.cli.main import run


@pytest.mark.row("P-CFG-12")
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_overview_is_what_the_verbs_say(
    flag: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([flag]) == 0
    composed = capsys.readouterr().out
    assert overview() == composed, "write it anew with: make docs"
    monkeypatch.setattr(sys, "argv", ["reconciler", flag])
    main()
    assert capsys.readouterr().out == composed
