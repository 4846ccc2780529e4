"""A record as catalog rows: pure, and tolerant of parts that are not there (yet).

A missing part is None or an empty list, never an invented figure. Amounts are satoshis, scores and
percentages run from 0 to 100.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from reconciler.kinds.dataset import describe
from reconciler.model.canonical import Json
from reconciler.model.errors import ReconcilerError
from reconciler.model.record import Record
from reconciler.model.status import Truth
from reconciler.wire.script import decode_pushdrop

Row = dict[str, Any]

_MONEY = re.compile(r"(\d+)\s*(?:sat|sats|satoshis)?")
# What a probe of a copy says, in the words of `content_distribution.distribution_status`.
_COPY_STATES = {"ok": "available", "missing": "failed", "corrupt": "failed"}
_COPY_WORDS = frozenset({"pending", "syncing", "available", "failed"})


def identity_row(record: Record) -> Row:
    """`producer_identities`, without the columns that time and sales fill."""
    spec = _mapping(record.body.get("spec"))
    row = {
        "producer_id": str(record.ref),
        "identity_key": record.outputs.get("publicKey"),
        "display_name": spec.get("displayName") or record.ref.name,
        "description": spec.get("description"),
        "contact_info": dict(_mapping(spec.get("contact"))),
        "capabilities": _list(spec.get("capabilities")),
        "geographic_regions": _list(spec.get("regions")),
    }
    reputation = _number(record.status.facts.get("reputation"))
    return row if reputation is None else {**row, "reputation_score": _bounded(reputation)}


def advertisement_row(record: Record, now: datetime) -> Row:
    """`producer_advertisements`, without its creation time."""
    spec, tokens = _mapping(record.body.get("spec")), _tokens(record)
    pricing = _pricing(record)
    expires = _first_moment(record.status.facts.get("expires"), record.outputs.get("expires"), _document_expiry(record))
    return {
        "advertisement_id": str(record.ref),
        "producer_id": _producer(spec),
        "service_type": spec.get("serviceType"),
        "capability": spec.get("capability"),
        "ship_advertisement_data": [_host(token, "topic") for token in tokens if token.get("type") == "SHIP"],
        "slap_advertisement_data": [_host(token, "service") for token in tokens if token.get("type") == "SLAP"],
        "pricing_model": pricing.get("model"),
        "base_rate_satoshis": _satoshis(pricing.get("rate")),
        "geographic_scope": _list(spec.get("regions")) or ["global"],
        "availability_sla": _number(_mapping(spec.get("availability")).get("target")),
        "max_consumers": spec.get("maxConsumers"),
        "status": _offer_status(record, expires, now),
        "expires_at": expires,
    }


def content_row(record: Record) -> Row:
    """`published_content`, without the columns that time, sales and the copies fill."""
    spec = _mapping(record.body.get("spec"))
    files = [_mapping(file) for file in _list(record.outputs.get("files")) or _list(record.body.get("files"))]
    single = files[0] if len(files) == 1 else {}
    anchor = next((str(token["outpoint"]) for token in _tokens(record) if token.get("outpoint")), None)
    return {
        "content_id": str(record.ref),
        "producer_id": _producer(spec),
        "uhrp_hash": single.get("sha256") or record.outputs.get("merkleRoot"),
        "title": spec.get("title") or record.ref.name,
        "description": spec.get("description") or _described(record),
        "content_type": spec.get("contentType") or _media_type(files),
        "file_size_bytes": sum(int(file.get("size", 0)) for file in files) if files else None,
        "tags": [str(tag) for tag in _list(spec.get("tags"))],
        "pricing": _pricing(record),
        "license_type": spec.get("license"),
        "version": record.outputs.get("version") or _mapping(record.outputs.get("document")).get("sequence"),
        "brc22_transaction_id": anchor.partition(".")[0] if anchor else None,
        "confirmations": int(_number(record.status.facts.get("confirmations")) or 0),
    }


def copy_rows(record: Record) -> list[Row]:
    """`content_distribution`, one row per host by name; None is what was not learned this time."""
    stored, facts = _mapping(record.outputs.get("replicas")), record.status.facts
    probes, scores = _mapping(facts.get("replicas")), _mapping(facts.get("availability"))
    digests = {file.get("sha256") for file in map(_mapping, _list(record.outputs.get("files")))}
    hosts, regions = sorted({*stored, *probes, *_wanted_hosts(record)}), _regions(record)
    return [
        {
            "distribution_id": f"{record.ref}@{host}",
            "content_id": str(record.ref),
            "overlay_node_id": host,
            "distribution_status": _copy_status(_mapping(probes.get(host)), _mapping(stored.get(host)), digests),
            "replication_factor": _copies_wanted(record),
            "last_sync_at": _moment(_mapping(probes.get(host)).get("checkedAt")),
            "node_response_time_ms": _mapping(probes.get(host)).get("ms"),
            "availability_score": _bounded(_number(scores.get(host))),
            "region": regions.get(host),
            "expires_at": _moment(_paid_until(_mapping(probes.get(host)), _mapping(stored.get(host)))),
            "downloads_per_hour": _mapping(probes.get(host)).get("perHour"),
        }
        for host in hosts
    ]


def _paid_until(probe: Mapping[str, Json], stored: Mapping[str, Json]) -> Json:
    """When the first copy of a host ends: as last seen, else as it was stored; None where nothing is said of an end."""
    kept = [_mapping(copy).get("expires") for copy in stored.values()]
    return probe.get("expires") or min((moment for moment in kept if isinstance(moment, int) and moment), default=None)


def _regions(record: Record) -> dict[str, str]:
    """The region that each storage host of the record's Network declares."""
    spec, using = _mapping(record.body.get("spec")), _mapping(record.body.get("using"))
    hosts = map(_mapping, _list(_mapping(using.get(f"Network/{spec.get('networkRef')}")).get("storage")))
    return {host.get("name") or str(host.get("url")).partition("://")[2]: host["region"] for host in hosts if host.get("region")}


def _described(record: Record) -> str | None:
    """The text made from file facts, where the manifest asks for it."""
    if _mapping(record.body.get("spec")).get("describe") != "auto":
        return None
    try:
        return describe(record.body)
    except (KeyError, TypeError, IndexError):
        return None


def _document_expiry(record: Record) -> Json:
    """Until when some host has promised to keep the signed document: the offer must be renewed by then."""
    digest = str(_mapping(record.outputs.get("document")).get("digest"))
    kept = [_mapping(_mapping(copies).get(digest)).get("expires") for copies in _mapping(record.outputs.get("replicas")).values()]
    return max((moment for moment in kept if isinstance(moment, int)), default=None)


def _copy_status(probe: Mapping[str, Json], stored: Mapping[str, Json], digests: set[Json]) -> str | None:
    """A probe outweighs memory; without one, a copy is as complete as the files that were stored."""
    word = probe.get("state")
    if word in _COPY_STATES or word in _COPY_WORDS:
        return _COPY_STATES.get(str(word), str(word))
    if probe:
        return None
    if not stored:
        return "pending"
    return "available" if digests <= set(stored) else "syncing"


def _copies_wanted(record: Record) -> int:
    decided = record.outputs.get("copies")  # by a rule and by demand
    replicas = decided if decided is not None else _mapping(record.body.get("spec")).get("replicas")
    wanted = replicas.get("min") if isinstance(replicas, Mapping) else replicas
    return wanted if isinstance(wanted, int) else 1


def _wanted_hosts(record: Record) -> set[str]:
    nodes = _list(_mapping(record.body.get("spec")).get("nodes"))
    return {node for node in nodes if isinstance(node, str)}


def _offer_status(record: Record, expires: datetime | None, now: datetime) -> str:
    ready, stalled = record.status.condition("Ready"), record.status.condition("Stalled")
    if record.retiring or (ready is not None and ready.reason == "Withdrawn"):
        return "withdrawn"
    if expires is not None and expires <= now:
        return "expired"
    failed = (ready is not None and ready.status is Truth.FALSE) or (stalled is not None and stalled.status is Truth.TRUE)
    return "error" if failed else "active"


def _host(token: Mapping[str, Json], role: str) -> Row:
    return {
        "outpoint": token.get("outpoint"),
        "host": token.get("domain"),
        role: token.get("name"),
        "signature": _signature(token),
    }


def _signature(token: Mapping[str, Json]) -> str | None:
    """The token's own signature, its last field (BRC-48); null when the script is absent or is no token."""
    try:
        return decode_pushdrop(bytes.fromhex(token["script"])).signature.hex()
    except (KeyError, TypeError, ValueError, ReconcilerError):
        return None


def _pricing(record: Record) -> Row:
    """The plan the resource uses, or its own price as a plan of one rate; empty when it is free."""
    spec = _mapping(record.body.get("spec"))
    plans = {name: plan for name, plan in _mapping(record.body.get("using")).items() if name.startswith("PricePlan/")}
    named = plans.get(f"PricePlan/{spec.get('pricePlanRef')}") or next(iter(plans.values()), None)
    if spec.get("price") is not None:
        return {"model": "per-item", "rate": _satoshis(spec["price"])}
    return dict(_mapping(named))


def _producer(spec: Mapping[str, Json]) -> str | None:
    name = spec.get("identityRef")
    return f"Identity/{name}" if name else None


def _tokens(record: Record) -> list[Mapping[str, Json]]:
    return [_mapping(token) for token in _list(record.outputs.get("tokens"))]


def _media_type(files: Sequence[Mapping[str, Json]]) -> str | None:
    types = {file.get("mediaType") or file.get("media_type") for file in files}
    return types.pop() if len(types) == 1 else None


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Json) -> list[Json]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _satoshis(value: Json) -> int | None:
    """An integer, or text such as `25sat`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _MONEY.fullmatch(value) if isinstance(value, str) else None
    return int(found.group(1)) if found else None


def _number(value: Json) -> float | None:
    """A number, or text such as `99.9%`."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    try:
        return float(value.removesuffix("%")) if isinstance(value, str) else None
    except ValueError:
        return None


def _bounded(score: float | None) -> float | None:
    return None if score is None else max(0.0, min(100.0, score))


def _first_moment(*values: Json) -> datetime | None:
    return next((moment for moment in map(_moment, values) if moment is not None), None)


def _moment(value: Json) -> datetime | None:
    """Unix seconds, or RFC 3339 text that names its zone."""
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except (ValueError, OverflowError, OSError):
        return None
    return moment if moment is not None and moment.tzinfo is not None else None
