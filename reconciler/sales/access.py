"""Who may use what, and how much of it: an AccessPolicy applied to one request.

Pure. What a buyer did before comes in as a `Usage`; a `Meter` counts it from one request to the next. Requests are counted by the
minute and bytes by the day, both of UTC, because such a quota begins anew for everybody at a time that everybody knows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

# Buyers whose use is remembered, at some 300 bytes each; of more, those that were silent longest begin anew.
REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class Usage:
    """What one buyer has used: requests of this minute and bytes of this day before this request, streams open beside it, and
    the bytes that it asks for.
    """

    now: datetime
    requests: int = 0
    bytes: int = 0
    streams: int = 0
    wanted: int = 0


@dataclass(frozen=True, slots=True)
class Allowed:
    """The request may go on, in a tier, with the discount that the policy gives it."""

    tier: str | None = None
    discount: str | None = None


@dataclass(frozen=True, slots=True)
class Denied:
    """The request may not go on. `retry_after` are seconds until it may; None when time does not help."""

    code: str
    message: str
    retry_after: int | None = None


Verdict = Allowed | Denied


def decide(policy: Mapping[str, Any] | None, identity: bytes | None, usage: Usage) -> Verdict:
    """Whether one may go on. `policy` is the normalised spec of an AccessPolicy; `identity` is None for a stranger.

    A stranger has the default tier; what nobody may have without being known, payment and authentication keep from him.
    """
    if policy is None:
        return Allowed()
    key = identity.hex() if identity is not None else ""
    for one in policy.get("blocked") or ():
        if one["identityKey"] == key:
            return Denied("blocked", "this key is blocked")
    for one in policy.get("suspended") or ():
        if one["identityKey"] == key and (wait := _left(one.get("until"), usage.now)) != 0:
            return Denied("suspended", f"this key is suspended: {one['reason']}", wait)
    tier = tier_of(policy, key)
    return _within(tier.get("quota") or {}, usage) or Allowed(tier.get("name"), tier.get("discount"))


def tier_of(policy: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The tier that a key (hex) is a member of, or else the default one; empty where there is none."""
    tiers = policy.get("tiers") or ()
    mine = (one for one in tiers if key in (one.get("members") or ()))
    usual = (one for one in tiers if one["name"] == policy.get("defaultTier"))
    return next(mine, None) or next(usual, None) or {}


def standing(policy: Mapping[str, Any] | None, key: str, now: datetime) -> str:
    """active, suspended or blocked: what the policy says of a key (hex) at a time, whatever it used."""
    verdict = decide({**policy, "tiers": ()} if policy else None, bytes.fromhex(key), Usage(now))
    return verdict.code if isinstance(verdict, Denied) else "active"


def _within(quota: Mapping[str, Any], usage: Usage) -> Denied | None:
    """The first bound that the request would go over."""
    now = usage.now
    if usage.requests >= quota.get("requestsPerMinute", usage.requests + 1):
        return Denied("quota-requests", f"more than {quota['requestsPerMinute']} requests in a minute", 60 - now.second)
    if usage.bytes + max(usage.wanted, 1) > quota.get("bytesPerDay", usage.bytes + usage.wanted + 1):
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        # What is larger than a whole day's share does not come by waiting.
        wait = _left(midnight, now) if usage.wanted <= quota["bytesPerDay"] else None
        return Denied("quota-bytes", f"more than {quota['bytesPerDay']} bytes in a day", wait)
    if usage.streams >= quota.get("concurrentStreams", usage.streams + 1):
        return Denied("quota-streams", f"more than {quota['concurrentStreams']} streams at once")
    return None


def _left(until: datetime | str | None, now: datetime) -> int | None:
    """Whole seconds until a time, rounded up; 0 once it is over, None where it never comes."""
    end = datetime.fromisoformat(until) if isinstance(until, str) else until
    return None if end is None else max(0, -((now - end) // timedelta(seconds=1)))


class Meter:
    """What each buyer used in the minute and the day that is. One per process: it forgets when the process ends."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._used: OrderedDict[str, Usage] = OrderedDict()

    def usage(self, who: str, now: datetime, wanted: int = 0) -> Usage:
        """What `who` (an identity key in hex, or an address) used before this moment."""
        was = self._used.get(who)
        if was is None:
            return Usage(now, wanted=wanted)
        minute = (was.now.date(), was.now.hour, was.now.minute) == (now.date(), now.hour, now.minute)
        spent = was.bytes if was.now.date() == now.date() else 0
        return Usage(now, was.requests if minute else 0, spent, was.streams, wanted)

    def count(self, who: str, now: datetime, *, requests: int = 0, bytes: int = 0, streams: int = 0) -> None:  # noqa: A002
        """Add to what `who` used; `streams` is 1 for one that opens and -1 for one that closes."""
        was = self.usage(who, now)
        self._used[who] = replace(was, requests=was.requests + requests, bytes=was.bytes + bytes, streams=was.streams + streams)
        self._used.move_to_end(who)
        while len(self._used) > self._most:
            self._used.popitem(last=False)
