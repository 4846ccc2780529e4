"""What takes longer than a test run may is collected only when it is asked for, as `make soak` does."""

import os

import pytest

collect_ignore_glob = [] if os.environ.get("RECONCILER_SOAK") == "1" else ["test_*.py"]


@pytest.fixture(autouse=True)
def passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key store's passphrase."""
    monkeypatch.setenv("RECONCILER_PASSPHRASE", "correct horse battery staple")
