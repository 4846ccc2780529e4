"""`--request-timeout`: read before the verb, and heeded by every request that carries no content."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from reconciler.cli import main
from reconciler.cli.context import settings
from reconciler.compose import workspace
from reconciler.devnet.clock import run
from reconciler.devnet.network import Fault, Trouble
from reconciler.devnet.world import World
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Unavailable
from reconciler.settings import load


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    yield
    main.flags()


def test_the_flag_is_a_duration(tmp_path: Path) -> None:
    main.flags(directory=tmp_path, request_timeout="1m30s")
    assert settings().request_timeout == 90
    main.flags(directory=tmp_path)
    assert settings().request_timeout is None
    for wrong in ("soon", "0s"):
        with pytest.raises(typer.BadParameter, match="--request-timeout"):
            main.flags(request_timeout=wrong)


def test_a_host_that_takes_longer_is_given_up(tmp_path: Path) -> None:
    world = World()
    world.network.arm(Fault(Trouble.DELAY, "headers.devnet", seconds=8.0))
    headers = Endpoint("headers", "http://headers.devnet")

    async def tip(patience: float | None) -> int:
        chosen = replace(load(tmp_path), request_timeout=patience)
        async with workspace(chosen, transport=world.transport(), clock=world.clock) as space:
            return await space.ports.chain.tip(headers)

    assert run(tip(10.0), clock=world.clock) > 100
    with pytest.raises(Unavailable, match="within 5 s"):
        run(tip(5.0), clock=world.clock)
