"""Proof bundles: one small file that shows, offline, what was published, by whom, and in which block.

    content --SHA-256--> file entry --RFC 6962 path--> document.merkleRoot --BRC-77--> signer
            envelope --SHA-256--> descriptor token --in--> transaction --BEEF, BUMP--> merkle root --> block header

Format `reconciler-proof/1`, canonical JSON:

    {"format", "subject": "Kind/name", "document": sealed envelope, "file": one of document.files | null,
     "inclusion": {"index","size","path":[hex]} | null, "outpoint": "txid.vout", "beef": hex,
     "headers": [{"height","raw": hex}], "checksum": SHA-256 of the canonical rest}

`verify_bundle` believes no claim: each link is recomputed from bytes and reported under its own name, so a changed byte names
the link it broke; a link that only lost what it would be compared with is left open. The checksum catches accidents in bytes
that carry no claim; it proves nothing against an author of bundles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from reconciler.model.canonical import Json, canonical, digest
from reconciler.model.errors import LocalProtocolError, Refused, RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire.beef import Beef, parse_beef
from reconciler.wire.descriptor import Descriptor, parse_descriptor
from reconciler.wire.document import digest_of, open_envelope
from reconciler.wire.jsontext import Fields, is_hex
from reconciler.wire.merkle import Tree, leaf_hash, verify_inclusion
from reconciler.wire.proof import BlockHeader, parse_header, verify_beef

FORMAT = "reconciler-proof/1"
# The member of a sealed document that commits to its files.
ROOT_MEMBER = "merkleRoot"
MAX_BUNDLE = 64 * 1024 * 1024

Trusted = Callable[[int, str], bool]


def file_leaf(entry: Mapping[str, Json]) -> bytes:
    """The leaf hash of one of a document's `files`: over the canonical JSON of the whole entry."""
    return leaf_hash(canonical(entry))


def file_tree(files: Iterable[Mapping[str, Json]]) -> Tree:
    """The tree over a document's `files` in their order; its root, in hex, is the document's `merkleRoot`."""
    return Tree.of(map(file_leaf, files))


@dataclass(frozen=True, slots=True)
class Inclusion:
    """Where a file stands in the tree, and the audit path from its leaf upwards."""

    index: int
    size: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle taken apart; nothing in it is checked but its shape. `headers` are (height, 80 bytes).

    `file` is an entry of the document's `files`, at least {"path", "size", "sha256"}, with whatever else the document says of it.
    """

    subject: str
    envelope: bytes
    outpoint: Outpoint
    beef: bytes
    headers: tuple[tuple[int, bytes], ...]
    file: Mapping[str, Json] | None = None
    inclusion: Inclusion | None = None
    checksum_ok: bool = True


@dataclass(frozen=True, slots=True)
class Check:
    """One link: ok is None where it cannot be decided from the bundle alone. `detail` says what was found."""

    name: str
    ok: bool | None
    detail: str


# --- writing and reading --------------------------------------------------------------------------


def build(
    subject: str, envelope: bytes, outpoint: Outpoint, beef: bytes, headers: Iterable[BlockHeader], path: str | None = None
) -> bytes:
    """The bytes of a bundle; with `path`, that one of the document's `files` is proven too.

    LocalProtocolError when a bundle of these parts would not verify.
    """
    ordered = sorted(headers, key=lambda header: header.height)
    bundle = Bundle(subject, envelope, outpoint, beef, tuple((header.height, header.raw) for header in ordered))
    if path is not None:
        bundle = _with_file(bundle, path)
    data = _encode(bundle)
    broken = [check for check in verify_bundle(data) if check.ok is False]
    if broken:
        raise LocalProtocolError("bundle", f"cannot bundle {subject}: {broken[0].name}: {broken[0].detail}")
    return data


def _with_file(bundle: Bundle, path: str) -> Bundle:
    files = open_envelope(bundle.envelope)[0].get("files")
    entries = [entry for entry in files if isinstance(entry, Mapping)] if isinstance(files, list) else []
    index = next((i for i, entry in enumerate(entries) if entry.get("path") == path), None)
    if index is None:
        raise LocalProtocolError("bundle", f"cannot prove {path}: it is not among the files of {bundle.subject}")
    tree = file_tree(entries)
    return replace(bundle, file=entries[index], inclusion=Inclusion(index, tree.size, tree.path(index)))


def _encode(bundle: Bundle) -> bytes:
    file, inclusion = bundle.file, bundle.inclusion
    body: dict[str, Json] = {
        "format": FORMAT,
        "subject": bundle.subject,
        "document": Fields.parse(bundle.envelope, "sealed document").values,
        "file": file,
        "inclusion": {"index": inclusion.index, "size": inclusion.size, "path": [step.hex() for step in inclusion.path]}
        if inclusion
        else None,
        "outpoint": str(bundle.outpoint),
        "beef": bundle.beef.hex(),
        "headers": [{"height": height, "raw": raw.hex()} for height, raw in bundle.headers],
    }
    return canonical({**body, "checksum": digest(body)})


def parse_bundle(data: bytes) -> Bundle:
    """Take a bundle apart; RemoteProtocolError on any fault of shape."""
    if len(data) > MAX_BUNDLE:
        raise RemoteProtocolError(f"cannot read a bundle of {len(data)} bytes", hint=f"at most {MAX_BUNDLE}")
    top = Fields.parse(data, "proof bundle")
    top.exactly("format", "subject", "document", "file", "inclusion", "outpoint", "beef", "headers", "checksum")
    if top.text("format") != FORMAT:
        top.fail("format", f"must be {FORMAT}")
    try:
        outpoint = Outpoint.parse(top.text("outpoint"))
        envelope = canonical(top.object("document").values)
        checksum = digest({name: value for name, value in top.values.items() if name != "checksum"})
    except RemoteProtocolError:
        raise
    except (Refused, TypeError, ValueError, RecursionError) as fault:
        raise RemoteProtocolError("cannot read a proof bundle: outpoint or document is not in its canonical form") from fault
    headers = tuple(
        (item.integer("height", high=0xFFFFFFFF), bytes.fromhex(item.hex("raw", 80))) for item in top.objects("headers")
    )
    return Bundle(
        subject=top.text("subject"),
        envelope=envelope,
        outpoint=outpoint,
        beef=bytes.fromhex(top.hex("beef")),
        headers=headers,
        file=_file(top.object("file")) if top.values["file"] is not None else None,
        inclusion=_inclusion(top.object("inclusion").exactly("index", "size", "path"))
        if top.values["inclusion"] is not None
        else None,
        checksum_ok=top.hex("checksum", 32) == checksum,
    )


def _file(fields: Fields) -> Mapping[str, Json]:
    fields.text("path")
    fields.integer("size")
    fields.hex("sha256", 32)
    return fields.values


def _inclusion(fields: Fields) -> Inclusion:
    path = fields.strings("path")
    if not all(is_hex(step, 32) for step in path):
        fields.fail("path", "must hold 32-byte hashes in hex")
    return Inclusion(fields.integer("index"), fields.integer("size"), tuple(map(bytes.fromhex, path)))


# --- verifying ------------------------------------------------------------------------------------


def verify_bundle(data: bytes, content_sha256: str | None = None, trusted: Trusted | None = None) -> list[Check]:
    """Every link of the chain, in order; the bundle holds when no check is False.

    `content_sha256` is the hash of the bytes in hand; without it the link to content is left open. `trusted(height, hash)` says
    whether a header lies on a chain you trust; without it that too is left open. RemoteProtocolError when it is no bundle at all.
    """
    bundle = parse_bundle(data)
    checks = [
        Check("checksum", bundle.checksum_ok, "the bundle is as it was written" if bundle.checksum_ok else "a byte changed")
    ]
    document, signed = _signature(bundle)
    checks += [*_content(bundle, content_sha256), *_included(bundle, document), signed]
    beef, transaction = _transaction(bundle)
    descriptor, token = _token(bundle, beef)
    checks += [_digest(bundle, descriptor), token, _owner(descriptor, document), transaction, _mined(bundle, beef)]
    return checks + _headers(bundle, trusted)


def holds(checks: Iterable[Check]) -> bool:
    """Whether nothing failed; what was left open does not count against it."""
    return all(check.ok is not False for check in checks)


@dataclass(frozen=True, slots=True)
class _Sealed:
    document: Mapping[str, Json]
    signer: str


def _signature(bundle: Bundle) -> tuple[_Sealed | None, Check]:
    try:
        document, signer = open_envelope(bundle.envelope)
    except RemoteProtocolError as fault:
        return None, Check("signature", False, fault.message)
    return _Sealed(document, signer), Check("signature", True, f"signed by {signer}")


def _content(bundle: Bundle, sha256: str | None) -> list[Check]:
    if bundle.file is None:
        return [] if sha256 is None else [Check("content", False, "the bundle speaks of no file")]
    named = bundle.file["sha256"]
    if sha256 is None:
        return [Check("content", None, f"no bytes given to compare with {named}")]
    return [Check("content", sha256 == named, f"SHA-256 {sha256}" + ("" if sha256 == named else f", not {named}"))]


def _included(bundle: Bundle, sealed: _Sealed | None) -> list[Check]:
    if bundle.file is None and bundle.inclusion is None:
        return []
    if bundle.file is None or bundle.inclusion is None:
        return [Check("inclusion", False, "a file without its path, or a path without its file")]
    if sealed is None:
        return [Check("inclusion", None, "there is no signed document to compare with")]
    root = sealed.document.get(ROOT_MEMBER)
    if not isinstance(root, str) or not is_hex(root, 32):
        return [Check("inclusion", False, f"the document has no {ROOT_MEMBER}")]
    listed = sealed.document.get("files")
    at = bundle.inclusion
    if isinstance(listed, list) and len(listed) != at.size:
        return [Check("inclusion", False, f"the tree has {at.size} leaves, the document {len(listed)} files")]
    good = verify_inclusion(file_leaf(bundle.file), at.index, at.size, at.path, bytes.fromhex(root))
    detail = f"file {at.index + 1} of {at.size} below root {root}" if good else f"the path does not lead to root {root}"
    return [Check("inclusion", good, detail)]


def _transaction(bundle: Bundle) -> tuple[Beef | None, Check]:
    """The envelope proves itself against the bundle's own headers; whether to trust those is another link."""
    roots = {(height, parse_header(raw, height).merkle_root) for height, raw in bundle.headers}
    beef = None
    try:
        parsed = parse_beef(bundle.beef)
        if parsed.subject != bundle.outpoint.txid:
            return None, Check("transaction", False, f"the BEEF is about {parsed.subject}, not {bundle.outpoint.txid}")
        beef = parsed
        verify_beef(beef, lambda height, root: (height, root) in roots)
    except RemoteProtocolError as fault:
        return beef, Check("transaction", False, fault.message)
    return beef, Check("transaction", True, f"{beef.subject} holds, with {len(beef.txs) - 1} ancestors")


def _token(bundle: Bundle, beef: Beef | None) -> tuple[Descriptor | None, Check]:
    name = "descriptor"
    if beef is None:
        return None, Check(name, None, "there is no transaction to read it from")
    try:
        outputs = beef.tx.outputs
        if bundle.outpoint.vout >= len(outputs):
            return None, Check(name, False, f"{bundle.outpoint} does not exist")
        found = parse_descriptor(outputs[bundle.outpoint.vout].script)
    except RemoteProtocolError as fault:
        return None, Check(name, False, fault.message)
    if found.subject != bundle.subject:
        return None, Check(name, False, f"it describes {found.subject}, not {bundle.subject}")
    return found, Check(name, True, f"{found.subject} version {found.version}, by {found.identity.hex()}")


def _digest(bundle: Bundle, descriptor: Descriptor | None) -> Check:
    if descriptor is None:
        return Check("digest", None, "there is no descriptor to compare the document with")
    actual = digest_of(bundle.envelope)
    same = actual == descriptor.digest
    return Check("digest", same, f"the token names {descriptor.digest}" + ("" if same else f", the document has {actual}"))


def _owner(descriptor: Descriptor | None, sealed: _Sealed | None) -> Check:
    if descriptor is None or sealed is None:
        return Check("owner", None, "descriptor or signature is missing")
    same = descriptor.identity.hex() == sealed.signer
    return Check("owner", same, "who signed the document owns the token" if same else "document and token have different owners")


def _mined(bundle: Bundle, beef: Beef | None) -> Check:
    if beef is None:
        return Check("mined", None, "there is no transaction")
    bump = beef.txs[beef.subject].bump
    if bump is None:
        return Check("mined", False, f"{bundle.outpoint.txid} is not proven to be in a block")
    return Check("mined", True, f"in block {bump.height}")


def _headers(bundle: Bundle, trusted: Trusted | None) -> list[Check]:
    headers = [parse_header(raw, height) for height, raw in bundle.headers]
    if not headers:
        return [Check("work", False, "no header"), Check("chain", False, "no header")]
    lazy = [h.height for h in headers if not h.work_ok]
    by_height = {h.height: h for h in headers}
    torn = [h.height for h in headers if h.height - 1 in by_height and h.prev != by_height[h.height - 1].hash]
    if len(by_height) != len(headers):
        torn.append(headers[0].height)
    fault = (
        f"header {lazy[0]} does not meet its own target"
        if lazy
        else f"header {torn[0]} does not fit its neighbour"
        if torn
        else ""
    )
    work = Check("work", not fault, fault or f"{len(headers)} headers meet their targets")
    if trusted is None:
        names = ", ".join(f"{h.height} {h.hash}" for h in headers)
        return [work, Check("chain", None, f"compare with a chain you trust: {names}")]
    strange = [h for h in headers if not trusted(h.height, h.hash)]
    detail = f"{strange[0].hash} is not block {strange[0].height} of it" if strange else "every header lies on it"
    return [work, Check("chain", not strange, detail)]
