"""What the local kinds share: kinds whose record is their whole effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reconciler.controller import Outputs, Steps
from reconciler.model.canonical import Json
from reconciler.model.change import Change, Cost, FieldDelta
from reconciler.model.observation import Absent, Observation, Present
from reconciler.model.record import Record
from reconciler.model.resource import Resource

if TYPE_CHECKING:
    from reconciler.ports import Reads


class LocalController:
    """A kind that touches nothing outside: free, never drifting, exporting its own spec before apply."""

    kind = ""
    stage = 0
    immutable: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()

    def references(self, spec: Mapping[str, Json]) -> Sequence[tuple[str, str, str]]:
        """A local resource stands on its own."""
        return ()

    def content(self, spec: Mapping[str, Json]) -> Sequence[str]:
        """No files."""
        return ()

    def check(self, want: Resource) -> Sequence[tuple[str, str] | tuple[str, str, str]]:
        """Nothing beyond the schema."""
        return ()

    def exports(self, body: Mapping[str, Json], outputs: Outputs | None) -> Mapping[str, Json] | None:
        """The spec itself, known before apply."""
        return dict(body["spec"])

    def diff(self, body: Mapping[str, Json], was: Record, seen: Present) -> Sequence[FieldDelta]:
        """A record cannot drift from itself."""
        return ()

    def estimate(self, change: Change) -> tuple[Cost, tuple[int, ...]]:
        """Free; what embeds this spec pays for its own new document."""
        return Cost(), ()

    async def observe(self, want: Resource | None, was: Record | None, reads: Reads) -> Observation:
        """Present when recorded: the record is the thing."""
        return Present() if was is not None else Absent("not recorded")

    def apply(self, change: Change) -> Steps[Outputs]:
        """Nothing to do in the world."""
        yield from ()
        return {}

    def delete(self, change: Change) -> Steps[None]:
        """Nothing to undo in the world."""
        yield from ()
