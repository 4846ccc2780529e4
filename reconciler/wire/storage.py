"""The HTTP interface of storage hosts (BRC-26 deployments): bodies and answers, both sides.

Requests count retention in minutes; answers and tokens count expiry in unix seconds. A host answers a refusal with
`{"status":"error","code","description"}`; the readers here return it as a `StorageError`, and raise RemoteProtocolError only for
what is neither an answer nor a refusal. TRAP: `/find` says HTTP 500 ERR_FIND for "not here", which `parse_find` returns as None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from reconciler.model.canonical import Json
from reconciler.model.errors import RemoteProtocolError
from reconciler.wire.jsontext import MAX_SAFE, Fields
from reconciler.wire.uhrp import parse_uhrp, uhrp_url

# What deployed hosts accept.
MAX_FILE = 11_000_000_000
MAX_RETENTION = 69_000_000
LIST_PAGE = 200
# By this header a publisher tells a host that he reads his own copy to see whether it is sound.
PROBING: Mapping[str, str] = {"x-purpose": "probe"}

# code -> (HTTP status, meaning, whether the same request may succeed later)
ERRORS: Mapping[str, tuple[int, str, bool]] = {
    "ERR_HTTPS_REQUIRED": (426, "the host wants TLS", False),
    "ERR_ROUTE_NOT_FOUND": (404, "no such route", False),
    "UNAUTHORIZED": (401, "the host wants mutual authentication", False),
    "ERR_AUTH_FAILED": (401, "mutual authentication failed", True),
    "ERR_PAYMENT_REQUIRED": (402, "the host wants to be paid", False),
    "ERR_NO_SIZE": (400, "fileSize is missing", False),
    "ERR_NO_RETENTION_PERIOD": (400, "retentionPeriod is missing", False),
    "ERR_INVALID_SIZE": (400, "the host does not take files of this size", False),
    "ERR_INVALID_RETENTION_PERIOD": (400, "the host does not keep files for so short or long", False),
    "ERR_MISSING_IDENTITY_KEY": (400, "the request is not authenticated", False),
    "ERR_INTERNAL": (500, "the host failed", True),
    "ERR_INTERNAL_UPLOAD": (500, "the host failed", True),
    "ERR_NO_UHRP_URL": (400, "uhrpUrl is missing", False),
    "ERR_FIND": (500, "not stored for this identity, or expired", False),
    "ERR_LIST": (500, "the host failed", True),
    "ERR_MISSING_FIELDS": (400, "uhrpUrl or additionalMinutes is missing", False),
    "ERR_INVALID_TIME": (400, "additionalMinutes is not positive", False),
    "ERR_OLD_ADVERTISEMENT_NOT_FOUND": (404, "nothing to renew", False),
    "ERR_CREATE_ACTION_FAILED": (500, "the host could not renew its token", True),
    "ERR_SIGNING_OLD_ADVERTISEMENT": (400, "the host could not spend its old token", True),
    "ERR_INTERNAL_RENEW": (500, "the host failed", True),
    "ERR_UNAUTHORIZED": (401, "the admin token is wrong", False),
}


@dataclass(frozen=True, slots=True)
class StorageError:
    """A refusal. `code` is empty where the peer gave none, as PUT targets and proxies do."""

    status: int
    code: str = ""
    description: str = ""

    @property
    def meaning(self) -> str:
        """The code in words, or the peer's own."""
        return ERRORS.get(self.code, (0, self.description or f"HTTP {self.status}", False))[1]

    @property
    def retry(self) -> bool:
        """Whether the same request may succeed later."""
        return ERRORS.get(self.code, (0, "", self.status >= 500 or self.status == 429))[2]


@dataclass(frozen=True, slots=True)
class UploadTarget:
    """Where to PUT the bytes, and the headers that must go along; `amount` is the price in satoshis."""

    url: str
    headers: Mapping[str, str]
    amount: int
    description: str = ""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What a host knows of content: path below the host, bytes, media type, expiry in unix seconds."""

    name: str
    size: int
    media_type: str
    expires: int


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of `/list`."""

    sha256: str
    expires: int


@dataclass(frozen=True, slots=True)
class Renewal:
    """Expiry before and after, in unix seconds, and what it cost in satoshis."""

    previous: int
    expires: int
    amount: int


# --- the client's side ----------------------------------------------------------------------------


def offer(size: int, retention: int) -> dict[str, int]:
    """The body of `/quote` and of `/upload`: bytes and minutes."""
    return {"fileSize": size, "retentionPeriod": retention}


def find_path(sha256: str) -> str:
    """The path and query of `/find`."""
    return "/find?" + urlencode({"uhrpUrl": uhrp_url(sha256)})


def downloads_path(sha256: str) -> str:
    """The path and query of `/downloads`, an addition of ours that hosts may lack: how often content was read by others."""
    return "/downloads?" + urlencode({"uhrpUrl": uhrp_url(sha256)})


def renewal(sha256: str, minutes: int) -> dict[str, Json]:
    """The body of `/renew`."""
    return {"uhrpUrl": uhrp_url(sha256), "additionalMinutes": minutes}


def parse_quote(status: int, body: bytes) -> int | StorageError:
    """Satoshis."""
    return _refusal(status, body) or Fields.parse(body, "storage quote").integer("quote")


def parse_upload(status: int, body: bytes) -> UploadTarget | StorageError:
    """Where to put the bytes."""
    if refused := _refusal(status, body):
        return refused
    answer = Fields.parse(body, "upload answer")
    headers = answer.object("requiredHeaders").values if answer.values.get("requiredHeaders") is not None else {}
    for name, value in headers.items():
        # A header the host dictates is sent as is: nothing in it may begin another one.
        if not isinstance(value, str) or not (name + value).isascii() or not (name + value).isprintable():
            answer.fail("requiredHeaders", "must be plain text")
    target = UploadTarget(
        answer.text("uploadURL"), dict(headers), answer.integer("amount", default=0), answer.text("description", "")
    )
    if not target.url.startswith(("https://", "http://")):
        answer.fail("uploadURL", "must be an absolute URL")
    return target


def parse_put(status: int, body: bytes) -> StorageError | None:
    """None when the bytes were taken; some hosts answer with an empty body."""
    return _refusal(status, body)


def parse_find(status: int, body: bytes) -> StoredFile | StorageError | None:
    """What the host holds; None when it holds it not, not for us, or no longer (it cannot tell these apart)."""
    if refused := _refusal(status, body):
        absent = refused.code == "ERR_FIND" or (status == 404 and refused.code != "ERR_ROUTE_NOT_FOUND")
        return None if absent else refused
    data = Fields.parse(body, "find answer").object("data")
    size = data.values.get("size")  # written as text by deployed hosts
    if isinstance(size, str) and size.isascii() and size.isdecimal() and len(size) < 16:
        size = int(size)
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_SAFE:
        data.fail("size", "must be a number of bytes")
    return StoredFile(data.text("name"), size, data.text("mimeType", ""), data.integer("expiryTime"))


def parse_downloads(status: int, body: bytes) -> int | StorageError | None:
    """Downloads since the host has it; None from a host that does not count, or does not hold it."""
    if refused := _refusal(status, body):
        return None if status == 404 or refused.code == "ERR_FIND" else refused
    return Fields.parse(body, "downloads answer").object("data").integer("downloads")


def parse_list(status: int, body: bytes) -> tuple[Listed, ...] | StorageError:
    """Everything unexpired that this identity uploaded."""
    if refused := _refusal(status, body):
        return refused
    uploads = Fields.parse(body, "list answer").objects("uploads")
    return tuple(Listed(parse_uhrp(item.text("uhrpUrl")), item.integer("expiryTime")) for item in uploads)


def parse_renew(status: int, body: bytes) -> Renewal | StorageError:
    """What a renewal did."""
    if refused := _refusal(status, body):
        return refused
    answer = Fields.parse(body, "renew answer")
    return Renewal(answer.integer("prevExpiryTime"), answer.integer("newExpiryTime"), answer.integer("amount", default=0))


def _refusal(status: int, body: bytes) -> StorageError | None:
    """Tolerant on purpose: an error page of a proxy still has a status. `{"status":"error"}` under HTTP 200 is a refusal too."""
    try:
        fields = Fields.parse(body, "storage answer")
    except RemoteProtocolError:
        return None if status // 100 == 2 else StorageError(status)
    if status // 100 == 2 and fields.values.get("status") != "error":
        return None
    code, description = fields.values.get("code"), fields.values.get("description")
    return StorageError(status, code if isinstance(code, str) else "", description if isinstance(description, str) else "")


# --- the host's side ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """What a host takes: bytes and minutes."""

    min_retention: int = 1
    max_retention: int = MAX_RETENTION
    max_size: int = MAX_FILE


def parse_offer(body: bytes, limits: Limits | None = None) -> tuple[int, int]:
    """(bytes, minutes) of a `/quote` or `/upload` request; the error's `code` is the one to answer with."""
    limits = limits or Limits()
    asked = Fields.parse(body, "storage offer").values
    for name, code in (("fileSize", "ERR_NO_SIZE"), ("retentionPeriod", "ERR_NO_RETENTION_PERIOD")):
        if not asked.get(name):
            raise RemoteProtocolError(f"cannot take the offer: {name} is missing", code=code)
    size, minutes = asked["fileSize"], asked["retentionPeriod"]
    if type(size) is not int or not 1 <= size <= limits.max_size:
        raise RemoteProtocolError("cannot take a file of this size", code="ERR_INVALID_SIZE")
    if type(minutes) is not int or not limits.min_retention <= minutes <= limits.max_retention:
        raise RemoteProtocolError("cannot keep a file for this long", code="ERR_INVALID_RETENTION_PERIOD")
    return size, minutes


def parse_renewal(body: bytes) -> tuple[str, int]:
    """(SHA-256 hex, minutes) of a `/renew` request; the error's `code` is the one to answer with."""
    asked = Fields.parse(body, "renewal").values
    url, minutes = asked.get("uhrpUrl"), asked.get("additionalMinutes")
    if not isinstance(url, str) or not url or minutes is None:
        raise RemoteProtocolError("cannot renew: uhrpUrl or additionalMinutes is missing", code="ERR_MISSING_FIELDS")
    if type(minutes) is not int or not 1 <= minutes <= MAX_RETENTION:
        raise RemoteProtocolError("cannot renew: additionalMinutes is not positive", code="ERR_INVALID_TIME")
    return parse_uhrp(url), minutes


def quote_answer(satoshis: int) -> dict[str, Json]:
    """The answer of `/quote`."""
    return {"quote": satoshis}


def upload_answer(target: UploadTarget) -> dict[str, Json]:
    """The answer of `/upload`."""
    return {
        "status": "success",
        "uploadURL": target.url,
        "requiredHeaders": dict(target.headers),
        "amount": target.amount,
        "description": target.description,
    }


def find_answer(file: StoredFile) -> dict[str, Json]:
    """The answer of `/find`; the size is text, as deployed hosts write it."""
    data = {"name": file.name, "size": str(file.size), "mimeType": file.media_type, "expiryTime": file.expires}
    return {"status": "success", "data": data}


def downloads_answer(count: int) -> dict[str, Json]:
    """The answer of `/downloads`."""
    return {"status": "success", "data": {"downloads": count}}


def list_answer(uploads: Sequence[Listed]) -> dict[str, Json]:
    """The answer of `/list`."""
    lines = [{"uhrpUrl": uhrp_url(item.sha256), "expiryTime": item.expires} for item in uploads]
    return {"status": "success", "uploads": lines}


def renew_answer(done: Renewal) -> dict[str, Json]:
    """The answer of `/renew`."""
    return {"status": "success", "prevExpiryTime": done.previous, "newExpiryTime": done.expires, "amount": done.amount}


def error_answer(code: str, description: str = "") -> tuple[int, dict[str, Json]]:
    """HTTP status and body of a refusal; a code that is none of the interface's is answered as a bad request."""
    status, meaning, _ = ERRORS.get(code, (400, "the request is malformed", False))
    return status, {"status": "error", "code": code, "description": description or meaning}
