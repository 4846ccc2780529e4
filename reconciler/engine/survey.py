"""Everything a plan rests on, gathered once: desired, recorded, observed, and the fee each network asks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from reconciler.controller import Controller
from reconciler.engine import pause, source
from reconciler.engine.anchor import declare
from reconciler.engine.journal import has_signed
from reconciler.engine.moving import shifted
from reconciler.engine.observe import networks, observe
from reconciler.engine.owncost import own_costs
from reconciler.engine.policy import recalled
from reconciler.engine.readonly import behind
from reconciler.kinds import identity_keys
from reconciler.kinds.audit import KIND as AUDIT_KIND
from reconciler.kinds.network import read_net
from reconciler.manifest.load import Loaded, Loader
from reconciler.model.audit import AuditPolicy
from reconciler.model.canonical import Json
from reconciler.model.change import FeeRate
from reconciler.model.codec import decode
from reconciler.model.effect import CoinOutput, Draft
from reconciler.model.errors import ReconcilerError, Refused, Unavailable
from reconciler.model.intent import RunState
from reconciler.model.observation import Absent, Observation, ObservedState, Present
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
    """One look at the three states. `desired` is None while the manifests have errors. `notes` say what was not reached.

    `alarm` says why nothing may be spent, if so.
    """

    loaded: Loaded
    desired: DesiredState | None
    recorded: RecordedState
    observed: ObservedState
    rates: Mapping[str, FeeRate]
    notes: tuple[str, ...] = ()
    alarm: str = ""


@dataclass(slots=True)
class Surveyor:
    """Reads manifests, ledger and world; what one pass learned about things that did not move serves the next."""

    ports: Ports
    kinds: Mapping[str, Controller]
    environment: str = ""
    audit: AuditPolicy | None = None
    loader: Loader = field(init=False)
    memory: Memory = field(default_factory=Memory)
    declared: DesiredState | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.loader = Loader({name: kind for name, kind in self.kinds.items() if name != AUDIT_KIND})

    def load(self) -> Loaded:
        """The manifests as they stand, or every diagnostic."""
        revision = self.ports.source.current()
        loaded = self.loader.load(revision.texts, self.ports.source.facts, revision.id, self.environment)
        self.declared = loaded.desired or self.declared
        return declare(loaded, self.audit, self.ports)

    def _load_or_say_why(self) -> Loaded:
        """As `load`, for those who have something else to go on with: a source that cannot be read is a fault like any other."""
        try:
            return self.load()
        except (Refused, Unavailable) as error:
            return source.unread(error)

    def labels(self, ref: ResourceRef) -> Mapping[str, str]:
        """The labels of a resource, as the manifests last had them without a fault."""
        found = self.declared.resources.get(ref) if self.declared is not None else None
        return found.labels if found is not None else {}

    async def survey(
        self,
        *,
        desired: DesiredState | None = None,
        refresh: bool = True,
        only: Iterable[ResourceRef] | None = None,
        instead: DesiredState | None = None,
        pays: FeeRate | None = None,
        renames: bool = True,
    ) -> Survey:
        """Look at everything, or at `only` some. Without `refresh` the records are believed.

        `desired` stands in while the manifests have errors or declare nothing; `instead` is asked for whatever they say.
        `pays` is the fee rate of every transaction, where it is not to be the one that the broadcasters ask. Without `renames`
        records keep the names they have.
        """
        await self.ports.source.refresh()
        desired = instead or desired
        recorded = thawed(self.ports)
        loaded = self.load() if desired is None else source.emptied(self._load_or_say_why(), recorded)
        asked = instead or loaded.desired or desired
        recorded = shifted(recorded, asked, self.kinds) if renames else recorded
        wanted, recorded = pause.in_force(asked, recorded, self.ports.clock.now())
        wants = wanted.resources if wanted else {}
        self.ports.wallet.know(key_sources(wanted, recorded))
        rates, notes = await fee_rates(networks(wants, recorded.records), self.ports, pays)
        if refresh:
            seen = await observe(wants, recorded.records, self.kinds, self.ports, only)
        else:
            seen = await observe({r: w for r, w in wants.items() if r not in recorded.records}, {}, self.kinds, self.ports)
            seen = {**seen, **dict.fromkeys(recorded.records, BELIEVED)}
        told = alarm(self.ports)
        notes = [*([told] if told else ()), *source.notes(self.ports.source.standing()), *notes]
        return Survey(loaded, wanted, recorded, seen, rates, tuple(notes), told)

    def plan(self, survey: Survey, limits: Limits) -> Plan:
        """The difference, priced. Against a resource's own maxSpend counts what its generation has cost so far."""
        made = self._planned(survey, limits)
        own = own_costs(self.ports.ledger, made)
        return self._planned(replace(survey, recorded=replace(survey.recorded, own=own)), limits) if own else made

    def _planned(self, survey: Survey, limits: Limits) -> Plan:
        """Pure from here on."""
        desired = survey.desired or DesiredState(survey.recorded.lineage, self.environment, {})
        return plan(
            desired,
            survey.recorded,
            survey.observed,
            kinds=self.kinds,
            rates=survey.rates,
            limits=limits,
            split_fee=split_fee,
            notes=(survey.alarm,) if survey.alarm else (),
            memory=self.memory,
        )


async def fee_rates(specs: Mapping[str, Json], ports: Ports, pays: FeeRate | None = None) -> tuple[dict[str, FeeRate], list[str]]:
    """What each network's broadcasters ask, or what somebody `pays` instead: Refused when it is less than they ask.

    A rate above `fees.max` is none, as is that of a network without broadcasters, and nothing is priced.
    """

    async def one(name: str) -> tuple[str, FeeRate | None, str]:
        net = read_net(name, specs[name])
        if not net.broadcasters:
            return name, None, f"Network/{name} has no broadcasters"
        try:
            rate = await ports.chain.fee_rate(net.broadcasters)
        except ReconcilerError as error:
            return name, None, f"Network/{name}: {error.message}"
        asks = f"Network/{name} asks {rate.satoshis} sat per {rate.bytes} bytes"
        if pays is not None and pays.below(rate):
            message = f"cannot pay {pays.satoshis} sat per {pays.bytes} bytes: {asks}"
            raise Refused("fee-rate", message, hint="name a higher --fee-rate, or none, to pay what is asked")
        if net.max_rate and FeeRate(*net.max_rate).below(pays or rate):
            said = (
                f"{asks}, more than" if pays is None else f"Network/{name}: {pays.satoshis} sat per {pays.bytes} bytes are above"
            )
            return name, None, f"{said} fees.max"
        return name, pays or rate, ""

    answers = await asyncio.gather(*(one(name) for name in sorted(specs)))
    return {name: rate for name, rate, _ in answers if rate}, [note for _, _, note in answers if note]


def key_sources(desired: DesiredState | None, recorded: RecordedState) -> dict[str, Mapping[str, Json]]:
    """Where the key of every Identity lives, as declared, or as recorded when it no longer is."""
    found: dict[str, Mapping[str, Json]] = {}
    outputs = {ref.name: record.outputs for ref, record in recorded.records.items() if ref.kind == "Identity"}
    specs = {ref.name: record.body["spec"] for ref, record in recorded.records.items() if ref.kind == "Identity"}
    if desired is not None:
        specs |= {ref.name: want.spec for ref, want in desired.resources.items() if ref.kind == "Identity"}
    for name, spec in specs.items():
        found |= identity_keys.ring(name, spec, outputs.get(name) or {}).sources
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
            # Requirements that only ordered the work are no part of the body, and no record says which they were.
            requires=frozenset(map(ResourceRef.parse, record.body["using"])),
            lifecycle=recalled(record),
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


def steady(observed: ObservedState) -> ObservedState:
    """Observations without how long they took: the same world must give the same plan id twice."""
    return {ref: _steady(one) for ref, one in observed.items()}


def _steady(seen: Observation) -> Observation:
    copies = getattr(seen, "attributes", {}).get("replicas")
    if not copies or not isinstance(seen, Present | Absent):
        return seen
    timeless = {
        host: {sha256: {k: v for k, v in state.items() if k != "ms"} for sha256, state in held.items()}
        for host, held in copies.items()
    }
    return replace(seen, attributes={**seen.attributes, "replicas": timeless})


def alarm(ports: Ports) -> str:
    """Why nothing may be spent, and the ways out; empty while all is well."""
    with ports.ledger.view() as view:
        found = behind(view)
    return f"READ ONLY: {found.message}. Nothing is spent: {found.hint}" if found else ""


def midnight(now: datetime) -> datetime:
    """The start of the UTC day, from which daily budgets count."""
    return now.replace(hour=0, minute=0, second=0, microsecond=0)
