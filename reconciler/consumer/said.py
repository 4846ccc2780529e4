"""What a producer's gateway answers, as values; a refusal of it (RFC 9457) as the error that it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from reconciler.model.canonical import Json, canonical
from reconciler.model.errors import GuardRefused, ReconcilerError, Refused, RemoteProtocolError, Unavailable
from reconciler.web import Reply
from reconciler.wire.document import open_envelope
from reconciler.wire.jsontext import MAX_SAFE, Fields

_PROBLEM = "urn:reconciler:problem:"
# Refusals that mean: dearer than what was allowed.
_DEARER = ("over-max",)


@dataclass(frozen=True, slots=True)
class Quote:
    """A price that a producer signed, and until when it stands. `content` is `name`, of which `sequence` is the version."""

    id: str
    producer: str
    url: str
    content: str
    sequence: int
    digest: str
    units: int
    satoshis: int
    lines: tuple[Mapping[str, Json], ...]
    methods: tuple[str, ...]
    issued: datetime
    expires: datetime
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Sold:
    """One file that was bought, and where the producer serves it."""

    path: str
    size: int
    sha256: str
    url: str


@dataclass(frozen=True, slots=True)
class Goods:
    """What a purchase brought: the receipt's sealed bytes, the files, and a token that opens them for a while."""

    receipt_id: str
    receipt: bytes
    files: tuple[Sold, ...]
    token: str
    expires: datetime | None


def read_quote(envelope: bytes, url: str, producer: str, buyer: str) -> Quote:
    """A quote that this producer signed for us or for anybody; RemoteProtocolError when it is another's or none."""
    document, signer = open_envelope(envelope)
    said = Fields.of(document, "quote")
    if said.text("type") != "Quote" or signer != producer or said.hex("producer", 33) != producer:
        raise RemoteProtocolError(f"cannot accept the quote: it is not one that {producer} signed", code="other-identity")
    if said.text("buyer", "") not in ("", buyer):
        said.fail("buyer", "is somebody else")
    return Quote(
        id=said.text("id"),
        producer=producer,
        url=url,
        content=said.text("contentId").partition("@")[0],
        sequence=said.integer("sequence", 1),
        digest=said.hex("digest", 32),
        units=said.integer("units", 0, MAX_SAFE),
        satoshis=said.integer("satoshis", 0, MAX_SAFE),
        lines=tuple(line.values for line in said.objects("price")),
        methods=said.strings("methods", ()),
        issued=moment(said, "issued"),
        expires=moment(said, "expires"),
        envelope=envelope,
    )


def read_goods(reply: Reply) -> Goods:
    """The answer to a purchase."""
    said = Fields.parse(reply.body, "purchase")
    access = said.object("access") if said.values.get("access") else Fields.of({}, "purchase, access")
    files = tuple(
        Sold(one.text("path"), one.integer("size"), one.hex("sha256", 32), urljoin(reply.url, one.text("url")))
        for one in said.objects("files")
    )
    envelope = canonical(said.object("receipt").values)
    expires = moment(access, "expires") if access.values.get("expires") else None
    return Goods(said.text("receiptId"), envelope, files, access.text("token", ""), expires)


def with_token(url: str, token: str) -> str:
    """An address with the token that opens it, unless it has one."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if not token or "access" in query:
        return url
    return urlunsplit(parts._replace(query=urlencode({**query, "access": token})))


def rebased(url: str, base: str) -> str:
    """An address of the producer, at the host where we deal with him: the one that he names may not lead there from here."""
    there = urlsplit(base)
    return urlunsplit(urlsplit(url)._replace(scheme=there.scheme, netloc=there.netloc))


def moment(said: Fields, name: str) -> datetime:
    """A time of the answer, in UTC."""
    try:
        found = datetime.fromisoformat(said.text(name))
    except ValueError:
        said.fail(name, "must be a time")
    if found.utcoffset() is None:
        said.fail(name, "must be a time in UTC")
    return found.astimezone(UTC)


def code_of(reply: Reply) -> str:
    """The stable code of a refusal: of its problem type, or of a BRC's own body; "" where it has none."""
    try:
        said = Fields.parse(reply.body, "refusal")
        kind = said.text("type", "")
        return kind.removeprefix(_PROBLEM) if kind.startswith(_PROBLEM) else said.text("code", "")
    except RemoteProtocolError:
        return ""


def refusal(reply: Reply, what: str) -> ReconcilerError:
    """What an answer that is no success means. `what` completes "cannot ..."."""
    code, detail, hint = code_of(reply), "", None
    try:
        said = Fields.parse(reply.body, "refusal")
        detail = " ".join((said.text("detail", "") or said.text("description", "") or said.text("title", "")).split())[:300]
        hint = said.text("hint", "") or None
    except RemoteProtocolError:
        pass
    message = f"cannot {what}: {urlsplit(reply.url).netloc} answers {reply.status}" + (f", {detail}" if detail else "")
    if code in _DEARER:
        return GuardRefused("over-cost", message, hint=hint or "nothing was paid; allow more (--cost), or look elsewhere")
    if reply.status in (408, 425, 429) or reply.status >= 500:
        return Unavailable(code or "seller-trouble", message, hint=hint or "try again later; nothing is paid twice")
    return Refused(code or "seller-refused", message, hint=hint)


def numbered(content: str, sequence: int) -> str:
    """The content id of one version."""
    return f"{content}@{sequence}"


def lines_of(lines: Sequence[Mapping[str, Json]]) -> list[str]:
    """The arithmetic of a price as people read it."""
    return [f"{line.get('text')}: {line.get('units')} x {line.get('rate')} = {line.get('satoshis')} sat" for line in lines]
