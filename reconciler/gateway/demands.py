"""Which certificates (BRC-52) a door wants, of whom, and for what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.types import Scope

from reconciler.model.canonical import Json
from reconciler.wire import auth

# Judges the certificates a peer shows; RemoteProtocolError when they are not what was asked for.
Judge = Callable[[bytes, Sequence[Json]], None]


class Demands(Protocol):
    """Which certificates are wanted, of whom, and what counts."""

    def asked(self) -> auth.Asked:
        """What an answer to a handshake asks for."""
        ...

    async def judge(self, peer: bytes, certificates: Sequence[Json]) -> Sequence[Any]:
        """Those that hold; RemoteProtocolError where the peer is to be told that they do not."""
        ...

    def lacking(self, scope: Scope, body: bytes, shown: Sequence[Any]) -> str:
        """Why a request may not go on with what its asker showed; empty where it may."""
        ...


@dataclass(frozen=True, slots=True)
class FromAll:
    """The same of everybody, for everything; nothing where `wanted` is empty."""

    wanted: auth.Asked = field(default_factory=auth.Asked)
    by: Judge | None = None

    def asked(self) -> auth.Asked:
        """What is wanted."""
        return self.wanted

    async def judge(self, peer: bytes, certificates: Sequence[Json]) -> Sequence[Any]:
        """Those that `by` has nothing against."""
        if self.by is None:
            return ()
        self.by(peer, certificates)
        return tuple(certificates)

    def lacking(self, scope: Scope, body: bytes, shown: Sequence[Any]) -> str:
        """Nothing else is let through."""
        return "" if shown or not self.wanted else "certificates were asked for"
