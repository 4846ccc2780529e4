"""A small world to plan in: four kinds that price honestly, and three states that a test fills by hand."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.change import Cause, Change, Cost, FeeRate, FieldDelta, Verb
from reconciler.model.observation import Absent, Observation, Present
from reconciler.model.plan import Plan
from reconciler.model.record import Purse, Record, RecordedState
from reconciler.model.ref import Position, ResourceRef
from reconciler.model.resource import DesiredState, Lifecycle, Resource
from reconciler.planner.guard import Limits
from reconciler.planner.plan import plan
from reconciler.planner.resolve import settle

RATE = FeeRate(100)
# Bytes of a transaction that makes, moves or spends one token, and of one more coin in or out.
TOKEN_SIZE, INPUT_SIZE, OUTPUT_SIZE = 400, 148, 34


def split_fee(inputs: int, outputs: int, rate: FeeRate) -> int:
    return rate.fee(10 + INPUT_SIZE * inputs + OUTPUT_SIZE * (outputs + 1))


class Kind:
    """A kind whose price depends only on the verb, and whose world is a list of hosts."""

    immutable: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()
    pays = True

    def __init__(self, kind: str, stage: int) -> None:
        self.kind, self.stage = kind, stage

    def references(self, spec: Mapping[str, Any]) -> list[tuple[str, str, str]]:
        return [(f"/{k}", k.removesuffix("Ref").capitalize(), v) for k, v in spec.items() if k.endswith("Ref")]

    def exports(self, body: Mapping[str, Any], outputs: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        return None if outputs is None else {"outpoint": outputs["outpoint"]}

    def diff(self, body: Mapping[str, Any], was: Record, seen: Present) -> list[FieldDelta]:
        before, after = was.outputs.get("hosts", []), seen.attributes.get("hosts", [])
        lost = [host for host in before if host not in after]
        burnt = seen.attributes.get("burnt", False)
        return [FieldDelta(f"hosts.{host}", "present", "missing", Cause.DRIFT, replaces=burnt) for host in lost]

    def estimate(self, change: Change) -> tuple[Cost, tuple[int, ...]]:
        if change.verb is Verb.REPAIR or not self.pays:
            return Cost(), ()
        assert change.rate is not None
        fee = change.rate.fee(TOKEN_SIZE)
        if change.verb is Verb.DELETE:
            return Cost(1, fee, locked=-1), (fee,)
        stored = change.body["spec"].get("storage", 0)
        locked = 1 if change.verb is Verb.CREATE else 0
        return Cost(1, fee, stored, locked, uploaded=sum(f["size"] for f in change.body["files"])), (fee + locked + 1,)


class Identity(Kind):
    immutable = ("spec.key",)
    lasting = ("publicKey",)

    def exports(self, body: Mapping[str, Any], outputs: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        return None if outputs is None else {"publicKey": outputs["publicKey"]}


class Network(Kind):
    pays = False

    def exports(self, body: Mapping[str, Any], outputs: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        return body["spec"]


class Advertisement(Kind):
    immutable = ("spec.domain",)


KINDS = {
    "Identity": Identity("Identity", 0),
    "Network": Network("Network", 1),
    "Dataset": Kind("Dataset", 4),
    "Advertisement": Advertisement("Advertisement", 8),
}


class World:
    """Three states under construction. Names are written `Kind/name`."""

    def __init__(self) -> None:
        self.kinds: dict[str, Any] = dict(KINDS)
        self.rates = {"net": RATE}
        self.desired: dict[ResourceRef, Resource] = {}
        self.records: dict[ResourceRef, Record] = {}
        self.observed: dict[ResourceRef, Observation] = {}
        self.coins: tuple[int, ...] = (1_000_000,) * 8
        self.attempts: dict[ResourceRef, int] = {}
        self.frozen: frozenset[ResourceRef] = frozenset()
        self.spent_today = 0
        self.own: dict[ResourceRef, dict[int, int]] = {}

    def declare(
        self, name: str, spec: Mapping[str, Any] | None = None, *requires: str, lifecycle: Lifecycle | None = None, **more: Any
    ) -> ResourceRef:
        ref = ResourceRef.parse(name)
        needed = frozenset(map(ResourceRef.parse, requires))
        at = Position("feed.yaml", 10 + len(self.desired), 1)
        self.desired[ref] = Resource(ref, spec or {}, at, needed, lifecycle or Lifecycle(), **more)
        return ref

    def undeclare(self, name: str) -> ResourceRef:
        ref = ResourceRef.parse(name)
        del self.desired[ref]
        return ref

    def change(self, name: str, **more: Any) -> None:
        ref = ResourceRef.parse(name)
        self.desired[ref] = replace(self.desired[ref], **more)

    def record(self, name: str, **more: Any) -> Record:
        ref = ResourceRef.parse(name)
        self.records[ref] = replace(self.records[ref], **more)
        return self.records[ref]

    def see(self, name: str, observation: Observation) -> None:
        self.observed[ResourceRef.parse(name)] = observation

    def recorded(self) -> RecordedState:
        purses = {"devnet": Purse(tuple(sorted(self.coins, reverse=True)))}
        return RecordedState("lin", 7, self.records, self.attempts, self.frozen, purses, self.spent_today, own=self.own)

    def seen(self) -> dict[ResourceRef, Observation]:
        """What was set by hand; else the world is as recorded, and what is not recorded is not there."""
        everywhere = {ref: Present({"hosts": record.outputs.get("hosts", [])}) for ref, record in self.records.items()}
        nowhere: dict[ResourceRef, Observation] = {ref: Absent("no such token") for ref in self.desired}
        return {**nowhere, **everywhere, **self.observed}

    def plan(self, *, notes: tuple[str, ...] = (), **limits: Any) -> Plan:
        desired = DesiredState("main@9f2c1ab", "prod", self.desired)
        return plan(
            desired,
            self.recorded(),
            self.seen(),
            kinds=self.kinds,
            rates=self.rates,
            limits=Limits(**limits),
            split_fee=split_fee,
            notes=notes,
        )

    def apply(self, made: Plan) -> None:
        """Carry a plan out on the records alone: every acting change succeeds."""
        for change in made.acting:
            if change.verb in (Verb.DELETE, Verb.FORGET):
                del self.records[change.ref]
            else:
                self._settle(change)
            self.observed.pop(change.ref, None)

    def _settle(self, change: Change) -> None:
        exports = {str(ref): self.kinds[ref.kind].exports(record.body, record.outputs) for ref, record in self.records.items()}
        body = settle(change.body, exports)
        outputs: dict[str, Any] = {"hosts": ["one", "two"], "publicKey": "02" * 33}
        kept = change.verb is Verb.REPAIR and change.before is not None
        outputs["outpoint"] = change.before.outputs["outpoint"] if kept else f"{change.generation:064x}.0"
        requires = tuple(sorted(change.after.requires)) if change.after else ()
        self.records[change.ref] = Record(change.ref, "uid", change.generation, body, outputs, requires)


@pytest.fixture
def world() -> World:
    """Empty."""
    return World()


@pytest.fixture
def market(world: World) -> World:
    """An identity on a network, two datasets, and an advertisement of the first; applied and in sync."""
    world.declare("Network/net", {"chain": "devnet", "hosts": [{"name": "one"}, {"name": "two"}]})
    world.declare("Identity/main", {"networkRef": "net", "title": "Ada"}, "Network/net")
    for name in ("btc", "eth"):
        spec = {"identityRef": "main", "networkRef": "net", "title": name}
        world.declare(f"Dataset/{name}", spec, "Identity/main", "Network/net")
    spec = {"datasetRef": "btc", "networkRef": "net", "domain": "old.example"}
    world.declare("Advertisement/btc", spec, "Dataset/btc", "Network/net")
    world.apply(world.plan())
    return world


def only(made: Plan, name: str) -> Change:
    """The change of one resource in a plan."""
    return next(change for change in made.changes if str(change.ref) == name)


@pytest.fixture
def pick() -> Any:
    """`pick(plan, "Kind/name")` is that resource's change."""
    return only
