"""A record as others read it: the envelope with its status, the results a script wants, the cells of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reconciler.model.canonical import Json, digest
from reconciler.model.codec import encode, timestamp
from reconciler.model.record import Record
from reconciler.model.ref import Outpoint
from reconciler.model.status import Condition, Truth
from reconciler.planner.diff import redact

if TYPE_CHECKING:
    from reconciler.ports import StoredTx

API_VERSION = "overlay.bsv/v1alpha1"
# Conditions that speak of trouble; their message ends a line of the status table.
_TROUBLE = ("Stalled", "Reconciling", "Drifted")


def results(record: Record) -> dict[str, Json]:
    """What a script asks for after an apply: content id, addresses, keys, the transaction that anchors it."""
    outputs, found = record.outputs, dict[str, Json]()
    if record.ref.kind == "Identity":
        found |= {"producerId": str(record.ref), "publicKey": outputs.get("publicKey"), "identityKey": outputs.get("publicKey")}
    if record.ref.kind == "Dataset":
        files = outputs.get("files") or []
        found |= {
            "contentId": str(record.ref),
            "uhrpHash": files[0]["sha256"] if len(files) == 1 else outputs.get("merkleRoot"),
            "uhrp": {file["path"]: file["uhrp"] for file in files},
        }
    if document := outputs.get("document"):
        found["document"] = document["url"]
    if tokens := outputs.get("tokens"):
        anchor = next((token for token in tokens if token["type"] == "DESCRIPTOR"), tokens[0])
        found |= {"transactionId": Outpoint.parse(anchor["outpoint"]).txid, "outpoint": anchor["outpoint"]}
        found["tokens"] = [{key: token[key] for key in ("type", "name", "outpoint")} for token in tokens]
    return found


def envelope(record: Record, transactions: Mapping[str, StoredTx], history: Sequence[Mapping[str, Json]] = ()) -> dict[str, Json]:
    """The manifest's envelope with its status, secrets replaced by digests."""
    status = {
        "uid": record.uid,
        "generation": record.generation,
        "observedGeneration": record.status.observed_generation,
        "specDigest": f"sha256:{digest(redact(record.body['spec']))}",
        "revision": record.revision,
        "identity": results(record),
        "hosts": [{"host": name, "state": "InSync" if fine else "Drifted"} for name, fine in sorted(host_sync(record).items())],
        "replicas": replicas(record),
        "transactions": [
            {"txid": txid, "state": stored.state, "height": stored.height or None} for txid, stored in transactions.items()
        ],
        "cost": {"feesSat": record.status.fees, "paymentsSat": record.status.payments},
        "conditions": [condition(one) for one in record.status.conditions],
        "history": [{"at": one["at"], "event": one["event"], **one["detail"]} for one in history],
    }
    return {
        "apiVersion": API_VERSION,
        "kind": record.ref.kind,
        "metadata": {"name": record.ref.name},
        "spec": redact(encode(record.body["spec"])),
        "status": status,
    }


def condition(one: Condition) -> dict[str, Json]:
    """A condition in the Kubernetes shape."""
    return {
        "type": one.type,
        "status": one.status.value,
        "reason": one.reason,
        "message": one.message,
        "observedGeneration": one.observed_generation,
        "lastTransitionTime": timestamp(one.since),
    }


def host_sync(record: Record) -> dict[str, bool]:
    """Hosts that should have something of it, and whether they had at the last look."""
    drifted = record.status.condition("Drifted")
    paths = drifted.message.split(", ") if drifted is not None and drifted.status is Truth.TRUE else []
    lost = {path.split(".")[1] for path in paths if path.startswith(("hosts.", "replicas.")) and path.count(".") > 1}
    hosts = set(record.outputs.get("replicas") or {})
    if record.outputs.get("tokens"):
        net = record.body["using"].get(f"Network/{record.body['spec'].get('networkRef')}") or {}
        hosts |= {host.get("name") or host["url"] for host in net.get("overlays") or ()}
    return {host: host not in lost for host in hosts}


def replicas(record: Record) -> list[dict[str, Json]]:
    """Each storage host as it was last seen: state of its copies, reading time, share of sound looks, end of the paid time."""
    facts, stored = record.status.facts, record.outputs.get("replicas") or {}
    seen, scores = facts.get("replicas") or {}, facts.get("availability") or {}
    words = {"ok": "available", "missing": "failed", "corrupt": "failed", "waiting": "syncing"}
    shown: list[dict[str, Json]] = []
    for host in sorted({*seen, *stored}):
        look = seen.get(host) or {}
        ends = look.get("expires") or min((copy["expires"] for copy in (stored.get(host) or {}).values()), default=0)
        shown.append(
            {
                "host": host,
                "state": words.get(str(look.get("state")), look.get("state") or "pending"),
                "responseMs": look.get("ms"),
                "availability": scores.get(host),
                "checkedAt": look.get("checkedAt"),
                "expires": timestamp(datetime.fromtimestamp(ends, UTC)) if ends else None,
            }
        )
    return shown


def txids_of(record: Record) -> list[str]:
    """The transactions behind a record's tokens, in the order of the tokens."""
    return list(dict.fromkeys(Outpoint.parse(token["outpoint"]).txid for token in record.outputs.get("tokens") or ()))


def readiness(record: Record) -> tuple[str, str, str]:
    """(ready, reason, message): the Ready condition, with the message of whatever is wrong."""
    ready = record.status.condition("Ready")
    trouble = next((c for t in _TROUBLE if (c := record.status.condition(t)) is not None and c.status is Truth.TRUE), None)
    state = ready.status.value if ready is not None else "-"
    reason = (trouble or ready).reason if (trouble or ready) else "-"  # type: ignore[union-attr]
    return state, reason, trouble.message if trouble else ""


def row(record: Record, transactions: Mapping[str, StoredTx], now: datetime) -> tuple[str, ...]:
    """The cells of the status table."""
    state, reason, message = readiness(record)
    hosts, txs = host_sync(record), [transactions[txid] for txid in txids_of(record) if txid in transactions]
    mined = sum(one.state == "mined" for one in txs)
    ready = record.status.condition("Ready")
    return (
        str(record.ref),
        state,
        reason,
        f"{record.status.observed_generation}/{record.generation}",
        f"{sum(hosts.values())}/{len(hosts)}" if hosts else "-",
        f"{mined}/{len(txs)}" if txs else "-",
        age((now - ready.since).total_seconds()) if ready else "-",
        str(record.status.fees + record.status.payments),
        message,
    )


def paused(record: Record, now: datetime) -> str:
    """That a person suspended it, why, who and until when; empty when nobody did, or it is over."""
    from reconciler.engine.pause import pause_of

    found = pause_of(record)
    if found is None or not found.live(now):
        return ""
    return f"suspended by {found.by}: {found.reason}" + (f" (until {timestamp(found.until)})" if found.until else "")


def age(seconds: float) -> str:
    """A span as a table shows it: its largest whole unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"
