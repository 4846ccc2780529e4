"""The nouns of a sale: what is on sale, for how much, who paid, and what that entitles to. Money is in satoshis.

A sale is about an edition: one version of one dataset, which never changes. `content` is the name of the dataset, `consumer` the
buyer's identity key (hex of 33 bytes), `producer` the seller's resource (`Identity/name`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from reconciler.model.canonical import Json


class PaymentState(StrEnum):
    """How far a payment has come; which may follow which, `sales.states` says."""

    PENDING = "pending"  # taken: the network has it, no block yet
    CONFIRMED = "confirmed"  # in a block
    REJECTED = "rejected"  # the network will never have it
    REFUNDING = "refunding"  # money is on its way back
    REFUNDED = "refunded"  # and has arrived


class Method(StrEnum):
    """How money came: with the request (BRC-105), by a transaction of outputs we named (D21), or elsewhere."""

    BRC105 = "brc105"
    NATIVE = "native"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True)
class EditionFile:
    """One file of an edition, `size` in bytes."""

    path: str
    size: int
    sha256: str
    media_type: str


@dataclass(frozen=True, slots=True)
class Edition:
    """One published version of a dataset, by the sequence of its signed document; `digest` is that of the document.

    A dataset that was withdrawn and published anew counts from 1 again, so only the digest says which edition it is for ever.
    """

    content: str
    sequence: int
    digest: str
    merkle_root: str
    files: tuple[EditionFile, ...]
    producer: str = ""
    version: str | None = None
    license: str | None = None
    outpoint: str | None = None
    published: datetime | None = None

    @property
    def id(self) -> str:
        """`name@sequence`: this version, whatever is published later."""
        return f"{self.content}@{self.sequence}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def file(self, path: str) -> EditionFile | None:
        """The file at that path."""
        return next((file for file in self.files if file.path == path), None)


@dataclass(frozen=True, slots=True)
class Quote:
    """A price that stands until `expires`; `envelope` is the signed document. `buyer` is None where anybody may use it.

    `period` is how many seconds a subscription runs.
    """

    id: str
    content: str
    sequence: int
    digest: str
    units: int
    satoshis: int
    issued: datetime
    expires: datetime
    envelope: bytes
    lines: tuple[Mapping[str, Json], ...] = ()
    period: int | None = None
    buyer: str | None = None


@dataclass(frozen=True, slots=True)
class Payment:
    """Money that came in, a row of `producer_revenue`. `id` is that of its receipt; `receipt` is the signed document.

    `outpoint` (txid.vout) is None for money that came elsewhere. `splits` says what of it belongs to whom:
    [{"party", "satoshis", ...}].
    """

    id: str
    producer: str
    consumer: str
    satoshis: int
    method: Method
    created: datetime
    content: str | None = None
    sequence: int = 0
    stream: str | None = None
    outpoint: str | None = None
    template: str | None = None
    state: PaymentState = PaymentState.PENDING
    splits: tuple[Mapping[str, Json], ...] = ()
    receipt: bytes = b""
    confirmed: datetime | None = None
    refund: str | None = None

    @property
    def txid(self) -> str:
        """The transaction that paid; empty where there is none."""
        return (self.outpoint or "").partition(".")[0]


# The period of what is sold by the request: it ends as it begins.
ONE_REQUEST = timedelta(0)


@dataclass(frozen=True, slots=True)
class Entitlement:
    """What a buyer may fetch, and until when: an edition, for ever; or, with a `period`, every edition while it runs.

    The clock of a period starts at the first byte that is served (`began`). With ONE_REQUEST it is one edition, once. `id` is
    that of the receipt.
    """

    id: str
    consumer: str
    content: str
    sequence: int
    digest: str
    granted: datetime
    period: timedelta | None = None
    began: datetime | None = None
    revoked: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """Whether it is good now."""
        if self.revoked is not None:
            return False
        return self.period is None or self.began is None or now < self.began + self.period

    def covers(self, edition: Edition) -> bool:
        """Whether it is about that edition: a subscription is about all of them."""
        return self.content == edition.content and (bool(self.period) or self.digest == edition.digest)


@dataclass(frozen=True, slots=True)
class Due:
    """What a party is owed of a payment, and the transaction that paid it, once one did."""

    payment: str
    party: str
    satoshis: int
    since: datetime
    terms: Mapping[str, Json] = field(default_factory=dict)
    run: str | None = None
    settled: datetime | None = None


@dataclass(frozen=True, slots=True)
class Consumer:
    """What a producer knows of a buyer, a row of `producer_consumers`; an AccessPolicy declares status, tier and notes."""

    producer: str
    consumer: str
    first: datetime
    last: datetime
    satoshis: int = 0
    bytes: int = 0
    status: str = "active"
    tier: str = "standard"
    notes: str | None = None


@dataclass(frozen=True, slots=True)
class Rating:
    """A buyer's word on what a receipt bought, from 1 to 5."""

    receipt: str
    content: str
    consumer: str
    score: int
    at: datetime
    comment: str | None = None
