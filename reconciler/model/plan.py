"""A plan: every change, in order, with its price, addressed by its own content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from reconciler.model.canonical import Json, digest
from reconciler.model.change import Change, Cost, FeeRate, Verb
from reconciler.model.codec import encode
from reconciler.model.ref import ResourceRef

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Funding:
    """One transaction that splits coins so that every paying change has a coin of its own.

    `outputs` are the satoshis of the new coins; `inputs` how many of the largest coins it merges first.
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


def _brief(change: Change) -> list[Json] | None:
    """All there is to say of a change that does nothing, and most do nothing: a tenth of the work of saying it in full."""
    if change != Change(change.ref, change.verb, change.reason, change.generation, detail=change.detail):
        return None
    return [str(change.ref), change.verb.value, change.reason.value, change.generation, change.detail]


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
    def id(self) -> str:
        """`pl_` and the first 10 hex digits of the digest of everything in the plan."""
        told = [_brief(change) or encode(change) for change in self.changes]
        return "pl_" + digest([encode(replace(self, changes=())), told])[:10]

    @property
    def acting(self) -> tuple[Change, ...]:
        """The changes that do something and are not blocked, in execution order."""
        return tuple(c for c in self.changes if c.verb.acts and c.blocked is None)

    @property
    def empty(self) -> bool:
        """True when nothing is to be done, nothing is blocked, and nothing was in doubt."""
        return all(c.verb is Verb.NONE and c.blocked is None for c in self.changes)

    @property
    def cost(self) -> Cost:
        """The price of all acting changes, funding included."""
        return sum((c.cost for c in self.acting), Cost()) + sum((f.cost for f in self.funding), Cost())

    @property
    def refusals(self) -> tuple[GuardResult, ...]:
        """The guards that said no."""
        return tuple(g for g in self.guards if not g.ok)
