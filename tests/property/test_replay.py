"""Any history of edits, crashes and damage ends in the same place: agreement, and not a satoshi unaccounted for.

Hypothesis writes the history: edits of a small repository, processes killed at some durable step, hosts that lose what they
held. Then the faults stop, and what the world holds is compared with what the ledger believes and with what was asked.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import event, given, note, settings
from hypothesis import strategies as st

from reconciler.compose import Workspace
from reconciler.devnet.clock import VirtualClock
from reconciler.devnet.world import World
from reconciler.model.change import Change
from reconciler.model.codec import decode
from reconciler.model.intent import Run, RunState
from reconciler.model.plan import Funding
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.planner.guard import Limits
from tests.e2e.crash import (
    DESK,
    OPEN_KEY,
    PROCESS,
    SEALED_KEY,
    WALLET,
    Case,
    Fuse,
    Stage,
    funding_script,
    mortal,
    nothing,
    source_script,
)
from tests.e2e.scene import DATASET, IDENTITY, NETWORK, PRICE, Scene, play

FUNDS = 1_000_000
LIMITS = Limits(delete_percent=None)
HOSTS = ("eu1", "us1", "ap1")


@dataclass(frozen=True)
class Price:
    """Another rate."""

    rate: int


@dataclass(frozen=True)
class Title:
    """Another title of the first dataset."""

    number: int


@dataclass(frozen=True)
class Replicas:
    """Another number of copies of the first dataset."""

    copies: int


@dataclass(frozen=True)
class Second:
    """A second dataset comes or goes."""

    there: bool


@dataclass(frozen=True)
class Touch:
    """More data."""

    number: int


@dataclass(frozen=True)
class Lose:
    """A host loses something: everything, or one output or copy."""

    host: str
    all: bool


@dataclass(frozen=True)
class Mine:
    """A block is found, or the last one is lost again."""

    lost: bool


@dataclass(frozen=True)
class Process:
    """`apply`, killed at its k-th durable step; 0 lets it live."""

    killed_at: int


Step = Price | Title | Replicas | Second | Touch | Lose | Mine | Process

EDITS = st.one_of(
    st.builds(Price, st.integers(25, 27)),
    st.builds(Title, st.integers(0, 2)),
    st.builds(Replicas, st.integers(1, 3)),
    st.builds(Second, st.booleans()),
    st.builds(Touch, st.integers(0, 2)),
)
DAMAGE = st.one_of(st.builds(Lose, st.sampled_from(("overlay-1", *HOSTS)), st.booleans()), st.builds(Mine, st.booleans()))
# An apply of this repository has some sixty durable steps; a number beyond its last one kills nothing.
PROCESSES = st.builds(Process, st.integers(0, 60))
# What happens between two processes, then the process; short histories are drawn far more often than long ones.
ROUNDS = st.tuples(st.lists(EDITS, max_size=2), st.lists(DAMAGE, max_size=1), PROCESSES)
HISTORIES = st.lists(ROUNDS, min_size=1, max_size=4).map(lambda rounds: [s for e, d, p in rounds for s in (*e, *d, p)])


@dataclass
class History:
    """The repository as it is asked for, and the least that may be believed of each resource from now on."""

    scene: Scene
    rate: int = 25
    title: int = 0
    copies: int = 2
    second: bool = False
    rows: int = 0
    reached: dict[tuple[ResourceRef, str], int] = field(default_factory=dict)

    def write(self) -> None:
        first = DATASET.replace("title: Rates", f"title: Rates {self.title}").replace("replicas: 2", f"replicas: {self.copies}")
        self.scene.write(
            {
                "reconciler.yaml": PROCESS,
                "network.yaml": NETWORK,
                "identity.yaml": IDENTITY.replace(SEALED_KEY, OPEN_KEY),
                "price.yaml": PRICE.replace("25sat", f"{self.rate}sat"),
                "dataset.yaml": first,
                "data/rates.csv": "date,rate\n" + "".join(f"2024-01-0{day + 1},1.1\n" for day in range(self.rows + 1)),
            }
        )
        if self.second:
            self.scene.write(
                {"second.yaml": DATASET.replace("{name: rates}", "{name: second}").replace("rates.csv", "second.csv")}
            )
            self.scene.write({"data/second.csv": "date,rate\n2023-01-01,0.9\n"})
        else:
            (self.scene.root / "second.yaml").unlink(missing_ok=True)

    async def take(self, step: Step) -> None:
        """Let one thing happen."""
        world = self.scene.world
        match step:
            case Price(rate):
                self.rate = rate
            case Title(number):
                self.title = number
            case Replicas(copies):
                self.copies = copies
            case Second(there):
                self.second = there
            case Touch(number):
                self.rows = number
            case Lose(host, all=True):
                world.wipe(host)
            case Lose("overlay-1"):
                held = world.nodes["overlay-1"].state.held.get("tm_producer", {})
                if unspent := sorted(at for at, one in held.items() if not one.spent):
                    world.evict("overlay-1", unspent[0])
            case Lose(host):
                for stored in list(world.storage[host].state.objects.values())[-1:]:
                    world.corrupt(host, stored.sha256)
            case Mine(lost):
                world.mine()
                if lost:
                    world.reorg(1)
            case Process(killed_at):
                lived = await self.process(Fuse(killed_at))
                event("a process that lived" if lived else "a process that was killed")
        self.write()
        self.look()

    async def process(self, fuse: Fuse) -> bool:
        """One process, as the crash suite runs it; False when it was killed."""
        stage = Stage(Case({}, False, nothing), self.scene, self.scene.world.snapshot(), self.scene.root)
        return bool(await stage.attempt(fuse))

    def look(self) -> None:
        """No resource may be believed less than it was."""
        from reconciler.adapters.sql.ledger import open_ledger

        ledger, _ = open_ledger(str(self.scene.root / ".state" / "ledger.db"), self.scene.world.clock, entropy=self.scene.entropy)
        try:
            records = ledger.read(self.scene.world.clock.now()).records
        finally:
            ledger.close()
        now = {(ref, record.uid): record.status.observed_generation for ref, record in records.items()}
        for key, generation in now.items():
            assert generation >= self.reached.get(key, 0), key
        self.reached = now


@pytest.fixture(scope="module", autouse=True)
def keys() -> Iterator[None]:
    """Open keys, so that a hundred restarts do not stretch a hundred passphrases."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DESK_KEY", DESK.hex())
        patch.setenv("WALLET_KEY", WALLET.hex())
        yield


def planned(runs: Sequence[Run]) -> int:
    """What all finished runs were approved to cost."""
    costs = [
        decode(Funding, r.subject["funding"]) if "funding" in r.subject else decode(Change, r.subject["change"]) for r in runs
    ]
    return sum(one.cost.satoshis for one in costs)


def on_chain(scene: Scene) -> tuple[int, set[str]]:
    """(satoshis under our funding key, every other unspent output of our transactions), from the chain alone."""
    chain, script = scene.world.chain, funding_script()
    purse, tokens = 0, set()
    for txid in chain.state.txs:
        tx = chain.live(txid)
        if tx is None:
            continue
        ours = any(source_script(scene, one.txid, one.vout) == script for one in tx.inputs)
        for vout, output in enumerate(tx.outputs):
            if chain.spender(Outpoint(txid, vout)) is None:
                purse += output.satoshis if output.script == script else 0
                tokens |= {f"{txid}.{vout}"} if ours and output.script != script else set()
    return purse, tokens


async def settled(space: Workspace, history: History) -> None:
    """The world as asked for, and the books in order."""
    survey = await space.surveyor.survey()
    plan = space.surveyor.plan(survey, LIMITS)
    assert plan.empty, [(str(c.ref), c.verb, c.reason, c.detail, c.blocked, c.deltas) for c in plan.changes]
    records = survey.recorded.records
    names = {"Network/local", "Identity/desk", "PricePlan/standard", "Dataset/rates"}
    names |= {"Dataset/second"} if history.second else set()
    assert set(map(str, records)) == names
    purse, tokens = on_chain(history.scene)
    recorded = Counter(token["outpoint"] for record in records.values() for token in record.outputs.get("tokens") or ())
    assert set(recorded) == tokens
    assert set(recorded.values()) == {1}
    held = history.scene.world.nodes["overlay-1"].state.held["tm_producer"]
    assert {str(at) for at, one in held.items() if not one.spent} == tokens
    assert sum(one.total for one in survey.recorded.purses.values()) == purse
    rates = records[ResourceRef("Dataset", "rates")]
    assert len(rates.outputs["replicas"]) == history.copies
    assert rates.body["spec"]["title"] == f"Rates {history.title}"
    with space.ports.ledger.begin() as tx:
        assert not tx.coins(state="reserved")
        assert not tx.coins(state="pending")
        assert not tx.runs(state=RunState.OPEN)
        assert planned(tx.runs(state=RunState.DONE)) == FUNDS - purse
        stalled = tx.runs(state=RunState.STALLED)
    event(f"{len(stalled)} runs were given up")


@pytest.mark.slow
@pytest.mark.row("P-REG-11", "P-DOD-03")
@settings(max_examples=30, deadline=None)
@given(HISTORIES)
def test_every_history_ends_in_agreement(steps: list[Step]) -> None:
    clock = VirtualClock()
    with tempfile.TemporaryDirectory() as folder:

        async def main() -> None:
            history = History(Scene(Path(folder) / "repo", World(clock=clock)))
            history.write()
            await history.scene.fund(FUNDS)
            for step in steps:
                note(str(step))
                await history.take(step)
            assert await history.process(Fuse())
            history.look()
            async with mortal(history.scene, Fuse()) as space:
                await settled(space, history)

        play(main, clock)
