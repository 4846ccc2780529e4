"""Which way an amount may be paid: a PaymentPolicy applied to a price. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.model.sale import Method

_WAYS = {"http": Method.BRC105, "native": Method.NATIVE}


def ways(policy: Mapping[str, Any] | None, satoshis: int) -> tuple[Method, ...]:
    """How so many satoshis are taken; without a policy, with the request. Empty when they are not taken at all.

    Where both ways are open, routing leaves one; where it names one that is closed for the amount, the other is left.
    """
    if policy is None:
        return (Method.BRC105,)
    http, native, routing = policy["http"], policy["native"], policy.get("routing")
    small = http.get("min", 0) <= satoshis <= http.get("max", satoshis)
    taken = [name for name, is_open in (("http", http["enabled"] and small), ("native", native["enabled"])) if is_open]
    if routing and len(taken) > 1:
        taken = [routing["large" if large(policy, satoshis) else "small"]]
    return tuple(_WAYS[name] for name in taken)


def large(policy: Mapping[str, Any] | None, satoshis: int) -> bool:
    """Whether an amount is at the threshold or above it; without one nothing is."""
    threshold = ((policy or {}).get("routing") or {}).get("threshold")
    return threshold is not None and satoshis >= threshold


def confirmations(policy: Mapping[str, Any] | None, satoshis: int) -> int:
    """Blocks that must stand on a payment before it is served."""
    asked: Mapping[str, int] = (policy or {}).get("confirmations") or {}
    return asked.get("above" if large(policy, satoshis) else "below", 0)
