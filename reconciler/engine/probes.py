"""Looking at storage hosts, and what that has shown, host by host: state, time, expiry, and the share of sound probes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reconciler.engine.standing import state
from reconciler.model.canonical import Json
from reconciler.model.codec import timestamp
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused, RemoteProtocolError, Unavailable
from reconciler.model.observation import ObservedState, Present
from reconciler.model.record import RecordedState
from reconciler.ports import Part, Ports

# A probe that changes nothing is written down this often at most: the ledger is no time series.
QUIET = timedelta(minutes=10)
# From sound to worst; a host is as good as its worst copy.
_WORSE = ("ok", "unreachable", "unlisted", "missing", "corrupt")

# What a host is asked to time it: the price of a kilobyte for a day, which nobody has to introduce himself for.
_QUESTION = (1024, 24 * 60)

Facts = Mapping[str, Json]


@dataclass(slots=True)
class Prober:
    """The looks of one pass. A host is timed once, whoever wants to know."""

    ports: Ports
    _timed: dict[str, asyncio.Task[int | None]] = field(default_factory=dict)

    async def pace(self, host: Endpoint) -> int | None:
        """Milliseconds of one small question; None when it was not answered."""
        if host.url not in self._timed:
            self._timed[host.url] = asyncio.ensure_future(self._time(host))
        return await asyncio.shield(self._timed[host.url])

    async def _time(self, host: Endpoint) -> int | None:
        began = self.ports.clock.now()
        try:
            await self.ports.storage.quote(host, *_QUESTION)
        except (Unavailable, RemoteProtocolError):
            return None
        except Refused:
            pass  # a no is an answer, too
        return round((self.ports.clock.now() - began) / timedelta(milliseconds=1))

    async def look(self, host: Endpoint, sha256: str, size: int, sample: int | None) -> Mapping[str, Json]:
        """Read a copy back: `sample` bytes from a place that the host cannot foresee, or all of it.

        All of it, too, where our own bytes are not at hand to compare with.
        """
        if sample is None or sample >= size or not self.ports.blobs.has(sha256):
            return await self.ports.storage.check(host, sha256)
        start = int.from_bytes(self.ports.entropy.bytes(8)) % (size - sample + 1)
        with self.ports.blobs.path(sha256).open("rb") as stream:
            stream.seek(start)
            ours = stream.read(sample)
        return await self.ports.storage.check(host, sha256, Part(start, start + sample, hashlib.sha256(ours).hexdigest()))


def verified(old: Facts, replicas: Mapping[str, Json], now: datetime) -> Facts:
    """The facts of copies that were just written and read back; `replicas` as a controller returned them."""
    seen = {host: {sha: {**copy, "state": "ok"} for sha, copy in copies.items()} for host, copies in replicas.items()}
    return _merged(old, seen, now) if seen else {}


def note(ports: Ports, recorded: RecordedState, observed: ObservedState) -> None:
    """Write down what an observation showed of each record's copies, where it says something new."""
    now = ports.clock.now()
    news = {}
    for ref, record in recorded.records.items():
        seen = observed.get(ref)
        if not isinstance(seen, Present):
            continue
        copies, demand = seen.attributes.get("replicas"), seen.attributes.get("demand")
        if copies and (_is_news(record.status.facts, copies, now) or _is_measure(record.status.facts, demand)):
            news[ref] = _merged(record.status.facts, copies, now, demand)
    if news:
        with ports.ledger.begin() as tx:
            for ref, facts in news.items():
                state(tx, ref, [], facts)


def _is_news(old: Facts, copies: Mapping[str, Json], now: datetime) -> bool:
    known = old.get("replicas") or {}
    if set(known) != set(copies) or any(known[host]["state"] != _worst(copies[host]) for host in copies):
        return True
    read = {host: held for host, held in copies.items() if not _unread(held)}
    if any(copy.get("scheduled") for held in read.values() for copy in held.values()):
        return True
    return any(now - datetime.fromisoformat(known[host]["checkedAt"]) > QUIET for host in read)


def _is_measure(old: Facts, demand: Mapping[str, Json] | None) -> bool:
    return demand is not None and demand["at"] != (old.get("demand") or {}).get("at")


def _unread(held: Mapping[str, Json]) -> bool:
    """Whether nothing of a host was read this time, because it was found sound a short while ago."""
    return all(copy.get("unread") for copy in held.values())


def _merged(old: Facts, copies: Mapping[str, Json], now: datetime, demand: Mapping[str, Json] | None = None) -> Facts:
    tally = {host: list(count) for host, count in (old.get("probes") or {}).items() if host in copies}
    known, shown = old.get("replicas") or {}, {}
    rates = (demand or old.get("demand") or {}).get("hosts") or {}
    for host, held in copies.items():
        if _unread(held) and host in known:
            shown[host] = known[host]
            continue
        sound, total = tally.get(host, [0, 0])
        worst = _worst(held)
        tally[host] = [sound + (worst == "ok"), total + 1]
        shown[host] = {
            "state": worst,
            "ms": max((copy.get("ms") or 0 for copy in held.values()), default=0),
            "expires": min((copy["expires"] for copy in held.values() if copy.get("expires")), default=0),
            "checkedAt": timestamp(now),
            "soundAt": timestamp(now) if worst == "ok" else (known.get(host) or {}).get("soundAt"),
        }
    shown = {host: {**look, "perHour": rates[host]} if host in rates else look for host, look in shown.items()}
    # Integers only: hundredths of a percent, shown as a share from 0 to 100.
    share = {host: str(round(10_000 * sound / total) / 100) for host, (sound, total) in tally.items()}
    measured = {"demand": {name: demand[name] for name in ("at", "counts", "perHour", "hosts")}} if demand else {}
    return {"replicas": shown, "probes": tally, "availability": share, **measured}


def _worst(copies: Mapping[str, Json]) -> str:
    return max((copy["state"] for copy in copies.values()), key=_WORSE.index, default="ok")
