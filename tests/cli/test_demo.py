"""The demonstration says what it misses before it begins; the sessions of the documentation show that what it types works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT


@pytest.mark.parametrize(("there", "missing"), [([], "git is missing"), (["git"], "ssh-keygen is missing")])
def test_a_program_that_is_not_there_is_named_with_its_package(tmp_path: Path, there: list[str], missing: str) -> None:
    for name in there:
        (tmp_path / name).symlink_to("/bin/true")
    env = {**os.environ, "PATH": str(tmp_path)}
    words = [sys.executable, "-m", "examples.demo"]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(f"demo: {missing}; install it (on Debian: apt install ")
