"""A plan: every change, in order, with its price, addressed by its own content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

from reconciler.model.canonical import canonical
from reconciler.model.change import Change, Cost, FeeRate, Verb
from reconciler.model.codec import encode
from reconciler.model.ref import ResourceRef
from reconciler.model.status import Status

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Funding:
    """One transaction that splits coins so that every paying change has a coin of its own.

    `outputs` are the satoshis of the new coins; `inputs` how many of the largest coins it merges first. A coin it makes may
    be what a later split of the same plan spends.
    """

    chain: str
    outputs: tuple[int, ...]
    inputs: int
    rate: FeeRate
    cost: Cost


@dataclass(frozen=True, slots=True)
class GuardResult:
    """One guard's verdict over the whole plan. `name` is what `--approve` takes."""

    name: str
    ok: bool
    message: str


def _named(change: Change) -> bytes:
    """What a change adds to the name of its plan: canonical JSON, of a change that does nothing only what it has to say.

    Most do nothing, and the planner hands the same ones from plan to plan, so theirs is kept.
    """
    try:
        return change.brief
    except AttributeError:
        pass
    if change != Change(change.ref, change.verb, change.reason, change.generation, detail=change.detail):
        return canonical(encode(_lasting(change)))
    said = [str(change.ref), change.verb.value, change.reason.value, change.generation, change.detail]
    object.__setattr__(change, "brief", canonical(said))
    return change.brief


def _lasting(change: Change) -> Change:
    """The change without the status of its record."""
    return change if change.before is None else replace(change, before=replace(change.before, status=Status()))


@dataclass(frozen=True, slots=True)
class Plan:
    """The difference between three states. `after` maps a resource to those that must be done before it."""

    lineage: str
    serial: int
    revision: str
    environment: str
    changes: tuple[Change, ...]
    after: Mapping[ResourceRef, frozenset[ResourceRef]] = field(default_factory=dict)
    funding: tuple[Funding, ...] = ()
    guards: tuple[GuardResult, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything in the plan but what was last noted of the records it starts from: a plan that waits
        to be agreed to stays the same plan while blocks are counted and copies are probed.
        """
        told = b",".join(map(_named, self.changes))
        return sha256(b"[%b,[%b]]" % (canonical(encode(replace(self, changes=()))), told)).hexdigest()

    @property
    def id(self) -> str:
        """`pl_` and the first 10 hex digits of the digest."""
        return "pl_" + self.digest[:10]

    @property
    def acting(self) -> tuple[Change, ...]:
        """The changes that do something and are not blocked, in execution order."""
        return tuple(c for c in self.changes if c.verb.acts and c.blocked is None)

    @property
    def empty(self) -> bool:
        """True when nothing is to be done, nothing is blocked, and nothing was in doubt."""
        return all(c.verb is Verb.NONE and c.blocked is None for c in self.changes)

    @property
    def splits(self) -> tuple[tuple[str, Funding], ...]:
        """Every split with the id of its run, in the order they are made."""
        own, met, found = self.id if self.funding else "", Counter[str](), []
        for funding in self.funding:
            met[funding.chain] += 1
            number = f"_{met[funding.chain]}" if met[funding.chain] > 1 else ""
            found.append((f"run_{own}_{funding.chain}{number}", funding))
        return tuple(found)

    @property
    def cost(self) -> Cost:
        """The price of all acting changes, funding included."""
        return sum((c.cost for c in self.acting), Cost()) + sum((f.cost for f in self.funding), Cost())

    @property
    def refusals(self) -> tuple[GuardResult, ...]:
        """The guards that said no."""
        return tuple(g for g in self.guards if not g.ok)
