"""Scenes for the end-to-end suites."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from reconciler.adapters.sql.ledger import open_ledger
from reconciler.wire.keys import sha256
from tests.e2e import fair as fairs
from tests.e2e.market import FILES, KEYS, Buyer, Market, buyer, market
from tests.e2e.scene import FULL, Scene, play


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


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ledger to begin from: to migrate one costs more than a scene."""
    place = tmp_path_factory.mktemp("empty") / "ledger.db"
    open_ledger(place)[0].close()
    return place


@pytest.fixture
def selling(tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Plays a scene with a buyer in a shop of its own; `files` are those in which its repository differs."""
    for name in KEYS:
        monkeypatch.setenv(name, sha256(name.encode()).hex())

    def act(work: Callable[[Market, Buyer], Awaitable[None]], files: dict[str, str] | None = None) -> None:
        scene = Scene(tmp_path / "desk")
        scene.write({**FILES, **(files or {})})

        async def main() -> None:
            async with market(scene) as made, buyer(made, tmp_path / "buyer", empty) as who:
                await work(made, who)

        play(main, scene.world.clock)

    return act


@pytest.fixture(scope="session")
def fairground(tmp_path_factory: pytest.TempPathFactory) -> fairs.Ground:
    """A shop with something to sell and a buyer with coins, made once."""
    with pytest.MonkeyPatch.context() as patch:
        for name, key in fairs.KEYS.items():
            patch.setenv(name, key)
        return fairs.ground(tmp_path_factory.mktemp("fair"))


@pytest.fixture
def fair(fairground: fairs.Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fairs.Fair:
    """The same, for one test alone."""
    for name, key in fairs.KEYS.items():
        monkeypatch.setenv(name, key)
    return fairground.fair(tmp_path)
