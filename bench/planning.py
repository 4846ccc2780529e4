"""Validating and planning many manifests, beside octoDNS with as many records.

Three things are timed on each side, over the same count: reading and checking everything in a new process (`reconciler
validate`, `octodns-validate`), a plan in a new process that finds nothing to do (`reconciler plan --no-refresh`, `octodns-sync`
without --doit), and plans one after another in a process that lives on, with nothing changed and with every hundredth
changed. On our side the process that lives on reads the real ledger and prices against a devnet in process; `--no-refresh`
leaves the network out, as octoDNS's host in memory does. Ratios are of processor time, which a busy machine disturbs least.

    python bench/planning.py ROOT ROUNDS [MOVED]     seconds of one pass after another in one process, as JSON lines
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure import PASSPHRASE, ROOT, Verdict, Weight, alternately, python, title, weigh

COUNTS = (1_000, 10_000)
ROUNDS = 3
HUNDREDTH = 100


@dataclass(slots=True)
class Pass:
    """Medians of warm passes, in seconds, and the peak memory of their process in MiB."""

    wall: float
    cpu: float
    memory: float = 0.0


@dataclass(slots=True)
class Side:
    """What one of the two took."""

    validate: Weight
    plan: Weight
    warm: Pass
    changed: Pass
    parts: dict[str, float] = field(default_factory=dict)


def warm(words: list[str]) -> tuple[Pass, list[dict[str, float]]]:
    """Run a process that prints a line for each pass; the first pass is its cold one and left out."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RECONCILER_PASSPHRASE": PASSPHRASE}
    out = subprocess.run(words, check=True, capture_output=True, text=True, cwd=ROOT, env=env).stdout
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")][1:]
    middle = {name: statistics.median(line[name] for line in lines) for name in ("wall", "cpu")}
    return Pass(**middle), lines


def compare(count: int, directory: Path) -> tuple[Side, Side]:
    """Ours and octoDNS's, taking turns."""
    from bench import octo, shop

    config, root = octo.write(directory / "octo", count), directory / "shop"
    root.mkdir()
    shop.build(root, count)
    validate = alternately(
        ROUNDS,
        lambda: weigh(python("-m", "reconciler", "-C", root, "validate")),
        lambda: weigh(python("-m", "octodns.cmds.validate", "--config-file", config)),
    )
    plan = alternately(
        ROUNDS,
        lambda: weigh(python("-m", "reconciler", "-C", root, "plan", "--no-refresh")),
        lambda: weigh(python("-m", "octodns.cmds.sync", "--config-file", config)),
    )
    ours, lines = warm(python("bench/planning.py", root, 5))
    theirs, _ = warm(python("bench/octo.py", config, 3))
    shop.declare(root, count, HUNDREDTH)
    octo.declare(directory / "octo", count, HUNDREDTH)
    changed, _ = warm(python("bench/planning.py", root, 5, count // HUNDREDTH))
    moved, _ = warm(python("bench/octo.py", config, 3))
    parts = {name: statistics.median(line[name] for line in lines) for name in ("survey", "plan", "id")}
    return Side(validate[0], plan[0], ours, changed, parts), Side(validate[1], plan[1], theirs, moved)


def report(count: int, ours: Side, theirs: Side) -> list[Verdict]:
    """What was measured, and how it stands to the goals, which are set at the larger count."""
    for name, side in (("ours", ours), ("octoDNS", theirs)):
        print(f"  {count:>6} {name:<8} validate, new process       {side.validate}")
        print(f"  {count:>6} {name:<8} no-op plan, new process     {side.plan}")
        print(f"  {count:>6} {name:<8} no-op plan, warm            {side.warm.wall:7.3f} s wall {side.warm.cpu:7.3f} s cpu")
        print(f"  {count:>6} {name:<8} 1 % changed, warm           {side.changed.wall:7.3f} s wall {side.changed.cpu:7.3f} s cpu")
    print(
        f"  {count:>6} of our warm pass: " + ", ".join(f"{name} {seconds:.3f} s" for name, seconds in ours.parts.items()),
        flush=True,
    )
    final = count == COUNTS[-1]

    def faster(what: str, our: float, their: float, goal: float | None) -> Verdict:
        return Verdict(f"{what}, {count}", f"{our:.3f} s cpu", f"octoDNS {their:.3f} s", their / our, goal if final else None)

    def lighter(what: str, our: float, their: float) -> Verdict:
        return Verdict(f"{what}, {count}", f"{our:.0f} MiB", f"octoDNS {their:.0f} MiB", our / their, 1 if final else None, True)

    return [
        faster("no-op plan, warm", ours.warm.cpu, theirs.warm.cpu, 25),
        faster("1 % changed plan, warm", ours.changed.cpu, theirs.changed.cpu, None),
        faster("no-op plan, new process", ours.plan.cpu, theirs.plan.cpu, None),
        faster("validate, new process", ours.validate.cpu, theirs.validate.cpu, 2),
        lighter("memory of validate", ours.validate.memory, theirs.validate.memory),
        lighter("memory of a plan", ours.plan.memory, theirs.plan.memory),
    ]


def main(counts: tuple[int, ...] = COUNTS) -> list[Verdict]:
    """Both sides at every count."""
    found: list[Verdict] = []
    for count in counts:
        title(f"Planning: {count} datasets beside {count} DNS records, medians")
        with tempfile.TemporaryDirectory() as directory:
            found += report(count, *compare(count, Path(directory)))
    return found


async def passes(root: Path, rounds: int, moved: int) -> None:
    """Survey, plan and name the plan again and again; each pass must find `moved` changes."""
    from tests.e2e.scene import Scene

    async with Scene(root).open() as space:
        for _ in range(rounds + 1):
            start, used = time.perf_counter(), time.process_time()
            survey = await space.surveyor.survey(refresh=False)
            looked = time.process_time()
            plan = space.surveyor.plan(survey, space.settings.limits)
            planned = time.process_time()
            assert plan.id
            ended = time.process_time()
            assert len(plan.acting) == moved, (len(plan.acting), moved, [c.blocked for c in plan.changes if c.blocked][:3])
            parts = {"survey": looked - used, "plan": planned - looked, "id": ended - planned}
            print(json.dumps({"wall": time.perf_counter() - start, "cpu": ended - used, **parts}), flush=True)


if __name__ == "__main__":
    from reconciler.__main__ import QUIET

    gc.set_threshold(*QUIET)
    asyncio.run(passes(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0))
