"""Every state that kills can leave, explored: a process is started from each, and all of them must end in the same truth.

Theory of operation. A kill leaves the durable state of its moment, and a process knows nothing but the durable state it
starts from. So one undisturbed run tells what a kill at any of its moments would leave: the states between two durable steps
are recorded on the way. Each of them that was never seen before is put back, a process is started from it, and its states are
recorded in turn. States are compared by a digest (`states`); equal ones are explored once, however many sequences of kills
lead to them. When no new state appears, the set is closed under killing at any step, any number of times.

Durable steps are: a commit of the database, by whomever; an fsync of a file or of a directory; an answer of a host to a
request that may change something. A host that a request has reached does its work to the end whether the client lives or
not, so requests are carried out at one stroke, on a loop of their own.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

import httpx
from sqlalchemy import Engine

from reconciler.adapters import keyfile
from reconciler.adapters.sql import dialect
from reconciler.adapters.sql.queue import LEASE
from reconciler.compose import Workspace, workspace
from reconciler.devnet.clock import SeededEntropy, VirtualClock, VirtualLoop, run
from reconciler.devnet.world import World
from reconciler.engine import perform
from reconciler.engine.execute import Executor
from reconciler.engine.finish import remember
from reconciler.engine.recover import recover
from reconciler.model.change import Verb
from reconciler.model.codec import timestamp
from reconciler.model.plan import Plan
from reconciler.planner.guard import Limits
from reconciler.settings import Settings
from tests.e2e.states import LEDGER, Eye, Parts, State, own_files

# Seconds of virtual time in which everything must happen: the digest believes that it is all one day.
ONE_DAY = 86400.0
# Restarts that may follow each other without a kill before nothing is left to do.
PATIENCE = 6
READS = ("/lookup", "/quote", "/verify")

Step = Callable[[str], None]


class Violation(AssertionError):
    """A sequence of kills after which something is lost, doubled or stuck."""


@dataclass(slots=True)
class Process:
    """How a process of the program is started on this repository; every one is called otherwise than the one before."""

    settings: Settings
    world: World
    clock: VirtualClock
    limits: Limits
    parallelism: int
    count: int = 0

    def live(self, step: Step) -> Plan:
        """Do what `apply` does, once: recover, look, plan, carry out. `step` is called after every durable step."""
        self.clock.advance(LEASE.total_seconds() + 1)
        self.count += 1
        with watched(step), closing(Doors(self.world, self.clock, step)) as doors:
            plan = run(self._apply(doors), clock=self.clock)
        assert self.clock.elapsed < ONE_DAY, "the digest of a state takes all moments for the same day"
        return plan

    async def _apply(self, doors: Doors) -> Plan:
        entropy = SeededEntropy(luck(self.settings.root))
        async with workspace(
            self.settings, transport=doors, clock=self.clock, entropy=entropy, owner=f"elsewhere:{self.count}:0"
        ) as space:
            await recover(space.runner)
            return await self._converge(space)

    async def _converge(self, space: Workspace) -> Plan:
        survey = await space.surveyor.survey()
        assert survey.loaded.desired is not None, survey.loaded.errors
        plan = space.surveyor.plan(survey, self.limits)
        if plan.refusals:
            raise Violation(f"refused: {plan.refusals}")
        remember(space.ports, survey.loaded.desired, survey.recorded, plan)
        if plan.acting:
            await Executor(space.runner, plan, self.parallelism).run()
        return plan


def luck(root: Path) -> int:
    """The seed of a process's entropy: another one as soon as a key was made, so that no process can make the same key again.

    While there is no trace of a key, all processes would make the same one; that merges states which differ in nothing else.
    """
    total = hashlib.sha256()
    for name in sorted(filter(is_key, own_files(root))):
        total.update((root / name).read_bytes())
    with closing(sqlite3.connect(f"file:{root / LEDGER}?mode=ro", uri=True)) as ledger:
        query = "SELECT result FROM intents WHERE effect = 'Generate' AND state = 'done' ORDER BY run, seq"
        made = ledger.execute(query).fetchall()
    total.update(repr(made).encode())
    return int.from_bytes(total.digest()[:8], "big")


def is_key(name: str) -> bool:
    """Whether a file of ours is a key, and a whole one."""
    return name.startswith(".keys/") and "/.new-" not in name


@contextmanager
def watched(step: Step) -> Iterator[None]:
    """Call `step` after each commit and each fsync. Keys are stretched as little as the format allows."""
    begin = dialect.Database.write

    @contextmanager
    def write(self: dialect.Database) -> Iterator[object]:
        with begin(self) as connection:
            raw = connection.connection.dbapi_connection
            before = raw.total_changes
            yield connection
            wrote = raw.total_changes > before
        if wrote:
            step("commit")

    with (
        # The same statements are compiled once, and a library that is not there is not looked for again and again.
        patch.object(dialect, "_engine", _engine),
        patch.dict(sys.modules, {"sniffio": None}),
        patch.object(dialect.Database, "write", write),
        patch.object(os, "fsync", lambda _: step("fsync")),
        patch.object(keyfile, "SCRYPT_N", 2),
        # A key that follows another says since when; which second of the day that was must not tell two states apart.
        patch.object(perform, "timestamp", lambda moment: timestamp(moment.replace(hour=0, minute=0, second=0))),
    ):
        yield


_open_engine, _ENGINES = dialect._engine, dict[str, Engine]()


def _engine(database: dialect.Database) -> Engine:
    """The engine of a database, kept from one process to the next: disposed of, all it remembers is the text of statements."""
    if str(database.url) not in _ENGINES:
        _ENGINES.clear()
        _ENGINES[str(database.url)] = _open_engine(database)
    return _ENGINES[str(database.url)]


class Doors(httpx.AsyncBaseTransport):
    """The way to the hosts: a request that has left is answered at one stroke, and that may be a durable step."""

    def __init__(self, world: World, clock: VirtualClock, step: Step) -> None:
        self.world, self.step = world, step
        self.loop = VirtualLoop(clock)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry a request; its body is complete before it leaves."""
        body = await request.aread()
        sent = httpx.Request(request.method, request.url, headers=request.headers, content=body, extensions=request.extensions)
        response = self._at_one_stroke(sent)
        if request.method != "GET" and not request.url.path.endswith(READS):
            self.step("request")
        return response

    def _at_one_stroke(self, request: httpx.Request) -> httpx.Response:
        outer = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        try:
            return self.loop.run_until_complete(self._carry(request))
        finally:
            asyncio._set_running_loop(outer)

    async def _carry(self, request: httpx.Request) -> httpx.Response:
        response = await self.world.transport().handle_async_request(request)
        content = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=content)

    def close(self) -> None:
        """Close the hosts' loop."""
        self.loop.close()


@dataclass(slots=True)
class Node:
    """A state that was met. `kills` is the least number of kills that lead to it, `end` the state its process leaves."""

    state: State | None
    kills: int
    way: tuple[str, ...]
    end: str = ""
    idle: bool = False
    restarts: int = 0


@dataclass(slots=True)
class Figures:
    """What an exploration came to. `steps` are those of the undisturbed run; `ends` are distinct final states."""

    steps: int = 0
    states: int = 0
    runs: int = 0
    ends: int = 0
    deepest: int = 0
    closed: bool = False

    def __str__(self) -> str:
        reach = "closed" if self.closed else f"to {self.deepest} kills"
        return f"{self.steps} steps, {self.states} states, {self.runs} runs, {self.ends} ends, {reach}"


@dataclass(slots=True)
class Explorer:
    """Explores from one state. `truth` counts what the world holds in the end; `most` kills in a row, None for any number."""

    process: Process
    floor: dict[str, int]
    truth: Callable[[Plan], object]
    most: int | None = None
    nodes: dict[str, Node] = field(default_factory=dict)
    expected: object = None
    trace: list[Parts] = field(default_factory=list)
    figures: Figures = field(default_factory=Figures)
    _waiting: deque[str] = field(default_factory=deque)

    def explore(self) -> Figures:
        """Everything, or Violation."""
        with closing(self._eye()) as eye:
            first = eye.state(self.process.clock.elapsed)
        self._meet(first, 0, ())
        while self._waiting:
            key = self._waiting.popleft()
            self._run(key)
        for key in self.nodes:
            self._follow(key)
        self.figures.states = len(self.nodes)
        self.figures.ends = sum(node.idle for node in self.nodes.values())
        self.figures.deepest = max(node.kills for node in self.nodes.values())
        self.figures.closed = self.most is None or self.figures.deepest < self.most
        return self.figures

    def record(self) -> tuple[State, list[Parts]]:
        """The state before, and the digests after each durable step of the undisturbed run, beginning with none."""
        with closing(self._eye()) as eye:
            first = eye.state(self.process.clock.elapsed)
        self._meet(first, 0, ())
        self._run(self._waiting.popleft())
        return first, self.trace

    def _eye(self) -> Eye:
        return Eye(self.process.settings.root, self.process.world, self.floor)

    def _meet(self, state: State, kills: int, way: tuple[str, ...]) -> None:
        """Note a state; it is explored when it is new."""
        key = state.parts.key
        if key in self.nodes:
            return
        self.nodes[key] = Node(state, kills, way)
        # What needs no further kill is explored first, so that the least number of kills is met first.
        if self._waiting and self.nodes[self._waiting[0]].kills >= kills:
            self._waiting.appendleft(key)
        else:
            self._waiting.append(key)

    def _run(self, key: str) -> None:
        """Start a process from a state and record what kills would leave of it."""
        node, process = self.nodes[key], self.process
        assert node.state is not None
        node.state.restore(process.settings.root, process.world)
        process.clock.elapsed = node.state.elapsed
        recording = self.most is None or node.kills < self.most
        self.figures.runs += 1
        first = not node.kills and not self.figures.steps
        with closing(self._eye()) as eye:
            assert eye.parts == node.state.parts, "what was put back is not what was taken"

            def step(what: str) -> None:
                if first:
                    self.trace.append(eye.parts)
                eye.look(ledger=what == "commit", files=what == "fsync", world=what == "request")
                count.append(what)
                if recording and eye.parts.key not in self.nodes:
                    said = f"kill after step {len(count)} ({what})"
                    self._meet(eye.state(process.clock.elapsed), node.kills + 1, (*node.way, said))

            count: list[str] = []
            try:
                plan = process.live(step if recording else lambda _: None)
            except Violation as violation:
                raise Violation(f"{violation}; the way there: {self._way(node)}") from violation
            except Exception as error:
                raise Violation(f"a process fails: {error!r}; the way there: {self._way(node)}") from error
            eye.look(ledger=True, files=True, world=True)
            self._keys(eye, node)
            node.end, node.idle = eye.parts.key, not plan.acting
            if first:
                self.trace.append(eye.parts)
                self.figures.steps = len(count)
            if node.idle:
                self._judge(node, plan)
            elif node.end not in self.nodes:
                self._meet(eye.state(process.clock.elapsed), node.kills, (*node.way, "lives to its end"))
        node.state = None

    def _keys(self, eye: Eye, node: Node) -> None:
        """A key that was made is the key for ever."""
        assert node.state is not None
        found = eye.contents()
        for name, content in node.state.files.items():
            if is_key(name) and found.get(name) != content:
                raise Violation(f"{name} was lost or made again; the way there: {self._way(node)}")

    def _judge(self, node: Node, plan: Plan) -> None:
        """A process that finds nothing to do must see the truth."""
        if any(change.verb is Verb.DEFER or change.blocked for change in plan.changes):
            left = [(str(c.ref), c.verb.value, c.blocked or c.detail) for c in plan.changes]
            raise Violation(f"stuck: {left}; the way there: {self._way(node)}")
        found = self.truth(plan)
        if self.expected is None:
            self.expected = found
        if found != self.expected:
            raise Violation(f"{found}\nis not {self.expected}; the way there: {self._way(node)}")

    def _follow(self, key: str) -> None:
        """From every state, restarts alone must come to an end."""
        at = key
        for _ in range(PATIENCE):
            if self.nodes[at].idle:
                return
            at = self.nodes[at].end
        raise Violation(f"after {PATIENCE} restarts there is still something to do; the way there: {self._way(self.nodes[key])}")

    def _way(self, node: Node) -> str:
        return ", ".join(node.way) or "no kill at all"


def killed_for_real(process: Process, state: State, step: int, world: Callable[[], str]) -> tuple[str, bool]:
    """Kill a real process, by SIGKILL, right after so many durable steps; the world's digest then, and whether it died so.

    The ledger and the files are left on the disk as the dead process leaves them.
    """
    state.restore(process.settings.root, process.world)
    process.clock.elapsed = state.elapsed
    near, far = os.pipe()
    child = os.fork()
    if not child:
        left = step

        def count(_: str) -> None:
            nonlocal left
            left -= 1
            if not left:
                os.write(far, world().encode())
                os.kill(os.getpid(), 9)

        try:
            process.live(count)
        finally:
            os._exit(1)
    os.close(far)
    with os.fdopen(near) as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    return told, os.WIFSIGNALED(status)


def narrowed(settings: Settings, *, destroy: bool) -> Limits:
    """The limits of the settings, for a repository in which everything may go at once."""
    return replace(settings.limits, destroy=destroy, delete_percent=None)
