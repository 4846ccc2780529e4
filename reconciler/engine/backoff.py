"""When to try again: exponential, capped, jittered from Entropy so that replicas do not march in step."""

from __future__ import annotations

from datetime import datetime, timedelta

from reconciler.ports import Entropy

# Seconds; the first pause for a network that may just have hiccuped, and the longest between attempts.
BASE = 1.0
CAP = 600.0
JITTER = 0.2


def delay(attempt: int, entropy: Entropy) -> float:
    """Seconds before attempt `attempt` + 1: min(cap, base * 2^attempt), plus or minus 20 %."""
    pause = min(CAP, BASE * 2.0 ** min(attempt, 32))
    spin = int.from_bytes(entropy.bytes(4), "big") / 2**32
    return pause * (1 - JITTER + 2 * JITTER * spin)


def retry_at(now: datetime, attempt: int, entropy: Entropy, not_before: datetime | None = None) -> datetime:
    """The moment of the next attempt, never before what the world asked for."""
    at = now + timedelta(seconds=delay(attempt, entropy))
    return max(at, not_before) if not_before else at
