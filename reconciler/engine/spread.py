"""How readers spread over the hosts that keep a copy: in which order one of them tries those hosts. Pure.

    region   the reader's region first, then the others; within each the quickest first
    latency  the quickest first
    even     by rendezvous hashing over the request and the host: every host is first as often as every other, and a host that
             comes or goes moves no request from one of the others to another

Equals are told apart by the same hash, so that hosts nobody measured share their readers too. A host whose copy was not sound at
the last look comes last, whatever the rule says: it may be back, and is no host to begin with.

`replicas_for(record, sha256, Reader(key, region))` is what a door that hands out addresses asks, once for each request; whoever
reads tries them in that order and goes on with the next where one does not answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from reconciler.kinds import placement
from reconciler.kinds.network import net_of
from reconciler.model.endpoint import Endpoint
from reconciler.model.record import Record


@dataclass(frozen=True, slots=True)
class Reader:
    """One request: `key` tells it from every other, `region` is where the reader is, "" where nobody knows."""

    key: str
    region: str = ""


def order(
    hosts: Sequence[Endpoint],
    balance: str,
    *,
    region: str = "",
    latencies: Mapping[str, int] | None = None,
    key: str = "",
    unsound: Collection[str] = (),
) -> tuple[Endpoint, ...]:
    """All of the hosts in the order in which the request `key` tries them; `latencies` in milliseconds, by name of the host."""
    took = latencies or {}

    def rank(host: Endpoint) -> tuple[bool, bool, float, bytes]:
        near = balance == "region" and bool(region) and host.region == region
        pace = 0.0 if balance == "even" else took.get(host.name, float("inf"))
        return host.name in unsound, not near, pace, hashlib.sha256(f"{key}\n{host.name}".encode()).digest()

    return tuple(sorted(hosts, key=rank))


def holders(record: Record, sha256: str, reader: Reader) -> tuple[Endpoint, ...]:
    """The hosts that keep a copy by the record, as its rule orders them for a reader; without a rule the quickest first.

    How quick they are is what the last look at each of them measured, from where this ledger is.
    """
    copies, looks = record.outputs.get("replicas") or {}, record.status.facts.get("replicas") or {}
    held = [host for host in net_of(record.body).storage if sha256 in (copies.get(host.name) or {})]
    ruled = placement.rule_in(record.body)
    sound = {name: look for name, look in looks.items() if look.get("state") == "ok"}
    latencies = {name: int(look["ms"]) for name, look in sound.items() if look.get("ms") is not None}
    balance = ruled[0].balance if ruled is not None else placement.LATENCY
    unsound = {host.name for host in held} - sound.keys()
    return order(held, balance, region=reader.region, latencies=latencies, key=reader.key, unsound=unsound)


def replicas_for(record: Record, sha256: str, reader: Reader) -> tuple[str, ...]:
    """The addresses of a published blob, in the order in which this reader tries them; none when no copy is on record."""
    copies = record.outputs.get("replicas") or {}
    return tuple(str(copies[host.name][sha256]["location"]) for host in holders(record, sha256, reader))
