"""The reference page of the gateway's HTTP surface, out of the table of operations. Used by docs/generate.py."""

from __future__ import annotations

import json

from code_pages import code, table

from reconciler.gateway.limits import GREETINGS, KEPT_FOR, KNOWN, STRANGERS, Allowance
from reconciler.gateway.openapi import document
from reconciler.gateway.operations import KNOWN as OPTIONAL
from reconciler.gateway.operations import OPEN, OPERATIONS, SIGNED, TOKEN, Operation
from reconciler.gateway.problems import PROBLEMS, TYPE

_WHO = {
    OPEN: "anybody",
    OPTIONAL: "anybody; who signs may get terms of their own",
    SIGNED: "who signs requests (BRC-104)",
    TOKEN: "who signs requests (BRC-104), or shows an access token",
}
_ABOUT = """\
What a shop answers at `Network.gateway.listen`. The same as OpenAPI 3.1: [`specs/openapi.json`](../../specs/openapi.json), and at
`/openapi.json` of a running gateway. How to show it to people: [show a catalog](../how-to/show-a-catalog.md).

Pages and JSON have the same addresses: `Accept` decides, and `?format=html` or `?format=json` settles it. What is wrong is
answered as a problem document (RFC 9457) whose `type` never changes; see [problems](#problems).

## Budgets

Every request costs units. {stranger} by the address the request comes from, of IPv6 by its network (/64). {known}, and so have
downloads with an access token, by address. Handshakes are counted apart, {greetings}. `RateLimit` and `RateLimit-Policy` say
what is left. Without enough left the answer is 429, and `Retry-After` says when it will be enough.

## Idempotency-Key

A POST with this header is answered from memory when the same asker sends the same request under the same key again
(`Idempotency-Replayed: true`), for {days} day or until the gateway starts anew. Another request under the key is refused
with 422. Answers that may be different next time are not kept: 401, 402, 408, 409, 413, 425, 429, and all from 500 on. Money does
not depend on it: a payment that was taken is never taken twice, whatever is remembered.
"""
_FAMILIES = (
    ("catalog", "What is on sale"),
    ("sale", "Quotes, payments and receipts"),
    ("content", "Content"),
    ("state", "State and contracts"),
)


def openapi_text() -> str:
    """The document of everything there is, as specs/openapi.json has it."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def http_page() -> str:
    """Every operation, what it takes and answers; every problem."""
    page = "# The gateway over HTTP\n\n" + _ABOUT.format(
        stranger=_allowance("A stranger", STRANGERS),
        known=_allowance("An identity", KNOWN),
        greetings=f"{GREETINGS.units} in {int(GREETINGS.window.total_seconds())} seconds by address",
        days=KEPT_FOR.days,
    )
    for tag, title in _FAMILIES:
        page += f"\n## {title}\n"
        page += "".join(_section(one) for one in OPERATIONS if one.tag == tag)
    rows = [
        (str(status), code(TYPE + name), title) for name, (status, title) in sorted(PROBLEMS.items(), key=lambda one: one[1][0])
    ]
    return page + f"\n## Problems\n\n{table(('status', '`type`', 'title'), rows)}"


def _allowance(who: str, allowance: Allowance) -> str:
    return f"{who} has {allowance.units} in {int(allowance.window.total_seconds())} seconds"


def _section(one: Operation) -> str:
    cost = f"{one.cost} unit{'' if one.cost == 1 else 's'}" if one.cost else "nothing"
    said = [f"\n### `{one.method} {one.path}`\n\n{one.text}. For {_WHO[one.who]}; costs {cost}.\n"]
    if one.query:
        said.append("\n" + table(("parameter", "meaning"), [(code(asked["name"]), asked["description"]) for asked in one.query]))
    answers = [(str(status), answer.text) for status, answer in one.answers.items()]
    answers += [(str(402), "What it costs and how to pay (BRC-105).")] if one.paid else []
    said.append("\n" + table(("status", "answer"), answers))
    return "".join(said)
