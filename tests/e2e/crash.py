"""Killing a process at its k-th durable step, without a process: after the fuse burns, nothing it does reaches the world.

A durable step is a ledger commit, a request that leaves, or an answer that comes back: at each the fuse may burn just
before and, for requests, after the world has acted but before the answer is known.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from reconciler.adapters.sql.queue import LEASE
from reconciler.compose import Workspace, workspace
from reconciler.devnet.world import Snapshot
from reconciler.engine.execute import Executor
from reconciler.engine.recover import recover
from reconciler.engine.run import Runner
from reconciler.engine.survey import Surveyor
from reconciler.model.change import Verb
from reconciler.model.plan import Plan
from reconciler.model.ref import Outpoint
from reconciler.planner.guard import Limits
from reconciler.ports import LedgerTransaction
from reconciler.settings import load
from reconciler.wire.keys import child_secret, invoice, public_key
from reconciler.wire.script import p2pkh
from tests.e2e.scene import ANYTHING_GOES, Scene

DESK, WALLET = b"\x11" * 32, b"\x22" * 32
OPEN_KEY = "key: {env: DESK_KEY, generate: never}"
SEALED_KEY = "key: {file: .keys/desk.json, generate: ifMissing, encryption: {passphrase: {env: RECONCILER_PASSPHRASE}}}"
PROCESS = "state: .state\nwallet: {key: {env: WALLET_KEY}}\nmode: auto\n"

Edit = Callable[[Scene], None]


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
            "reserved",
            "booked",
            "bookings",
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


@dataclass(frozen=True, slots=True)
class Case:
    """A repository, what was done to it before (nothing, or an apply), and the edit whose apply is killed."""

    files: dict[str, str]
    applied: bool
    edit: Edit
    limits: Limits = field(default_factory=lambda: Limits(delete_percent=None))


def nothing(scene: Scene) -> None:
    """The first apply."""


@dataclass(slots=True)
class Stage:
    """A case brought to the moment before its apply."""

    case: Case
    scene: Scene
    world: Snapshot
    files: Path

    async def attempt(self, fuse: Fuse) -> End | None:
        """One process: recover, plan, execute. None when it was killed."""
        try:
            async with mortal(self.scene, fuse) as space:
                end = await converge(space, self.case.limits)
        except BaseExceptionGroup as group:
            _, rest = group.split(Killed)
            if rest is not None:
                raise rest from None
            return None
        except Killed:
            return None
        return None if fuse.burnt else end


@dataclass(frozen=True, slots=True)
class End:
    """What a process that lived to its end leaves behind: its last plan, its purse, and coins that nothing may hold any more."""

    plan: Plan
    purse: int
    held: int


async def converge(space: Workspace, limits: Limits) -> End:
    """What `apply` does, until a plan has nothing left to do."""
    for _ in range(5):
        await recover(space.runner)
        survey = await space.surveyor.survey()
        plan = space.surveyor.plan(survey, limits)
        if not plan.acting and not any(c.verb is Verb.DEFER for c in plan.changes):
            break
        assert not plan.refusals, plan.refusals
        await Executor(space.runner, plan, parallelism=2).run()
        await asyncio.sleep(2)
    with space.ports.ledger.begin() as tx:
        held = len(tx.coins(state="reserved")) + len(tx.coins(state="pending"))
    purses = space.ports.ledger.read(space.ports.clock.now()).purses
    return End(plan, sum(purse.total for purse in purses.values()), held)


def source_script(scene: Scene, txid: str, vout: int) -> bytes:
    """The script an input spends."""
    out = scene.world.chain.output(Outpoint(txid, vout))
    return out.script if out else b""


def funding_script() -> bytes:
    """The purse's script, computed from the key alone."""
    return p2pkh(public_key(child_secret(WALLET, public_key(WALLET), invoice("reconciler funding", "1"))))
