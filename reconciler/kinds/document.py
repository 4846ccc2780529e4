"""What the kinds that sign documents share: sealing, storing, naming and finding them.

A document is signed by its owner (BRC-77, anyone may verify), stored on storage hosts by content address,
and its hash is anchored by a descriptor token on `tm_producer` (specs/tm_producer.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from reconciler.controller import Steps, ask
from reconciler.kinds import rent
from reconciler.kinds.network import Net
from reconciler.kinds.token import Wanted, observe_tokens
from reconciler.model.canonical import Json, digest
from reconciler.model.change import Cause, Change, Cost, FieldDelta
from reconciler.model.effect import Attest, Blob, Store
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused, RemoteProtocolError, Unavailable
from reconciler.model.observation import Observation, Present
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.wire import descriptor
from reconciler.wire.keys import ANYONE
from reconciler.wire.uhrp import uhrp_url

if TYPE_CHECKING:
    from reconciler.ports import Reads

# Copies of a signed document when the resource does not say: one host may fail.
DOCUMENT_COPIES = 2
ENVELOPE_TYPE = "application/json"

Document = Mapping[str, Json]
# The attributes of an observation that speak of copies, once somebody looks.
Copies = Callable[[], Awaitable[Mapping[str, Json]]]
# host name -> SHA-256 -> facts
Replicas = dict[str, dict[str, Json]]


def published_as(ref: ResourceRef, outputs: Mapping[str, Json]) -> ResourceRef:
    """The name that the tokens of a record tell, which is not `ref` when the record was given another since."""
    subjects = [token["name"] for token in outputs.get("tokens") or () if token["type"] == "DESCRIPTOR"]
    return ResourceRef.parse(subjects[0]) if subjects else ref


def renamed(was: Record) -> list[FieldDelta]:
    """A delta when what was published tells another name than the record has: only a new version can tell the new one."""
    old = published_as(was.ref, was.outputs)
    return [] if old == was.ref else [FieldDelta("name", old.name, was.ref.name)]


def placement(
    subject: str, hosts: Sequence[Endpoint], copies: int, avoid: Collection[str] = (), held: Collection[str] = ()
) -> tuple[Endpoint, ...]:
    """The hosts that keep `subject`: those that have `held` it first, so that a new name moves nothing, and then by rendezvous
    hashing, so that many subjects spread. Hosts to `avoid` are taken only where there are no others.
    """
    if copies > len(hosts):
        names = ", ".join(h.name for h in hosts) or "none"
        raise Refused(
            "too-few-hosts",
            f"cannot keep {copies} copies of {subject}: the network has {len(hosts)} storage hosts ({names})",
            hint="lower replicas, or add a storage host to the Network",
        )

    def liking(host: Endpoint) -> tuple[bool, bool, bytes]:
        return host.name in avoid, host.name not in held, hashlib.sha256(f"{subject}\n{host.name}".encode()).digest()

    return tuple(sorted(sorted(hosts, key=liking)[:copies], key=lambda host: host.name))


def document_hosts(subject: str, net: Net, avoid: Collection[str] = ()) -> tuple[Endpoint, ...]:
    """Where a document without files of its own is kept; Refused without any storage host."""
    return placement(subject, net.storage, max(1, min(DOCUMENT_COPIES, len(net.storage))), avoid)


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
        hosted = yield from ask(Store(tuple(blobs), host, retention, parallel, _ceiling(host)))
        for blob in blobs:
            facts = hosted[blob.sha256]
            held[host.name][blob.sha256] = {
                "url": url_of(blob.sha256),
                "location": facts["location"],
                "expires": facts["expires"],
                "ms": facts["ms"],
            }
    return held


def _ceiling(host: Endpoint) -> int:
    """Satoshis that one upload may cost on a host; 0 where its Network names none."""
    return int(host.options.get("maxPayment") or 0)


def room(hosts: Sequence[Endpoint], blobs: int = 1) -> Cost:
    """The most that storing so many blobs on each of the hosts may cost."""
    return Cost(payments=sum(_ceiling(host) for host in hosts) * blobs)


def keep_cost(subject: str, net: Net) -> Cost:
    """What `keep` pays storage hosts at most."""
    return room(document_hosts(subject, net))


def blob_of(document: Document) -> Blob:
    """The signed envelope as a blob."""
    return Blob(document["digest"], document["size"], ENVELOPE_TYPE)


def keep(subject: str, net: Net, document: Document) -> Steps[Replicas]:
    """Put a document that stands alone on its hosts."""
    return (yield from store([blob_of(document)], document_hosts(subject, net), rent.DOCUMENT_RENT.minutes))


def upkeep(change: Change, net: Net) -> Steps[dict[str, Json]]:
    """The record's outputs once its document is kept as it should be: prolonged where due, put where it is not.

    A host that declined to prolong is left for another by the next plan, which knows what that takes.
    """
    assert change.before is not None
    before, document = change.before.outputs, change.before.outputs["document"]
    hosts = document_hosts(str(change.ref), net, rent.forgiving(change))
    longer, declined = yield from rent.renew(change, hosts, rent.DOCUMENT_RENT)
    known = {host.name: before["replicas"].get(host.name, {}) for host in hosts}
    lacking = [host for host in hosts if not known[host.name] or broken(change.seen, host.name)]
    held = yield from store([blob_of(document)], lacking, rent.DOCUMENT_RENT.minutes)
    return rent.remembered({**before, "replicas": merge(rent.prolonged(known, longer), held)}, declined)


def upkeep_cost(change: Change, net: Net) -> Cost:
    """What `upkeep` pays storage hosts at most."""
    avoided = rent.forgiving(change)
    hosts = document_hosts(str(change.ref), net, avoided)
    held: Mapping[str, Json] = (change.before.outputs.get("replicas") or {}) if change.before is not None else {}
    lacking = [host for host in hosts if not held.get(host.name) or broken(change.seen, host.name)]
    return Cost(payments=rent.owed(change.seen, [host.name for host in hosts], avoided)) + room(lacking)


def copy_drift(was: Record, seen: Present, net: Net, name: str) -> list[FieldDelta]:
    """How the copies of a document that stands alone left the record, and which of them end soon."""
    names = {was.outputs["document"]["digest"]: name}
    avoided = rent.refusing(was.outputs, seen.attributes)
    hosts = [host.name for host in document_hosts(str(was.ref), net, avoided)]
    lacking = unplaced(was.outputs["replicas"], hosts)
    return [*replica_drift(seen, names), *rent.drift(seen, hosts, avoided, names), *lacking]


def unplaced(replicas: Mapping[str, Json], hosts: Sequence[str]) -> list[FieldDelta]:
    """A delta for every host that should keep a copy and was never given one."""
    return [FieldDelta(f"replicas.{host}", "kept", "not kept", Cause.DRIFT) for host in hosts if host not in replicas]


async def observed(was: Record, queries: Mapping[str, Json], net: Net, reads: Reads, copies: Copies | None = None) -> Observation:
    """A record's tokens and, where those are there, its copies: by `copies`, or those of a document that stands alone."""
    seen = await observe_tokens(was.outputs["tokens"], queries, net, reads, was.status.facts)
    return await with_copies(seen, copies or (lambda: copies_of(was, net, reads)))


async def with_copies(seen: Observation, copies: Copies) -> Observation:
    """What was seen of tokens, completed by what is seen of copies; without the tokens nobody looks for those."""
    return Present({**seen.attributes, **(await copies())}) if isinstance(seen, Present) else seen


async def copies_of(was: Record, net: Net, reads: Reads) -> dict[str, Json]:
    """The copies of a document that stands alone, read back; those that end soon with the price of more time."""
    view = await observe_replicas(was.outputs.get("replicas") or {}, net, reads)
    document = was.outputs.get("document")
    sizes = {document["digest"]: document["size"]} if document else {}
    return {"replicas": await rent.priced(view, sizes, rent.DOCUMENT_RENT, net, reads)}


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
        if _is_broken(state)
    ]
    return sorted(found, key=lambda delta: delta.path)


def broken(seen: Mapping[str, Json], host: str) -> set[str]:
    """The digests that the observation found missing or corrupt on a host."""
    copies = (seen.get("replicas") or {}).get(host) or {}
    return {sha256 for sha256, state in copies.items() if _is_broken(state)}


def _is_broken(copy: Mapping[str, Json]) -> bool:
    """Gone or changed, and not to be borne for a while yet."""
    return copy["state"] in ("missing", "corrupt") and not copy.get("waits")
