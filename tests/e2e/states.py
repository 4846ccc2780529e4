"""What survives a kill, as a value: the ledger, the files that the program makes, and the world around it.

Two states are called equal when their digests are, so the digest leaves out only what no process can act upon, and nothing
is left out for any other reason:

* The history is written and never read by what decides. Row numbers (`seq`) stand for the order, and that of open runs is kept.
* What a run did that is done: nobody replays it. That it was carried out, for which key, counts; its id is numbered like a uid,
  because the id of a later run contains how many there were before and so is another one.
* Versions of records and runs tell a cache in memory that it is old; a new process has no cache.
* The owner, the fence and the end of a lease: its holder is dead, and every process starts after the lease has run out.
* Which second of the day it was. All moments lie in one day (`Process.live` asserts it), and what a host promises runs out
  days later, so no comparison with the time of day can come out differently. A record's `uid` and the id of a plan are
  digests over moments; they are numbered in the order in which they occur, so equal ids stay equal and others differ.
* A lease that has run out and counts no failure: whoever takes the key finds it as if nobody had ever held it.
* Files that were left half-made, and directories without a file: the names (`.new-*`) are drawn at random and nothing ever
  reads them.
* In the world: the order in which a host came to know things, because lookups answer in the order of outpoints here
  (`cases.World`), and notices to listeners, of which there are none.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from reconciler.devnet.clock import EPOCH
from reconciler.devnet.world import Snapshot, World

# Where the program keeps files of its own, below the root of a repository.
LEDGER = ".state/ledger.db"
OWN = (".keys", ".state/blobs")
# Table -> columns that are not looked at; None: the whole table.
UNSEEN: dict[str, frozenset[str] | None] = {
    "history": None,
    "records": frozenset({"version"}),
    "runs": frozenset({"seq"}),
    "intents": frozenset({"fence"}),
    "transactions": frozenset({"seq"}),
    "queue": frozenset({"ready", "owner", "fence", "until"}),
}
# Table -> which rows count, and in what order.
_ROWS = {
    "bookings": "ORDER BY ref, fees, payments, locked",
    "counters": "WHERE name NOT IN ('fence', 'records', 'runs') ORDER BY name",
    "intents": "WHERE run IN (SELECT id FROM runs WHERE state <> 'done') ORDER BY run, seq",
    "queue": "WHERE due IS NOT NULL OR priority IS NOT NULL OR attempts > 0 ORDER BY key",
    "runs": "ORDER BY CASE state WHEN 'done' THEN key END, seq",
    "transactions": "ORDER BY txid",
}
_VALUES = {"runs.subject": "CASE state WHEN 'done' THEN '' ELSE subject END"}
_DONE = "SELECT id FROM runs WHERE state = 'done'"
_COUNTERS_UNSEEN = ("fence", "records", "runs", "audit")
_DAY = EPOCH.strftime("%Y-%m-%d")
# A moment of that day, a record's uid, or the id of a run.
_OPAQUE = re.compile(rf'"{_DAY}T[0-9:.]+(?:Z|\+00:00)"|^{_DAY}T[0-9:.]+Z$|(?<="uid":")[0-9a-f]{{16}}|(?:run_)?pl_[0-9a-f]{{10}}')


@dataclass(frozen=True, slots=True)
class Parts:
    """The digests of the three parts of a state."""

    ledger: str
    files: str
    world: str

    @property
    def key(self) -> str:
        """The digest of the state."""
        return hashlib.sha256("".join((self.ledger, self.files, self.world)).encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class State:
    """What a kill leaves. `elapsed` is the virtual second; `files` are contents by path; the database is packed."""

    parts: Parts
    database: bytes = field(repr=False)
    files: dict[str, bytes] = field(repr=False)
    world: Snapshot = field(repr=False)
    elapsed: float

    def restore(self, root: Path, world: World) -> None:
        """Put everything back."""
        world.restore_snapshot(self.world)
        for suffix in ("-wal", "-shm"):
            (root / f"{LEDGER}{suffix}").unlink(missing_ok=True)
        (root / LEDGER).write_bytes(zlib.decompress(self.database))
        there = {name: (root / name).read_bytes() for name in own_files(root)}
        for name in set(there) - set(self.files):
            (root / name).unlink()
        for folder in [path for own in OWN for path in (root / own).rglob("*") if path.is_dir()]:
            if not any(folder.iterdir()):
                folder.rmdir()
        for name, content in self.files.items():
            if there.get(name) != content:
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                path.touch(mode=0o600)
                path.write_bytes(content)


def own_files(root: Path) -> Iterator[str]:
    """The files that the program made, besides the ledger."""
    for folder in OWN:
        yield from (str(path.relative_to(root)) for path in (root / folder).rglob("*") if path.is_file())


class Eye:
    """Looks at the durable state of a repository and its world, again and again; a part that did not move costs nothing."""

    def __init__(self, root: Path, world: World, floor: dict[str, int]) -> None:
        self.root, self.world, self.floor = root, world, floor
        self._connection = sqlite3.connect(f"file:{root / LEDGER}?mode=ro", uri=True, timeout=5)
        self._queries = queries_of(self._connection)
        self._known: dict[str, tuple[tuple[int, int, int], bytes]] = {}
        self._snapshot: Snapshot | None = None
        self.parts = Parts("", "", "")
        self.look(ledger=True, files=True, world=True)

    def close(self) -> None:
        """Let go of the ledger."""
        self._connection.close()

    def look(self, *, ledger: bool = False, files: bool = False, world: bool = False) -> Parts:
        """The digests now, those of the parts that may have moved made anew."""
        if ledger:
            self.parts = replace(self.parts, ledger=ledger_digest(self._connection, self._queries))
        if files:
            self.parts = replace(self.parts, files=files_digest(self.contents()))
        if world:
            self._snapshot = None
            self.parts = replace(self.parts, world=world_digest(self.world, self.floor))
        return self.parts

    def contents(self) -> dict[str, bytes]:
        """What the program's files hold; each is read once unless it changes."""
        found = {}
        for name in own_files(self.root):
            stat = (self.root / name).stat()
            print_ = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            known = self._known.get(name)
            if known is None or known[0] != print_:
                known = self._known[name] = (print_, (self.root / name).read_bytes())
            found[name] = known[1]
        return found

    def state(self, elapsed: float) -> State:
        """Everything, to come back to."""
        if self._snapshot is None:
            self._snapshot = settled(self.world.snapshot(), self.floor)
        packed = zlib.compress(self._connection.serialize(), 1)
        return State(self.parts, packed, self.contents(), self._snapshot, elapsed)


def parts_of(root: Path, world: World, floor: dict[str, int]) -> Parts:
    """The digests of what lies there, for one look."""
    with closing(Eye(root, world, floor)) as eye:
        return eye.parts


# --- the ledger ------------------------------------------------------------------------------------------------------


def queries_of(connection: sqlite3.Connection) -> dict[str, str]:
    """What is read, by table; a table or a column that is added later counts until it is named above."""
    found = {}
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
    for (table,) in tables.fetchall():
        unseen = UNSEEN.get(table, frozenset())
        if unseen is not None:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] not in unseen]
            values = ", ".join(_VALUES.get(f"{table}.{column}", f'"{column}"') for column in columns)
            found[table] = f"SELECT {values} FROM {table} " + _ROWS.get(table, f"ORDER BY {values}")
    return found


def ledger_digest(connection: sqlite3.Connection, queries: dict[str, str]) -> str:
    """A digest over all rows, in which opaque ids are numbered."""
    total, numbers = hashlib.sha256(), dict[str, int]()
    done = {row[0] for row in connection.execute(_DONE)}
    for table, query in queries.items():
        total.update(f"\n{table}".encode())
        for row in connection.execute(query):
            for value in row:
                if not isinstance(value, str):
                    total.update(repr(value).encode() if not isinstance(value, bytes) else value)
                else:
                    told, opaque = _told(value)
                    total.update(told)
                    for one in opaque:
                        numbered = not one.startswith("run_") or one.startswith("run_pl_") or one in done
                        total.update((str(numbers.setdefault(one, len(numbers))) if numbered else one).encode() + b",")
                total.update(b"\0")
    return total.hexdigest()[:24]


@lru_cache(maxsize=65536)
def _told(text: str) -> tuple[bytes, tuple[str, ...]]:
    """The digest of a text without its opaque ids, and those of them that are no moments, in order."""
    opaque = []

    def hide(match: re.Match[str]) -> str:
        if not match.group().strip('"').startswith(_DAY):
            opaque.append(match.group())
        return "\1"

    plain = _OPAQUE.sub(hide, text)
    return hashlib.sha256(plain.encode()).digest(), tuple(opaque)


# --- files -----------------------------------------------------------------------------------------------------------


def files_digest(contents: dict[str, bytes]) -> str:
    """Names and contents of whole files."""
    return _digest(sorted(f"{name} {_sha256(content)}" for name, content in contents.items() if "/.new-" not in name))


@lru_cache(maxsize=4096)
def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- the world -------------------------------------------------------------------------------------------------------


def settled(snapshot: Snapshot, floor: dict[str, int]) -> Snapshot:
    """The world once every connection of the dead process is gone: room that was promised to it and never used is free."""
    for name, (state, _) in snapshot.hosts.items():
        state.uploads = numbered(state.objects, floor[name])
    return snapshot


def numbered(objects: Iterable[str], floor: int) -> int:
    """The number of the newest object that a host holds; `floor` at least, so that the name of a lost one is not used again."""
    return max([floor, *(int(name.rpartition("-")[2]) for name in objects)])


def world_digest(world: World, floor: dict[str, int]) -> str:
    """A digest over everything that hosts and chain remember."""
    chain = world.chain.state
    told: list[object] = [
        sorted(chain.txs),
        sorted(f"{txid} {one.status} {one.block} {one.height} {one.competing}" for txid, one in chain.standings.items()),
        sorted(chain.pool),
        [block.hash for block in chain.blocks[-3:]],
        len(chain.blocks),
        (sorted(chain.stale), chain.coins, chain.forks),
    ]
    for name, node in sorted(world.nodes.items()):
        held = sorted(f"{topic} {at} {one.spent}" for topic, rows in node.state.held.items() for at, one in rows.items())
        index = sorted(f"{service} {at}" for service, rows in node.state.index.items() for at in rows)
        parts = sorted(f"{txid} {bool(proof)}" for txid, (_, proof) in node.state.parts.items())
        told += [name, held, index, parts, sorted(node.state.applied), list(map(repr, node.state.waiting))]
    for name, host in sorted(world.storage.items()):
        state = host.state
        kept = sorted(f"{one} {_sha256(host.vault.slice(one, 0, host.vault.size(one) or 0))}" for one in host.vault.snapshot())
        objects = sorted(repr(one) for one in state.objects.values())
        told += [name, kept, objects, numbered(state.objects, floor[name]), state.coin, list(state.unsent), state.renewals]
        told.append(sorted(state.downloads.items()))
    for name, caster in sorted(world.broadcasters.items()):
        told += [name, sorted(caster.state.listeners.items()), repr(caster.state.provoked)]
    return _digest(told)


def _digest(told: object) -> str:
    return hashlib.sha256(repr(told).encode()).hexdigest()[:24]
