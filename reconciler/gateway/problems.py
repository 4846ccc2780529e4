"""What went wrong, for programs: RFC 9457 problem documents, each with a stable type `urn:reconciler:problem:<code>`.

Inside mutual authentication and payment the bodies are those of BRC-103, BRC-104 and BRC-105, whose `status` is a word and whose
`code` clients read; those carry the members of a problem beside them, under `application/json`.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse

from reconciler.model.canonical import Json
from reconciler.model.errors import Conflict, ReconcilerError, Refused, Unavailable, Uncertain

MEDIA = "application/problem+json"
TYPE = "urn:reconciler:problem:"

# code -> (HTTP status, title). What is not listed is told by the kind of the error.
PROBLEMS: Mapping[str, tuple[int, str]] = {
    "unauthorized": (401, "Nobody said who asks"),
    "blocked": (403, "This key is blocked"),
    "suspended": (403, "This key is suspended"),
    "bad-token": (403, "The access token is not good"),
    "token-expired": (403, "The access token has expired"),
    "not-yours": (403, "This belongs to another buyer"),
    "not-found": (404, "There is nothing here"),
    "no-content": (404, "There is no such content"),
    "no-file": (404, "The content has no such file"),
    "no-quote": (404, "There is no such quote"),
    "no-receipt": (404, "There is no such receipt"),
    "no-template": (404, "There is no such payment template"),
    "no-sample": (404, "The content has no sample"),
    "no-producer": (404, "There is no such producer"),
    "no-document": (404, "There is no such document"),
    "method-not-allowed": (405, "The resource has no such method"),
    "too-large-to-sign": (406, "The content is too large for a signed answer"),
    "over-max": (409, "It costs more than was to be paid"),
    "quote-expired": (409, "The quote has expired"),
    "template-expired": (409, "The payment template has expired"),
    "bought-already": (409, "It was bought before"),
    "not-refundable": (409, "There is nothing to be given back"),
    "payment-lost": (409, "The payment is not good any more"),
    "payment-refused": (422, "The transaction does not pay the template"),
    "quote-of-another": (409, "The quote was given to somebody else"),
    "quote-of-other-content": (409, "The quote is about other content"),
    "not-for-sale": (409, "The content cannot be bought like this"),
    "key-reused": (409, "The idempotency key was used for another request"),
    "not-mined": (409, "The transaction is in no block yet"),
    "bytes-missing": (503, "The bytes are not at hand"),
    "too-large": (413, "The request is too large"),
    "bad-range": (416, "The range cannot be served"),
    "bad-request": (400, "The request cannot be read"),
    "bad-query": (422, "A parameter of the address is wrong"),
    "bad-cursor": (422, "The cursor leads nowhere"),
    "bad-idempotency-key": (400, "The idempotency key is none"),
    "idempotency-key-reused": (422, "The idempotency key was used for another request"),
    "in-progress": (409, "The same request is being answered"),
    "bad-member": (422, "A member of the request is wrong"),
    "rate-limited": (429, "Too many requests"),
    "too-fast": (429, "Too many payments in a minute"),
    "quota-requests": (429, "Too many requests in a minute"),
    "quota-bytes": (429, "Too many bytes in a day"),
    "quota-streams": (429, "Too many streams at once"),
    "exposure": (503, "Too much is paid and in no block yet"),
    "payment-in-progress": (503, "The payment is being taken"),
    "closed": (503, "The shop is not open"),
    "internal": (500, "Something went wrong here"),
}
_BY_KIND: tuple[tuple[type[ReconcilerError], int, str], ...] = (
    (Conflict, 409, "It contradicts what is there"),
    (Refused, 409, "It is refused"),
    (Unavailable, 503, "It cannot be done now"),
    (Uncertain, 503, "It cannot be told now"),
)
# Seconds after which something that cannot be done now is worth another try, unless something better is known.
LATER = 5


def problem(
    code: str, detail: str = "", *, hint: str | None = None, headers: Mapping[str, str] | None = None, **members: Json
) -> JSONResponse:
    """A problem of the table; `members` are added to its body."""
    status, title = PROBLEMS[code]
    return _document(code, status, title, detail, hint, headers, members)


def told(error: ReconcilerError, **members: Json) -> JSONResponse:
    """An error as the problem it is."""
    status, title = PROBLEMS.get(error.code) or next(
        ((number, words) for kind, number, words in _BY_KIND if isinstance(error, kind)), PROBLEMS["internal"]
    )
    # What we did wrong ourselves is for the log, and nobody else's business.
    detail = error.message if status != PROBLEMS["internal"][0] else ""
    wait = getattr(error, "retry_after", None) or (LATER if status in (429, 503) else None)
    headers = {"retry-after": str(wait)} if wait is not None else None
    return _document(error.code, status, title, detail, error.hint if detail else None, headers, members)


def _document(
    code: str,
    status: int,
    title: str,
    detail: str,
    hint: str | None,
    headers: Mapping[str, str] | None,
    members: Mapping[str, Json],
) -> JSONResponse:
    body: dict[str, Json] = {"type": TYPE + code, "title": title, "status": status}
    body |= {"detail": detail} if detail else {}
    body |= {"hint": hint} if hint else {}
    return JSONResponse({**body, **members}, status, dict(headers or {}), media_type=MEDIA)


def beside(code: str, title: str, detail: str = "") -> dict[str, Json]:
    """The members of a problem that stand beside those of a BRC's own body."""
    return {"type": TYPE + code, "title": title, **({"detail": detail} if detail else {})}
