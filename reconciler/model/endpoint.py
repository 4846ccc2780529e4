"""A service in the world, by name and address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.model.canonical import Json


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A named service in the world. `secret` says where its credential is ({"env": ...}), never what it is; `options` are the
    terms of its kind that an adapter needs to speak with it.
    """

    name: str
    url: str
    region: str = ""
    kind: str = ""
    secret: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Json] = field(default_factory=dict, metadata={"sparse": True})
