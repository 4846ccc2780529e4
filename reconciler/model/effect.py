"""The closed set of effects a controller may ask for, each with its recovery rule.

An effect is a value. Performing it twice is harmless by one of two rules: *repeat* (idempotent in the
world) or *probe* (the world is asked by content address, then the same bytes are sent again). Large
contents travel by digest; keys travel by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from reconciler.model.canonical import Json, digest
from reconciler.model.change import FeeRate
from reconciler.model.codec import encode, tagged
from reconciler.model.endpoint import Directory, Endpoint
from reconciler.model.ref import Outpoint

# The SDKs' and Arcade's own fallback when no broadcaster quotes a policy (100 satoshis per 1000 bytes).
_FALLBACK_RATE = FeeRate(100)


class Recovery(Enum):
    """How an effect whose fate is unknown is settled after a crash."""

    REPEAT = "repeat"
    PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Lock:
    """Which BRC-42 child key guards an output, at security level 2; `counterparty` is "anyone", "self" or hex33."""

    key: str
    protocol: str
    key_id: str
    counterparty: str = "anyone"


@tagged
@dataclass(frozen=True, slots=True)
class TokenOutput:
    """A PushDrop token (BRC-48, lock first, signature last) to be created. The wallet signs and builds the script."""

    fields: tuple[bytes, ...]
    lock: Lock
    satoshis: int = 1


@tagged
@dataclass(frozen=True, slots=True)
class DataOutput:
    """An unspendable OP_FALSE OP_RETURN output of 0 satoshis."""

    pushes: tuple[bytes, ...]


@tagged
@dataclass(frozen=True, slots=True)
class CoinOutput:
    """A coin of our own purse (used by funding splits); `satoshis` is its value."""

    satoshis: int


@tagged
@dataclass(frozen=True, slots=True)
class PaymentOutput:
    """`satoshis` to somebody else, locked with `script`."""

    satoshis: int
    script: bytes


@tagged
@dataclass(frozen=True, slots=True)
class RestOutput:
    """Whatever the coins leave after the fee, to somebody else, locked with `script`. The last output, in place of change."""

    script: bytes


@dataclass(frozen=True, slots=True)
class TokenInput:
    """A token of ours to be spent; the ledger knows the transaction that made it."""

    outpoint: Outpoint
    lock: Lock


@dataclass(frozen=True, slots=True)
class Draft:
    """A transaction before coins and signatures. `coins` of ours pay for it; the last output is change, or the `RestOutput`."""

    chain: str
    outputs: tuple[TokenOutput | DataOutput | CoinOutput | PaymentOutput | RestOutput, ...]
    inputs: tuple[TokenInput, ...] = ()
    rate: FeeRate = _FALLBACK_RATE
    coins: int = 1


@tagged
@dataclass(frozen=True, slots=True)
class Generate:
    """Make the named key if it does not exist, encrypted at rest. Repeat. -> {"publicKey": hex33, "subkeys"}.

    A source that is "dated" asks for the time too: -> {..., "at": RFC 3339}.
    """

    key: str
    source: Mapping[str, Json]


@tagged
@dataclass(frozen=True, slots=True)
class Attest:
    """Sign a document (BRC-77, anyone may verify) and keep the signed envelope in Blobs. Repeat: the key id is derived
    from the content. -> {"digest": sha256 of the envelope, "size": bytes, "signature": base64}.
    """

    key: str
    document: Json


@tagged
@dataclass(frozen=True, slots=True)
class Sign:
    """Reserve coins and finish the bytes. Probe: the ledger holds the bytes once it settled.
    -> {"txid", "fee", "outputs": [txid.vout of every draft output]}.
    """

    draft: Draft


@tagged
@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send settled bytes to a broadcaster. Probe, then the same bytes. -> {"txid", "status"}."""

    txid: str
    via: tuple[Endpoint, ...]


@tagged
@dataclass(frozen=True, slots=True)
class Await:
    """Wait until the transaction is `depth` blocks deep (1 = mined), with a verified proof. -> {"height", "block"}."""

    txid: str
    depth: int
    via: tuple[Endpoint, ...]
    headers: Endpoint


@tagged
@dataclass(frozen=True, slots=True)
class Submit:
    """Hand the transaction with its ancestry to overlay hosts (BRC-22) and confirm by lookup. Repeat.

    `want` are output indices that must become findable per topic; `gone` are outpoints that must vanish.
    `owner` is the identity key (hex33) whose SHIP and SLAP tokens are listed to see them. `quorum` hosts must
    confirm each topic (0 = all). `directory` is there where hosts are told, too, that discovery finds.
    -> {host name: {"admitted": {...}, "confirmed": true, "unserved": [topics it does not keep]} or {"error": text}, with
    "found": true for a host that was not declared, ..., "quorum": {"needed": n, "got": m}}; m < n, with "code" and "topic",
    when hosts said a final no. Where nothing is made, also "late": the Retract for the hosts that did not confirm, or null.
    """

    txid: str
    topics: tuple[str, ...]
    hosts: tuple[Endpoint, ...]
    want: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    gone: tuple[Outpoint, ...] = ()
    owner: str = ""
    quorum: int = 1
    directory: Directory | None = field(default=None, metadata={"sparse": True})


@tagged
@dataclass(frozen=True, slots=True)
class Retract:
    """Show hosts that are left behind that tokens they list are spent: the transaction, its ancestry, a look. Repeat.

    Nothing waits for them: whoever does not answer now is told later. -> {host name: as of Submit, ..., "late": the Retract
    that is still to be made, or null}.
    """

    txid: str
    topics: tuple[str, ...]
    hosts: tuple[Endpoint, ...]
    gone: tuple[Outpoint, ...]
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes by name: SHA-256 hex, size in bytes, media type."""

    sha256: str
    size: int
    media_type: str


@tagged
@dataclass(frozen=True, slots=True)
class Store:
    """Put blobs on one storage host for `retention` minutes, read each back and hash it; at most `parallel` at a time.

    Probe: a blob the host holds already is not sent or paid again. `max_payment` is in satoshis per blob.
    -> {sha256: {"location": https URL, "expires": unix seconds, "paid": satoshis, "ms": to read it back}}.
    """

    blobs: tuple[Blob, ...]
    host: Endpoint
    retention: int
    parallel: int = 1
    max_payment: int = 0


@dataclass(frozen=True, slots=True)
class Rented:
    """A copy that a host keeps until `expires` (unix seconds), and the satoshis for which it offered to keep it longer."""

    sha256: str
    expires: int
    price: int = 0


@tagged
@dataclass(frozen=True, slots=True)
class Renew:
    """Pay one host to keep copies for `minutes` more, each for its own price at most.

    Probe: a copy whose end has moved since it was looked at is not paid for. A host that declines does not end the run.
    -> {sha256: {"expires": unix seconds, "paid": satoshis, "refused": the host's final no, "late": why not this time}}.
    """

    copies: tuple[Rented, ...]
    host: Endpoint
    minutes: int


@tagged
@dataclass(frozen=True, slots=True)
class Release:
    """Ask a host to remove a blob, if it can: one that is paid for a while lets it lapse. Repeat. Not asked for a copy that
    another resource than `owner` has there. -> {} or {"late": why the host did not answer}; nothing waits for it.
    """

    digest: str
    host: Endpoint
    owner: str = ""


Effect = Generate | Attest | Sign | Broadcast | Await | Submit | Retract | Store | Renew | Release

RECOVERY: Mapping[type, Recovery] = {
    Generate: Recovery.REPEAT,
    Attest: Recovery.REPEAT,
    Sign: Recovery.PROBE,
    Broadcast: Recovery.PROBE,
    Await: Recovery.REPEAT,
    Submit: Recovery.REPEAT,
    Retract: Recovery.REPEAT,
    Store: Recovery.PROBE,
    Renew: Recovery.PROBE,
    Release: Recovery.REPEAT,
}


def fingerprint(effect: Effect) -> str:
    """What the journal compares on replay: the digest of the effect's whole JSON."""
    return digest(encode(effect))
