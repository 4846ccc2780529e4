"""Adoption: what a record must have said of a resource, read off the tokens and signed documents that the network shows of it.

A token names its owner, its subject, its version and the hash of a document that the owner signed. All of that is verified
here or by whoever stores the result; nothing is signed, sent or paid. Where the document says something else than the
manifests do now, the body is put back to what the document says, so that the next plan shows the difference as an edit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.kinds import advertisement, audit, dataset, identity, lookups, placement
from reconciler.kinds import document as documents
from reconciler.kinds.network import Net, net_of
from reconciler.kinds.token import Token
from reconciler.model.canonical import Json, digest
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Conflict, Refused, RemoteProtocolError, Unavailable
from reconciler.model.ref import Outpoint
from reconciler.model.resource import Resource
from reconciler.ports import Reads
from reconciler.wire import descriptor
from reconciler.wire.beef import parse_beef
from reconciler.wire.document import open_envelope

# The bytes of a signed document by hash, from wherever they are; None where nobody has them.
Content = Callable[[Net, str], Awaitable[bytes | None]]
Body = Mapping[str, Any]
# What a document says of its place among versions rather than of the resource.
_PLACE = ("sequence", "previous")
# The name of a price that a document states and no manifest names any more.
_UNNAMED = "no-longer-declared"


@dataclass(frozen=True, slots=True)
class Adopted:
    """A resource as it was published: the body and outputs of its record, its version, and the BEEF of every token."""

    body: Body
    outputs: Mapping[str, Any]
    version: int = 1
    proofs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Sealed:
    """The newest live descriptor of a subject and the document it anchors; `tokens` are all live ones, newest first."""

    document: Mapping[str, Json]
    core: Mapping[str, Any]
    previous: str | None
    tokens: tuple[Token, ...]
    proofs: Mapping[str, bytes]

    @property
    def version(self) -> int:
        return int(self.document["sequence"])


async def adopt(want: Resource, body: Body, reads: Reads, content: Content) -> Adopted | None:
    """The resource as the network shows it; None where it shows nothing of ours. `body` is what is asked for now.

    Refused where a token is there and what it rests on cannot be had; RemoteProtocolError where a document is not what its
    token says; Conflict where somebody else signed it.
    """
    owner = owner_of(want)
    key = reads.wallet.public_key(owner)
    sealed = await _sealed(want, owner, key, net_of(body), reads, content)
    if sealed is None:
        return None
    kind, name = want.ref
    stated, restated = _KINDS[kind]
    if digest(stated(name, body, key)) != digest(sealed.core):
        body = restated(body, sealed.core)
        if digest(stated(name, body, key)) != digest(sealed.core):
            hint = f"retire it (reconciler destroy --target {want.ref}) with the program that made it"
            raise Refused("cannot-restate", f"cannot adopt {want.ref}: its document says what no manifest can say", hint=hint)
    more = await _MORE[kind](want, body, key, sealed, reads, content)
    outputs = {"publicKey": key, "document": sealed.document, "tokens": list(sealed.tokens), **more.outputs}
    return Adopted(more.body, outputs, sealed.version, {**sealed.proofs, **more.proofs})


def knows(kind: str) -> bool:
    """Whether things of this kind can be told from their tokens."""
    return kind in _KINDS


def owner_of(want: Resource) -> str:
    """The name of the key that signs for a resource."""
    return want.ref.name if want.ref.kind == "Identity" else str(want.spec["identityRef"])


def unregistered(want: Resource, body: Body, reads: Reads) -> Adopted:
    """An Identity of which there is a key and nothing on the network."""
    spec = {**want.spec, "register": False}
    outputs = {**_keys(want, reads), "document": None, "tokens": [], "replicas": {}}
    return Adopted({**body, "spec": spec} if want.spec.get("register") else body, outputs)


async def require_ours(want: Resource, net: Net, outpoint: str, reads: Reads) -> None:
    """Conflict, naming the owner, unless the token at `outpoint` describes this resource and our key made it."""
    key = reads.wallet.public_key(owner_of(want))
    question = lookups.Question(
        descriptor.SERVICE, {"outpoint": outpoint}, lambda script: bool(descriptor.parse_descriptor(script))
    )
    found = await lookups.shown(reads, net, question)
    if outpoint not in found:
        raise Refused("not-found", f"cannot import {want.ref}: no host of Network/{net.name} lists {outpoint}")
    said = _descriptor_at(found[outpoint], outpoint)
    if said.identity.hex() != key:
        raise Conflict("other-owner", f"cannot import {want.ref}: {outpoint} belongs to {said.identity.hex()}, not to {key}")
    if said.subject != str(want.ref):
        raise Conflict("other-subject", f"cannot import {want.ref}: {outpoint} describes {said.subject}")


# --- the token and its document ------------------------------------------------------------------------


async def _sealed(want: Resource, owner: str, key: str, net: Net, reads: Reads, content: Content) -> _Sealed | None:
    subject = str(want.ref)
    shown = await lookups.shown(reads, net, lookups.of_subject(key, subject))
    if not shown:
        return None
    said = {outpoint: _descriptor_at(beef, outpoint) for outpoint, beef in shown.items()}
    order = sorted(said, key=lambda outpoint: (-said[outpoint].version, Outpoint.parse(outpoint)))
    newest = said[order[0]]
    envelope = await content(net, newest.digest)
    if envelope is None:
        hint = "bring back a storage host that keeps it, or the blobs of the lost state directory"
        raise Refused("no-document", f"cannot adopt {subject}: nobody has its document {newest.digest}", hint=hint)
    document, signer = open_envelope(envelope)
    if signer != key:
        raise Conflict("other-owner", f"cannot adopt {subject}: its document is signed by {signer}, not by {key}")
    if document.get("sequence") != newest.version:
        raise RemoteProtocolError(f"cannot adopt {subject}: token and document are of different versions")
    core = {name: value for name, value in document.items() if name not in _PLACE}
    kept = {
        "digest": newest.digest,
        "size": len(envelope),
        "url": newest.url,
        "content": digest(core),
        "sequence": newest.version,
    }
    tokens = tuple(documents.anchor(owner, key, subject, kept, said[o].version).recorded(o) for o in order)
    return _Sealed(kept, core, document.get("previous"), tokens, shown)


def _descriptor_at(beef: bytes, outpoint: str) -> descriptor.Descriptor:
    at = Outpoint.parse(outpoint)
    return descriptor.parse_descriptor(parse_beef(beef).transaction(at.txid).outputs[at.vout].script)


async def _copies(net: Net, hosts: Sequence[Endpoint], digests: Sequence[str], reads: Reads) -> dict[str, dict[str, Json]]:
    """What hosts keep of these, read back. A host counts that keeps the first, which is the document."""
    pairs = [(host, sha256) for host in hosts for sha256 in digests]
    looked = await reads.together([_copy(reads, host, sha256) for host, sha256 in pairs])
    held: dict[str, dict[str, Json]] = {}
    for (host, sha256), copy in zip(pairs, looked, strict=True):
        if copy is not None and (sha256 == digests[0] or host.name in held):
            held.setdefault(host.name, {})[sha256] = copy
    return held


async def _copy(reads: Reads, host: Endpoint, sha256: str) -> dict[str, Json] | None:
    try:
        look = await reads.storage.check(host, sha256)
        found = await reads.storage.find(host, sha256) if look["state"] == "ok" else None
    except (Unavailable, RemoteProtocolError, Refused):
        return None
    if found is None:
        return None
    return {"url": documents.url_of(sha256), "location": found.location, "expires": found.expires, "ms": look["ms"]}


# --- what each kind keeps besides ----------------------------------------------------------------------


def _keys(want: Resource, reads: Reads) -> dict[str, Json]:
    names = [subkey["name"] for subkey in want.spec.get("subkeys") or ()]
    subkeys = {name: reads.wallet.public_key(f"{want.ref.name}#{name}") for name in names}
    return {"publicKey": reads.wallet.public_key(want.ref.name), "subkeys": subkeys}


async def _alone(want: Resource, body: Body, key: str, sealed: _Sealed, reads: Reads, content: Content) -> Adopted:
    """A document that stands alone."""
    net = net_of(body)
    hosts = documents.document_hosts(str(want.ref), net)
    outputs: dict[str, Any] = {"replicas": await _copies(net, hosts, [sealed.document["digest"]], reads)}
    return Adopted(body, outputs | (_keys(want, reads) if want.ref.kind == "Identity" else {}))


async def _advertised(want: Resource, body: Body, key: str, sealed: _Sealed, reads: Reads, content: Content) -> Adopted:
    """The SHIP and SLAP tokens that its document names, as far as they are there; the others the next plan makes."""
    net, tokens = net_of(body), list(sealed.tokens)
    proofs: dict[str, bytes] = {}
    there: dict[str, list[str]] = {"SHIP": [], "SLAP": []}
    for one in advertisement.adverts(body, key, net):
        shown = await lookups.shown(reads, net, lookups.of_advert(key, one.type, one.service, one.name, net.public_url))
        tokens += [one.recorded(outpoint) for outpoint in shown]
        proofs |= shown
        there[one.type] += [one.name] if shown else []
    spec = {**body["spec"]}
    for field_, type_ in (("ship", "SHIP"), ("slap", "SLAP")):
        if list(spec.get(field_) or ()) != there[type_]:
            spec[field_] = there[type_]
    alone = await _alone(want, body, key, sealed, reads, content)
    ordered = sorted(tokens, key=lambda t: (t["type"], t["name"]))
    return Adopted({**body, "spec": spec}, {**alone.outputs, "domain": net.public_url, "tokens": ordered}, proofs=proofs)


async def _published(want: Resource, body: Body, key: str, sealed: _Sealed, reads: Reads, content: Content) -> Adopted:
    """Files and where they are kept, and the tokens of the versions before."""
    net, subject, ruled = net_of(body), str(want.ref), placement.rule_in(body)
    hosts = net.storage if ruled else documents.placement(subject, net.storage, body["spec"].get("replicas", 1))
    files = dataset.entries(body)
    digests = [str(sealed.document["digest"]), *dict.fromkeys(str(file["sha256"]) for file in files)]
    replicas = await _copies(net, hosts, digests, reads)
    outputs: dict[str, Any] = {
        "files": files,
        "merkleRoot": dataset.merkle_root(files),
        "previous": await _before(sealed, key, subject, net, reads, content),
        "replicas": replicas,
    }
    if ruled:
        outputs["copies"] = placement.bounded(ruled[0], len(replicas))
    return Adopted(body, outputs)


async def _before(sealed: _Sealed, key: str, subject: str, net: Net, reads: Reads, content: Content) -> list[str]:
    """The tokens of earlier versions, oldest first, as far back as the index of the header source and the documents go."""
    found: list[str] = []
    at = sealed.previous
    while at is not None and at not in found and len(found) < sealed.version:
        found.append(at)
        try:
            said = _descriptor_at(await reads.chain.beef(Outpoint.parse(at).txid, net.headers), at)
            envelope = await content(net, said.digest)
            if envelope is None or (said.identity.hex(), said.subject) != (key, subject):
                break
            at = open_envelope(envelope)[0].get("previous")
        except (Unavailable, Refused, RemoteProtocolError, IndexError):
            break
    return found[::-1]


# --- a body that says what a document says -------------------------------------------------------------


def _said(spec: Mapping[str, Json], names: Sequence[str], core: Mapping[str, Json]) -> dict[str, Json]:
    """The spec with these fields as the document has them; what neither has stays as it is."""
    out = dict(spec)
    for name in names:
        if name in core:
            out[name] = core[name]
        elif spec.get(name) not in (None, [], {}):
            del out[name]
    return out


def _priced(spec: dict[str, Json], using: Mapping[str, Json], price: Json) -> dict[str, Json]:
    """`using` with the price that a document states; the spec is made to name it."""
    ref, rest = spec.get("pricePlanRef"), dict(using)
    if price is None:
        rest.pop(f"PricePlan/{spec.pop('pricePlanRef', None)}", None)
    elif ref is None:
        spec["pricePlanRef"] = _UNNAMED
        rest[f"PricePlan/{_UNNAMED}"] = price
    else:
        rest[f"PricePlan/{ref}"] = price
    return rest


def _as_identity(body: Body, core: Mapping[str, Json]) -> Body:
    return {**body, "spec": _said(body["spec"], identity.PROFILE, core)}


def _as_audit(body: Body, core: Mapping[str, Json]) -> Body:
    return {**body, "spec": {**body["spec"], **{name: core[name] for name in audit.STATED if name in core}}}


def _as_advertisement(body: Body, core: Mapping[str, Any]) -> Body:
    spec = _said(body["spec"], advertisement.TERMS, core)
    offers = [dict(zip(("kind", "name"), offer.split("/", 1), strict=True)) for offer in core.get("offers") or ()]
    if offers != [dict(item) for item in spec.get("for") or ()]:
        spec["for"] = offers
    using = _priced(spec, body["using"], core.get("price"))
    net, place = net_of(body), f"Network/{spec['networkRef']}"
    if core.get("url") != net.public_url:
        using[place] = {**using[place], "gateway": {**(using[place].get("gateway") or {}), "publicUrl": core.get("url") or ""}}
    return {**body, "spec": spec, "using": using}


def _as_dataset(body: Body, core: Mapping[str, Any]) -> Body:
    spec = _said(body["spec"], dataset.SAID, core)
    price: Any = core.get("price")
    own = isinstance(price, Mapping) and set(price) == {"model", "rate"} and price["model"] == "per-item"
    if own and not spec.get("pricePlanRef"):
        spec["price"], using = price["rate"], dict(body["using"])
    else:
        spec.pop("price", None)
        using = _priced(spec, body["using"], price)
    files = body["files"]
    if dataset.entries({"spec": spec, "files": files}) != core.get("files"):
        facts = [(f["path"], f["size"], f["sha256"], f["mediaType"]) for f in core.get("files") or ()]
        files = [{"path": p, "size": s, "sha256": h, "media_type": m, "details": {}} for p, s, h, m in facts]
    restated = {**body, "spec": spec, "files": files, "using": using}
    text = dataset.describe(restated) if spec.get("describe") == "auto" else spec.get("description")
    if text != core.get("description"):
        spec.pop("describe", None)
        spec.pop("description", None)
        spec |= {"description": core["description"]} if core.get("description") else {}
    return restated


def _service(name: str, body: Body, key: str) -> Mapping[str, Json]:
    return advertisement.service(name, body, key, net_of(body))


_Stated = Callable[[str, Body, str], Mapping[str, Json]]
_Restated = Callable[[Body, Mapping[str, Any]], Body]
# What the document of a kind states, and how a body is made to say what a document states.
_KINDS: Mapping[str, tuple[_Stated, _Restated]] = {
    "Identity": (identity.profile, _as_identity),
    "Advertisement": (_service, _as_advertisement),
    "Dataset": (dataset.manifest, _as_dataset),
    audit.KIND: (audit.statement, _as_audit),
}
_MORE: Mapping[str, Callable[[Resource, Body, str, _Sealed, Reads, Content], Awaitable[Adopted]]] = {
    "Identity": _alone,
    "Advertisement": _advertised,
    "Dataset": _published,
    audit.KIND: _alone,
}
