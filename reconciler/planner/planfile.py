"""A plan as a file that says itself what it holds: written once, reviewed, applied exactly or refused.

{"formatVersion": 1, "id": "pl_...", "sha256": hex, "plan": {...}}, where sha256 is the digest of the canonical "plan".
The digest shows damage and careless edits; it is the approver's signature over the file that shows intent.
"""

from __future__ import annotations

import json

from reconciler.model.canonical import canonical, digest
from reconciler.model.codec import decode, encode
from reconciler.model.errors import Conflict, GuardRefused, ReconcilerError, Refused
from reconciler.model.plan import FORMAT_VERSION, Plan

# Far above any plan a person would approve; below what would hurt to parse.
MAX_BYTES = 256 * 1024 * 1024
_AGAIN = "make it again with: reconciler plan --out FILE"


def write_plan(plan: Plan) -> bytes:
    """The bytes of a plan file; equal plans give equal bytes."""
    body = encode(plan)
    return canonical({"formatVersion": FORMAT_VERSION, "id": plan.id, "sha256": digest(body), "plan": body}) + b"\n"


def read_plan(data: bytes) -> Plan:
    """The plan in a file. Refused: not a plan file. Conflict: of another format. GuardRefused: altered since written."""
    if len(data) > MAX_BYTES:
        raise Refused("bad-plan-file", f"cannot read the plan file: it is larger than {MAX_BYTES} bytes", hint=_AGAIN)
    try:
        content = json.loads(data)
        version, name, sha256, body = (content[key] for key in ("formatVersion", "id", "sha256", "plan"))
    except (ValueError, LookupError, TypeError, RecursionError) as fault:
        raise Refused("bad-plan-file", "cannot read the plan file: it is not one", hint=_AGAIN) from fault
    if version != FORMAT_VERSION:
        message = f"cannot read the plan file: its format is {version!r}, this program writes {FORMAT_VERSION}"
        raise Conflict("plan-format", message, hint=_AGAIN)
    try:
        actual = digest(body)
    except (TypeError, ValueError, RecursionError) as fault:
        raise GuardRefused("plan-altered", "cannot use the plan file: it holds what no plan holds", hint=_AGAIN) from fault
    if actual != sha256:
        raise GuardRefused("plan-altered", "cannot use the plan file: it was altered after it was written", hint=_AGAIN)
    try:
        plan: Plan = decode(Plan, body)
        faithful = encode(plan) == body and plan.id == name
    except (ReconcilerError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as fault:
        raise GuardRefused("plan-altered", "cannot use the plan file: its plan cannot be read back", hint=_AGAIN) from fault
    if not faithful:
        raise GuardRefused("plan-altered", f"cannot use the plan file: it does not hold plan {name}", hint=_AGAIN)
    return plan
