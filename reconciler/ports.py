"""The outward interface: every door to the world, as Protocols.

Network doors are asynchronous; the ledger, the queue and the wallet are local and synchronous, because a
commit must be one uninterrupted act (docs/decisions/0003). Every network door raises Unavailable when nothing was learned,
Uncertain when bytes left and no answer came, RemoteProtocolError on nonsense, Refused on a final no.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from reconciler.hosts import Discovery, Outputs, Probes, Storage
from reconciler.hosts import Found as Found  # noqa: PLC0414 - what hosts speak of is had from here
from reconciler.hosts import Hosted as Hosted  # noqa: PLC0414
from reconciler.hosts import Part as Part  # noqa: PLC0414
from reconciler.model.audit import Head
from reconciler.model.booking import Booking
from reconciler.model.canonical import Json
from reconciler.model.change import FeeRate
from reconciler.model.coin import Coin as Coin  # noqa: PLC0414 - the ledger's own nouns are had from here
from reconciler.model.coin import StoredTx as StoredTx  # noqa: PLC0414
from reconciler.model.effect import Draft
from reconciler.model.endpoint import Endpoint
from reconciler.model.intent import Intent, IntentState, Run, RunState
from reconciler.model.record import Record, RecordedState
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.model.resource import FileFact
from reconciler.model.review import CommitStatus, Proposal
from reconciler.model.revision import Revision
from reconciler.model.standing import Standing
from reconciler.trade import TradeRows, Trading

T = TypeVar("T")


class Clock(Protocol):
    """The only source of time."""

    def now(self) -> datetime:
        """UTC, aware."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class Entropy(Protocol):
    """The only source of randomness."""

    def bytes(self, count: int) -> bytes: ...


# --- desired state -------------------------------------------------------------------------------


class Source(Protocol):
    """Where manifests come from."""

    def current(self) -> Revision:
        """Read now; Unavailable when the source cannot be read whole."""
        ...

    def facts(self, pattern: str) -> Sequence[FileFact]:
        """Content files matching a glob below the root, in path order; Refused when one escapes the root."""
        ...

    def locate(self, path: str, sha256: str) -> Path:
        """Where the bytes of a content file can be read now; Conflict when they are gone."""
        ...

    async def refresh(self) -> None:
        """Look where manifests come from for news. Raises nothing: what went wrong, `standing` says."""
        ...

    def standing(self) -> Standing:
        """How it stood at the last look."""
        ...

    def revisions(self) -> AsyncIterator[None]:
        """A hint each time something may have changed."""
        ...


# --- recorded state ------------------------------------------------------------------------------


class LedgerView(Protocol):
    """What those ask of a ledger who write nothing: a named cursor or setting."""

    def get(self, name: str) -> Json | None: ...


class LedgerTransaction(LedgerView, TradeRows, Protocol):
    """Reads and writes that commit together, durably, or not at all."""

    def lineage(self) -> str: ...
    def serial(self) -> int: ...
    def advance(self) -> int:
        """Increment and return the serial; every commit that changes a record does it once."""
        ...

    def record(self, ref: ResourceRef) -> Record | None: ...
    def put_record(self, record: Record) -> None:
        """Write the record and the catalog rows that show it."""
        ...

    def drop_record(self, ref: ResourceRef) -> None: ...

    def open_run(self, run: Run) -> Run:
        """Insert, or return the existing run of that id."""
        ...

    def run(self, run_id: str) -> Run | None: ...
    def runs(self, state: RunState | None = None, key: str | None = None) -> Sequence[Run]: ...
    def close_run(self, run_id: str, state: RunState, error: str | None = None) -> None: ...

    def intents(self, run_id: str) -> Sequence[Intent]: ...
    def open_intent(self, intent: Intent) -> None: ...
    def settle(self, run_id: str, seq: int, state: IntentState, result: Mapping[str, Json]) -> None: ...
    def check_fence(self, key: str, fence: int) -> None:
        """Conflict unless the lease on `key` still carries this fence."""
        ...

    def coins(self, chain: str | None = None, state: str | None = None, run: str | None = None) -> Sequence[Coin]: ...
    def put_coin(self, coin: Coin) -> None: ...
    def reserve(self, chain: str, needs: Sequence[int], run: str) -> Sequence[Coin]:
        """Mark for `run` the smallest sufficient free coin per need, or the ones it already holds.

        Refused("insufficient-funds") when some need has no coin.
        """
        ...

    def spend(self, outpoints: Sequence[Outpoint], run: str) -> None: ...
    def unspend(self, run: str) -> None:
        """The run's transaction was refused for good: coins it spent are reserved for the run again, coins it made are gone."""
        ...

    def free(self, run: str) -> None:
        """Release the reserved coins of a run whose transaction was never sent."""
        ...

    def put_transaction(self, tx: StoredTx) -> None: ...
    def transaction(self, txid: str) -> StoredTx | None: ...
    def transactions(self, state: str | None = None) -> Sequence[StoredTx]: ...

    def spent_since(self, moment: datetime, kind: str = "") -> int:
        """Satoshis booked since then, for budgets; of one kind, or of all."""
        ...

    def reserved(self, kind: str = "") -> int:
        """Satoshis that open runs have set aside beyond what they booked; of one kind, or of all."""
        ...

    def booked(self, run_id: str) -> int:
        """Satoshis booked of one run so far."""
        ...

    def bookings(self, moment: datetime) -> Sequence[Booking]:
        """Every booking since then, oldest first."""
        ...

    def book(self, run: str, ref: ResourceRef | None, moment: datetime, fees: int, payments: int, locked: int) -> None:
        """Enter what a run really moved; idempotent per run."""
        ...

    def note(self, ref: ResourceRef | None, moment: datetime, event: str, detail: Mapping[str, Json]) -> None:
        """Append to history."""
        ...

    def history(self, ref: ResourceRef | None = None, limit: int = 100) -> Sequence[Mapping[str, Json]]: ...

    def audit_head(self) -> Head:
        """How far the chain of history goes: every note and every booking is an entry of it."""
        ...

    def audit_entries(self, after: int = 0, limit: int = 1000) -> Sequence[Mapping[str, Json]]:
        """Entries in order, as an export has them; `after` is the number of the last one already read."""
        ...

    def unanchored_since(self, after: int, but: ResourceRef) -> datetime | None:
        """When the first entry after that number was made which is not about `but`."""
        ...

    def put(self, name: str, value: Json) -> None: ...


class Ledger(Trading, Protocol):
    """The durable inventory and journal. A view waits for no writer, and no writer for it."""

    def view(self) -> AbstractContextManager[LedgerView]: ...
    def read(self, today: datetime) -> RecordedState:
        """A consistent snapshot; `today` is the moment from which `spent_today` counts."""
        ...

    def begin(self) -> AbstractContextManager[LedgerTransaction]:
        """One durable commit (fsynced) when the block ends without an error."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work a key until `until`; `fence` grows with every claim of any key."""

    key: str
    fence: int
    owner: str
    until: datetime
    attempts: int = 0


class Queue(Protocol):
    """client-go's queue made durable: a key is never worked twice at once, and a change during work causes one more pass."""

    def put(self, key: str, due: datetime, priority: int = 0) -> None: ...
    def claim(self, owner: str, now: datetime, prefixes: Sequence[str] = ()) -> Lease | None: ...
    def take(self, key: str, owner: str, now: datetime) -> Lease | None:
        """Lease this very key, queued or not; None while another owner holds it."""
        ...

    def renew(self, lease: Lease, now: datetime) -> Lease: ...
    def done(self, lease: Lease) -> None: ...
    def later(self, lease: Lease, due: datetime, failed: bool) -> None: ...
    def forsake(self, owner: str, now: datetime, wake: Sequence[str] = ()) -> int:
        """End the leases of an owner that is known to be dead, so that nobody waits them out; how many there were.

        Keys that begin with one of `wake` are queued again: their claim had consumed the wake-up.
        """
        ...

    def depth(self, now: datetime) -> tuple[int, float]:
        """(keys that are due, age of the oldest in seconds)."""
        ...

    def next_due(self, prefixes: Sequence[str] = ()) -> datetime | None: ...
    def holders(self, now: datetime) -> Sequence[Lease]: ...


class Blobs(Protocol):
    """Content-addressed bytes on our own disk; every digest is SHA-256 hex."""

    def put(self, content: bytes) -> str: ...
    def adopt(self, path: Path, sha256: str) -> None:
        """Copy a file in, hashing as it goes; Conflict when its bytes are not those."""
        ...

    def get(self, sha256: str) -> bytes: ...
    def path(self, sha256: str) -> Path: ...
    def has(self, sha256: str) -> bool: ...


# --- keys ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signed:
    """A finished transaction: raw bytes, display txid, fee paid, and the change coin it makes."""

    raw: bytes
    txid: str
    fee: int
    coins: tuple[Coin, ...]


class Wallet(Protocol):
    """Keys by name. Nothing that leaves here is a secret."""

    def know(self, sources: Mapping[str, Mapping[str, Json]]) -> None:
        """Tell where named keys live (Identity.key blocks)."""
        ...

    def exists(self, key: str) -> bool: ...
    def generate(self, key: str, source: Mapping[str, Json]) -> str: ...
    def public_key(self, key: str) -> str:
        """Identity public key, hex33; Refused("no-key") when it does not exist."""
        ...

    def funding_script(self) -> bytes: ...
    def attest(self, key: str, message: bytes) -> bytes:
        """A BRC-77 signature anyone may verify; equal input gives equal bytes."""
        ...

    def sign(self, draft: Draft, coins: Sequence[Coin], parents: Mapping[str, bytes]) -> Signed:
        """Build, balance and sign. `parents` are the raw transactions whose tokens the draft spends."""
        ...


# --- the network ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TxStatus:
    """A broadcaster's word on a transaction. `status` is an ARC status; `proof` a BUMP when mined, not yet verified."""

    txid: str
    status: str
    height: int = 0
    block: str = ""
    proof: bytes = b""
    detail: str = ""
    competing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Header:
    """A block header on the longest chain; hashes in display order, `raw` the 80 bytes."""

    height: int
    hash: str
    merkle_root: str
    raw: bytes


class Chain(Outputs, Protocol):
    """Broadcasters and headers."""

    async def broadcast(self, beef: bytes, txid: str, via: Sequence[Endpoint]) -> TxStatus: ...
    async def status(self, txid: str, via: Sequence[Endpoint]) -> TxStatus | None:
        """None when every broadcaster says it never heard of it."""
        ...

    async def fee_rate(self, via: Sequence[Endpoint]) -> FeeRate: ...
    async def header(self, height: int, source: Endpoint) -> Header | None: ...
    async def tip(self, source: Endpoint) -> int: ...
    async def spender(self, outpoint: Outpoint, source: Endpoint) -> str | None:
        """Txid that spends the outpoint; None when unspent. Unavailable where the source has no such index."""
        ...


class Overlay(Protocol):
    """Overlay hosts: BRC-22 submit and BRC-24 lookup."""

    async def submit(self, host: Endpoint, beef: bytes, topics: Sequence[str]) -> Mapping[str, Sequence[int]]:
        """Topic -> admitted output indices. An empty list is ambiguous: ask by lookup."""
        ...

    async def lookup(self, host: Endpoint, service: str, query: Json) -> Sequence[Found]: ...
    async def health(self, host: Endpoint) -> Mapping[str, Json]: ...


class Reviewers(Protocol):
    """Where the authors of a revision look. Refused or Unavailable when it was not taken; nothing waits for it."""

    name: str

    async def status(self, status: CommitStatus) -> None: ...
    async def propose(self, proposal: Proposal) -> None: ...


class Together(Protocol):
    """Runs several reads at once, a bounded number at a time; results in order."""

    async def __call__(self, reads: Sequence[Awaitable[T]]) -> list[T]: ...


@dataclass(frozen=True, slots=True)
class Reads:
    """The read half of the doors: all that `observe` is given, so it cannot write.

    `networks` holds the normalised spec of every Network by name, declared or else recorded.
    """

    clock: Clock
    chain: Chain
    overlay: Overlay
    storage: Storage
    wallet: Wallet
    ledger: Ledger
    together: Together
    probes: Probes
    networks: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ports:
    """Every door, wired by compose."""

    clock: Clock
    entropy: Entropy
    source: Source
    ledger: Ledger
    queue: Queue
    blobs: Blobs
    wallet: Wallet
    chain: Chain
    overlay: Overlay
    storage: Storage
    discovery: Discovery
