"""`identity rotate` edits the manifest and nothing else: what it writes is valid, and what makes no sense is refused."""

from pathlib import Path

import pytest

from tests.cli.conftest import Cli


@pytest.mark.row("P-ID-10", "P-ID-12")
def test_it_writes_that_another_key_follows(cli: Cli, repo: Path) -> None:
    shown = cli("identity", "rotate", "--window", "2d", "--dry-run").out
    assert "+  rotation: {next: {file: .keys/corner-desk-2.json" in shown and "transitionPeriod: 2d" in shown
    assert cli("get", "identity/corner-desk", "-o", "yaml", expect=None).out.count("rotation") == 0
    cli("identity", "rotate", "--window", "2d")
    again = cli("identity", "rotate", expect=1)
    assert "a rotation stands in its manifest already" in again.err
    cli("identity", "rotate", "--next", "env:NEXT_KEY", "--window", "3d")
    text = "".join(path.read_text() for path in repo.rglob("*.yaml"))
    assert "next: {env: NEXT_KEY}" in text and "transitionPeriod: 3d" in text
    cli("identity", "rotate", "--revoke-now", "--reason", "laptop stolen", "--since", "2025-07-01T00:00:00Z")
    text = "".join(path.read_text() for path in repo.rglob("*.yaml"))
    assert "reason: laptop stolen" in text and "2025-07-01T00:00:00Z" in text


def test_revoking_needs_a_reason_and_a_sensible_time(cli: Cli) -> None:
    cli("identity", "rotate", "--revoke-now", expect=64)
    cli("identity", "rotate", "--reason", "because", expect=64)
    wrong = cli("identity", "rotate", "--revoke-now", "--reason", "because", "--since", "yesterday", expect=1)
    assert "nothing was written" in wrong.err


def test_the_next_key_is_another_one(cli: Cli) -> None:
    wrong = cli("identity", "rotate", "--next", ".keys/corner-desk.json", expect=1)
    assert "in the place of the key it follows" in wrong.err


def test_there_is_no_chain_before_anything_is_published(cli: Cli) -> None:
    assert "has published no document" in cli("identity", "keys", expect=1).err
