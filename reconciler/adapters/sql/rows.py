"""Ledger rows as model values and back.

Records are read in bulk, ten thousand at a time, so they have a reader of their own here; the generic codec
writes them, and a property test holds that it would read the same value.
"""

from __future__ import annotations

import json
import marshal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from reconciler.model.canonical import Json, compact
from reconciler.model.codec import decode, encode
from reconciler.model.effect import Lock
from reconciler.model.folded import Folded, Press
from reconciler.model.intent import Intent, IntentState, Run, RunState
from reconciler.model.record import Record
from reconciler.model.ref import Outpoint, Position, ResourceRef
from reconciler.model.status import Condition, Status, Truth
from reconciler.ports import Coin, StoredTx

if TYPE_CHECKING:
    from sqlalchemy import Row

# Looking a member up is several times faster than calling the enumeration.
_TRUTH = {truth.value: truth for truth in Truth}
# Rows fetched at a time.
BATCH = 100
# The marshal format in which equal values always have equal bytes.
_WITHOUT_REFERENCES = 2

T = TypeVar("T")


def text(value: Any) -> str:
    """Any model value or JSON as compact JSON text."""
    return compact(encode(value))


def value(stored: str) -> Json:
    """The JSON that `text` wrote."""
    return json.loads(stored)


def record(stored: str) -> Record:
    """A record from its document."""
    found = json.loads(stored)
    status = _status(found["status"], found["status"]["facts"])
    return _record(found, _ref(found["ref"]), found["body"], found["outputs"], _refs(found["requires"]), status)


def records(stored: Iterable[str]) -> Iterator[Record]:
    """Records from many documents: what is large is folded, what many have in common is one object.

    Ten thousand datasets use one Network, not ten thousand copies of it, and most of them are in the same condition.
    """
    shared: dict[bytes, Any] = {}
    presses: defaultdict[str, Press] = defaultdict(Press)

    def once(told: Json, made: Callable[[Json], T]) -> T:
        # Unlike `==`, these bytes tell true from 1.
        key = marshal.dumps(told, _WITHOUT_REFERENCES)
        known: T | None = shared.get(key)
        if known is None:
            known = shared[key] = made(told)
        return known

    for one in stored:
        found = json.loads(one)
        body = found["body"]
        # Only the last field can be taken out and put back without moving another.
        using = once({"using": body.pop("using")}, dict) if next(reversed(body), None) == "using" else {}
        status = once(found["status"], lambda status: _status(status, Folded(status["facts"])))
        ref, requires = _ref(found["ref"]), once(found["requires"], _refs)
        asked, made = presses[f"{ref.kind} body"], presses[f"{ref.kind} outputs"]
        yield _record(found, ref, Folded(body, using, asked), Folded(found["outputs"], press=made), requires, status)


def _record(
    found: Mapping[str, Json],
    ref: ResourceRef,
    body: Mapping[str, Json],
    outputs: Mapping[str, Json],
    requires: tuple[ResourceRef, ...],
    status: Status,
) -> Record:
    at = found["at"]
    return Record(
        ref=ref,
        uid=found["uid"],
        generation=found["generation"],
        body=body,
        outputs=outputs,
        requires=requires,
        status=status,
        protected=found["protected"],
        retiring=found["retiring"],
        revision=found["revision"],
        at=None if at is None else Position(at["file"], at["line"], at["column"], at["pointer"]),
    )


def _ref(stored: str) -> ResourceRef:
    kind, _, name = stored.partition("/")
    # Interned, as the manifests are read: one text for the kind of all, and for the name of what is declared and recorded.
    return ResourceRef(sys.intern(kind), sys.intern(name))


def _refs(stored: Iterable[str]) -> tuple[ResourceRef, ...]:
    return tuple(map(_ref, stored))


def _status(stored: Mapping[str, Json], facts: Mapping[str, Json]) -> Status:
    conditions = tuple(map(_condition, stored["conditions"]))
    return Status(stored["observed_generation"], conditions, stored["fees"], stored["payments"], facts)


def _condition(stored: Mapping[str, Json]) -> Condition:
    since = datetime.fromisoformat(stored["since"])
    truth = _TRUTH[stored["status"]]
    return Condition(stored["type"], truth, stored["reason"], stored["message"], stored["observed_generation"], since)


def run(row: Row[Any]) -> Run:
    """A run from its row."""
    return Run(row.id, row.key, value(row.subject), row.version, RunState(row.state), row.error, row.began, row.reserved)


def intent(row: Row[Any]) -> Intent:
    """An intent from its row."""
    return Intent(row.run, row.seq, row.effect, row.fingerprint, IntentState(row.state), value(row.result), row.fence)


def coin(row: Row[Any]) -> Coin:
    """A coin from its row."""
    lock = decode(Lock, value(row.lock))
    return Coin(Outpoint.parse(row.outpoint), row.chain, row.satoshis, bytes(row.script), lock, row.state, row.run)


def coin_row(found: Coin) -> dict[str, Any]:
    """A coin as its row."""
    return {
        "outpoint": str(found.outpoint),
        "chain": found.chain,
        "satoshis": found.satoshis,
        "script": found.script,
        "lock": text(found.lock),
        "state": found.state,
        "run": found.run,
    }


def transaction(row: Row[Any]) -> StoredTx:
    """A stored transaction from its row."""
    return StoredTx(row.txid, bytes(row.raw), row.chain, row.state, bytes(row.proof), row.height, row.block, row.run)


def transaction_row(found: StoredTx) -> dict[str, Any]:
    """A stored transaction as its row."""
    names = ("txid", "raw", "chain", "state", "proof", "height", "block", "run")
    return {name: getattr(found, name) for name in names}
