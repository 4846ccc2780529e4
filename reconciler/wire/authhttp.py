"""General messages as HTTP (BRC-104): what of a request and of an answer is signed, and the headers that carry it.

The signed bytes are never sent; both sides build them from what they see. Signed are, of a request: method, path, query, the
headers `authorization`, `content-type` (without parameters) and `x-bsv-*`, and the body; of an answer: status, the same headers
but `content-type`, and the body. Names are lower case and sorted, values of a repeated header are joined by ", ". Headers that
begin `x-bsv-auth` carry the message itself and are not signed.

An absent part has length -1, written as the CompactSize of 2**64 - 1. TRAP: implementations disagree on an empty body, which some
write as absent and some as length 0; both mean the same, so a reader accepts either.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.model.canonical import Json
from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire import auth, jsontext
from reconciler.wire.bytesio import U64_MAX, varbytes, varint

PREFIX = "x-bsv-auth"
REQUEST_ID_SIZE = 32
ABSENT = varint(U64_MAX)
# A DER signature has at most 72 bytes, and an unusual one with a high S a byte or two more.
_MAX_SIGNATURE = 160
# What survives every URL parser between here and there unchanged: anything else must be percent-encoded first.
_TARGET = re.compile(
    r"(/(?:[A-Za-z0-9\-._~!$&()*+,;=:@/]|%[0-9A-Fa-f]{2})*)(\?(?:[A-Za-z0-9\-._~!$&()*+,;=:@/?]|%[0-9A-Fa-f]{2})*)?"
)
_DOTS = re.compile(r"/(\.|%2e){1,2}(/|$)", re.IGNORECASE)
# JavaScript puts keys that look like array indices first, in numeric order.
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
_MAX_INDEX = 2**32 - 2
_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Stamp:
    """The `x-bsv-auth-*` headers of one request or answer."""

    identity: bytes
    nonce: str
    your_nonce: str
    request_id: bytes
    signature: bytes

    def headers(self) -> dict[str, str]:
        """As they are sent."""
        return {
            "x-bsv-auth-version": auth.VERSION,
            "x-bsv-auth-identity-key": self.identity.hex(),
            "x-bsv-auth-nonce": self.nonce,
            "x-bsv-auth-your-nonce": self.your_nonce,
            "x-bsv-auth-request-id": base64.b64encode(self.request_id).decode(),
            "x-bsv-auth-signature": self.signature.hex(),
        }


def parse_stamp(headers: Mapping[str, str]) -> Stamp | None:
    """The stamp among lower-case headers; None when there is none at all, RemoteProtocolError when there is half a one."""
    if not any(name.startswith(PREFIX + "-") for name in headers):
        return None
    found = {name: headers.get(f"{PREFIX}-{name}", "") for name in ("version", "identity-key", "nonce", "your-nonce")}
    if found["version"] != auth.VERSION:
        raise _fault(f"version {found['version'][:20]!r} is not {auth.VERSION}", code="auth-version")
    signature = headers.get(f"{PREFIX}-signature", "").lower()
    if not jsontext.is_hex(signature) or not 0 < len(signature) <= _MAX_SIGNATURE:
        raise _fault("the signature is not hex")
    return Stamp(
        auth.parse_identity(found["identity-key"].lower()),
        auth.parse_nonce(found["nonce"]),
        auth.parse_nonce(found["your-nonce"]),
        _request_id(headers.get(f"{PREFIX}-request-id", "")),
        bytes.fromhex(signature),
    )


def _request_id(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != REQUEST_ID_SIZE or base64.b64encode(raw).decode() != text:
        raise _fault(f"the request id is not the base64 of {REQUEST_ID_SIZE} bytes")
    return raw


# --- what is signed -------------------------------------------------------------------------------


def request_payload(request_id: bytes, method: str, target: str, headers: Headers, body: bytes, empty: bytes = ABSENT) -> bytes:
    """The signed bytes of a request; `target` is path and query as sent, `empty` how an empty body is written."""
    path, mark, query = target.partition("?")
    parts = [request_id, varbytes(method.encode()), _text(path or "/"), _text(mark + query) if query else ABSENT]
    return b"".join([*parts, _headers(headers, {"authorization", "content-type"}), varbytes(body) if body else empty])


def answer_payload(request_id: bytes, status: int, headers: Headers, body: bytes, empty: bytes = ABSENT) -> bytes:
    """The signed bytes of an answer."""
    return b"".join([request_id, varint(status), _headers(headers, {"authorization"}), varbytes(body) if body else empty])


# Both ways to write an empty body: the first is how requests are signed everywhere, the second how the JavaScript client reads.
EMPTY = (ABSENT, varint(0))


def _text(text: str) -> bytes:
    return varbytes(text.encode())


def _headers(headers: Headers, also: set[str]) -> bytes:
    found: dict[str, list[str]] = {}
    for name, value in headers:
        key = name.lower()
        if key in also or (key.startswith("x-bsv-") and not key.startswith(PREFIX)):
            found.setdefault(key, []).append(value.strip())
    joined = sorted((key, ", ".join(values)) for key, values in found.items())
    lines = [(key, value.partition(";")[0].strip() if key == "content-type" else value) for key, value in joined]
    return varint(len(lines)) + b"".join(_text(key) + _text(value) for key, value in lines)


# --- stamping and checking ------------------------------------------------------------------------


def stamped(payload: bytes, secret: bytes, identity: bytes, peer: bytes, nonce: str, your_nonce: str) -> Stamp:
    """The stamp over a payload, whose first 32 bytes are the request id."""
    signature = auth.sign_for(secret, peer, nonce, your_nonce, payload)
    return Stamp(identity, nonce, your_nonce, payload[:REQUEST_ID_SIZE], signature)


def holds(stamp: Stamp, secret: bytes, payloads: Iterable[bytes]) -> bool:
    """Whether the stamp signs one of the payloads, which are ways to write the same thing, for us."""
    return any(
        auth.is_from(secret, stamp.identity, stamp.nonce, stamp.your_nonce, payload, stamp.signature) for payload in payloads
    )


# --- requests that survive the way ----------------------------------------------------------------


def signable_target(target: str) -> str:
    """The target itself; LocalProtocolError when a server's URL parser would see another one than we sign."""
    if not _TARGET.fullmatch(target) or _DOTS.search(target.partition("?")[0]):
        hint = "percent-encode it, and leave out . and .. segments"
        raise LocalProtocolError("bad-target", f"cannot sign the path {target[:120]!r}", hint=hint)
    return target


def signable_body(method: str, headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """Headers (lower case) and body as a server that parses and prints JSON again will see them.

    JSON is rewritten as JavaScript prints it, and sent without parameters of its media type, as servers of this profile
    compare it literally; a request of JSON without a body gets `{}`.
    """
    out = {name.lower(): value for name, value in headers.items()}
    for name, value in out.items():
        if not value.isascii() or not value.isprintable():
            raise LocalProtocolError("bad-header", f"cannot sign the header {name}", hint="printable ASCII only")
    if jsontext.media_type(out.get("content-type", "")) != "application/json":
        return out, body
    out["content-type"] = "application/json"
    if not body:
        return out, b"{}" if method in _WITH_BODY else b""
    return out, javascript(body)


def javascript(body: bytes) -> bytes:
    """JSON text as JavaScript's `JSON.stringify(JSON.parse(text))` writes it; LocalProtocolError where we could not know.

    That is: numbers that are not integers below 2**53, and text with lone surrogates.
    """
    try:
        return jsontext.compact(_ordered(jsontext.parse(body, "JSON body")))
    except (RemoteProtocolError, ValueError, RecursionError) as fault:
        raise LocalProtocolError(
            "bad-json", f"cannot sign this JSON: {fault}", hint="integers below 2**53, whole Unicode text, each key once"
        ) from fault


def _ordered(value: Json) -> Json:
    if isinstance(value, float) or (isinstance(value, int) and abs(value) > jsontext.MAX_SAFE):
        raise ValueError(f"the number {value!r} has more than one spelling")
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    if not isinstance(value, dict):
        return value
    indices = sorted((key for key in value if _INDEX.fullmatch(key) and int(key) <= _MAX_INDEX), key=int)
    first = set(indices)
    return {key: _ordered(value[key]) for key in (*indices, *(key for key in value if key not in first))}


def _fault(detail: str, code: str = "bad-auth-headers") -> RemoteProtocolError:
    return RemoteProtocolError(f"cannot accept the authentication headers: {detail}", code=code)
