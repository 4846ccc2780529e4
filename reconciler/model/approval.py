"""One person's consent to one plan."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Approval:
    """Whoever holds the private half of `key` (hex33) agrees that this very plan is carried out.

    `plan` is its id and `sha256` its whole digest, so neither another plan nor an altered one is meant.
    `guards` are the refusals that may pass, for this plan alone. `approver` and `at` (RFC 3339) are the signer's own words.
    """

    plan: str
    sha256: str
    key: str
    guards: tuple[str, ...] = ()
    approver: str = ""
    at: str = ""
    reason: str = ""
