"""SIGKILL against the real program, at random moments, and an audit from the outside after every recovery.

A round: edit the repository or damage the network, note the plan and its price, start the program, kill its process,
perhaps kill the recovery too, then let it finish; at last compare what the devnet holds with what was asked for.

Half of the blows fall soon after the ledger shows that an effect of a chosen sort was begun, the others at any time between
the start of the process and the end of its work. The moments come from a seeded generator; what the processes are doing at
those moments is up to the machine, so two runs of one seed differ.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

from reconciler.compose import workspace
from reconciler.devnet import control
from reconciler.devnet.config import Config
from reconciler.devnet.world import Plan as Hosts
from reconciler.model.plan import Plan
from reconciler.model.ref import Outpoint
from reconciler.settings import load
from tests.e2e.desk import PASSPHRASE, Desk
from tests.e2e.outside import Outside, ask_ledger, reader
from tests.e2e.started import Program

OVERLAYS = (("overlay-1", "EU"), ("overlay-2", "US"))
PURSE = 5_000_000
# Effects whose beginning is waited for; twice those that cannot be undone. "run" is the first write of any work.
SIGHTS = ("run", "Generate", "Attest", "Store", "Sign", "Sign", "Broadcast", "Broadcast", "Submit")
# After a sight: at once, within the effect, or a little later.
PAUSES = (0.0, 0.004, 0.02, 0.1)
# A killed recovery is recovered from as well: this often the restart is struck too.
AGAIN = 0.4
# Restarts that recovery may take; the second repairs what the first could not see yet.
RESTARTS = 4
DEADLINE = 120.0
# Seconds between two looks at the ledger.
GLANCE = 0.002
# A daemon that has written nothing for so many seconds, after it had written, has nothing to do.
REST = 3.0
# How many runs, or effects of one sort, the ledger has seen begun.
_BEGUN = {"run": "SELECT count(*) FROM runs", "": "SELECT 0"}
_BEGUN_EFFECT = "SELECT count(*) FROM intents WHERE effect = ?"


@dataclass(frozen=True, slots=True)
class Aim:
    """When to strike: so many seconds after an effect of that sort was begun, or after the start when `sight` is empty."""

    sight: str
    pause: float

    def __str__(self) -> str:
        return f"{self.sight or 'start'}+{self.pause * 1000:.0f}ms"


@dataclass(frozen=True, slots=True)
class Kill:
    """A process that died: which, how aimed, after how many seconds, and what its journal shows as unfinished."""

    command: str
    aim: Aim
    after: float
    runs: int
    effects: tuple[str, ...]

    @property
    def where(self) -> str:
        """The step in which it died: an effect, between effects of a run, or outside any run."""
        return self.effects[0] if self.effects else "between effects" if self.runs else "no run open"


@dataclass(slots=True)
class Tally:
    """What a campaign has shown so far."""

    kills: list[Kill] = field(default_factory=list)
    rounds: int = 0
    late: int = 0
    restarts: int = 0
    planned: int = 0
    transactions: int = 0
    versions: int = 0
    seconds: float = 0.0

    @property
    def inside(self) -> int:
        """Kills that left a run open."""
        return sum(kill.runs > 0 for kill in self.kills)


class Campaign:
    """One repository, one devnet on loopback, one ledger; `strike` until enough processes are dead."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.home, self.log = folder / "devnet", folder / "program.log"
        self.root = folder / "desk"
        self.database = self.root / ".state" / "ledger.db"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RECONCILER_", "PYTHONDONTWRITE"))}
        env = kept | {"RECONCILER_PASSPHRASE": PASSPHRASE, "RECONCILER_LISTEN": "127.0.0.1:0"}
        self.tally, self.span = Tally(), 2.0
        running = control.up(Config(self.home, Hosts(seed=seed, overlays=OVERLAYS), block_every=2.0))
        self.program = Program(folder / "door", self.root, env)
        try:
            self.desk = Desk(self.root, self.rng, control.manifest(self.home))
            script = bytes.fromhex(self.call("wallet", "address", "-o", "json")["lockingScript"])
            (coin,) = self.call("wallet", "fund", "--satoshis", str(PURSE), "-o", "json")
        except BaseException:
            self.program.close()
            control.down(self.home)
            raise
        stores = tuple(name for name in running.urls if name in running.regions and not name.startswith("overlay"))
        self.outside = Outside(running.urls, tuple(name for name, _ in OVERLAYS), stores, self.database, script)
        self.outside.watch(Outpoint.parse(coin["outpoint"]), coin["satoshis"])

    def close(self) -> None:
        """Take the devnet down."""
        self.outside.close()
        self.program.close()
        control.down(self.home)

    # --- the program ---------------------------------------------------------------------------------------------

    def run(self, *words: str, good: tuple[int, ...] = (0,)) -> tuple[int, str]:
        """A command that nobody disturbs: its exit code and what it printed."""
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
            code = self.program.start(words, said, complained).wait(DEADLINE)
            said.seek(0), complained.seek(0)
            text, errors = said.read().decode(), complained.read().decode()
        assert code in good, f"{' '.join(words)} ended with {code}\n{text}\n{errors}"
        assert "Traceback" not in errors, errors
        return code, text

    def call(self, *words: str) -> Any:
        """The JSON that a command prints."""
        return json.loads(self.run(*words)[1])

    def plan(self, command: str) -> Plan:
        """What a program that starts now would do, and for how much; nothing of an earlier look is reused."""

        async def look() -> Plan:
            async with workspace(load(self.root)) as space:
                survey = await space.surveyor.survey()
                assert survey.loaded.desired is not None, survey.loaded.errors
                return space.surveyor.plan(survey, replace(space.settings.limits, destroy=command == "destroy"))

        return asyncio.run(look())

    # --- killing it ----------------------------------------------------------------------------------------------

    def aim(self) -> Aim:
        """Half of the blows at a sight that this edit can bring, half at any time of a process's life."""
        if self.rng.random() < 0.5:
            hidden = set() if self.desk.touched else {"Attest", "Store"}
            hidden |= set() if "Identity/fx-desk" in self.desk.touched else {"Generate"}
            sights = [sight for sight in SIGHTS if sight not in hidden]
            return Aim(self.rng.choice(sights), self.rng.uniform(0.0, self.rng.choice(PAUSES)))
        return Aim("", self.rng.uniform(0.0, self.span))

    def strike(self, words: tuple[str, ...], aim: Aim) -> Kill | None:
        """Start the program and kill it as aimed; None when it had ended by itself before that."""
        query, values = _BEGUN.get(aim.sight, _BEGUN_EFFECT), () if aim.sight in _BEGUN else (aim.sight,)
        # The ledger is watched through one connection, gone before anything is started again: what the dead process leaves
        # in the write-ahead log is then found by its successor, and by nobody else.
        with reader(self.database) as eye, self.log.open("ab") as log:
            version, before = _version(eye), eye.execute(query, values).fetchone()[0]
            child, began = self.program.start(words, log, log), monotonic()
            # A daemon does not end: when its sight does not come, it is struck once it has worked and come to rest.
            moved, limit = DEADLINE, DEADLINE if words[0] != "run" else self.span * 3
            try:
                while aim.sight and monotonic() - began < min(limit, moved + REST) and not child.ended(GLANCE):
                    if (now := _version(eye)) != version:
                        version, moved = now, monotonic() - began if words[0] == "run" else DEADLINE
                        if eye.execute(query, values).fetchone()[0] > before:
                            break
                child.ended(aim.pause)
            finally:
                child.kill()
            code = child.wait(DEADLINE)
        after = monotonic() - began
        if code is not None:
            assert code in (0, 3), f"{words} ended with {code}: {self.log.read_text()[-2000:]}"
            self.span = after
            return None
        open_runs = "SELECT count(*) FROM runs WHERE state = 'open'"
        doing = "SELECT i.effect FROM intents i JOIN runs r ON r.id = i.run WHERE r.state = 'open' AND i.state = 'open'"
        runs = int(ask_ledger(self.database, open_runs)[0][0])
        return Kill(words[0], aim, after, runs, tuple(row[0] for row in ask_ledger(self.database, doing)))

    # --- a round -------------------------------------------------------------------------------------------------

    def campaign(self, kills: int) -> Tally:
        """Rounds until so many processes were killed; every round is audited."""
        began = monotonic()
        while len(self.tally.kills) < kills:
            assert self.tally.rounds < 3 * kills, "the program always ends before it can be killed"
            self.round(kills - len(self.tally.kills))
        self.tally.seconds = monotonic() - began
        # The last word is the program's own: exit code 0 says that nothing is pending.
        self.run("plan", *(("--destroy",) if self.desk.command == "destroy" else ("--detailed-exitcode",)))
        return self.tally

    def round(self, most: int) -> None:
        """Edit, plan, strike, recover, audit."""
        tally, outside = self.tally, self.outside
        tally.rounds += 1
        edits, command = self.desk.edit(self.damage), self.desk.command
        plan, left, sent = self.plan(command), outside.left, len(outside.transactions)
        booked, made = self.booked(), {subject: len(tokens) for subject, tokens in outside.made.items()}
        price, count = plan.cost.satoshis, plan.cost.transactions
        assert not plan.refusals, plan.refusals
        assert count - len(plan.funding) == len(self.desk.touched) + len(self.desk.retired), f"{edits}: {told(plan)}"
        struck = self.blows(command, most)
        print(f"  {tally.rounds:>3} {', '.join(edits)}: {price} sat, {count} transactions; " + "; ".join(struck), flush=True)
        tally.restarts += self.settle(command)
        outside.follow()
        grown = {subject: len(tokens) - made.get(subject, 0) for subject, tokens in outside.made.items()}
        said = f"round {tally.rounds} ({', '.join(edits)}; {'; '.join(struck)})"
        assert {s: n for s, n in grown.items() if n} == dict.fromkeys(self.desk.touched, 1), f"{said}: versions made"
        assert len(outside.transactions) - sent == count, f"{said}: transactions that spend the purse"
        assert outside.left - left == price, f"{said}: satoshis that left the purse"
        assert self.booked() - booked == price, f"{said}: satoshis in the books"
        tally.planned, tally.transactions = tally.planned + price, tally.transactions + count
        tally.versions += len(self.desk.touched)
        self.audit(said)

    def blows(self, command: str, most: int) -> list[str]:
        """Kill the program, and now and then its recovery; what was done, in words."""
        daemon = command == "apply" and self.rng.random() < 0.4
        words = ("run",) if daemon else (command, "--yes")
        struck = []
        while most > len(struck):
            aim = self.aim()
            kill = self.strike(words, aim)
            if kill is None:
                self.tally.late += 1
                struck.append(f"{words[0]} ended before {aim}")
                break
            self.tally.kills.append(kill)
            struck.append(f"{words[0]} killed at {aim}, {kill.after:.2f}s, in {kill.where}")
            if self.rng.random() >= AGAIN:
                break
        return struck

    def settle(self, command: str) -> int:
        """Restart until a plan finds nothing to do; how many restarts that took."""
        words = ("run", "--once") if command == "apply" and self.rng.random() < 0.33 else (command, "--yes")
        for restart in range(1, RESTARTS + 1):
            began = monotonic()
            self.run(*words, good=(0, 3))
            self.span = monotonic() - began
            plan = self.plan(command)
            if plan.empty or (command == "destroy" and not plan.acting):
                return restart
        raise AssertionError(f"after {RESTARTS} restarts there is still something to do: {told(plan)}")

    # --- what must hold ------------------------------------------------------------------------------------------

    def audit(self, said: str) -> None:
        """Everything a stranger can count, against what the desk asked for; and the ledger has nothing left in its hands."""
        live, desk = self.outside.live(), self.desk
        assert {subject: len(tokens) for subject, tokens in live.items()} == dict.fromkeys(desk.subjects, 1), said
        tokens = {token for one in live.values() for token in one}
        announced = int("Advertisement/fx-feed" in desk.subjects)
        for host in self.outside.overlays:
            assert self.outside.listed(host, "ls_producer") == tokens, f"{said}: descriptors on {host}"
            for service in ("ls_ship", "ls_slap"):
                assert len(self.outside.listed(host, service)) == announced, f"{said}: {service} on {host}"
        held = {host: self.outside.objects(host) for host in self.outside.stores}
        copies = Counter(content for objects in held.values() for content in objects)
        assert {content: copies[content] for content in desk.contents if copies[content] < 2} == {}, f"{said}: copies lost"
        doubled = {(h, c): n for h, objects in held.items() for c, n in objects.items() if n != 1 + desk.spoilt[h, c]}
        assert doubled == {}, f"{said}: objects of one content on one host"
        states = dict(ask_ledger(self.database, "SELECT state, count(*) FROM coins GROUP BY state"))
        assert not {"reserved", "pending"} & set(states), f"{said}: {states}"
        free = ask_ledger(self.database, "SELECT coalesce(sum(satoshis), 0) FROM coins WHERE state = 'free'")[0][0]
        assert free == sum(self.outside.coins.values()), f"{said}: the purse"
        assert ask_ledger(self.database, "SELECT id FROM runs WHERE state <> 'done'") == [], said

    def booked(self) -> int:
        """The sum of the books."""
        query = "SELECT coalesce(sum(fees + payments + locked), 0) FROM bookings"
        return int(ask_ledger(self.database, query)[0][0])

    # --- damage --------------------------------------------------------------------------------------------------

    def damage(self) -> str:
        """Something of ours is lost or spoilt on a host; what, in words."""
        choice = self.rng.randrange(3)
        if choice == 0:
            host = self.rng.choice(self.outside.overlays)
            control.wipe(self.home, host)
            return f"{host} wiped"
        host = self.rng.choice(self.outside.stores)
        kept = sorted(set(self.outside.objects(host)) & self.desk.contents)
        if choice == 1 or not kept:
            control.wipe(self.home, host)
            self.desk.forget(host)
            return f"{host} wiped"
        content = self.rng.choice(kept)
        control.corrupt(self.home, host, content)
        self.desk.spoilt[host, content] += 1
        return f"{content[:8]} corrupted on {host}"


def told(plan: Plan) -> str:
    """A plan in a line, for whoever reads why a round failed."""
    return "; ".join(
        [f"{c.ref} {c.verb.value} {c.reason.value} {c.blocked or c.detail}".strip() for c in plan.changes] + [*plan.notes]
    )


def _version(eye: sqlite3.Connection) -> int:
    """A number that moves when anybody writes: asking for it is cheaper than counting rows."""
    return int(eye.execute("PRAGMA data_version").fetchone()[0])


@contextmanager
def campaign(folder: Path, seed: int) -> Iterator[Campaign]:
    """A campaign whose devnet is gone afterwards."""
    with closing(Campaign(folder, seed)) as one:
        yield one


def verdict(tally: Tally, seed: int, outside: Outside) -> str:
    """The figures of a campaign, for a reader."""
    where = Counter(kill.where for kill in tally.kills)
    commands = Counter(kill.command for kill in tally.kills)
    return "\n".join(
        (
            f"seed {seed}: {len(tally.kills)} kills in {tally.rounds} rounds, {tally.seconds:.0f} s; {tally.restarts} restarts",
            f"  killed: {', '.join(f'{name} {n}' for name, n in commands.most_common())}; {tally.late} ended before the blow",
            f"  while a run was open: {tally.inside} ({', '.join(f'{name} {n}' for name, n in where.most_common())})",
            f"  versions wanted {tally.versions}, made {sum(map(len, outside.made.values()))}",
            f"  transactions planned {tally.transactions}, sent {len(outside.transactions)}",
            f"  satoshis planned {tally.planned}, spent {outside.left}",
        )
    )
