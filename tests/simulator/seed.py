"""One integer, one story, one verdict.

`play_seed(n)` is the whole of it: the number draws the repository, the daemons and every accident; the story ends with good
weather, in which all must come right within a bounded number of passes; and the witness says which invariants did not hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.engine import worker
from reconciler.engine.survey import midnight
from reconciler.model.change import Verb
from reconciler.model.errors import Invariant
from reconciler.model.intent import RunState
from tests.simulator.actions import Story
from tests.simulator.ground import Ground, directory, economy, ground, keys
from tests.simulator.invariants import Witness
from tests.simulator.stage import WHO, play

CASES = Path(__file__).parent / "cases"
# A long story begins from nothing; the others where something is published, and are shorter and denser.
LONG, SHORT = 8, 2
# Rounds of good weather within which everything must have come right; each is a minute, later ten.
ROUNDS = 12
# Idle workers look for others' work this often; a second, as in production, would be most of what a story costs.
NAP = 45.0


@dataclass(slots=True)
class Verdict:
    """What came of a seed."""

    seed: int
    faults: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    # What befell it, by sort: faults that struck, and actions that came about.
    struck: dict[str, int] = field(default_factory=dict)
    transactions: int = 0
    effects: int = 0
    crashes: int = 0
    rounds: int = 0
    restarts: int = 0
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether every invariant held."""
        return not self.faults


def ground_of(seed: int) -> Ground:
    """Where the story of a seed begins: one in ten from nothing, the others from one of the three repositories, applied."""
    from tests.simulator.settled import settled

    return ground() if seed % 10 == 0 else settled(seed % 3)


def play_seed(seed: int, actions: int | None = None, more: Mapping[str, int] | None = None) -> Verdict:
    """Tell the story of a seed and judge it; `more` changes how often actions are chosen."""
    verdict, base = Verdict(seed), ground_of(seed)
    began = time.process_time()
    if actions is None:
        actions = LONG if base.applied is None else SHORT
    with directory() as root, keys(), economy(), patience(), listening(verdict):

        async def tell() -> None:
            loop: Any = asyncio.get_running_loop()
            story = Story(seed, base, loop, root, more or {})
            story.lines = verdict.lines
            await run_story(story, verdict, actions)

        play(tell(), base.world.clock, seed)  # type: ignore[arg-type]
    verdict.seconds = time.process_time() - began
    return verdict


async def run_story(story: Story, verdict: Verdict, actions: int) -> None:
    """From the first start to the judgement."""
    witness = Witness(story)
    story.begin()
    await asyncio.sleep(story.dice.choice((0.0, 2.0, 10.0)))
    dense = story.ground.applied is not None
    if dense:
        story.sky.rate = story.dice.choice((0.0, 0.05, 0.15, 0.4))
    for _ in range(actions):
        if dense:
            await story.act(story.dice.choice(("edit", "wait", story.choose())), at_once=True)
        await story.act(story.choose())
        witness.look()
    await finish_story(story, witness, verdict)


async def finish_story(story: Story, witness: Witness, verdict: Verdict) -> None:
    """Good weather, convergence, judgement."""
    await story.end_faults()
    verdict.rounds = await converge(story, witness)
    await asyncio.sleep(0.0)
    verdict.transactions = len(witness.live())
    verdict.restarts = story.fleet.born
    verdict.effects = witness.effects()
    verdict.crashes = story.fleet.killed + story.disk.torn
    verdict.struck = {**story.sky.struck, **{f"action: {name}": count for name, count in story.happened.items()}}
    verdict.struck |= {"disk full": story.disk.refused, "torn commit": story.disk.torn, "killed": story.fleet.killed}
    verdict.struck["two daemons"] = int(len(story.fleet.replicas) == 2)
    verdict.faults += story.fleet.faults + witness.faults
    await story.fleet.end()


async def converge(story: Story, witness: Witness) -> int:
    """Rounds of good weather until a fresh plan is empty and nothing is open; then the last judgement."""
    why = ""
    for number in range(1, ROUNDS + 1):
        story.ground.world.mine(1)
        await asyncio.sleep(65.0 if number < 8 else 600.0)
        for replica in story.fleet.living:
            assert replica.daemon is not None
            replica.daemon.put("confirm")
            # A process that starts plans by itself.
            if number > 1:
                replica.daemon.put("plan")
            break
        await asyncio.sleep(5.0)
        witness.look()
        why = await owned(story, unsettled)
        if not why:
            await owned(story, lambda one: _judge(one, witness))
            return number
    witness.fault(f"it does not come to rest: {why}")
    return ROUNDS


async def owned(story: Story, work: Callable[[Story], Any]) -> Any:
    """Do something as the first living process."""
    living = story.fleet.living
    if not living:
        return "no daemon lives"
    context = contextvars.Context()
    context.run(WHO.set, living[0].name)
    return await story.stage.create_task(work(story), context=context)


async def unsettled(story: Story) -> str:
    """Why the story is not over yet; empty when a fresh plan finds nothing to do."""
    space = story.fleet.living[0].space
    assert space is not None
    with space.ports.ledger.begin() as tx:
        open_ = [run.key for run in tx.runs(state=RunState.OPEN)]
        unmined = [one.txid[:8] for one in tx.transactions(state="seen")]
        untold = [one["effect"]["txid"][:8] for one in tx.get("farewells") or ()]
    if open_ or unmined or untold:
        return f"open {open_}, not mined {unmined}, hosts still to be told of {untold}"
    survey = await space.surveyor.survey()
    if survey.loaded.desired is None:
        return f"the manifests are in error: {survey.loaded.errors}"
    plan = space.surveyor.plan(survey, space.settings.limits)
    if not plan.empty:
        moving = [change for change in plan.changes if change.verb is not Verb.NONE]
        told = [f"{one.verb.value} {one.ref} ({one.reason.value}) {one.blocked or one.detail}" for one in moving]
        return f"{told} {[guard.message for guard in plan.refusals]}"
    return ""


async def _judge(story: Story, witness: Witness) -> None:
    space = story.fleet.living[0].space
    assert space is not None
    recorded = space.ports.ledger.read(midnight(space.ports.clock.now()))
    with space.ports.ledger.begin() as tx:
        transactions = {one.txid: (one.run, one.state) for one in tx.transactions()}
        runs = {run.id: run.key for run in tx.runs()}
    books = {row[0]: row[1] for row in witness._rows("select run, fees + payments + locked from bookings")}
    witness.judge({str(ref): record.outputs for ref, record in recorded.records.items()}, transactions, books)
    witness.attempts({txid: runs.get(run, run) for txid, (run, _) in transactions.items()})


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Idle workers nap longer; wake-ups are only hints, so nothing may depend on it."""
    before, worker.NAP = worker.NAP, NAP
    try:
        yield
    finally:
        worker.NAP = before


@contextlib.contextmanager
def listening(verdict: Verdict) -> Iterator[None]:
    """What the daemons log becomes part of the story; an Invariant raised anywhere is a fault whoever catches it."""
    real, log = Invariant.__init__, logging.getLogger("reconciler")

    def noted(self: Invariant, code: str, message: str, **rest: Any) -> None:
        verdict.faults.append(f"an invariant of the program: {message}")
        real(self, code, message, **rest)

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            known = {name: getattr(record, name) for name in ("ref", "run", "error", "outcome", "plan") if hasattr(record, name)}
            verdict.lines.append(f"         {WHO.get()} {record.getMessage()} {known}")

    handler, level = Lines(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    propagate, log.propagate = log.propagate, False
    Invariant.__init__ = noted  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Invariant.__init__ = real  # type: ignore[method-assign]
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


def keep(verdict: Verdict) -> Path:
    """Write a failing seed down, so that it is played ever after."""
    CASES.mkdir(exist_ok=True)
    path = CASES / f"{verdict.seed}.json"
    path.write_text(json.dumps({"seed": verdict.seed, "faults": verdict.faults}, indent=2) + "\n")
    return path
