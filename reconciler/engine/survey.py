"""Everything a plan rests on, gathered once: desired, recorded, observed, and the fee each network asks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from reconciler.controller import Controller
from reconciler.engine.journal import has_signed
from reconciler.engine.observe import networks, observe
from reconciler.kinds.network import read_net
from reconciler.manifest.load import Loaded, Loader
from reconciler.model.canonical import Json
from reconciler.model.change import FeeRate
from reconciler.model.codec import decode
from reconciler.model.effect import CoinOutput, Draft
from reconciler.model.errors import ReconcilerError
from reconciler.model.intent import RunState
from reconciler.model.observation import ObservedState, Present
from reconciler.model.plan import Plan
from reconciler.model.record import RecordedState
from reconciler.model.ref import Position, ResourceRef
from reconciler.model.resource import DesiredState, FileFact, Resource
from reconciler.planner.guard import Limits
from reconciler.planner.plan import plan
from reconciler.planner.walk import Memory
from reconciler.ports import Ports
from reconciler.wire import draft as drafting

# What is said of a record that is believed without looking.
BELIEVED = Present()


@dataclass(frozen=True, slots=True, repr=False)  # as text it is as large as the repository
class Survey:
    """One look at the three states. `desired` is None while the manifests have errors. `notes` say what was not reached."""

    loaded: Loaded
    desired: DesiredState | None
    recorded: RecordedState
    observed: ObservedState
    rates: Mapping[str, FeeRate]
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Surveyor:
    """Reads manifests, ledger and world; what one pass learned about things that did not move serves the next."""

    ports: Ports
    kinds: Mapping[str, Controller]
    environment: str = ""
    loader: Loader = field(init=False)
    memory: Memory = field(default_factory=Memory)

    def __post_init__(self) -> None:
        self.loader = Loader(self.kinds)

    def load(self) -> Loaded:
        """The manifests as they stand, or every diagnostic."""
        revision = self.ports.source.current()
        return self.loader.load(revision.texts, self.ports.source.facts, revision.id, self.environment)

    async def survey(
        self,
        *,
        desired: DesiredState | None = None,
        refresh: bool = True,
        only: Iterable[ResourceRef] | None = None,
    ) -> Survey:
        """Look at everything, or at `only` some. Without `refresh` the records are believed.

        `desired` stands in while the manifests have errors.
        """
        loaded = self.load()
        wanted = loaded.desired or desired
        recorded = thawed(self.ports)
        wants = wanted.resources if wanted else {}
        self.ports.wallet.know(key_sources(wanted, recorded))
        rates, notes = await fee_rates(networks(wants, recorded.records), self.ports)
        if refresh:
            seen = await observe(wants, recorded.records, self.kinds, self.ports, only)
        else:
            seen = await observe({r: w for r, w in wants.items() if r not in recorded.records}, {}, self.kinds, self.ports)
            seen = {**seen, **dict.fromkeys(recorded.records, BELIEVED)}
        return Survey(loaded, wanted, recorded, seen, rates, tuple(notes))

    def plan(self, survey: Survey, limits: Limits) -> Plan:
        """The difference, priced. Pure from here on."""
        desired = survey.desired or DesiredState(survey.recorded.lineage, self.environment, {})
        return plan(
            desired,
            survey.recorded,
            survey.observed,
            kinds=self.kinds,
            rates=survey.rates,
            limits=limits,
            split_fee=split_fee,
            memory=self.memory,
        )


async def fee_rates(specs: Mapping[str, Json], ports: Ports) -> tuple[dict[str, FeeRate], list[str]]:
    """What each network's broadcasters ask, refused above `fees.max`; a silent network has no rate and nothing is priced."""

    async def one(name: str) -> tuple[str, FeeRate | None, str]:
        net = read_net(name, specs[name])
        if not net.broadcasters:
            return name, None, f"Network/{name} has no broadcasters"
        try:
            rate = await ports.chain.fee_rate(net.broadcasters)
        except ReconcilerError as error:
            return name, None, f"Network/{name}: {error.message}"
        if net.max_rate and rate.satoshis * net.max_rate[1] > net.max_rate[0] * rate.bytes:
            return name, None, f"Network/{name} asks {rate.satoshis} sat per {rate.bytes} bytes, more than fees.max"
        return name, rate, ""

    answers = await asyncio.gather(*(one(name) for name in sorted(specs)))
    return {name: rate for name, rate, _ in answers if rate}, [note for _, _, note in answers if note]


def key_sources(desired: DesiredState | None, recorded: RecordedState) -> dict[str, Mapping[str, Json]]:
    """Where the key of every Identity lives, as declared, or as recorded when it no longer is."""
    found = {ref.name: record.body["spec"]["key"] for ref, record in recorded.records.items() if ref.kind == "Identity"}
    if desired is not None:
        found |= {ref.name: want.spec["key"] for ref, want in desired.resources.items() if ref.kind == "Identity"}
    return found


def split_fee(inputs: int, outputs: int, rate: FeeRate) -> int:
    """The fee of a funding split: so many coins in, so many out, and change."""
    return drafting.price(Draft("", (CoinOutput(1),) * outputs, (), rate, inputs), ()).fee


def believed(recorded: RecordedState, environment: str) -> DesiredState:
    """The manifests as the ledger remembers them: what stays desired while the source cannot be read."""
    resources = {
        ref: Resource(
            ref=ref,
            spec=record.body["spec"],
            at=record.at or Position("ledger", 1, 1),
            # Requirements that only ordered the work are no part of the body, and belief has no lifecycle to say which.
            requires=frozenset(map(ResourceRef.parse, record.body["using"])),
            files=tuple(decode(FileFact, fact) for fact in record.body["files"]),
        )
        for ref, record in recorded.records.items()
        if not record.retiring
    }
    return DesiredState(f"ledger@{recorded.serial}", environment, resources)


def thawed(ports: Ports) -> RecordedState:
    """The records, frozen only where money may be in flight.

    A run that has signed nothing has only made copies: it goes on when the plan still asks for the same, and else gives way.
    """
    recorded = ports.ledger.read(midnight(ports.clock.now()))
    if not recorded.frozen:
        return recorded
    with ports.ledger.begin() as tx:
        signed = {run.key for run in tx.runs(state=RunState.OPEN) if has_signed(tx, run.id)}
    return replace(recorded, frozen=frozenset(ref for ref in recorded.frozen if f"ref/{ref}" in signed))


def midnight(now: datetime) -> datetime:
    """The start of the UTC day, from which daily budgets count."""
    return now.replace(hour=0, minute=0, second=0, microsecond=0)
