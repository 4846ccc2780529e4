"""What is told of keys that follow one another: conditions, and so notices to whoever operates or subscribes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reconciler.model.canonical import Json
from reconciler.model.record import Record
from reconciler.model.status import Condition, Truth

# What sinks filter by to hear of successions. It is told of, and stands in no status.
SUCCESSION = "KeySuccession"
REVOKED = "Revoked"


@dataclass(frozen=True, slots=True)
class Told:
    """Why subscribers are told, in a word and in a sentence, and the statement with both its signatures (wire/succession.py)."""

    reason: str
    message: str
    link: Mapping[str, Json]


def told(before: Record | None, after: Record) -> Iterator[Told]:
    """What the subscribers of an Identity are told once `after` is recorded; nothing unless its manifest says so.

    A ledger that is made again tells of windows that are open, for its outbox is lost; of what is over everybody knows.
    """
    notify = (after.body["spec"].get("rotation") or {}).get("notify") if after.ref.kind == "Identity" else None
    if "webhook" not in (notify or ()):
        return
    known = {key["publicKey"]: key for key in (before.outputs if before is not None else {}).get("keys") or ()}
    for key in (after.outputs.get("keys") or ())[:-1]:
        link, was = key["succession"], known.get(key["publicKey"]) or {}
        reason = _reason(key, was, rebuilt=before is None)
        if reason:
            yield Told(reason, _sentence(reason, link["statement"]), link)


def _reason(key: Mapping[str, Any], was: Mapping[str, Any], *, rebuilt: bool) -> str:
    said, spoken = key["succession"]["statement"], (was.get("succession") or {}).get("statement")
    if said == spoken:
        return "Ended" if key.get("retired") and not was.get("retired") else ""
    if rebuilt and key.get("retired"):
        return ""
    if said.get("compromised") and not (spoken or {}).get("compromised"):
        return REVOKED
    return "Announced" if spoken is None else "Changed"


def _sentence(reason: str, said: Mapping[str, Any]) -> str:
    old, new = said["from"], said["to"]
    if reason == REVOKED:
        return f"{old} is revoked ({said['compromised']['reason']}); {new} follows it"
    if reason == "Ended":
        return f"{old} is honoured no longer; {new} follows it"
    return f"{old} is followed by {new} and honoured until {said['until']}"


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
