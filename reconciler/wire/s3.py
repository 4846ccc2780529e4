"""The part of the S3 HTTP interface that keeps content: addresses, signatures (AWS Signature Version 4), multi-part uploads.

A bucket is known by its address in either style, `https://endpoint/bucket` or `https://bucket.endpoint`; nothing here needs its
name. Answers are XML; a document type or an entity in one is refused, and a page is as small as the interface bounds it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from reconciler.model.errors import RemoteProtocolError

EMPTY = hashlib.sha256(b"").hexdigest()
# The interface's own bounds.
MAX_PARTS = 10_000
MOST_PART = 5 * 1024 * 1024 * 1024
# What a part is unless said otherwise: small enough to lose, large enough that a hundred gigabytes fit.
USUAL_PART = 16 * 1024 * 1024
_MIB = 1024 * 1024
_UNRESERVED = "-_.~"


@dataclass(frozen=True, slots=True)
class Key:
    """Who signs: the name of the key, its secret, and the region that the store is signed for."""

    name: str
    secret: str
    region: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A part that the store has: its number from 1, its size, its entity tag without quotes."""

    number: int
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Failure:
    """What a store says when it will not: the interface's code, and words."""

    code: str
    message: str


# --- addresses and signatures -----------------------------------------------------------------------


def address(bucket: str, name: str = "", query: Mapping[str, str] | None = None) -> str:
    """The URL of an object, or of the bucket itself without a name, encoded as it is signed."""
    parts = urlsplit(bucket)
    path = quote(unquote(parts.path), safe="/" + _UNRESERVED).rstrip("/")
    if name or not path:
        path += "/" + quote(name, safe="/" + _UNRESERVED)
    asked = _query(query or {})
    return f"{parts.scheme}://{parts.netloc}{path}" + (f"?{asked}" if asked else "")


def _query(query: Mapping[str, str]) -> str:
    pairs = sorted((quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED)) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def signed(method: str, url: str, headers: Mapping[str, str], payload: str, key: Key, moment: datetime) -> dict[str, str]:
    """The headers with those that authorise the request; `payload` is the SHA-256 of the body in hex.

    `headers` have lower-case names, all of which are signed. The URL must be as `address` writes it.
    """
    parts, stamp = urlsplit(url), moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    told = {**headers, "host": parts.netloc, "x-amz-date": stamp, "x-amz-content-sha256": payload}
    names = sorted(told)
    canonical = "\n".join(
        [
            method,
            parts.path,
            parts.query,
            *(f"{name}:{' '.join(told[name].split())}" for name in names),
            "",
            ";".join(names),
            payload,
        ]
    )
    scope = f"{stamp[:8]}/{key.region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    secret = f"AWS4{key.secret}".encode()
    for word in (stamp[:8], key.region, "s3", "aws4_request"):
        secret = hmac.digest(secret, word.encode(), "sha256")
    signature = hmac.digest(secret, text.encode(), "sha256").hex()
    credential = f"Credential={key.name}/{scope},SignedHeaders={';'.join(names)},Signature={signature}"
    return {**told, "authorization": f"AWS4-HMAC-SHA256 {credential}"}


# --- parts ------------------------------------------------------------------------------------------


def part_size(size: int, wanted: int) -> int:
    """How large the parts of a file are: as wanted, or so that ten thousand suffice, in whole MiB then."""
    least = -(-size // MAX_PARTS)
    return wanted if wanted >= least else -(-least // _MIB) * _MIB


def spans(size: int, part: int) -> list[tuple[int, int]]:
    """Where each part begins and ends; one empty part for an empty file."""
    return [(start, min(start + part, size)) for start in range(0, size, part)] or [(0, 0)]


def fits(listed: Sequence[Listed], cut: Sequence[tuple[int, int]]) -> bool:
    """Whether parts that a store has are of this cut, so that an upload can be gone on with."""
    return all(1 <= one.number <= len(cut) and one.size == cut[one.number - 1][1] - cut[one.number - 1][0] for one in listed)


# --- bodies and answers -----------------------------------------------------------------------------


def completion(etags: Sequence[str]) -> bytes:
    """The body that puts the parts together, in order from 1."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(chr(34) + etag + chr(34))}</ETag></Part>"
        for number, etag in enumerate(etags, 1)
    )
    return f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{parts}</CompleteMultipartUpload>'.encode()


def parse_failure(body: bytes) -> Failure | None:
    """What an error body says; None when it is none. TRAP: putting parts together may fail with status 200."""
    if not body.lstrip().startswith(b"<"):
        return None
    root = _tree(body)
    if _local(root.tag) != "Error":
        return None
    return Failure(_text(root, "Code") or "", " ".join((_text(root, "Message") or "").split())[:200])


def parse_started(body: bytes) -> str:
    """The id of the upload that was begun."""
    return _wanted(_root(body, "InitiateMultipartUploadResult"), "UploadId")


def parse_uploads(body: bytes, name: str) -> list[str]:
    """The ids of the unfinished uploads of one object, the newest first."""
    root = _root(body, "ListMultipartUploadsResult")
    mine = [one for one in root if _local(one.tag) == "Upload" and _text(one, "Key") == name]
    return [_wanted(one, "UploadId") for one in sorted(mine, key=lambda one: _text(one, "Initiated") or "", reverse=True)]


def parse_parts(body: bytes) -> tuple[list[Listed], str]:
    """A page of the parts that an upload has, and the number behind which the next page begins; empty on the last."""
    root = _root(body, "ListPartsResult")
    listed = [
        Listed(_number(one, "PartNumber"), _number(one, "Size"), _wanted(one, "ETag").strip('"'))
        for one in root
        if _local(one.tag) == "Part"
    ]
    more = _text(root, "IsTruncated") == "true" and bool(listed)
    return listed, str(listed[-1].number) if more else ""


def _root(body: bytes, name: str) -> ElementTree.Element:
    root = _tree(body)
    if _local(root.tag) != name:
        raise RemoteProtocolError(f"cannot read the answer of the store: {_local(root.tag)[:40]} is not {name}")
    return root


def _tree(body: bytes) -> ElementTree.Element:
    if b"<!" in body:
        raise RemoteProtocolError("cannot read the answer of the store: it declares types or entities")
    try:
        return ElementTree.fromstring(body)  # noqa: S314 - without declarations there is nothing to expand
    except (ElementTree.ParseError, ValueError) as error:
        raise RemoteProtocolError("cannot read the answer of the store as XML") from error


def _local(tag: str) -> str:
    """A tag without its name space, which stores do not agree on."""
    return tag.rpartition("}")[2]


def _text(node: ElementTree.Element, name: str) -> str | None:
    return next((one.text for one in node if _local(one.tag) == name), None)


def _wanted(node: ElementTree.Element, name: str) -> str:
    text = _text(node, name)
    if not text:
        raise RemoteProtocolError(f"cannot read the answer of the store: it has no {name}")
    return text


def _number(node: ElementTree.Element, name: str) -> int:
    text = _wanted(node, name)
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise RemoteProtocolError(f"cannot read the answer of the store: {name} is no number")
    return int(text)
