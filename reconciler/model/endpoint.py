"""A service in the world, by name and address, and where others like it are learnt of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.model.canonical import Json


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A named service in the world. `secret` says where its credential is ({"env": ...}), never what it is; `options` are the
    terms of its kind that an adapter needs to speak with it. `stranger` marks one that nobody declared: it was found, in an
    answer or in a token, and may be reached on the public internet only.
    """

    name: str
    url: str
    region: str = ""
    kind: str = ""
    secret: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Json] = field(default_factory=dict, metadata={"sparse": True})
    stranger: bool = field(default=False, metadata={"sparse": True})


@dataclass(frozen=True, slots=True)
class Directory:
    """Whom to ask who serves a topic or a lookup service: SLAP trackers by URL, none where only declared hosts are used.

    `declared` are the overlay hosts that the Network names, `fixed` the hosts it names for a lookup service: those alone are
    asked for that service. What strangers show is held against `headers`; who serves what is remembered for `ttl` seconds.
    """

    chain: str
    headers: Endpoint
    trackers: tuple[str, ...] = ()
    declared: tuple[Endpoint, ...] = ()
    fixed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ttl: int = 300
