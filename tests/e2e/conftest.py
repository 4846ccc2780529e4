"""Scenes for the end-to-end suites."""

from pathlib import Path

import pytest

from tests.e2e.scene import FULL, Scene


@pytest.fixture(autouse=True)
def passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key store's passphrase."""
    monkeypatch.setenv("RECONCILER_PASSPHRASE", "correct horse battery staple")


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A full producer's repository in an empty world."""
    made = Scene(tmp_path)
    made.write(dict(FULL))
    return made
