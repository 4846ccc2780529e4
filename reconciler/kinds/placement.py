"""Placement: which hosts keep the copies of a dataset. Pure, deterministic, and as still as the rule allows.

What stands stays: a copy moves only when its host may not, cannot or will not keep it, and an added host moves nothing. A new
copy goes where the rule wants one most: into a region that lacks it, then into the region with the fewest, then to the quickest
host by coarse steps of measured time; equals are told apart by rendezvous hashing, so that many datasets spread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.model.canonical import Json
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused

KIND = "DistributionRule"
# One copy fewer is kept when the others would then be at this share of what one copy serves: below it, not to swing.
CALM = (3, 4)
# A host that did not answer the stopwatch is slower than any that did.
SLOWEST = 1_000
# How reads are spread where nothing is said of it.
LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Rule:
    """A DistributionRule as placement reads it. `spread` are region names, () for any and ("*",) for every region there is."""

    name: str
    least: int = 1
    most: int | None = None
    nodes: tuple[str, ...] = ()
    spread: tuple[str, ...] = ()
    each: int = 1
    served: int | None = None
    balance: str = LATENCY


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen that a placement rests on: who keeps copies, who is out of the question, and how quick the others are.

    `pace` are steps of measured time by host (`step`), for as many hosts as were measured.
    """

    held: Collection[str] = ()
    away: Collection[str] = ()
    pace: Mapping[str, int] = field(default_factory=dict)


def read_rule(name: str, spec: Mapping[str, Json]) -> Rule:
    """The rule of a normalised spec."""
    replicas, regions = spec.get("replicas") or {}, spec.get("regions") or {}
    spread = regions.get("spread", "any")
    return Rule(
        name=name,
        least=int(replicas.get("min", 2)),
        most=replicas.get("max"),
        nodes=tuple(spec.get("nodes") or ()),
        spread={"any": (), "all": ("*",)}.get(spread, ()) if isinstance(spread, str) else tuple(spread),
        each=int(regions.get("perRegion", 1)),
        served=(spec.get("autoScale") or {}).get("downloadsPerHourPerReplica"),
        balance=str(spec.get("balance") or LATENCY),
    )


def rule_in(body: Mapping[str, Json]) -> tuple[Rule, Mapping[str, Json]] | None:
    """The rule that a resolved body is placed by, with its spec; None when it goes by its own number of replicas."""
    name = body["spec"].get("distributionRuleRef")
    spec = body["using"].get(f"{KIND}/{name}") if name else None
    return None if spec is None else (read_rule(name, spec), spec)


def step(ms: int) -> int:
    """Measured milliseconds in steps of four times, so that one measurement more or less changes nothing."""
    return (max(0, ms).bit_length() + 1) // 2


def demanded(rule: Rule, now: int, per_hour: int | None, settled: bool) -> int:
    """How many copies downloads ask for, given how many there are; the last answer stands until `settled`.

    Up at once to what is needed, down one at a time and only while the rest stays calm: so no demand makes it swing.
    """
    if rule.served is None or per_hour is None or not settled:
        return now
    needed = -(-per_hour // rule.served)
    if needed > now:
        return needed
    spare = per_hour * CALM[1] <= (now - 1) * rule.served * CALM[0]
    return now - 1 if spare else now


def place(rule: Rule, subject: str, hosts: Sequence[Endpoint], sight: Sight, copies: int) -> tuple[Endpoint, ...]:
    """The hosts for about `copies` copies, in order of name; Refused when the Network can never satisfy the rule.

    Hosts that are away keep what they hold only where no other can take it, and are given nothing.
    """
    allowed = _allowed(rule, subject, hosts)
    required = _required(rule, subject, allowed)
    here = [host for host in allowed if host.name not in sight.away or host.name in sight.held]
    count = bounded(rule, copies, sum(required.values()))
    chosen: list[Endpoint] = []

    def take(among: Sequence[Endpoint], wanted: int, *, spreading: bool) -> None:
        for _ in range(wanted):
            left = [host for host in among if host not in chosen]
            if not left:
                return
            chosen.append(min(left, key=_liking(subject, sight, chosen if spreading else ())))

    for region in sorted(required):
        take([host for host in here if host.region == region], required[region], spreading=False)
    take(here, count - len(chosen), spreading=True)
    return tuple(sorted(chosen, key=lambda host: host.name))


def bounded(rule: Rule, copies: int, required: int = 0) -> int:
    """A number of copies within the rule: never below its floor and what its regions need, never above its ceiling."""
    floor = max(rule.least, required)
    return max(floor, min(copies, floor if rule.most is None else rule.most))


def _allowed(rule: Rule, subject: str, hosts: Sequence[Endpoint]) -> list[Endpoint]:
    """The hosts that may keep copies at all; Refused when they are too few or a named one is unknown."""
    known = {host.name for host in hosts}
    for node in rule.nodes:
        if node not in known:
            raise _refused(
                rule, subject, f"there is no storage host called {node}", f"there are {', '.join(sorted(known)) or 'none'}"
            )
    allowed = [host for host in hosts if not rule.nodes or host.name in rule.nodes]
    if len(allowed) < rule.least:
        why = f"it wants {rule.least} copies and there are {len(allowed)} storage hosts"
        raise _refused(rule, subject, why, "lower replicas.min, or add storage hosts to the Network")
    return allowed


def _required(rule: Rule, subject: str, allowed: Sequence[Endpoint]) -> dict[str, int]:
    """Copies by region that must be; Refused with the name of the region where that can never be met."""
    wanted = sorted({host.region for host in allowed if host.region}) if rule.spread == ("*",) else rule.spread
    for region in wanted:
        there = sum(host.region == region for host in allowed)
        if there < rule.each:
            why = f"region {region} has {there} storage hosts and {rule.each} are asked for"
            raise _refused(rule, subject, why, f"add a storage host in {region} to the Network, or leave the region out")
    if rule.most is not None and len(wanted) * rule.each > rule.most:
        why = f"{len(wanted)} regions ({', '.join(wanted)}) with {rule.each} copies each are more than replicas.max, {rule.most}"
        raise _refused(rule, subject, why, "raise replicas.max, or name fewer regions")
    return dict.fromkeys(wanted, rule.each)


def _liking(subject: str, sight: Sight, chosen: Sequence[Endpoint]) -> Callable[[Endpoint], tuple[bool, bool, int, int, bytes]]:
    """What makes a host the better choice, as a key: less is better."""

    def key(host: Endpoint) -> tuple[bool, bool, int, int, bytes]:
        crowd = sum(other.region == host.region for other in chosen)
        return (
            host.name in sight.away,
            host.name not in sight.held,
            crowd,
            sight.pace.get(host.name, SLOWEST),
            hashlib.sha256(f"{subject}\n{host.name}".encode()).digest(),
        )

    return key


def _refused(rule: Rule, subject: str, why: str, hint: str) -> Refused:
    return Refused("cannot-place", f"cannot place {subject} by {KIND}/{rule.name}: {why}", hint=hint)
