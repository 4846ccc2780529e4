"""Crash enumeration without an end: every example is killed any number of times, until no new state appears."""

import tempfile
from pathlib import Path

import pytest

from tests.e2e.cases import ALL, BY_NAME, VERBS, Repository


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", [example.name for example in ALL])
def test_killed_any_number_of_times(name: str, verb: str) -> None:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="reconciler-", dir=memory if memory.is_dir() else None) as folder:
        figures = Repository(Path(folder) / "repo", BY_NAME[name]).explorer(verb).explore()
    print(f"{name} {verb}: {figures}")
    assert figures.closed
