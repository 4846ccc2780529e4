"""The examples, each on a devnet in process in place of its hosts: made, edited, damaged, destroyed."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import yaml

from reconciler.compose import Workspace, workspace
from reconciler.devnet.clock import SeededEntropy, VirtualClock, run
from reconciler.devnet.overlay import Node
from reconciler.devnet.world import Plan as Hosts
from reconciler.devnet.world import World
from reconciler.engine.confirm import confirm
from reconciler.engine.receive import receive
from reconciler.kinds.network import Net, read_net
from reconciler.model.canonical import Json
from reconciler.model.errors import RemoteProtocolError
from reconciler.model.plan import Plan
from reconciler.model.ref import Outpoint
from reconciler.settings import load
from reconciler.wire.descriptor import parse_descriptor
from tests.e2e.explore import PATIENCE, Explorer, Process, Violation, narrowed, watched
from tests.e2e.states import LEDGER

EXAMPLES = Path(__file__).parents[2] / "examples"
PURSE = 1_000_000
VERBS = ("create", "update", "repair", "destroy")

Edit = Callable[[Path], None]


def replaced(file: str, old: str, new: str) -> Edit:
    """An edit of one line."""

    def edit(root: Path) -> None:
        text = (root / file).read_text()
        assert old in text, f"{old!r} is not in {file}"
        (root / file).write_text(text.replace(old, new))

    return edit


def appended(file: str, line: str) -> Edit:
    """One more line at the end of a file."""

    def edit(root: Path) -> None:
        with (root / file).open("a") as stream:
            stream.write(line + "\n")

    return edit


def another(file: str, new: str) -> Edit:
    """One more file, a little different from one that is there."""

    def edit(root: Path) -> None:
        (root / new).write_text((root / file).read_text().replace("2", "3"))

    return edit


@dataclass(frozen=True, slots=True)
class Example:
    """A directory below examples/, the edits that its page proposes, and the environment in which it is applied."""

    name: str
    edits: tuple[Edit, ...]
    environment: str = ""


RATES_OF_A_DAY = "2025-01-01,1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0"
NEXT_KEY = """  register: true
  rotation:
    next: {file: .keys/desk-2.json, generate: ifMissing, encryption: {passphrase: {env: RECONCILER_PASSPHRASE}}}
    transitionPeriod: 7d"""
ALL = (
    Example("01-identity", (replaced("identity.yaml", "Corner Desk", "Other Corner"),)),
    Example("02-advertisement", (replaced("network.yaml", "https://fx.example.com", "https://new.example.com"),)),
    Example("03-dataset", (appended("data/tides.csv", "2025-01-03T00:00Z,1.0"),)),
    Example("04-fileset", (another("data/humidity.csv", "data/pressure.csv"),)),
    Example("05-environments", (replaced("overlays/test/dataset.yaml", "price: 1sat", "price: 2sat"),), "test"),
    Example(
        "06-distribution",
        (replaced("rule.yaml", "spread: all", "spread: [EU, US]"), appended("data/temperature.csv", "2025-01-06T00:00Z,12.1")),
    ),
    Example("07-rotation", (replaced("identity.yaml", "  register: true", NEXT_KEY),)),
    Example("market-data", (replaced("prices.yaml", "2500sat", "3000sat"), appended("data/fx-2024.csv", RATES_OF_A_DAY))),
)
BY_NAME = {example.name: example for example in ALL}


class DayClock:
    """A clock that shows only the date: what hosts promise does not depend on the second in which they were asked."""

    def __init__(self, inner: VirtualClock) -> None:
        self.inner = inner

    def now(self) -> datetime:
        """Midnight."""
        return self.inner.now().replace(hour=0, minute=0, second=0, microsecond=0)

    async def sleep(self, seconds: float) -> None:
        """Let time pass for everybody."""
        await self.inner.sleep(seconds)


def orderly(node: Node) -> None:
    """Let a node answer lookups in the order of outpoints, whatever the order in which it came to know them."""
    found = node.lookup

    def lookup(service: str, query: Json) -> list[Outpoint]:
        return sorted(found(service, query))

    node.lookup = lookup  # type: ignore[method-assign]


@dataclass(slots=True)
class Repository:
    """An example in a directory, on a world that has the hosts it names."""

    root: Path
    example: Example
    parallelism: int = 4
    clock: VirtualClock = field(default_factory=VirtualClock)
    world: World = field(init=False)

    def __post_init__(self) -> None:
        shutil.copytree(EXAMPLES / self.example.name, self.root, ignore=shutil.ignore_patterns("README.md", ".*"))
        for path in self.root.rglob("network.yaml"):
            path.write_text(at_devnet(path.read_text()))
        stated = yaml.safe_load((self.root / "network.yaml").read_text())["spec"]
        regions = {key: [(one["name"], one["region"]) for one in stated[key]] for key in ("overlays", "storage")}
        self.world = World(clock=DayClock(self.clock), plan=Hosts(overlays=regions["overlays"], storage=regions["storage"]))
        for node in self.world.nodes.values():
            orderly(node)
        for host in self.world.storage.values():
            # What hosts tell overlay nodes about themselves is nothing that we make or read, and a third of the work.
            host.overlays = {}
        self._alone(self._fund)

    def net(self) -> Net:
        """The network of the manifests."""
        return read_net("local", yaml.safe_load((self.root / "network.yaml").read_text())["spec"])

    def process(self, *, destroy: bool = False) -> Process:
        """How the program is started here."""
        settings = load(self.root, environment=self.example.environment)
        return Process(settings, self.world, self.clock, narrowed(settings, destroy=destroy), self.parallelism)

    def explorer(self, verb: str, most: int | None = None) -> Explorer:
        """Bring the example to the moment before that verb."""
        if verb != "create":
            process = self.process()
            for _ in range(PATIENCE):
                if not process.live(lambda _: None).acting:
                    break
            self.world.mine()
            self._alone(self._confirm)
        if verb == "update":
            for edit in self.example.edits:
                edit(self.root)
        if verb == "repair":
            self.world.wipe("overlay-1")
            self.world.wipe("eu1")
        floor = {name: host.state.uploads for name, host in self.world.storage.items()}
        sent = on_chain(self.world, self._script)[1]

        def ended(plan: Plan) -> Truth:
            """Besides being the same everywhere, the end is the one that the verb promises."""
            found = truth(self, self._script, plan)
            if verb == "destroy" and any(tokens.total() for tokens in found.tokens.values()):
                raise Violation(f"a node still lists tokens of ours: {found}")
            if verb == "repair" and found.transactions != sent:
                raise Violation(f"the repair of what is free to repair cost a transaction: {found}")
            return found

        return Explorer(self.process(destroy=verb == "destroy"), floor, ended, most)

    # --- the moment before ---------------------------------------------------------------------------------------

    _script: bytes = b""

    def _alone(self, work: Callable[[Workspace], object]) -> None:
        """Do something in a workspace that nobody watches."""

        async def main() -> None:
            settings = load(self.root, environment=self.example.environment)
            transport = self.world.transport()
            async with workspace(settings, transport=transport, clock=self.clock, entropy=SeededEntropy(7)) as space:
                await work(space)  # type: ignore[misc]

        with watched(lambda _: None):
            run(main(), clock=self.clock)

    async def _fund(self, space: Workspace) -> None:
        space.ports.wallet.generate("wallet", {})
        self._script = space.ports.wallet.funding_script()
        _, beef = self.world.faucet(self._script, PURSE)
        await receive(space.ports, beef, self.net())

    async def _confirm(self, space: Workspace) -> None:
        await confirm(space.ports, {"devnet": self.net()})


def at_devnet(text: str) -> str:
    """A Network manifest with the hosts of the in-process devnet in place of its own, by their names."""
    text = re.sub(r'(name: ([\w-]+), url: )"[^"]*"', r'\1"http://\2.devnet"', text)
    text = re.sub(r'(headers: \{url: )"[^"]*"', r'\1"http://headers.devnet"', text)
    return re.sub(r"chain: \w+", "chain: devnet", text)


# --- what the world holds --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Truth:
    """What a stranger counts on chain and hosts, and what our books say of it; equal for all ends of one case."""

    purse: int
    transactions: int
    tokens: dict[str, Counter[str]]
    objects: dict[str, Counter[str]]
    versions: Counter[str]
    booked: int
    free: int
    busy: int
    open_runs: int
    files: int


def truth(repository: Repository, script: bytes, plan: Plan) -> Truth:
    """Count."""
    world = repository.world
    purse, ours, versions = on_chain(world, script)
    tokens = {}
    for name, node in world.nodes.items():
        live = {topic: [at for at, one in rows.items() if not one.spent] for topic, rows in node.state.held.items()}
        tokens[name] = Counter({topic: len(rows) for topic, rows in live.items() if topic != "tm_uhrp"})
    objects = {name: Counter(one.sha256 for one in host.state.objects.values()) for name, host in world.storage.items()}
    booked, free, busy, runs = (
        asked(repository.root, query)
        for query in (
            "SELECT coalesce(sum(fees + payments + locked), 0) FROM bookings",
            "SELECT coalesce(sum(satoshis), 0) FROM coins WHERE state = 'free'",
            "SELECT count(*) FROM coins WHERE state IN ('reserved', 'pending')",
            "SELECT count(*) FROM runs WHERE state = 'open'",
        )
    )
    keys = sum(path.is_file() for path in (repository.root / ".keys").glob("[!.]*"))
    found = Truth(purse, ours, tokens, objects, versions, booked, free, busy, runs, keys)
    faults = {
        "the ledger's purse is not the chain's": found.free != found.purse,
        "the books are not what left the purse": found.booked != PURSE - found.purse,
        "coins are held for nothing": found.busy > 0,
        "a run is open": found.open_runs > 0,
    }
    if any(faults.values()):
        raise Violation(f"{', '.join(said for said, wrong in faults.items() if wrong)}: {found}")
    return found


def on_chain(world: World, script: bytes) -> tuple[int, int, Counter[str]]:
    """Satoshis unspent on our script, transactions that spend from it, and descriptors ever made, by subject."""
    chain = world.chain
    purse = ours = 0
    versions: Counter[str] = Counter()
    for txid in chain.state.txs:
        tx = chain.live(txid)
        if tx is None or not any(out.script == script for out in tx.outputs):
            continue
        mine = any(_source(chain.state.txs, one.outpoint) == script for one in tx.inputs)
        ours += mine
        for vout, out in enumerate(tx.outputs):
            if out.script == script:
                purse += out.satoshis if chain.spender(Outpoint(txid, vout)) is None else 0
                continue
            try:
                versions[parse_descriptor(out.script).subject] += mine
            except RemoteProtocolError:
                versions["other"] += mine
    return purse, ours, versions


def _source(txs: dict[str, object], outpoint: Outpoint) -> bytes:
    tx = txs.get(outpoint.txid)
    return tx.outputs[outpoint.vout].script if tx is not None else b""  # type: ignore[attr-defined]


def asked(root: Path, query: str) -> int:
    """One number from the ledger."""
    with closing(sqlite3.connect(f"file:{root / LEDGER}?mode=ro", uri=True)) as ledger:
        return int(ledger.execute(query).fetchone()[0])
