"""The inward interface: what a kind is, and the verbs with which it asks for effects.

A controller decides and performs nothing. `apply` and `delete` are generators: each `yield` hands an
effect to the engine and receives its journaled result. After a crash the same generator runs again
against the journal, so it must be deterministic: no clock, no randomness, no reading of the world.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from reconciler.model.canonical import Json

if TYPE_CHECKING:
    from reconciler.model.change import Change, Cost, FieldDelta
    from reconciler.model.effect import Effect
    from reconciler.model.observation import Observation, Present
    from reconciler.model.record import Record
    from reconciler.model.resource import Resource
    from reconciler.ports import Reads

T = TypeVar("T")
Outputs = Mapping[str, Json]
Steps = Generator["Effect", Mapping[str, Json], T]


class Controller(Protocol):
    """One kind. Siblings have the same shape; a kind that touches nothing yields nothing.

    `stage` breaks ties between independent resources. `immutable` are dotted body paths whose change means
    replacing the thing. `lasting` are exports that an update leaves as they are.
    """

    kind: str
    stage: int
    immutable: tuple[str, ...]
    lasting: tuple[str, ...]

    def references(self, spec: Mapping[str, Json]) -> Sequence[tuple[str, str, str]]:
        """Every other resource the spec names, as (pointer below spec, kind, name)."""
        ...

    def content(self, spec: Mapping[str, Json]) -> Sequence[str]:
        """Glob patterns, relative to the source root, of the files whose bytes are part of the resource."""
        ...

    def check(self, want: Resource) -> Sequence[tuple[str, str] | tuple[str, str, str]]:
        """Every fault the schema cannot express, as (pointer below spec, message) or with a hint as the third. Pure."""
        ...

    def exports(self, body: Mapping[str, Json], outputs: Outputs | None) -> Mapping[str, Json] | None:
        """What dependents may build on; None while that is only known after apply (`outputs` is None before it)."""
        ...

    def diff(self, body: Mapping[str, Json], was: Record, seen: Present) -> Sequence[FieldDelta]:
        """How the world left the record (cause DRIFT). Spec differences are the planner's own work. Pure.

        Also, at path `name`, that what was published tells another name than the record has by now: it is then published again.
        """
        ...

    def estimate(self, change: Change) -> tuple[Cost, tuple[int, ...]]:
        """The exact price, and per paying transaction the satoshis its one coin must hold. Pure.

        Refused when the world the change names can never satisfy it, such as more replicas than hosts.
        """
        ...

    async def observe(self, want: Resource | None, was: Record | None, reads: Reads) -> Observation:
        """Look at the world; reads only. A host's silence is Unknown, never Absent."""
        ...

    def apply(self, change: Change) -> Steps[Outputs]:
        """Create, update, replace or repair; returns the record's outputs."""
        ...

    def delete(self, change: Change) -> Steps[None]:
        """Retire what `change.before` recorded."""
        ...


def ask(effect: Effect) -> Steps[Mapping[str, Any]]:
    """Yield one effect and return its journaled result, typed: the verb every step is written with."""
    result = yield effect
    return result
