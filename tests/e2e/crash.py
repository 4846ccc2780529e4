"""Killing a process at its k-th durable step, without a process: after the fuse burns, nothing it does reaches the world.

A durable step is a ledger commit, a request that leaves, or an answer that comes back: at each the fuse may burn just
before and, for requests, after the world has acted but before the answer is known.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import httpx

from reconciler.adapters.sql.queue import LEASE
from reconciler.compose import Workspace, workspace
from reconciler.engine.run import Runner
from reconciler.engine.survey import Surveyor
from reconciler.ports import LedgerTransaction
from reconciler.settings import load
from tests.e2e.scene import ANYTHING_GOES, Scene


class Killed(BaseException):
    """SIGKILL: no handler, no clean-up that matters."""


@dataclass(slots=True)
class Fuse:
    """Burns at the `at`-th durable step (0: never). Once burnt, everything durable is refused."""

    at: int = 0
    steps: int = 0
    burnt: bool = False

    def burn(self) -> None:
        """One durable step is about to happen."""
        if self.burnt:
            raise Killed
        self.steps += 1
        if self.steps == self.at:
            self.burnt = True
            raise Killed


class MortalLedger:
    """A ledger whose commits are steps."""

    def __init__(self, inner: Any, fuse: Fuse) -> None:
        self.inner, self.fuse = inner, fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @contextlib.contextmanager
    def begin(self) -> Iterator[LedgerTransaction]:
        """Burn inside the transaction, so that it rolls back as a torn commit does."""
        with self.inner.begin() as tx:
            watched = Watched(tx)
            yield watched
            if watched.wrote:
                self.fuse.burn()


class Watched:
    """Tells whether a transaction wrote anything."""

    READS = frozenset(
        (
            "lineage",
            "serial",
            "record",
            "run",
            "runs",
            "intents",
            "check_fence",
            "coins",
            "transaction",
            "transactions",
            "spent_since",
            "history",
            "get",
        )
    )

    def __init__(self, inner: Any) -> None:
        self.inner, self.wrote = inner, False

    def __getattr__(self, name: str) -> Any:
        if name not in self.READS:
            self.wrote = True
        return getattr(self.inner, name)


class MortalTransport(httpx.AsyncBaseTransport):
    """A network whose writes are steps, before they leave and after they arrived."""

    def __init__(self, inner: httpx.AsyncBaseTransport, fuse: Fuse) -> None:
        self.inner, self.fuse = inner, fuse

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Reads are no steps: dying before or after one changes nothing."""
        writes = request.method in ("POST", "PUT", "DELETE") and not request.url.path.endswith(("/lookup", "/quote", "/verify"))
        if writes:
            self.fuse.burn()
        elif self.fuse.burnt:
            raise Killed
        response = await self.inner.handle_async_request(request)
        if writes:
            self.fuse.burn()
        return response


@contextlib.asynccontextmanager
async def mortal(scene: Scene, fuse: Fuse) -> AsyncIterator[Workspace]:
    """The scene's workspace as a process that dies when the fuse burns; its leases have run out when the next one opens."""
    settings = replace(load(scene.root), limits=ANYTHING_GOES)
    scene.world.clock.advance((LEASE + timedelta(seconds=1)).total_seconds())
    async with workspace(
        settings,
        transport=MortalTransport(scene.world.transport(), fuse),
        clock=scene.world.clock,
        entropy=scene.entropy,
        watch=scene.watch,
    ) as space:
        ports = replace(space.ports, ledger=MortalLedger(space.ports.ledger, fuse))  # type: ignore[arg-type]
        runner = Runner(ports, space.runner.kinds, space.runner.owner, space.runner.watch)
        yield Workspace(settings, ports, Surveyor(ports, space.runner.kinds), runner)
