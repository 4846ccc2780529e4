"""Ledger rows as model values and back.

Records are read in bulk, ten thousand at a time, so they have a reader of their own here; the generic codec
writes them, and a property test holds that it would read the same value.
"""

from __future__ import annotations

import json
import marshal
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Row

from reconciler.model.canonical import Json
from reconciler.model.codec import decode, encode
from reconciler.model.effect import Lock
from reconciler.model.intent import Intent, IntentState, Run, RunState
from reconciler.model.record import Record
from reconciler.model.ref import Outpoint, Position, ResourceRef
from reconciler.model.status import Condition, Status, Truth
from reconciler.ports import Coin, StoredTx

# Looking a member up is several times faster than calling the enumeration.
_TRUTH = {truth.value: truth for truth in Truth}
# Documents parsed at a time: enough to share names, small enough to stay in the processor's cache.
BATCH = 500


def text(value: Any) -> str:
    """Any model value or JSON as compact JSON text."""
    return json.dumps(encode(value), ensure_ascii=False, separators=(",", ":"))


def value(stored: str) -> Json:
    """The JSON that `text` wrote."""
    return json.loads(stored)


def record(stored: str) -> Record:
    """A record from its document."""
    return _record(json.loads(stored))


def records(stored: Iterable[str]) -> Iterator[Record]:
    """Records from many documents, parsed as one text per batch: the parser then shares the field names among them.

    What resources export to each other is shared, too: ten thousand datasets hold one Network, not ten thousand copies.
    """
    shared: dict[bytes, Json] = {}
    documents = iter(stored)
    while batch := list(islice(documents, BATCH)):
        for found in json.loads(f"[{','.join(batch)}]"):
            using = found["body"].get("using", {})
            for name, exports in using.items():
                # Unlike `==`, these bytes tell true from 1.
                using[name] = shared.setdefault(marshal.dumps(exports), exports)
            yield _record(found)


def _record(found: Mapping[str, Json]) -> Record:
    at = found["at"]
    return Record(
        ref=_ref(found["ref"]),
        uid=found["uid"],
        generation=found["generation"],
        body=found["body"],
        outputs=found["outputs"],
        requires=tuple(map(_ref, found["requires"])),
        status=_status(found["status"]),
        protected=found["protected"],
        retiring=found["retiring"],
        revision=found["revision"],
        at=None if at is None else Position(at["file"], at["line"], at["column"], at["pointer"]),
    )


def _ref(stored: str) -> ResourceRef:
    kind, _, name = stored.partition("/")
    return ResourceRef(kind, name)


def _status(stored: Mapping[str, Json]) -> Status:
    conditions = tuple(map(_condition, stored["conditions"]))
    return Status(stored["observed_generation"], conditions, stored["fees"], stored["payments"], stored["facts"])


def _condition(stored: Mapping[str, Json]) -> Condition:
    since = datetime.fromisoformat(stored["since"])
    truth = _TRUTH[stored["status"]]
    return Condition(stored["type"], truth, stored["reason"], stored["message"], stored["observed_generation"], since)


def run(row: Row[Any]) -> Run:
    """A run from its row."""
    return Run(row.id, row.key, value(row.subject), row.version, RunState(row.state), row.error, row.began)


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
