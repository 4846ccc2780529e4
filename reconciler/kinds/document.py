"""What the kinds that sign documents share: sealing, storing, naming and finding them.

A document is signed by its owner (BRC-77, anyone may verify), stored on storage hosts by content address,
and its hash is anchored by a descriptor token on `tm_producer` (specs/tm_producer.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from reconciler.controller import Steps, ask
from reconciler.kinds.network import Net
from reconciler.kinds.token import Wanted
from reconciler.model.canonical import Json, digest
from reconciler.model.change import Cause, Change, FieldDelta
from reconciler.model.effect import Attest, Blob, Endpoint, Store
from reconciler.model.errors import Refused, RemoteProtocolError, Unavailable
from reconciler.model.observation import Present
from reconciler.ports import Reads
from reconciler.wire import descriptor
from reconciler.wire.keys import ANYONE
from reconciler.wire.uhrp import uhrp_url

# Copies of a signed document when the resource does not say: one host may fail.
DOCUMENT_COPIES = 2
ENVELOPE_TYPE = "application/json"
# 180 days in minutes, the unit in which storage hosts rent (a Dataset may say otherwise).
DOCUMENT_RETENTION = 180 * 24 * 60

Document = Mapping[str, Json]
# host name -> SHA-256 -> facts
Replicas = dict[str, dict[str, Json]]


def placement(subject: str, hosts: Sequence[Endpoint], copies: int) -> tuple[Endpoint, ...]:
    """The hosts that keep `subject`: rendezvous hashing, so that adding a host moves as little as possible."""
    if copies > len(hosts):
        names = ", ".join(h.name for h in hosts) or "none"
        raise Refused(
            "too-few-hosts",
            f"cannot keep {copies} copies of {subject}: the network has {len(hosts)} storage hosts ({names})",
            hint="lower replicas, or add a storage host to the Network",
        )
    ranked = sorted(hosts, key=lambda host: hashlib.sha256(f"{subject}\n{host.name}".encode()).digest())
    return tuple(sorted(ranked[:copies], key=lambda host: host.name))


def document_hosts(subject: str, net: Net) -> tuple[Endpoint, ...]:
    """Where a document without files of its own is kept; Refused without any storage host."""
    return placement(subject, net.storage, max(1, min(DOCUMENT_COPIES, len(net.storage))))


def fresh(core: Mapping[str, Json], old: Document | None) -> bool:
    """Whether the statement differs from the one on record, so that a new document must be anchored."""
    return old is None or old["content"] != digest(core)


def seal(owner: str, core: Mapping[str, Json], old: Document | None, previous: str | None) -> Steps[Document]:
    """Sign the statement with its place in the version chain; returns what the record keeps of it."""
    sequence = 1 if old is None else int(old["sequence"]) + 1
    signed = yield from ask(Attest(owner, {**core, "sequence": sequence, "previous": previous}))
    return {
        "digest": signed["digest"],
        "size": signed["size"],
        "url": url_of(signed["digest"]),
        "content": digest(core),
        "sequence": sequence,
    }


def url_of(sha256: str) -> str:
    """The address that works on any host."""
    return f"uhrp://{uhrp_url(sha256)}"


def anchor(owner: str, public_key: str | None, subject: str, document: Document | None, sequence: int) -> Wanted:
    """The descriptor token of a document; with unknowns left out it has the right size, which is all a price needs."""
    sha256 = document["digest"] if document else "00" * 32
    what = descriptor.Descriptor(
        identity=bytes.fromhex(public_key) if public_key else ANYONE,
        subject=subject,
        digest=sha256,
        url=url_of(sha256),
        version=sequence,
    )
    return Wanted(
        type="DESCRIPTOR",
        name=subject,
        topic=descriptor.TOPIC,
        service=descriptor.SERVICE,
        fields=descriptor.fields(what),
        protocol=descriptor.PROTOCOL,
        key_id=subject,
        owner=owner,
    )


def store(blobs: Sequence[Blob], hosts: Sequence[Endpoint], retention: int, parallel: int = 1) -> Steps[Replicas]:
    """Put every blob on every host; returns {host: {sha256: {"url", "location", "expires", "ms"}}}."""
    held: Replicas = {host.name: {} for host in hosts}
    for host in hosts if blobs else ():
        hosted = yield from ask(Store(tuple(blobs), host, retention, parallel))
        for blob in blobs:
            facts = hosted[blob.sha256]
            held[host.name][blob.sha256] = {
                "url": url_of(blob.sha256),
                "location": facts["location"],
                "expires": facts["expires"],
                "ms": facts["ms"],
            }
    return held


def blob_of(document: Document) -> Blob:
    """The signed envelope as a blob."""
    return Blob(document["digest"], document["size"], ENVELOPE_TYPE)


def keep(subject: str, net: Net, document: Document) -> Steps[Replicas]:
    """Put a document that stands alone on its hosts."""
    return (yield from store([blob_of(document)], document_hosts(subject, net), DOCUMENT_RETENTION))


def rekeep(change: Change, net: Net, document: Document) -> Steps[Replicas]:
    """Put a document back on those of its hosts that were seen to lack it."""
    hosts = [host for host in document_hosts(str(change.ref), net) if broken(change.seen, host.name)]
    return (yield from store([blob_of(document)], hosts, DOCUMENT_RETENTION))


def merge(old: Mapping[str, Json], new: Mapping[str, Json]) -> Replicas:
    """Two maps host -> sha256 -> facts, the newer winning."""
    return {host: {**old.get(host, {}), **new.get(host, {})} for host in sorted({*old, *new})}


async def observe_replicas(replicas: Mapping[str, Json], net: Net, reads: Reads) -> dict[str, Json]:
    """{host: {sha256: {"state": ok | missing | corrupt | unreachable, "ms", "expires"}}} read back from each host."""
    by_name = {host.name: host for host in net.storage}
    wanted = [(name, sha256) for name in sorted(replicas) for sha256 in sorted(replicas[name])]
    states = await reads.together([_replica(reads, by_name.get(name), sha256) for name, sha256 in wanted])
    view: dict[str, Json] = {}
    for (name, sha256), state in zip(wanted, states, strict=True):
        view.setdefault(name, {})[sha256] = state
    return view


async def _replica(reads: Reads, host: Endpoint | None, sha256: str) -> Mapping[str, Json]:
    if host is None:
        return {"state": "unlisted"}
    try:
        return await reads.storage.check(host, sha256)
    except (Unavailable, RemoteProtocolError, Refused) as error:
        return {"state": "unreachable", "why": error.message}


def replica_drift(seen: Present, names: Mapping[str, str]) -> list[FieldDelta]:
    """A delta for every copy that is gone or changed; `names` gives a readable name to a digest."""
    found = [
        FieldDelta(f"replicas.{host}.{names.get(sha256, sha256[:12])}", "ok", state["state"], Cause.DRIFT)
        for host, copies in (seen.attributes.get("replicas") or {}).items()
        for sha256, state in copies.items()
        if state["state"] in ("missing", "corrupt")
    ]
    return sorted(found, key=lambda delta: delta.path)


def broken(seen: Mapping[str, Json], host: str) -> set[str]:
    """The digests that the observation found missing or corrupt on a host."""
    copies = (seen.get("replicas") or {}).get(host) or {}
    return {sha256 for sha256, state in copies.items() if state["state"] in ("missing", "corrupt")}
