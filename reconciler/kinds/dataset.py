"""Dataset: files published by content address, described by a signed manifest that one token anchors.

The manifest lists every file and the RFC 6962 root over the list, so each file proves its own inclusion
in the single anchoring transaction. Versions are a chain: the token of version n spends that of n-1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reconciler.controller import Outputs, Steps
from reconciler.kinds import identity_keys, paymentpolicy
from reconciler.kinds.identity import key_in, signer_in
from reconciler.kinds.later import later
from reconciler.kinds.network import Net, net_of, read_net
from reconciler.model.canonical import Json, canonical
from reconciler.model.change import Change, Cost, FieldDelta, Verb
from reconciler.model.observation import Absent, Observation, Present
from reconciler.model.record import Record
from reconciler.model.resource import Resource

if TYPE_CHECKING:
    from reconciler.kinds import document as documents
    from reconciler.kinds import keeping, rent, versions
    from reconciler.kinds import token as tokens
    from reconciler.model import effect as effects
    from reconciler.ports import Reads
    from reconciler.wire import descriptor, merkle, uhrp
else:
    documents = later("reconciler.kinds.document")
    tokens = later("reconciler.kinds.token")
    keeping = later("reconciler.kinds.keeping")
    rent = later("reconciler.kinds.rent")
    versions = later("reconciler.kinds.versions")
    effects = later("reconciler.model.effect")
    descriptor = later("reconciler.wire.descriptor")
    merkle = later("reconciler.wire.merkle")
    uhrp = later("reconciler.wire.uhrp")

# Spec fields that the manifest repeats word for word.
SAID = ("title", "tags", "license", "contentType", "version", "sample", "partSize", "lineage", "recall")


def entries(body: Mapping[str, Json]) -> list[dict[str, Json]]:
    """The manifest's file list, in path order: what an inclusion proof proves."""
    chosen = body["spec"].get("contentType")
    return [
        {
            "path": file["path"],
            "size": file["size"],
            "sha256": file["sha256"],
            "uhrp": uhrp.uhrp_url(file["sha256"]),
            "mediaType": chosen or file["media_type"],
        }
        for file in body["files"]
    ]


def merkle_root(files: Sequence[Mapping[str, Json]]) -> str:
    """RFC 6962 root over the canonical JSON of each entry, hex."""
    return merkle.root([merkle.leaf_hash(canonical(entry)) for entry in files]).hex()


def describe(body: Mapping[str, Json]) -> str:
    """Text from file facts alone: format, rows, columns, span, size, hash. The same bytes give the same words."""
    files = body["files"]
    size = sum(file["size"] for file in files)
    kinds = sorted({file["media_type"] for file in files})
    words = [f"{len(files)} file{'s' if len(files) != 1 else ''}, {', '.join(kinds)}, {size:,} bytes"]
    known = [file["details"] for file in files if file.get("details")]
    if known and len(known) == len(files):
        words.append(f"{sum(d['rows'] for d in known):,} rows")
        columns = sorted({column for d in known for column in d["columns"]})
        words.append(f"columns {', '.join(columns[:12])}{' and more' if len(columns) > 12 else ''}")
        spans = [(d["from"], d["to"]) for d in known if d.get("from")]
        if spans:
            words.append(f"from {min(s[0] for s in spans)} to {max(s[1] for s in spans)}")
    words.append(f"SHA-256 {files[0]['sha256']}" if len(files) == 1 else f"Merkle root {merkle_root(entries(body))}")
    return "; ".join(words)


def manifest(name: str, body: Mapping[str, Json], public_key: str) -> dict[str, Json]:
    """The statement a Dataset signs: what it is, its files, its terms."""
    spec, files = body["spec"], entries(body)
    said = {key: spec[key] for key in SAID if spec.get(key) not in (None, [], {})}
    plan = body["using"].get(f"PricePlan/{spec.get('pricePlanRef')}")
    price = {"model": "per-item", "rate": spec["price"]} if spec.get("price") is not None else plan
    text = describe(body) if spec.get("describe") == "auto" else spec.get("description")
    return {
        "type": "DatasetManifest",
        "apiVersion": "overlay.bsv/v1alpha1",
        "name": name,
        "publisher": public_key,
        **said,
        **({"description": text} if text else {}),
        **({"price": price} if price else {}),
        "files": files,
        "merkleRoot": merkle_root(files),
    }


class DatasetController:
    """Content on storage hosts, its manifest beside it, and the manifest's hash on the chain."""

    kind = "Dataset"
    stage = 4
    immutable = ("spec.identityRef", "spec.networkRef")
    lasting: tuple[str, ...] = ()

    def references(self, spec: Mapping[str, Json]) -> Sequence[tuple[str, str, str]]:
        """Who publishes, where, at what price; how it is paid for, and by whom."""
        return [(f"/{key}", kind, spec[key]) for key, kind in _REFS if spec.get(key)]

    def content(self, spec: Mapping[str, Json]) -> Sequence[str]:
        """The file, or the directory's pattern."""
        content = spec["content"]
        if "fileSet" in content:
            return (f"{content['fileSet']['directory'].rstrip('/')}/{content['fileSet'].get('pattern') or '*'}",)
        return (content["file"],) if "file" in content else ()

    def check(self, want: Resource) -> Sequence[tuple[str, str]]:
        """There is something to publish, and one price."""
        faults = []
        if "stream" in want.spec["content"]:
            faults.append(("/content/stream", "recorded streams cannot be published before their Stream exists"))
        elif not want.files:
            (pattern,) = self.content(want.spec)
            faults.append(("/content", f'no file matches "{pattern}"'))
        if want.spec.get("price") is not None and want.spec.get("pricePlanRef"):
            faults.append(("/price", "state a price or a pricePlanRef, not both"))
        if want.spec.get("renewBefore") is not None and want.spec["renewBefore"] >= want.spec["retention"]:
            faults.append(("/renewBefore", "must be shorter than retention, or every look would renew"))
        return faults

    def exports(self, body: Mapping[str, Json], outputs: Outputs | None) -> Mapping[str, Json] | None:
        """Nothing that changes: dependents only wait for it."""
        return {}

    def diff(self, body: Mapping[str, Json], was: Record, seen: Present) -> Sequence[FieldDelta]:
        """Hosts that lost the token; storage hosts on which a copy is gone or corrupt."""
        named = versions.named(was.outputs) | {file["sha256"]: file["path"] for file in was.outputs["files"]}
        named[was.outputs["document"]["digest"]] = "manifest"
        going: Sequence[FieldDelta] = ()
        if body["spec"].get("keepVersions") is not None and (key := key_in(body)):
            going = versions.deltas(body, was, documents.fresh(manifest(was.ref.name, body, key), was.outputs["document"]))
        return [*documents.renamed(was), *tokens.token_drift(seen), *keeping.drift(was, seen, named), *going]

    def _anchored(self, change: Change, core: Mapping[str, Json]) -> bool:
        """Whether the live token already anchors this very statement."""
        before: Mapping[str, Any] = change.before.outputs if change.before else {}
        return bool(tokens.survivors(change)) and not tokens.anew(change) and not documents.fresh(core, before.get("document"))

    def estimate(self, change: Change) -> tuple[Cost, tuple[int, ...]]:
        """One transaction per version, and the bytes that must travel."""
        if change.verb is Verb.DELETE and change.before is not None:
            return tokens.price(net_of(change.before.body), change, (), tokens.survivors(change))
        net = net_of(change.body)
        tokens.stay_on_chain(net, change)
        paymentpolicy.reachable(net, change.body)
        hosts = keeping.homes_of(change)
        old = change.before.outputs if change.before else {}
        key = key_in(change.body)
        stands = change.verb is Verb.REPAIR or bool(key and self._anchored(change, manifest(change.ref.name, change.body, key)))
        upload = Cost(
            uploaded=sum(file["size"] for host in hosts for file in _missing(change, host.name, stands)),
            payments=rent.owed(change.seen, [h.name for h in hosts], rent.forgiving(change), _current(change, stands)),
        )
        for host in hosts:
            stays = stands and old["document"]["digest"] in _kept(change, host.name)
            upload += documents.room([host], len(_missing(change, host.name, stands)) + (0 if stays else 1))
        if stands:
            return upload, ()
        sequence = 1 + (old["document"]["sequence"] if old.get("document") else 0)
        wanted = documents.anchor(signer_in(change.body), key, str(change.ref), None, sequence)
        cost, needs = tokens.price(net, change, (wanted,), tokens.survivors(change))
        return cost + upload, needs

    async def observe(self, want: Resource | None, was: Record | None, reads: Reads) -> Observation:
        """The token on every overlay host, and every copy read back from every storage host."""
        if was is None:
            keys = identity_keys.signers(want.spec["identityRef"], reads) if want is not None else {}
            if want is None or not keys:
                unmade = Absent("no key yet")
                return unmade if want is None else await keeping.unmade(want.spec, unmade, _declared(want, reads), reads)
            first, *others = keys
            seen = await tokens.unrecorded(want, first, reads, identity_keys.questions(others, str(want.ref)))
            return await keeping.unmade(want.spec, seen, _declared(want, reads), reads)
        net = net_of(was.body)
        query = {descriptor.SERVICE: {"identityKey": was.outputs["publicKey"]}}
        asked = want.spec if want is not None else was.body["spec"]
        return await documents.observed(was, query, net, reads, lambda: keeping.observe(asked, was, _sizes(was), net, reads))

    def apply(self, change: Change) -> Steps[Outputs]:
        """Seal the manifest, place the bytes, then anchor: nothing is announced that cannot be fetched."""
        before: Mapping[str, Any] = change.before.outputs if change.before else {}
        net, spec = net_of(change.body), change.body["spec"]
        hosts, span = keeping.homes_of(change), rent.rent_of(spec)
        if change.verb is Verb.REPAIR:
            yield from tokens.resend(net, tokens.lost(change))
        public_key = key_in(change.body) or ""
        core, live = manifest(change.ref.name, change.body, public_key), tokens.survivors(change)
        anchored = change.verb is Verb.REPAIR or self._anchored(change, core)
        document = before.get("document")
        if not anchored:
            document = yield from documents.seal(signer_in(change.body), core, document, live[0]["outpoint"] if live else None)
        assert document is not None
        older = versions.kept(spec, before, not anchored)
        longer, declined = yield from rent.renew(change, hosts, span, _current(change, anchored))
        held: dict[str, Any] = {}
        for host in hosts:
            blobs = [
                effects.Blob(file["sha256"], file["size"], file["mediaType"]) for file in _missing(change, host.name, anchored)
            ]
            if not anchored or document["digest"] not in _kept(change, host.name):
                blobs.append(documents.blob_of(document))
            held = documents.merge(held, (yield from documents.store(blobs, [host], span.minutes, self._parallel(spec))))
        outputs = {
            "publicKey": public_key,
            "document": document,
            "files": entries(change.body),
            "merkleRoot": core["merkleRoot"],
            "previous": before.get("previous") or [],
            "replicas": rent.prolonged(self._replicas(change, document, held, older), longer),
            **({"versions": older} if older else {}),
            **keeping.scaled(change),
        }
        outputs = rent.remembered(outputs, declined)
        needed = {file["sha256"] for file in outputs["files"]} | {document["digest"]} | versions.digests(older)
        if anchored:
            return {**outputs, "tokens": before["tokens"], **(yield from versions.let_go(change, net, needed))}
        wanted = documents.anchor(signer_in(change.body), public_key, str(change.ref), document, document["sequence"])
        made = yield from tokens.publish(net, change, (wanted,), live)
        outputs |= {"tokens": made, "previous": [*outputs["previous"], *(t["outpoint"] for t in live)]}
        # Last of all: nothing goes before what follows it can be fetched.
        return {**outputs, **(yield from versions.let_go(change, net, needed))}

    def _parallel(self, spec: Mapping[str, Json]) -> int:
        return int((spec["content"].get("fileSet") or {}).get("parallelUploads") or 1)

    def _replicas(
        self, change: Change, document: documents.Document, held: Mapping[str, Any], older: Sequence[versions.Version]
    ) -> dict[str, Any]:
        """What each host now keeps of this version and of those kept beside it; the others run out with their retention."""
        before = (change.before.outputs.get("replicas") or {}) if change.before else {}
        current = {file["sha256"] for file in change.body["files"]} | {document["digest"]} | versions.digests(older)
        return {
            host: {sha: facts for sha, facts in {**before.get(host, {}), **copies}.items() if sha in current}
            for host, copies in held.items()
        }

    def delete(self, change: Change) -> Steps[None]:
        """Retire the token. Bytes on storage hosts stay until their paid retention ends: no host can be made to forget."""
        if change.before is not None:
            yield from tokens.publish(net_of(change.before.body), change, (), tokens.survivors(change))


def _kept(change: Change, host: str) -> set[str]:
    """Digests the record says a host keeps, less those the world showed gone or corrupt."""
    before = (change.before.outputs.get("replicas") or {}) if change.before else {}
    return set(before.get(host, {})) - documents.broken(change.seen, host)


def _missing(change: Change, host: str, stands: bool) -> list[dict[str, Json]]:
    """The file entries that must be sent to a host; of earlier versions too, of those that are kept."""
    there = _kept(change, host)
    own = entries(change.body)
    older = versions.blobs(_older(change, stands))
    more = [file for file in older if file["sha256"] not in {one["sha256"] for one in own}]
    return [file for file in (*own, *more) if file["sha256"] not in there]


def _older(change: Change, stands: bool) -> list[versions.Version]:
    """The earlier versions that are kept after a change."""
    return versions.kept(change.body["spec"], change.before.outputs if change.before else {}, not stands)


def _declared(want: Resource, reads: Reads) -> Net | None:
    """The network it asks for, if there is such a one."""
    name = str(want.spec.get("networkRef"))
    return read_net(name, reads.networks[name]) if name in reads.networks else None


def _current(change: Change, stands: bool) -> set[str]:
    """The digests of the version that will stand, and of those kept beside it: only those are worth more rent."""
    document = change.before.outputs["document"]["digest"] if stands and change.before is not None else None
    files = {file["sha256"] for file in change.body["files"]} | versions.digests(_older(change, stands))
    return files | ({document} if document else set())


def _sizes(was: Record) -> dict[str, int]:
    """Bytes of everything a record keeps copies of, by digest."""
    document = was.outputs["document"]
    older = {str(one["sha256"]): int(one["size"]) for one in versions.blobs(was.outputs.get("versions") or ())}
    return older | {file["sha256"]: file["size"] for file in was.outputs["files"]} | {document["digest"]: document["size"]}


_REFS = (
    ("identityRef", "Identity"),
    ("networkRef", "Network"),
    ("pricePlanRef", "PricePlan"),
    ("paymentPolicyRef", paymentpolicy.KIND),
    ("accessPolicyRef", "AccessPolicy"),
    ("distributionRuleRef", "DistributionRule"),
)
CONTROLLER = DatasetController()
