"""Approvals as files: a sealed document (BRC-77) that stands beside the plan and can be checked by anyone, offline.

{"document": {"format": "reconciler-approval/1", "plan": "pl_...", "sha256": hex32, "guards": [...], "approver": "...",
              "at": "2026-01-31T12:00:00Z", "reason": "..."},
 "signature": {"scheme": "BRC-77", "signer": hex33, "value": base64}}
"""

from __future__ import annotations

from reconciler.model.approval import Approval
from reconciler.model.canonical import Json
from reconciler.model.errors import RemoteProtocolError
from reconciler.wire.document import open_envelope, seal, signed_bytes
from reconciler.wire.jsontext import Fields

FORMAT = "reconciler-approval/1"
# A name, a moment, a reason and a few guards. Anything larger is no approval.
MAX_BYTES = 64 * 1024
# No plan has more guards than its settings have rules.
MAX_GUARDS = 256


def statement(approval: Approval) -> dict[str, Json]:
    """The document that is signed."""
    return {
        "format": FORMAT,
        "plan": approval.plan,
        "sha256": approval.sha256,
        "guards": list(approval.guards),
        "approver": approval.approver,
        "at": approval.at,
        "reason": approval.reason,
    }


def message(approval: Approval) -> bytes:
    """The bytes that are signed."""
    return signed_bytes(statement(approval))


def write_approval(approval: Approval, signature: bytes) -> bytes:
    """The file's bytes; LocalProtocolError when the signature is not that key's over this approval."""
    return seal(statement(approval), approval.key, signature) + b"\n"


def read_approval(data: bytes) -> Approval:
    """The approval in a file, its signature checked; RemoteProtocolError when it is none, or is not its signer's."""
    if len(data) > MAX_BYTES:
        raise RemoteProtocolError(f"cannot read an approval of {len(data)} bytes", hint=f"at most {MAX_BYTES}")
    document, signer = open_envelope(data.rstrip(b"\n"))
    fields = Fields("approval", document).exactly("format", "plan", "sha256", "guards", "approver", "at", "reason")
    if fields.text("format") != FORMAT:
        fields.fail("format", f"must be {FORMAT}")
    guards = fields.strings("guards")
    if len(guards) > MAX_GUARDS:
        fields.fail("guards", f"holds more than {MAX_GUARDS} names")
    words = {name: fields.text(name) for name in ("plan", "approver", "at", "reason")}
    return Approval(sha256=fields.hex("sha256", 32), key=signer, guards=guards, **words)
