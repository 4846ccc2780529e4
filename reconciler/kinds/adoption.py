"""Adoption: what a record must have said of a resource, read off the tokens and signed documents that the network shows of it.

A token names its owner, its subject, its version and the hash of a document that the owner signed. All of that is verified
here or by whoever stores the result; nothing is signed, sent or paid. Where the document says something else than the
manifests do now, the body is put back to what the document says, so that the next plan shows the difference as an edit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.kinds import (
    adoption_keys,
    advertisement,
    audit,
    dataset,
    identity,
    identity_keys,
    lookups,
    placement,
    restating,
    versions,
)
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


@dataclass(frozen=True, slots=True)
class Adopted:
    """A resource as it was published: the body and outputs of its record, its version, and the BEEF of every token."""

    body: Body
    outputs: Mapping[str, Any]
    version: int = 1
    proofs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Sealed:
    """The newest live descriptor of a subject and the document it anchors; `said` are all live ones, newest first."""

    document: Mapping[str, Json]
    full: Mapping[str, Any]
    signer: str
    said: Mapping[str, descriptor.Descriptor]
    proofs: Mapping[str, bytes]

    @property
    def core(self) -> Mapping[str, Any]:
        """The statement without its place among versions."""
        return {name: value for name, value in self.full.items() if name not in _PLACE}

    @property
    def previous(self) -> str | None:
        return self.full.get("previous")

    def tokens(self, subject: str, names: Mapping[str, str]) -> list[Token]:
        """As a record keeps them; `names` are those of the keys that made them, by public key."""
        return [
            documents.anchor(names[one.identity.hex()], one.identity.hex(), subject, self.document, one.version).recorded(
                outpoint
            )
            for outpoint, one in self.said.items()
        ]

    @property
    def version(self) -> int:
        return int(self.document["sequence"])


async def adopt(want: Resource, body: Body, reads: Reads, content: Content) -> Adopted | None:
    """The resource as the network shows it; None where it shows nothing of ours. `body` is what is asked for now.

    An Identity comes with all its keys; anything else with the one that signed it, which may be a key that was replaced.

    Refused where a token is there and what it rests on cannot be had; RemoteProtocolError where a document is not what its
    token says; Conflict where somebody else signed it.
    """
    names = signers(want, reads)
    sealed = await _sealed(want, names, net_of(body), reads, content)
    if sealed is None:
        return None
    kind, key, kept = want.ref.kind, sealed.signer, list[identity_keys.Key]()
    if kind == "Identity":
        live = {one.identity.hex() for one in sealed.said.values()}
        kept = adoption_keys.ring(want, sealed.full, key, names[key], live, reads)
        body = {**body, "spec": adoption_keys.applied(body["spec"], kept)}
    elif identity.key_in(body) != key:
        body = _signed_by(body, key, names[key])
    body = restating.restated(want.ref, body, sealed.core, key, kept)
    more = await _MORE[kind](want, body, key, sealed, reads, content)
    owners = {**names, **{one["publicKey"]: one["name"] for one in kept}}
    outputs = {"publicKey": key, "document": sealed.document, "tokens": sealed.tokens(str(want.ref), owners), **more.outputs}
    if kind == "Identity":
        outputs |= {**_keys(want, names[key], reads), **({"keys": kept} if kept else {})}
    return Adopted(more.body, outputs, sealed.version, {**sealed.proofs, **more.proofs})


def _signed_by(body: Body, key: str, handle: str) -> Body:
    """The body as it was under an earlier key of its Identity: the next plan rolls it over to the present one."""
    name = body["spec"]["identityRef"]
    exported = {"publicKey": key, **({"key": handle} if handle != name else {})}
    return {**body, "using": {**body["using"], f"Identity/{name}": exported}}


def knows(kind: str) -> bool:
    """Whether things of this kind can be told from their tokens."""
    return kind in restating.KINDS


def signers(want: Resource, reads: Reads) -> dict[str, str]:
    """Public key -> its name, of every key at hand that can have signed a resource."""
    if want.ref.kind == "Identity":
        return identity_keys.signers(want.ref.name, reads, ())
    name = str(want.spec["identityRef"])
    return identity_keys.signers(name, reads, identity_keys.recorded(name, reads))


def unregistered(want: Resource, body: Body, reads: Reads) -> Adopted:
    """An Identity of which there is a key and nothing on the network."""
    spec = {**want.spec, "register": False}
    outputs = {**_keys(want, want.ref.name, reads), "document": None, "tokens": [], "replicas": {}}
    return Adopted({**body, "spec": spec} if want.spec.get("register") else body, outputs)


# --- the token and its document ------------------------------------------------------------------------


async def _sealed(want: Resource, keys: Collection[str], net: Net, reads: Reads, content: Content) -> _Sealed | None:
    subject = str(want.ref)
    pages = await reads.together([lookups.shown(reads, net, question) for question in identity_keys.questions(keys, subject)])
    shown = {outpoint: beef for page in pages for outpoint, beef in page.items()}
    if not shown:
        return None
    said = {outpoint: descriptor_at(beef, outpoint) for outpoint, beef in shown.items()}
    order = sorted(said, key=lambda outpoint: (-said[outpoint].version, Outpoint.parse(outpoint)))
    newest = said[order[0]]
    envelope = await content(net, newest.digest)
    if envelope is None:
        hint = "bring back a storage host that keeps it, or the blobs of the lost state directory"
        raise Refused("no-document", f"cannot adopt {subject}: nobody has its document {newest.digest}", hint=hint)
    document, signer = open_envelope(envelope)
    if signer not in keys:
        ours = " or ".join(keys)
        hint = "name the place of that key, under key or rotation.next of the Identity"
        raise Conflict("other-owner", f"cannot adopt {subject}: its document is signed by {signer}, not by {ours}", hint=hint)
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
    return _Sealed(kept, document, signer, {outpoint: said[outpoint] for outpoint in order}, shown)


def descriptor_at(beef: bytes, outpoint: str) -> descriptor.Descriptor:
    """What the token at an outpoint says; RemoteProtocolError or IndexError where the BEEF holds no such descriptor."""
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


def _keys(want: Resource, handle: str, reads: Reads) -> dict[str, Json]:
    """What an Identity exports of the key that the wallet calls so."""
    names = [subkey["name"] for subkey in want.spec.get("subkeys") or ()]
    subkeys = {name: reads.wallet.public_key(f"{handle}#{name}") for name in names}
    return {"publicKey": reads.wallet.public_key(handle), "subkeys": subkeys}


async def _alone(want: Resource, body: Body, key: str, sealed: _Sealed, reads: Reads, content: Content) -> Adopted:
    """A document that stands alone."""
    net = net_of(body)
    hosts = documents.document_hosts(str(want.ref), net)
    return Adopted(body, {"replicas": await _copies(net, hosts, [str(sealed.document["digest"])], reads)})


async def _advertised(want: Resource, body: Body, key: str, sealed: _Sealed, reads: Reads, content: Content) -> Adopted:
    """The SHIP and SLAP tokens that its document names, as far as they are there; the others the next plan makes."""
    net, tokens = net_of(body), list[Token]()
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
    tokens += sealed.tokens(str(want.ref), signers(want, reads))
    ordered = sorted(tokens, key=lambda t: (t["type"], t["name"]))
    return Adopted({**body, "spec": spec}, {**alone.outputs, "domain": net.public_url, "tokens": ordered}, proofs=proofs)


async def _published(want: Resource, body: Body, key: str, sealed: _Sealed, reads: Reads, content: Content) -> Adopted:
    """Files and where they are kept, the tokens of the versions before, and those versions that are kept beside it."""
    net, ruled = net_of(body), placement.rule_in(body)
    files = dataset.entries(body)
    previous, stated = await _before(sealed, net, reads, content)
    older = stated[: int(body["spec"].get("keepVersions") or 0)]
    digests = [str(sealed.document["digest"]), *dict.fromkeys(str(file["sha256"]) for file in files)]
    # Wherever they are: under another name they were placed by that.
    replicas = await _copies(net, net.storage, [*digests, *sorted(versions.digests(older) - set(digests))], reads)
    older = versions.whole(older, replicas)
    needed = {*digests, *versions.digests(older)}
    outputs: dict[str, Any] = {
        "files": files,
        "merkleRoot": dataset.merkle_root(files),
        "previous": previous,
        "replicas": {host: {sha256: held[sha256] for sha256 in held if sha256 in needed} for host, held in replicas.items()},
        **({"versions": older} if older else {}),
    }
    if ruled:
        outputs["copies"] = placement.bounded(ruled[0], len(replicas))
    return Adopted(body, outputs)


async def _before(sealed: _Sealed, net: Net, reads: Reads, content: Content) -> tuple[list[str], list[versions.Version]]:
    """The tokens of earlier versions, oldest first, and what the versions were, newest first: as far back as the index of the
    header source and the documents go.

    A version names the one before, whatever that was called and whichever key made it.
    """
    found: list[str] = []
    stated: list[versions.Version] = []
    at = sealed.previous
    while at is not None and at not in found and len(found) < sealed.version:
        found.append(at)
        try:
            said = descriptor_at(await reads.chain.beef(Outpoint.parse(at).txid, net.headers), at)
            envelope = await content(net, said.digest)
            document, signer = open_envelope(envelope) if envelope is not None else ({}, "")
            if signer != said.identity.hex() or envelope is None:
                break
            stated.append(versions.stated(document, said.digest, len(envelope)))
            at = document.get("previous")
        except (Unavailable, Refused, RemoteProtocolError, IndexError, KeyError):
            break
    return found[::-1], stated


_MORE: Mapping[str, Callable[[Resource, Body, str, _Sealed, Reads, Content], Awaitable[Adopted]]] = {
    "Identity": _alone,
    "Advertisement": _advertised,
    "Dataset": _published,
    audit.KIND: _alone,
}
