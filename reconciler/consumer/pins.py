"""Producers are known by key. The key that an address showed first is remembered, and no other is believed there.

A key may follow another: only a statement that both signed says so (wire/succession.py), in the profile that the new key signed
and anchored. Trust on first use is recorded as such, with its time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from reconciler.model.canonical import Json
from reconciler.model.codec import timestamp
from reconciler.model.errors import GuardRefused, RemoteProtocolError
from reconciler.ports import LedgerTransaction
from reconciler.wire.succession import Period, periods

_ROW = "consumer/pin/"
FIRST_USE, SUCCESSION = "first-use", "succession"


@dataclass(frozen=True, slots=True)
class Pin:
    """The key of an address, since when and why it is believed."""

    origin: str
    key: str
    since: str
    how: str
    before: tuple[str, ...] = ()


def origin_of(url: str) -> str:
    """Scheme, host and port: what a pin is about."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"


def pinned(tx: LedgerTransaction, url: str) -> Pin | None:
    """The pin of an address, if there is one."""
    row = tx.get(_ROW + origin_of(url))
    return None if row is None else Pin(row["origin"], row["key"], row["since"], row["how"], tuple(row["before"]))


def require(pin: Pin | None, url: str, key: str, known: Sequence[Period] = ()) -> bool:
    """Whether this key is new at the address; GuardRefused when another is pinned and `known` periods do not lead from it."""
    if pin is None:
        return True
    if pin.key == key:
        return False
    old = next((period for period in known if period.key == pin.key), None)
    if old is not None and known[-1].key == key:
        return True
    told = f"cannot deal with {origin_of(url)}: it shows the key {key}, pinned since {pin.since} is {pin.key}"
    hint = "nothing was paid; a producer that changed its key publishes a succession signed by both: ask it for that"
    raise GuardRefused("pinned-key", told, hint=hint)


def pin(tx: LedgerTransaction, url: str, key: str, now: datetime) -> None:
    """Remember the key of an address, and what was remembered before it."""
    old = pinned(tx, url)
    if old is not None and old.key == key:
        return
    before = [] if old is None else [*old.before, old.key]
    row = {"origin": origin_of(url), "key": key, "since": timestamp(now), "how": SUCCESSION if before else FIRST_USE}
    tx.put(_ROW + origin_of(url), {**row, "before": before})
    tx.note(None, now, "producer.pinned", {**row, "before": before})


def followed(profile: Mapping[str, Json], signer: str) -> tuple[Period, ...]:
    """The keys of an identity's profile, oldest first; none when its statements do not hold."""
    try:
        return periods(profile, signer)
    except RemoteProtocolError:
        return ()
