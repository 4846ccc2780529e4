"""What is known of the place the manifests come from, beside the manifests themselves."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.status import Truth


@dataclass(frozen=True, slots=True)
class Standing:
    """How a source stands. Revisions are `name@commit`; empty where a source has none.

    `current` is in force; `head` is the newest that was seen, which may be another one, and then `verified` says why it is not
    in force: it is Unknown where nobody asks for signatures and nothing else speaks against it. `fault` says why the source could
    not be asked, and is empty when it could. `pinned` says who pinned what is in force.
    """

    current: str = ""
    head: str = ""
    verified: Truth = Truth.UNKNOWN
    reason: str = "NotRequired"
    message: str = ""
    fault: str = ""
    pinned: str = ""

    @property
    def held_back(self) -> bool:
        """Whether there is news that is not let into force."""
        return self.verified is Truth.FALSE
