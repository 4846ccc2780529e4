"""Crash enumeration: no sequence of kills repeats an irreversible effect, loses a satoshi, or keeps an example from its end.

Every example is created, updated, repaired after damage and destroyed; from each of these moments the states that kills can
leave are explored (`explore`) until no new one appears, or after one kill where ONCE says so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.e2e.cases import ALL, BY_NAME, VERBS, Repository
from tests.e2e.explore import Violation, killed_for_real
from tests.e2e.mutants import MUTANTS
from tests.e2e.states import Parts, parts_of, world_digest

# One kill is tried here where many resources are made at once, any number of them elsewhere; `make soak` does that for all.
ONCE = {("market-data", "update"), ("market-data", "repair"), ("06-distribution", "create")}
# Until a key is replaced, the rotation's manifests are those of 03-dataset, and what market-data makes is what the small examples
# make, many times over; `make soak` explores them all the same.
SAME = {("07-rotation", verb) for verb in ("create", "repair", "destroy")} | {("market-data", "create")}
CASES = [(example.name, verb) for example in ALL for verb in VERBS if (example.name, verb) not in SAME]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: nothing here is about how long a disk takes."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="reconciler-", dir=memory) as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.row("P-REG-11", "P-DOD-03")
@pytest.mark.parametrize(("name", "verb"), CASES)
def test_killed_at_every_durable_step_again_and_again(name: str, verb: str, room: Path) -> None:
    explorer = Repository(room / "repo", BY_NAME[name]).explorer(verb, 1 if (name, verb) in ONCE else None)
    figures = explorer.explore()
    print(f"{name} {verb}: {figures}")
    assert figures.steps > 10
    assert figures.states > figures.steps // 3, "so few states would mean that states are taken for equal that are not"
    assert figures.closed == ((name, verb) not in ONCE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "verb", "every"), [("01-identity", "create", 1), ("03-dataset", "update", 5), ("02-advertisement", "destroy", 5)]
)
def test_a_real_kill_leaves_the_state_that_was_recorded(name: str, verb: str, every: int, room: Path) -> None:
    explorer = Repository(room / "repo", BY_NAME[name]).explorer(verb)
    state, trace = explorer.record()
    process, floor = explorer.process, explorer.floor
    assert len(trace) > 10
    for step in range(1, len(trace), every):
        world, killed = killed_for_real(process, state, step, lambda: world_digest(process.world, floor))
        assert killed, f"it ended before step {step}"
        left = parts_of(process.settings.root, process.world, floor)
        assert Parts(left.ledger, left.files, world) == trace[step], f"killed after step {step} of {len(trace) - 1}"


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_fault_is_found(mutant: Callable[[], AbstractContextManager[None]], room: Path) -> None:
    explorer = Repository(room / "repo", BY_NAME["03-dataset"]).explorer("create", 1)
    with mutant(), pytest.raises(Violation) as found:
        explorer.explore()
    print(f"{mutant.__name__}, after {explorer.figures.runs} runs: {str(found.value)[:300]}")
    assert explorer.figures.runs > 1, "without a kill the fault must not show, or it would be another fault"
