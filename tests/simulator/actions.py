"""Everything that can happen in a story: edits, time, damage, weather, death. One method each; the dice choose."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from reconciler.devnet.chain import CONTESTED, MINED, REJECTED
from reconciler.engine.receive import receive
from reconciler.kinds.network import read_net
from reconciler.model.change import FeeRate
from reconciler.model.errors import ReconcilerError
from reconciler.model.ref import Outpoint
from tests.simulator import repository
from tests.simulator.disk import Disk
from tests.simulator.fleet import Fleet
from tests.simulator.ground import CASTERS, FEE, OVERLAYS, STORES, Ground, network
from tests.simulator.stage import WHO, Stage
from tests.simulator.weather import Lie, Sky

# How often each action is chosen, in parts of the whole.
WEIGHTS = {
    "edit": 10,
    "revert": 2,
    "break_manifests": 1,
    "wait": 6,
    "mine": 3,
    "storm": 5,
    "calm": 2,
    "partition": 3,
    "lie": 6,
    "outage": 2,
    "damage": 3,
    "reject": 3,
    "reorg": 4,
    "fee": 2,
    "jump": 2,
    "fill_disk": 3,
    "power": 4,
    "kill": 3,
    "fuse": 6,
    "freeze": 3,
    "drain": 1,
    "fund": 1,
}
PAUSES = (0.2, 1.0, 5.0, 20.0, 70.0, 150.0)
PLACES = ("a", "b")


@dataclass(slots=True)
class Story:
    """One world, one repository, one or two daemons, and dice."""

    seed: int
    ground: Ground
    stage: Stage
    root: Path
    more: Mapping[str, int] = field(default_factory=dict)
    dice: random.Random = field(init=False)
    sky: Sky = field(init=False)
    disk: Disk = field(init=False)
    fleet: Fleet = field(init=False)
    repository: repository.Repository = field(init=False)
    lines: list[str] = field(default_factory=list)
    # How often each action came about.
    happened: Counter[str] = field(default_factory=Counter)
    budget: int | None = None
    funded: set[Outpoint] = field(default_factory=set)
    # Payments whose receiver died before it could say that it had them: whoever paid hands them in again.
    unacknowledged: dict[Outpoint, bytes] = field(default_factory=dict)
    # What no honest world does by itself, so that the witness makes allowance for it.
    provoked: bool = False
    dropped: bool = False
    calmed: float | None = None
    _lagging: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.ground.reset()
        self.sky = Sky(self.ground.world, random.Random(self.seed + 1), _context=contextvars.Context())
        database = self.root / ".state" / "ledger.db"
        database.parent.mkdir(mode=0o700)
        database.write_bytes(self.ground.ledger)
        for path, content in self.ground.blobs.items():
            place = database.parent / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        self.disk = Disk(database, random.Random(self.seed + 2))
        self.budget = self.dice.choice((None, 250, 500))
        limits = replace(self.ground.settings.limits, spend_day=self.budget)
        settings = replace(
            self.ground.settings, root=self.root, state=str(database.parent), keys=self.root / ".keys", limits=limits
        )
        self.fleet = Fleet(self.stage, self.ground.world.clock, self.sky, self.disk, settings, self.root / "clones", self.tell)  # type: ignore[arg-type]
        self.disk.on_cut = self.fleet.power_cut
        kinds = self.dice.randrange(3)
        self.repository = repository.first(kinds if self.ground.applied is None else self.ground.applied)
        self.funded |= set(self.ground.coins)

    def tell(self, line: str) -> None:
        """Write a line of the story."""
        self.lines.append(f"{self.ground.world.clock.now():%H:%M:%S} {line}")

    # --- beginning -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The first revision is there and the daemons start."""
        places = PLACES[: self.dice.choice((1, 2, 2))]
        self.fleet.workers = self.dice.choice((1, 1, 2))
        self.tell(f"{len(places)} daemons on {sorted(self.repository.tokens)}, budget {self.budget}")
        for place in places:
            self.repository.checkout(self.fleet.clones / place)
            self.fleet.start(place)

    async def act(self, name: str, *, at_once: bool = False) -> None:
        """One action, and some time after it; or none, so that the next one meets it."""
        told = getattr(self, f"do_{name}")()
        if told:
            self.happened[name] += 1
            self.tell(f"{name.replace('_', ' ')}: {told}")
        if at_once:
            return
        await asyncio.sleep(self.dice.choice(PAUSES if name == "wait" else PAUSES[:4]))

    def choose(self) -> str:
        """The name of the next action."""
        weights = {**WEIGHTS, **self.more}
        return self.dice.choices(list(weights), list(weights.values()))[0]

    # --- the repository --------------------------------------------------------------------------------------

    def do_edit(self) -> str:
        """One change of what is declared."""
        told = self.dice.choice(
            (self._content, self._title, self._price, self._profile, self._terms, self._less, self._more, self._hosts)
        )()
        self._publish()
        return told

    def do_revert(self) -> str:
        """Back to an earlier revision."""
        back = self.dice.randrange(1, 4)
        self.repository.revert(back)
        self._publish()
        return f"by {back}"

    def do_break_manifests(self) -> str:
        """A revision that cannot be read, until the next edit."""
        self.repository.broken = True
        self._publish()
        self.repository.broken = False
        return "a manifest that is none"

    def _publish(self) -> None:
        """Every checkout follows, each in its own time; some never hear of it and find it at their next pass."""
        self.repository.commit()
        for place in self.fleet.replicas:
            wait = self.dice.choice((0.0, 0.0, 3.0, 40.0))
            hint = self.dice.random() < 0.8
            if wait and not self.repository.broken:
                # Until it follows, this checkout declares what was before: what is new is not in it.
                self.repository.absent |= self.repository.fresh
            self.stage.call_later(wait, self._fetch, place, hint, context=contextvars.Context())

    def _fetch(self, place: str, hint: bool = True) -> None:
        self.repository.checkout(self.fleet.clones / place)
        if hint:
            self.fleet.fetched(place)

    def _content(self) -> str:
        paths = sorted(self.repository.content)
        if not paths:
            return self._terms()
        path = self.dice.choice(paths)
        self.repository.content[path] = b"date,rate\n2024-01-02,%d\n" % self.dice.randrange(1000)
        return f"new content of {path}"

    def _pick(self, kind: str) -> str | None:
        names = sorted(name for k, name in self.repository.specs if k == kind)
        return self.dice.choice(names) if names else None

    def _title(self) -> str:
        name = self._pick("Dataset")
        if name is None:
            return self._profile()
        spec = self.repository.specs["Dataset", name]
        self.repository.declare("Dataset", name, {**spec, "title": f"Rates {self.dice.randrange(5)}"})
        return f"title of Dataset/{name}"

    def _price(self) -> str:
        rate = self.dice.randrange(20, 26)
        self.repository.declare("PricePlan", "standard", {**repository.PRICE, "rate": rate})
        return f"price {rate}"

    def _profile(self) -> str:
        register = self.dice.random() < 0.8
        self.repository.declare(
            "Identity", "desk", repository.identity(display=f"Desk {self.dice.randrange(4)}", register=register)
        )
        return "profile" if register else "profile withdrawn"

    def _terms(self) -> str:
        name = self._pick("Advertisement") or "feed"
        capability, tokens = f"rates-{self.dice.randrange(4)}", self.dice.randrange(1, 3)
        self.repository.declare("Advertisement", name, repository.advertisement(name, capability=capability, tokens=tokens))
        return f"terms of Advertisement/{name}, {tokens} topics"

    def _less(self) -> str:
        listed = sorted(key for key in self.repository.specs if key[0] in ("Dataset", "Advertisement"))
        if not listed:
            return self._more()
        kind, name = self.dice.choice(listed)
        self.repository.drop(kind, name)
        return f"without {kind}/{name}"

    def _more(self) -> str:
        name = self.dice.choice(("one", "two"))
        self.repository.declare("Dataset", name, repository.dataset(name, priced=self.dice.random() < 0.5))
        self.repository.content.setdefault(f"data/{name}.csv", b"date,rate\n2024-01-01,1.10\n")
        return f"with Dataset/{name}"

    def _hosts(self) -> str:
        overlays, casters = self.dice.choice(((1, 2), (2, 2), (2, 1)))
        self.repository.declare("Network", "local", network(overlays, casters))
        return f"{overlays} overlay hosts, {casters} broadcasters"

    # --- time and chain --------------------------------------------------------------------------------------

    def do_wait(self) -> str:
        """Some minutes in which nothing else happens."""
        return "for a while"

    def do_mine(self) -> str:
        """Blocks."""
        blocks = self.dice.randrange(1, 4)
        self.ground.world.mine(blocks)
        return f"{blocks} blocks"

    def do_reorg(self) -> str:
        """A longer branch, on which some transactions are not, and now and then nowhere else either."""
        chain = self.ground.world.chain
        depth = self.dice.randrange(1, 7)
        mine = [txid for txid, _ in self.sky.sent if chain.live(txid) is not None]
        drop = [self.dice.choice(mine)] if mine and self.dice.random() < 0.4 else []
        # What is deeper than the branch stays where it is, on that branch as well.
        if drop and (at := chain.standing(drop[0])) is not None and at.status == MINED and at.height <= chain.tip.height - depth:
            drop = []
        self.dropped = self.dropped or bool(drop)
        self.ground.world.reorg(depth, drop)
        self.happened[f"reorg of depth {depth}"] += 1
        return f"depth {depth}" + (f", {drop[0][:8]} and its children are forgotten" if drop else "")

    def do_fee(self) -> str:
        """Miners ask for more, or for what they used to."""
        rate = self.dice.choice((FEE, FEE, 3 * FEE, 10 * FEE))
        self.ground.world.chain.rate = FeeRate(rate)
        return f"{rate} satoshis per 1000 bytes"

    def do_jump(self) -> str:
        """A clock is set: that of one machine a little, or everybody's by hours."""
        if self.dice.random() < 0.4:
            hours = self.dice.choice((0.2, 1.0, 3.0))
            self.ground.world.clock.advance(hours * 3600)  # type: ignore[attr-defined]
            return f"everybody slept for {hours:g} h"
        place = self.dice.choice(sorted(self.fleet.replicas))
        ahead = self.dice.choice((-120.0, -30.0, 30.0, 120.0, 900.0))
        self.fleet.replicas[place].clock.ahead = ahead
        return f"{place} is {ahead:g} s ahead"

    def do_reject(self) -> str:
        """A broadcaster refuses the next submission, or doubts it."""
        self.provoked = True
        name = self.dice.choice(CASTERS)
        if self.dice.random() < 0.5:
            code = self.dice.choice((461, 465, 469, 409))
            self.ground.world.fail_next(name, code=code)
            return f"{name} will answer {code}"
        status = self.dice.choice((REJECTED, CONTESTED))
        self.ground.world.fail_next(name, status=status)
        return f"{name} will answer {status}"

    def do_fund(self) -> str:
        """A payment comes in."""
        place = next(iter(sorted(one.name.partition("-")[0] for one in self.fleet.living)), None)
        if place is None:
            return ""
        self.pay_in(place, 400)
        return "400 satoshis"

    def pay_in(self, place: str, satoshis: int) -> asyncio.Task[None]:
        """Pay the purse, and have a daemon's process take note."""
        coin, beef = self.ground.world.faucet(self.ground.script, satoshis)
        self.funded.add(coin)
        return self._hand_in(place, coin, beef)

    def _hand_in(self, place: str, coin: Outpoint, beef: bytes) -> asyncio.Task[None]:
        replica = self.fleet.replicas[place]
        self.unacknowledged[coin] = beef

        async def take() -> None:
            if replica.space is not None:
                try:
                    await receive(replica.space.ports, beef, read_net("local", network()))
                except ReconcilerError as error:
                    self.tell(f"the payment is not taken: {error.message}")
                    self.funded.discard(coin)
                del self.unacknowledged[coin]

        context = contextvars.Context()
        context.run(WHO.set, replica.name)
        return self.stage.create_task(take(), context=context)

    # --- weather and hosts -----------------------------------------------------------------------------------

    def do_storm(self) -> str:
        """From now on exchanges are struck."""
        self.sky.rate = self.dice.choice((0.05, 0.15, 0.4))
        return f"{self.sky.rate:.0%} of exchanges"

    def do_calm(self) -> str:
        """Good weather again."""
        self.sky.calm()
        self.ground.world.network.calm()
        return "every host is there and honest"

    def do_partition(self) -> str:
        """One place loses its way to some hosts."""
        place = self.dice.choice(PLACES)
        hosts = self.dice.sample([*OVERLAYS, *STORES, *CASTERS, "headers"], self.dice.randrange(1, 4))
        self.sky.cut |= {(place, host) for host in hosts}
        return f"{place} from {', '.join(hosts)}"

    def do_lie(self) -> str:
        """A host says what is not so."""
        lie = self.dice.choice(list(Lie))
        hosts = {Lie.HIDE: OVERLAYS, Lie.DEAF: OVERLAYS, Lie.FORGET: CASTERS, Lie.FABLE: CASTERS, Lie.ROT: STORES}[lie]
        host = self.dice.choice(hosts)
        self.sky.lies[host] = lie
        return f"{host} will {lie.value}"

    def do_outage(self) -> str:
        """A host is down, or comes back."""
        network_, host = self.ground.world.network, self.dice.choice([*OVERLAYS, *STORES, *CASTERS, "headers"])
        if f"{host}.devnet" in network_.down:
            self.ground.world.restore(host)
            return f"{host} is back"
        self.ground.world.drop(host)
        return f"{host} is down"

    def do_damage(self) -> str:
        """A host loses or spoils something of ours."""
        world = self.ground.world
        if self.dice.random() < 0.5:
            name = self.dice.choice(OVERLAYS)
            held = [at for rows in world.nodes[name].state.index.values() for at in rows]
            if not held or self.dice.random() < 0.3:
                world.wipe(name)
                return f"{name} is emptied"
            world.evict(name, self.dice.choice(held))
            return f"{name} loses a token"
        name = self.dice.choice(STORES)
        shas = sorted({item.sha256 for item in world.storage[name].state.objects.values()})
        if not shas:
            return ""
        sha = self.dice.choice(shas)
        hit = self.dice.choice((world.corrupt, world.delete))(name, sha)
        return f"{name} spoils {hit} copies of {sha[:8]}"

    # --- processes and disks ---------------------------------------------------------------------------------

    def _place(self) -> str | None:
        places = sorted(one.name.partition("-")[0] for one in self.fleet.living)
        return self.dice.choice(places) if places else None

    def do_fill_disk(self) -> str:
        """Writes find no room, or do again."""
        self.disk.full = 0.0 if self.disk.full else self.dice.choice((0.1, 0.5, 1.0))
        self.stage.call_later(60.0, self._empty_disk, context=contextvars.Context())
        return f"{self.disk.full:.0%} of writes fail"

    def _empty_disk(self) -> None:
        self.disk.full = 0.0

    def do_power(self) -> str:
        """The power will fail in one of the next commits."""
        self.disk.tear = self.dice.randrange(1, 12)
        return f"at the commit after {self.disk.tear}"

    def do_kill(self) -> str:
        """SIGKILL now."""
        place = self._place()
        if place is None:
            return ""
        self._spawn(self.fleet.kill(place))
        return place

    def do_fuse(self) -> str:
        """SIGKILL at one of the next durable steps."""
        place = self._place()
        if place is None:
            return ""
        steps = self.dice.randrange(1, 40)
        self.fleet.replicas[place].life.fuse = steps
        return f"{place} dies in {steps} steps"

    def do_freeze(self) -> str:
        """SIGSTOP for a while that may outlast a lease."""
        place = self._place()
        if place is None:
            return ""
        seconds = self.dice.choice((5.0, 45.0, 75.0, 200.0))
        name = self.fleet.replicas[place].name
        self.fleet.freeze(place)
        self.stage.call_later(seconds, self.stage.thaw, name, context=contextvars.Context())
        return f"{place} for {seconds:g} s"

    def do_drain(self) -> str:
        """SIGTERM, and a new process at once."""
        place = self._place()
        if place is None:
            return ""

        async def restart() -> None:
            await self.fleet.drain(place)
            self.fleet.start(place)

        self._spawn(restart())
        return place

    def _spawn(self, work: object) -> None:
        task = self.stage.create_task(work, context=contextvars.Context())  # type: ignore[arg-type]
        self._lagging.add(task)
        task.add_done_callback(self._lagging.discard)

    # --- the end ---------------------------------------------------------------------------------------------

    async def end_faults(self) -> None:
        """Everything that was wrong is put right, the newest revision is everywhere, and a new day begins."""
        world = self.ground.world
        for replica in self.fleet.replicas.values():
            self.stage.thaw(replica.name)
            replica.life.fuse = None
        self.sky.calm()
        self.disk.calm()
        world.network.calm()
        world.chain.rate = FeeRate(FEE)
        for caster in world.broadcasters.values():
            caster.state.provoked.clear()
        await self.sky.settle()
        while self._lagging:
            await asyncio.wait(self._lagging)
        for place in sorted(self.fleet.replicas):
            await self.fleet.kill(place, restart=False)
        # A doubt that somebody provoked is gone when the rival is; there never was one.
        doubted = [txid for txid, one in world.chain.state.standings.items() if one.status == CONTESTED and not one.competing]
        world.chain._forget(doubted)
        for txid in doubted:
            world.chain.state.standings.pop(txid, None)
        self.repository.commit()
        self.tell("all is well from here on")
        world.clock.advance(timedelta(days=1).total_seconds())  # type: ignore[attr-defined]
        await asyncio.sleep(1.0)
        self.calmed = world.clock.elapsed  # type: ignore[attr-defined]
        for place in sorted(self.fleet.replicas):
            self.repository.checkout(self.fleet.clones / place)
            self.fleet.start(place)
        await asyncio.sleep(0.5)
        first = sorted(self.fleet.replicas)[0]
        for coin, beef in list(self.unacknowledged.items()):
            await self._hand_in(first, coin, beef)
        await self.pay_in(first, 3_000)
