"""The door for pushes: a host of repositories says that a branch moved. A hint and nothing more.

What comes in is believed to be from somebody who knows the secret, and about which branch it is; what the branch is now, we ask
ourselves. So a replayed, delayed or invented push costs one question to the remote. GitHub and Gitea sign the body with
HMAC-SHA256, GitLab signs as Standard Webhooks do or shows a token; every comparison takes the same time whatever differs.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reconciler.gateway.admin import hurried
from reconciler.model.errors import Refused
from reconciler.wire import webhook

log = logging.getLogger("reconciler.push")

# A push of two thousand commits is a few megabytes; a larger one is refused, and the next poll finds it.
MAX_BODY = 8 * 1024 * 1024
# Past this many requests at once the rest is told to come later: each may hold MAX_BODY of memory.
MAX_TOGETHER = 8
_EVENTS = ("x-github-event", "x-gitea-event", "x-forgejo-event", "x-gitlab-event")
_PUSHES = frozenset({"push", "create", "delete", "push hook", "tag push hook", "system hook", ""})


def authentic(secret: bytes, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the sender knows the secret; header names are lower case. One signature that does not fit is enough for no."""
    mac = hmac.new(secret, body, hashlib.sha256).hexdigest()
    expected = {
        "x-hub-signature-256": f"sha256={mac}",
        "x-gitea-signature": mac,
        "x-forgejo-signature": mac,
        "x-gitlab-token": secret.decode("utf-8", "replace"),
    }
    verdicts = [same(headers[name], value) for name, value in expected.items() if name in headers]
    if "webhook-signature" in headers:
        verdicts.append(_standard(secret, headers, body))
    return bool(verdicts) and all(verdicts)


def _standard(secret: bytes, headers: Mapping[str, str], body: bytes) -> bool:
    moment = headers.get("webhook-timestamp", "")
    if not (moment.isascii() and moment.isdecimal() and len(moment) < 16):
        return False
    try:
        signed = webhook.headers(secret, headers.get("webhook-id", ""), int(moment), body)["webhook-signature"]
    except Refused:
        return False
    # Several signatures may stand there while a secret is replaced.
    return any(same(one, signed) for one in headers["webhook-signature"].split(" "))


def same(given: str, expected: str) -> bool:
    """Whether two texts are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode(), expected.encode())


@dataclass(slots=True)
class Receiver:
    """The one route. `ref` is what is followed, in full; `secret` is read for every push, so that it can be replaced."""

    ref: str
    secret: Callable[[], bytes]
    hint: Callable[[], None]
    told: Callable[[str], None] = lambda result: None
    _together: int = field(default=0, init=False)
    _refusing: bool = field(default=False, init=False)

    def app(self) -> Starlette:
        """POST /push, and nothing else."""
        return Starlette(routes=[Route("/push", self.push, methods=["POST"])])

    async def push(self, request: Request) -> Response:
        """202 when it was understood, whether or not it is about our branch; 401 without the secret; 413 when too large."""
        if self._together >= MAX_TOGETHER:
            return JSONResponse({"title": "busy"}, status_code=503, headers={"retry-after": "5"})
        self._together += 1
        try:
            body = await whole(request, MAX_BODY)
        except ClientDisconnect:
            return Response(status_code=400)
        finally:
            self._together -= 1
        if body is None:
            return self._done("too-large", 413)
        headers = {name.lower(): value for name, value in request.headers.items()}
        if not authentic(self.secret(), headers, body):
            if not self._refusing:
                # Once, until a good one comes: whoever floods this door must not fill the log as well.
                log.warning("push.refused", extra={"hint": "compare the secret there with source.git.push.secret"})
            self._refusing = True
            return self._done("refused", 401)
        self._refusing = False
        event = next((headers[name].lower() for name in _EVENTS if name in headers), "")
        if event not in _PUSHES:
            return self._done("ignored", 202)
        ref = ref_of(headers.get("content-type", ""), body)
        if ref is None:
            return self._done("malformed", 400)
        if ref not in (self.ref, ""):
            return self._done("ignored", 202)
        log.info("push.received", extra={"revision": ref or None})
        self.hint()
        return self._done("heard", 202)

    def _done(self, result: str, code: int) -> Response:
        self.told(result)
        return JSONResponse({"result": result}, status_code=code)


async def whole(request: Request, most: int) -> bytes | None:
    """The body; None once it is larger than it may be."""
    stated = request.headers.get("content-length", "0")
    if not stated.isdecimal() or len(stated) > 12 or int(stated) > most:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            return None
    return bytes(body)


def ref_of(content_type: str, body: bytes) -> str | None:
    """The ref that a push is about, in full; empty when it names none, None when it is no push at all."""
    try:
        if content_type.startswith("application/x-www-form-urlencoded"):
            body = parse_qs(body.decode(), max_num_fields=8)["payload"][0].encode()
        payload = json.loads(body)
    except (ValueError, LookupError, RecursionError):
        return None
    if not isinstance(payload, dict):
        return None
    ref, kind = payload.get("ref") or "", payload.get("ref_type")
    if not isinstance(ref, str):
        return None
    if kind in ("branch", "tag") and not ref.startswith("refs/"):
        return f"refs/{'heads' if kind == 'branch' else 'tags'}/{ref}"
    return ref


def receiving(receiver: Receiver) -> uvicorn.Server:
    """A server for the door; `serve(sockets=[...])` runs it."""
    return hurried(receiver.app())
