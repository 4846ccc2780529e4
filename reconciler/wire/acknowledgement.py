"""When a transaction counts as known to the overlay: how many of the hosts that keep a topic must have confirmed it.

The reference broadcaster wants one host that acknowledges every topic, and takes silence about a topic for a failure. Here each
topic is judged by the hosts that keep it, so a host that does not keep one fails nothing else. What "confirmed" means, an
admittance or a lookup, is settled before.

| here                  | reference client                                   |
|-----------------------|----------------------------------------------------|
| `no-hosts-interested` | ERR_NO_HOSTS_INTERESTED                            |
| `all-hosts-rejected`  | ERR_ALL_HOSTS_REJECTED                             |
| `ack-from-all`        | ERR_REQUIRE_ACK_FROM_ALL_HOSTS_FAILED              |
| `ack-from-any`        | ERR_REQUIRE_ACK_FROM_ANY_HOST_FAILED               |
| `ack-from-quorum`     | ERR_REQUIRE_ACK_FROM_SPECIFIC_HOSTS_FAILED         |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NO_HOSTS, ALL_REJECTED = "no-hosts-interested", "all-hosts-rejected"
FROM_ALL, FROM_ANY, FROM_QUORUM = "ack-from-all", "ack-from-any", "ack-from-quorum"


@dataclass(frozen=True, slots=True)
class Heard:
    """What one host made of a submission: the topics it keeps, whether it confirmed them, and whether its no is final."""

    topics: frozenset[str]
    confirmed: bool = False
    final: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """The topic that fared worst: how many hosts had to confirm it and how many did; `code` is empty when enough did."""

    topic: str
    needed: int
    got: int
    code: str = ""


def judge(topics: Sequence[str], quorum: int, declared: Sequence[Heard], found: Sequence[Heard] = ()) -> Verdict:
    """The verdict over every topic. `quorum` hosts must confirm, or as many as there are; 0 means all.

    `declared` are the operator's own hosts, `found` those of strangers. Where all must confirm, that is all of the declared:
    otherwise anybody could stop a producer for the price of one advertisement. Without declared hosts it is all of the found.
    """
    pool = tuple(declared) if quorum == 0 and declared else (*declared, *found)
    verdicts = [_judged(topic, quorum, [host for host in pool if topic in host.topics]) for topic in topics]
    return max(verdicts, key=lambda one: (one.needed - one.got, bool(one.code)), default=Verdict("", 0, 0))


def _judged(topic: str, quorum: int, keepers: Sequence[Heard]) -> Verdict:
    if not keepers:
        return Verdict(topic, max(1, quorum), 0, NO_HOSTS)
    needed = min(quorum or len(keepers), len(keepers))
    got = sum(host.confirmed for host in keepers)
    if got >= needed:
        return Verdict(topic, needed, got)
    if all(host.final for host in keepers):
        return Verdict(topic, needed, got, ALL_REJECTED)
    return Verdict(topic, needed, got, {0: FROM_ALL, 1: FROM_ANY}.get(quorum, FROM_QUORUM))
