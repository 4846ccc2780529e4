"""A shop with something in its window: the market-data example published on a devnet in process, and its application."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from reconciler.gateway.app import application
from reconciler.gateway.door import shop_of
from reconciler.sales.opening import Opening
from reconciler.sales.paywall import Shop
from tests.e2e.scene import NETWORK, Scene, play

EXAMPLE = Path(__file__).parents[2] / "examples" / "market-data"
BASE = "https://shop.example.com"
YEARS = range(2015, 2025)


@dataclass(slots=True)
class Stall:
    """An open shop, to be looked at by strangers."""

    scene: Scene
    shop: Shop
    app: Any
    runner: asyncio.Runner

    def get(self, path: str, method: str = "GET", **asked: Any) -> httpx.Response:
        """One request."""

        async def ask() -> httpx.Response:
            # Errors of ours are answers here, as they are on the wire.
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
                return await client.request(method, path, **asked)

        return self.runner.run(ask())

    def page(self, path: str, **headers: str) -> str:
        """A page, as a browser asks for it."""
        return self.get(path, headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8", **headers}).text


def write_example(root: Path, years: range = YEARS) -> None:
    """The repository of the example, with a sample of each dataset and some years of rates."""
    (root / "data").mkdir(parents=True)
    for path in EXAMPLE.glob("*.yaml"):
        text = path.read_text()
        (root / path.name).write_text(text.replace("replicas: 2", "replicas: 1\n  sample: {rows: 5}"))
    for year in years:
        shutil.copy(EXAMPLE / "data" / f"fx-{year}.csv", root / "data")
    (root / "network.yaml").write_text(NETWORK)


@contextlib.contextmanager
def stall(root: Path, more: Mapping[str, str] | None = None, years: range = YEARS) -> Iterator[Stall]:
    """The example, published; `more` are files beside its own."""
    write_example(root, years)
    scene = Scene(root)
    scene.write(dict(more or {}))
    play(lambda: publish(scene, fund=True), scene.world.clock)
    with asyncio.Runner() as runner:
        opened = scene.open()
        space = runner.run(opened.__aenter__())
        try:
            records = space.ports.ledger.read(space.ports.clock.now()).records
            opening = Opening("local", "127.0.0.1:0", BASE, "fx-desk", "fx-desk")
            shop = shop_of(space.ports, opening, records, space.ports.wallet.speaker)  # type: ignore[attr-defined]
            yield Stall(scene, shop, application(shop), runner)
        finally:
            runner.run(opened.__aexit__(None, None, None))


async def publish(scene: Scene, *, fund: bool = False) -> None:
    """Make the world agree with the repository, as another process would."""
    if fund:
        await scene.fund()
    async with scene.open() as space:
        await scene.apply(space)
