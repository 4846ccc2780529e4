"""What reading copies back has shown, host by host: state, time, expiry, and the share of probes that found them sound."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from reconciler.engine.standing import state
from reconciler.model.canonical import Json
from reconciler.model.codec import timestamp
from reconciler.model.observation import ObservedState, Present
from reconciler.model.record import RecordedState
from reconciler.ports import Ports

# A probe that changes nothing is written down this often at most: the ledger is no time series.
QUIET = timedelta(minutes=10)
# From sound to worst; a host is as good as its worst copy.
_WORSE = ("ok", "unreachable", "unlisted", "missing", "corrupt")

Facts = Mapping[str, Json]


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
        copies = seen.attributes.get("replicas") if isinstance(seen, Present) else None
        if copies and _is_news(record.status.facts, copies, now):
            news[ref] = _merged(record.status.facts, copies, now)
    if news:
        with ports.ledger.begin() as tx:
            for ref, facts in news.items():
                state(tx, ref, [], facts)


def _is_news(old: Facts, copies: Mapping[str, Json], now: datetime) -> bool:
    known = old.get("replicas") or {}
    if set(known) != set(copies) or any(known[host]["state"] != _worst(copies[host]) for host in copies):
        return True
    return any(now - datetime.fromisoformat(known[host]["checkedAt"]) > QUIET for host in copies)


def _merged(old: Facts, copies: Mapping[str, Json], now: datetime) -> Facts:
    tally = {host: list(count) for host, count in (old.get("probes") or {}).items() if host in copies}
    shown = {}
    for host, held in copies.items():
        sound, total = tally.get(host, [0, 0])
        worst = _worst(held)
        tally[host] = [sound + (worst == "ok"), total + 1]
        shown[host] = {
            "state": worst,
            "ms": max((copy.get("ms") or 0 for copy in held.values()), default=0),
            "expires": min((copy["expires"] for copy in held.values() if copy.get("expires")), default=0),
            "checkedAt": timestamp(now),
        }
    # Integers only: hundredths of a percent, shown as a share from 0 to 100.
    share = {host: str(round(10_000 * sound / total) / 100) for host, (sound, total) in tally.items()}
    return {"replicas": shown, "probes": tally, "availability": share}


def _worst(copies: Mapping[str, Json]) -> str:
    return max((copy["state"] for copy in copies.values()), key=_WORSE.index, default="ok")
