"""What is told of keys that follow one another: conditions, and so notices to whoever operates or subscribes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from reconciler.model.canonical import Json
from reconciler.model.status import Condition, Truth


def conditions(outputs: Mapping[str, Json], generation: int, now: datetime) -> list[Condition]:
    """Rotating while an old key is honoured beside the new one; Compromised once the last one replaced was revoked."""
    kept = outputs.get("keys")
    if not kept:
        return []
    old, new = kept[-2], kept[-1]
    honoured = [key for key in kept[:-1] if not key.get("retired")]
    if honoured:
        last = honoured[-1]
        message = f"{last['publicKey']} is followed by {new['publicKey']} and honoured until {last['until']}"
        rotating = Condition("Rotating", Truth.TRUE, "Window", message, generation, now)
    else:
        rotating = Condition("Rotating", Truth.FALSE, "Retired", f"only {new['publicKey']} is honoured", generation, now)
    if not old.get("revoked"):
        return [rotating, Condition("Compromised", Truth.FALSE, "Trusted", "", generation, now)]
    said = old["succession"]["statement"]["compromised"]
    return [rotating, Condition("Compromised", Truth.TRUE, "Revoked", said["reason"], generation, now)]
