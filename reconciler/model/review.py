"""What is said about a commit where its authors and reviewers look: how it fares, and what it would do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """The four states that hosts of repositories know for a commit."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """How a revision (`name@commit`) fares, in one line. Equal values are told once."""

    revision: str
    state: State
    summary: str
    plan: str = ""

    @property
    def commit(self) -> str:
        """The id of the commit."""
        return self.revision.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan that waits for approval: the plan file, a signature over it, and the plan as Markdown.

    `signature` is {"scheme": "BRC-77", "signer": hex33, "value": base64} as canonical JSON.
    """

    plan: str
    revision: str
    file: bytes
    signature: bytes
    markdown: str

    @property
    def commit(self) -> str:
        """The id of the commit; empty where the source has no commits."""
        return self.revision.rpartition("@")[2]
