"""What the world showed. Unknown is not Absent: nothing is destroyed, created or paid on doubt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.model.canonical import Json
from reconciler.model.ref import ResourceRef


@dataclass(frozen=True, slots=True)
class Present:
    """The thing was seen. `attributes` hold what a controller's `diff` compares, and nothing that is secret."""

    attributes: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Absent:
    """The thing is proven gone: spent on the chain, never mined, or denied by a quorum of hosts.

    `attributes` tell what is left of it, so that making it again spends nothing twice.
    """

    why: str = ""
    attributes: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unknown:
    """The world did not answer well enough to act on."""

    reason: str


Observation = Present | Absent | Unknown
ObservedState = Mapping[ResourceRef, Observation]
