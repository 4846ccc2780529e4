"""May this data be used? A buyer's policy against facts: allow, warn or block, with every reason.

Pure. What a policy does not mention is not asked. Something that cannot be told is a warning, never a pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.model.canonical import Json

ALLOW, WARN, BLOCK = "allow", "warn", "block"
_ORDER = (ALLOW, WARN, BLOCK)


@dataclass(frozen=True, slots=True)
class Policy:
    """When bought data may be used; None and empty ask nothing."""

    min_confirmations: int | None = None
    max_age: timedelta | None = None
    licenses: tuple[str, ...] = ()
    max_price: int | None = None
    producers: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of content: the price is the one paid, or else the published one. `faults` are checks that failed."""

    producer: str
    license: str
    price: int | None
    confirmations: int
    published: datetime | None
    recall: str = ""
    newest: bool = True
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reason:
    """One rule and what it found."""

    rule: str
    verdict: str
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The worst of the reasons, and all of them."""

    verdict: str
    reasons: tuple[Reason, ...]


def read_policy(consumer: Mapping[str, Json]) -> Policy:
    """The readiness block of an Identity's `consumer` block; durations in it are milliseconds."""
    said = consumer.get("readiness") or {}
    age = said.get("maxAge")
    return Policy(
        min_confirmations=said.get("minConfirmations"),
        max_age=None if age is None else timedelta(milliseconds=age),
        licenses=tuple(said.get("licenses") or ()),
        max_price=said.get("maxPrice"),
        producers=tuple(said.get("producers") or ()),
        denied=tuple(said.get("denied") or ()),
    )


def judge(policy: Policy, standing: Standing, now: datetime) -> Verdict:
    """Every rule that applies, in order."""
    found = [Reason("proof", BLOCK, fault) for fault in standing.faults] or [Reason("proof", ALLOW, "signed and proven")]
    if standing.recall:
        found.append(Reason("recall", BLOCK, f"recalled by its producer: {standing.recall}"))
    if standing.producer in policy.denied:
        found.append(Reason("producer", BLOCK, f"{standing.producer} is denied"))
    elif policy.producers:
        listed = standing.producer in policy.producers
        found.append(Reason("producer", ALLOW if listed else BLOCK, f"{standing.producer} is {'' if listed else 'not '}listed"))
    if policy.licenses:
        listed = standing.license.casefold() in {one.casefold() for one in policy.licenses}
        found.append(Reason("license", ALLOW if listed else BLOCK, standing.license or "no license is stated"))
    found += [*_price(policy, standing), *_depth(policy, standing), *_age(policy, standing, now)]
    if not standing.newest:
        found.append(Reason("version", WARN, "the producer has published a newer version"))
    return Verdict(max((one.verdict for one in found), key=_ORDER.index), tuple(found))


def _price(policy: Policy, standing: Standing) -> list[Reason]:
    if policy.max_price is None:
        return []
    if standing.price is None:
        return [Reason("price", WARN, "the price is known by quote only")]
    fits = standing.price <= policy.max_price
    return [Reason("price", ALLOW if fits else BLOCK, f"{standing.price} of at most {policy.max_price} satoshis")]


def _depth(policy: Policy, standing: Standing) -> list[Reason]:
    if policy.min_confirmations is None:
        return []
    deep = standing.confirmations >= policy.min_confirmations
    return [Reason("confirmations", ALLOW if deep else BLOCK, f"{standing.confirmations} of {policy.min_confirmations}")]


def _age(policy: Policy, standing: Standing, now: datetime) -> list[Reason]:
    if policy.max_age is None:
        return []
    if standing.published is None:
        return [Reason("age", WARN, "it is in no block yet, so nothing shows its age")]
    age = now - standing.published
    fresh = age <= policy.max_age
    detail = f"{_hours(age)} old, at most {_hours(policy.max_age)}"
    return [Reason("age", ALLOW if fresh else BLOCK, detail)]


def _hours(span: timedelta) -> str:
    hours = max(0, int(span.total_seconds())) // 3600
    return f"{hours} h" if hours < 48 else f"{hours // 24} d"
