"""Where notices go: a webhook (CloudEvents 1.0, signed as Standard Webhooks are), the log, or a command.

Webhook addresses and commands are the operator's own word, written in the settings: they are used as they stand. A command is
started without a shell, gets the notice as JSON on its standard input and nothing of our secrets in its environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from reconciler.adapters.http import Http, Request, refusal
from reconciler.adapters.secret import read_secret
from reconciler.engine import heart
from reconciler.engine.notices import Notice, Severity, Sink, cloud_event
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused, Unavailable
from reconciler.ports import Clock
from reconciler.wire import webhook

log = logging.getLogger("reconciler.notices")

# A receiver that takes longer to say yes to one small document is as good as down.
WEBHOOK_DEADLINE = 10.0
# Enough for a mail program that waits for its server; a command that needs longer should put the work aside itself.
COMMAND_DEADLINE = 30.0
# Of what a command says when it fails, this much is kept.
MOST_SAID = 500
_LEVELS = {Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING, Severity.ERROR: logging.ERROR}
# What a command inherits: enough to find programs and to write in the right language, and no secret of ours.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "SHELL", "TMPDIR")


class Sinks:
    """engine.dispatch.Deliver for the three kinds of sink. `source` names this installation in CloudEvents."""

    def __init__(self, http: Http, clock: Clock, root: Path, source: str) -> None:
        self._http, self._clock, self._root, self._source = http, clock, root, source

    async def __call__(self, sink: Sink, notice: Notice) -> None:
        """Hand it over; returns when the sink has taken it."""
        if sink.webhook is not None:
            await self._post(sink.webhook, notice)
        elif sink.command is not None:
            await self._run(sink.command, notice)
        else:
            _write(notice)
        heart.beat()

    async def _post(self, hook: Mapping[str, Json], notice: Notice) -> None:
        body = json.dumps(cloud_event(notice, self._source), ensure_ascii=False, separators=(",", ":")).encode()
        secret = read_secret(hook["secret"], self._root) if hook.get("secret") else None
        signed = webhook.headers(secret, notice.id, int(self._clock.now().timestamp()), body)
        sent = Request("POST", hook["url"], {"content-type": "application/cloudevents+json; charset=utf-8", **signed}, body)
        answer = await self._http.send(sent, deadline=WEBHOOK_DEADLINE, limit=1 << 20)
        if not 200 <= answer.status < 300:
            raise refusal(answer, "notify", self._clock)

    async def _run(self, command: Mapping[str, Json], notice: Notice) -> None:
        words = [str(word) for word in command["run"]]
        given = json.dumps({"id": notice.id, **notice.body}, ensure_ascii=False).encode()
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        pipe = asyncio.subprocess.PIPE
        try:
            child = await asyncio.create_subprocess_exec(
                *words, stdin=pipe, stdout=asyncio.subprocess.DEVNULL, stderr=pipe, cwd=self._root, env=environment,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise Refused(
                "bad-command", f"cannot run {words[0]}: {error.strerror}", hint="see `notify` in the settings"
            ) from error
        deadline = float(command.get("timeout") or COMMAND_DEADLINE * 1000) / 1000
        try:
            async with asyncio.timeout(deadline):
                _, said = await child.communicate(given)
        except TimeoutError as error:
            raise Unavailable("command-timeout", f"cannot wait for {words[0]}: it took longer than {deadline:g} s") from error
        finally:
            await _end(child)
        if child.returncode:
            why = " ".join(said.decode("utf-8", "replace").split())[:MOST_SAID]
            raise Refused("command-failed", f"cannot notify: {words[0]} ended with {child.returncode}: {why}")


async def _end(child: asyncio.subprocess.Process) -> None:
    """No child, and none of its children, outlives its deadline."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, 9)
        await child.wait()


def _write(notice: Notice) -> None:
    body = notice.body
    level = _LEVELS[Severity[str(body["severity"]).upper()]]
    said = f"{body['condition']} {body['before']} -> {body['status']} ({body['reason']})"
    extra = {"ref": body["resource"], "outcome": said, "error": body["message"] or None, "revision": body["revision"] or None}
    log.log(level, "condition.changed", extra={**extra, "notice": notice.id})
