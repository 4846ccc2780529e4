"""The door of those who buy: requests that may cost something, and downloads that may be cut off. Part of the ports.

As the other network doors it raises Unavailable when nothing was learned, Uncertain when money left and no answer came,
RemoteProtocolError on nonsense, GuardRefused when the price or a budget is above what may be paid, Refused on a final no.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from reconciler.model.canonical import Json

# Told of a download: bytes that are there, bytes in all.
Progress = Callable[[int, int], None]


def unwatched(done: int, size: int) -> None:
    """Nobody looks on."""


@dataclass(frozen=True, slots=True)
class Asking:
    """One request in the buyer's name.

    `peer` is the key (hex33) that the host must prove, "" where any will do; `purchase` is the id that a payment is booked
    under, and `chain` where it is paid.
    """

    method: str
    url: str
    body: Json = None
    peer: str = ""
    purchase: str = ""
    chain: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `peer` is who signed it, hex33, "" when nobody did; `paid` are the satoshis that it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    peer: str = ""
    paid: int = 0


class Web(Protocol):
    """Requests to producers, as one identity."""

    async def ask(self, asking: Asking, most: int = 0, *, plain: bool = False) -> Reply:
        """The answer, whatever its status but 401, 402 and 3xx (Refused); at most `most` satoshis are paid for it.

        A request that is repeated because its answer was lost carries the same payment. `plain` introduces nobody.
        """
        ...

    async def download(
        self, urls: Sequence[str], sha256: str, size: int, place: Path, told: Progress = unwatched
    ) -> tuple[str, Mapping[str, str]]:
        """Bring bytes to `place` from the first address that has them, going on where another stopped; whose it was.

        The second value says of each address that was passed over why. `place` is there only once its SHA-256 is right.
        Refused when every address said no, or sent something else; Unavailable when one might have them later.
        """
        ...

    async def pace(self, url: str) -> int | None:
        """Milliseconds that one small question took; None when it was not answered."""
        ...

    async def knows(self, url: str) -> str:
        """The key (hex33) that a host proves, without asking for anything; "" where it proves none."""
        ...

    def who(self) -> str:
        """The key that asks, hex33; Refused("no-key") while there is none."""
        ...

    def script_to(self, payee: bytes, prefix: str, suffix: str) -> bytes:
        """What an output by which we pay that key is locked with (BRC-29); nobody but the two can tell."""
        ...
