"""Where reviewers look: the statuses API of a repository's host, a webhook, a directory.

Tokens and secrets are read when they are needed, from where the settings say, and leave in a header; no error repeats them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reconciler.adapters.http import Http, Request, refusal
from reconciler.adapters.secret import read_secret
from reconciler.model.canonical import Json, canonical, digest
from reconciler.model.errors import Refused, Unavailable
from reconciler.model.review import CommitStatus, Proposal
from reconciler.ports import Clock, Reviewers
from reconciler.wire import webhook

# A host that needs longer to take one small document is told at the next pass.
DEADLINE = 10.0
# Comments are cut by their host beyond this.
MAX_COMMENT = 65_000


class StatusesApi(Reviewers):
    """POST {url}/statuses/{commit}, as GitHub and Gitea have it; a proposal becomes a comment where the settings name a place."""

    def __init__(self, http: Http, clock: Clock, root: Path, settings: Mapping[str, Json], context: str) -> None:
        self.name = "statuses"
        self._http, self._clock, self._root = http, clock, root
        self._settings, self._context = settings, context

    async def status(self, status: CommitStatus) -> None:
        """Set the status of the commit under our context."""
        body = {"state": status.state.value, "description": status.summary, "context": self._context}
        if self._settings.get("targetUrl"):
            body["target_url"] = self._settings["targetUrl"]
        await self._post(f"{self._settings['url'].rstrip('/')}/statuses/{status.commit}", body, "set the status of a commit")

    async def propose(self, proposal: Proposal) -> None:
        """Write the plan as a comment, if there is a place for it."""
        place = self._settings.get("comments")
        if place:
            body = {"body": proposal.markdown[:MAX_COMMENT]}
            await self._post(place.replace("{commit}", proposal.commit), body, "comment a commit")

    async def _post(self, url: str, body: Mapping[str, Any], what: str) -> None:
        token = read_secret(self._settings["token"], self._root).decode("ascii", "replace")
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json", "accept": "application/json"}
        answer = await self._http.send(Request("POST", url, headers, json.dumps(body).encode()), deadline=DEADLINE, limit=1 << 20)
        if not 200 <= answer.status < 300:
            raise refusal(answer, what, self._clock)


class Webhook(Reviewers):
    """One POST per status and per proposal, signed as Standard Webhooks are; its id is the same for the same content."""

    def __init__(self, http: Http, clock: Clock, root: Path, settings: Mapping[str, Json], context: str) -> None:
        self.name = "webhook"
        self._http, self._clock, self._root = http, clock, root
        self._settings, self._context = settings, context

    async def status(self, status: CommitStatus) -> None:
        """{"type": "revision.status", ...}."""
        await self._post({"type": "revision.status", "context": self._context, **said(status)})

    async def propose(self, proposal: Proposal) -> None:
        """{"type": "plan.proposed", ...} with the whole plan file."""
        shown = {"plan": proposal.plan, "revision": proposal.revision, "markdown": proposal.markdown}
        whole = {"file": proposal.file.decode(), "signature": json.loads(proposal.signature)}
        await self._post({"type": "plan.proposed", "context": self._context, **shown, **whole})

    async def _post(self, body: Mapping[str, Json]) -> None:
        content = canonical(body)
        secret = read_secret(self._settings["secret"], self._root) if self._settings.get("secret") else None
        signed = webhook.headers(secret, f"msg_{digest(body)[:24]}", int(self._clock.now().timestamp()), content)
        sent = Request("POST", self._settings["url"], {"content-type": "application/json", **signed}, content)
        answer = await self._http.send(sent, deadline=DEADLINE, limit=1 << 20)
        if not 200 <= answer.status < 300:
            raise refusal(answer, "tell a reviewer", self._clock)


class Folder(Reviewers):
    """Files in a directory: status.json, and for a proposal <plan>.json, <plan>.json.sig and <plan>.md."""

    def __init__(self, directory: Path, context: str) -> None:
        self.name = "file"
        self._directory, self._context = directory, context

    async def status(self, status: CommitStatus) -> None:
        """The newest status, whole or not at all."""
        self._write("status.json", canonical({"context": self._context, **said(status)}) + b"\n")

    async def propose(self, proposal: Proposal) -> None:
        """The plan last: who sees it finds the signature beside it."""
        self._write(f"{proposal.plan}.md", proposal.markdown.encode())
        self._write(f"{proposal.plan}.json.sig", proposal.signature + b"\n")
        self._write(f"{proposal.plan}.json", proposal.file)

    def _write(self, name: str, content: bytes) -> None:
        place = self._directory / name
        part = place.with_name(f".{name}.{os.getpid()}")
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            part.write_bytes(content)
            part.replace(place)
        except OSError as error:
            raise Unavailable("review-file", f"cannot write {place}: {error.strerror}", hint="make it writable") from error


def said(status: CommitStatus) -> dict[str, Json]:
    """A status as JSON."""
    return {"revision": status.revision, "state": status.state.value, "summary": status.summary, "plan": status.plan}


def reviewers(http: Http, clock: Clock, root: Path, settings: Mapping[str, Json]) -> Sequence[Reviewers]:
    """Those that the settings name."""
    context = settings.get("context") or "reconciler"
    found: list[Reviewers] = []
    if settings.get("statuses"):
        if not str(settings["statuses"]["url"]).startswith(("https://", "http://127.0.0.1", "http://localhost", "http://[::1]")):
            where = "cannot send a token in the clear"
            raise Refused("review-url", where, hint="write an https address in review.statuses.url")
        found.append(StatusesApi(http, clock, root, settings["statuses"], context))
    if settings.get("webhook"):
        found.append(Webhook(http, clock, root, settings["webhook"], context))
    if settings.get("directory"):
        found.append(Folder(root / settings["directory"], context))
    return found
