"""Descriptor tokens: what a producer says about one of its resources, on our own topic `tm_producer` / `ls_producer`.

SHIP and SLAP tokens have no room for price, terms or content, so those stand in a signed document. A descriptor token
anchors that document: owner, subject, SHA-256, where it can be fetched, version. The rules are published in
specs/tm_producer.md, for any node may host the topic; this module is their reference implementation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.model.canonical import Json
from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.wire import token
from reconciler.wire.jsontext import MAX_SAFE, Fields, is_hex
from reconciler.wire.keys import is_public_key
from reconciler.wire.names import plain_url

TAG = b"DESCRIPTOR"
PROTOCOL = "producer descriptor"
TOPIC, SERVICE = "tm_producer", "ls_producer"
MAX_URL = 2048
# A query without a limit gets a page, not the whole index.
DEFAULT_LIMIT, MAX_LIMIT = 100, 1000

# A kind in camel case and a DNS label: one path-safe word that is also a legal BRC-43 key ID.
_SUBJECT = re.compile(r"[A-Z][A-Za-z0-9]{0,62}/[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_KIND = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
_VERSION = re.compile(r"[1-9][0-9]{0,15}")
_OUTPOINT = re.compile(r"[0-9a-f]{64}\.(?:0|[1-9][0-9]{0,9})")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One statement. `digest` is the SHA-256 hex of the sealed document's bytes; `url` where they are; `version` grows from 1."""

    identity: bytes
    subject: str
    digest: str
    url: str
    version: int

    @property
    def kind(self) -> str:
        """The part of the subject before the slash."""
        return self.subject.partition("/")[0]


def lock_of(subject: ResourceRef | str) -> tuple[str, str]:
    """The protocol and key ID that lock a descriptor of this subject, at level 2 with counterparty anyone."""
    text = str(subject)
    if not _SUBJECT.fullmatch(text):
        raise LocalProtocolError(
            "descriptor-subject", f"cannot describe {text[:80]!r}", hint="Kind/name, such as Dataset/btc-2024"
        )
    return PROTOCOL, text


def fault(descriptor: Descriptor) -> str | None:
    """Why the topic would not admit the descriptor (signature aside), or None."""
    if not is_public_key(descriptor.identity):
        return "the identity is not a compressed public key"
    if not _SUBJECT.fullmatch(descriptor.subject):
        return "the subject is not Kind/name"
    if not is_hex(descriptor.digest, 32):
        return "the digest is not a SHA-256"
    # The digest authenticates the bytes, so plain http is no danger to the reader.
    if len(descriptor.url) > MAX_URL or not plain_url(descriptor.url, "https", "http", "uhrp"):
        return "the document URL is not an absolute https, http or uhrp URL"
    if not 1 <= descriptor.version <= MAX_SAFE:
        return "the version is not a number from 1"
    return None


def fields(descriptor: Descriptor) -> tuple[bytes, ...]:
    """The six fields to be signed and locked; LocalProtocolError when the topic would not admit them."""
    if why := fault(descriptor):
        raise LocalProtocolError("descriptor", f"cannot describe {descriptor.subject[:80]}: {why}")
    raw = (
        TAG,
        descriptor.identity,
        descriptor.subject.encode(),
        bytes.fromhex(descriptor.digest),
        descriptor.url.encode(),
        str(descriptor.version).encode(),
    )
    return token.checked(raw, "a descriptor")


def parse_descriptor(script: bytes) -> Descriptor:
    """The descriptor in a locking script; RemoteProtocolError unless the topic admits it."""
    what = "a descriptor"
    opened = token.open_token(script, what, 6)
    tag, identity, subject, digest, url, version = opened.fields
    if tag != TAG:
        raise RemoteProtocolError("cannot read a descriptor: the tag is another")
    number = token.utf8(version, what)
    if not _VERSION.fullmatch(number):
        raise RemoteProtocolError("cannot read a descriptor: the version is not a decimal number from 1")
    found = Descriptor(identity, token.utf8(subject, what), digest.hex(), token.utf8(url, what), int(number))
    if why := fault(found):
        raise RemoteProtocolError(f"cannot admit a descriptor: {why}")
    token.require_link(opened, what, identity, *lock_of(found.subject))
    return found


def retained(spent: Mapping[int, Descriptor], admitted: Iterable[Descriptor]) -> tuple[int, ...]:
    """Which spent descriptors a node keeps as history: `spent` maps input index to the descriptor it spends.

    Those whose owner and subject an admitted output continues are the earlier versions; the others are withdrawn.
    """
    continued = {(new.identity, new.subject) for new in admitted}
    return tuple(sorted(index for index, old in spent.items() if (old.identity, old.subject) in continued))


def newest(found: Iterable[tuple[Outpoint, Descriptor]]) -> tuple[Outpoint, Descriptor] | None:
    """The one a reader follows among unspent descriptors of one subject: highest version, then smallest outpoint."""
    return min(found, key=lambda pair: (-pair[1].version, pair[0]), default=None)


# --- ls_producer ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Query:
    """A question to `ls_producer`; empty conditions match everything."""

    identity: str = ""
    subject: str = ""
    kind: str = ""
    digest: str = ""
    outpoint: str = ""
    limit: int = DEFAULT_LIMIT
    skip: int = 0
    ascending: bool = False

    def matches(self, outpoint: Outpoint, descriptor: Descriptor) -> bool:
        """Whether an unspent descriptor fulfils every condition."""
        return (
            self.identity in ("", descriptor.identity.hex())
            and self.subject in ("", descriptor.subject)
            and self.kind in ("", descriptor.kind)
            and self.digest in ("", descriptor.digest)
            and self.outpoint in ("", str(outpoint))
        )

    def json(self) -> dict[str, Json]:
        """The query as sent."""
        out: dict[str, Json] = {
            "identityKey": self.identity,
            "subject": self.subject,
            "kind": self.kind,
            "digest": self.digest,
            "outpoint": self.outpoint,
        }
        out = {name: value for name, value in out.items() if value}
        return out | {"limit": self.limit, "skip": self.skip, "sortOrder": "asc" if self.ascending else "desc"}


def parse_query(value: Json) -> Query:
    """Read a query; RemoteProtocolError on an unknown member, a wrong type or an impossible value."""
    asked = Fields.of(value, "ls_producer query")
    known = {"identityKey", "subject", "kind", "digest", "outpoint", "limit", "skip", "sortOrder"}
    for name in sorted(set(asked.values) - known):
        asked.fail(name, "is not a condition of this service")
    subject, kind, outpoint = asked.text("subject", ""), asked.text("kind", ""), asked.text("outpoint", "")
    if subject and not _SUBJECT.fullmatch(subject):
        asked.fail("subject", "must be Kind/name")
    if kind and not _KIND.fullmatch(kind):
        asked.fail("kind", "must be a kind, such as Dataset")
    if outpoint and not _OUTPOINT.fullmatch(outpoint):
        asked.fail("outpoint", "must be txid.vout")
    order = asked.text("sortOrder", "desc")
    if order not in ("asc", "desc"):
        asked.fail("sortOrder", "must be asc or desc")
    return Query(
        identity=asked.hex("identityKey", 33, ""),
        subject=subject,
        kind=kind,
        digest=asked.hex("digest", 32, ""),
        outpoint=outpoint,
        limit=asked.integer("limit", 1, MAX_LIMIT, DEFAULT_LIMIT),
        skip=asked.integer("skip", default=0),
        ascending=order == "asc",
    )
