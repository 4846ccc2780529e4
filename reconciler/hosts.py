"""The doors to hosts of content, and to hosts nobody declared: what is kept and found there. ports.py hands them on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from reconciler.model.canonical import Json
from reconciler.model.endpoint import Directory, Endpoint
from reconciler.model.ref import Outpoint


@dataclass(frozen=True, slots=True)
class Hosted:
    """A blob on a storage host: UHRP URL, download URL, expiry in unix seconds, satoshis paid for it just now."""

    url: str
    location: str
    expires: int
    paid: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """One answer of a lookup: the transaction with its ancestry, and which output."""

    outpoint: Outpoint
    beef: bytes
    context: bytes = b""


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of a blob, from `start` up to `stop`, and their SHA-256 in hex."""

    start: int
    stop: int
    sha256: str


class Storage(Protocol):
    """Storage hosts, each by name (protocols.md section 10.4)."""

    async def quote(self, host: Endpoint, size: int, retention: int) -> int: ...
    async def put(self, host: Endpoint, sha256: str, path: Path, media_type: str, retention: int, max_payment: int) -> Hosted:
        """Store a file's bytes in constant memory. A kind of host that takes parts is not sent those again that it has."""
        ...

    async def find(self, host: Endpoint, sha256: str) -> Hosted | None: ...
    async def check(self, host: Endpoint, sha256: str, part: Part | None = None) -> Mapping[str, Json]:
        """Read it back, or a part of it, and hash: {"state": "ok" | "missing" | "corrupt", "ms": int, "expires": int}."""
        ...

    async def read(self, host: Endpoint, sha256: str) -> bytes | None:
        """A small blob, verified by its hash; None when the host does not have it, or has other bytes."""
        ...

    async def fetch(self, host: Endpoint, sha256: str, place: Path) -> bool:
        """A blob of any size into a file, in constant memory, going on where an earlier attempt stopped; verified by its hash.

        False, and no file, when the host does not have it, or has other bytes.
        """
        ...

    async def downloads(self, host: Endpoint, sha256: str) -> int | None:
        """How often others have read it there since the host has it; None where the host does not count."""
        ...

    async def renew(self, host: Endpoint, sha256: str, minutes: int, max_payment: int) -> Hosted:
        """Keep it for `minutes` more. Uncertain when the request left and no answer came: find, do not pay again."""
        ...

    async def release(self, host: Endpoint, sha256: str) -> None: ...


class Outputs(Protocol):
    """The index of a header source that has one; Unavailable("no-coin-index") elsewhere. Part of the Chain port."""

    async def unspent(self, script: bytes, source: Endpoint) -> Sequence[tuple[Outpoint, int]]:
        """Every output that pays the script and that nothing spends, with its satoshis."""
        ...

    async def beef(self, txid: str, source: Endpoint) -> bytes:
        """A transaction with its ancestry (BRC-62), as the source has it: whoever asks verifies it."""
        ...


class Probes(Protocol):
    """Looks at storage hosts on behalf of one pass."""

    async def pace(self, host: Endpoint) -> int | None:
        """Milliseconds of one small question, measured once a pass; None when it was not answered."""
        ...

    async def look(self, host: Endpoint, sha256: str, size: int, sample: int | None) -> Mapping[str, Json]:
        """As Storage.check, on `sample` bytes from somewhere, or on all of them."""
        ...


class Discovery(Protocol):
    """Hosts that nobody declared, found by their SLAP and SHIP tokens (BRC-88). Nothing is believed without its proof.

    Declared hosts are always among the answers. Unavailable where nothing was learned: "hosts-backing-off" with `retry_at`
    while every host is given a rest, "hosts-silent" when none of those asked answered, "no-hosts" when nobody serves it.
    """

    async def discover(self, directory: Directory, service: str) -> Sequence[Endpoint]:
        """The hosts that answer a lookup service, those first that answer soonest."""
        ...

    async def find(self, directory: Directory, service: str, query: Json) -> Sequence[Found]:
        """What the hosts of the service answer together, each output once and each with a proof that holds.

        Tokens of ls_ship, ls_slap, ls_uhrp and ls_producer are signed by the identity they name; what another service
        returns is proven to exist, and what it means is the caller's to judge. The first answer that holds anything ends
        the wait for the others soon after.
        """
        ...

    async def interested(self, directory: Directory, topics: Sequence[str]) -> Sequence[tuple[Endpoint, tuple[str, ...]]]:
        """The hosts that were not declared and advertise some of these topics, each with those it advertises."""
        ...

    async def close(self) -> None:
        """End what is still being asked behind answers that were handed out."""
        ...
