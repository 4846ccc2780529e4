"""What is wrong with a manifest: a value, never an exception, so that every fault is reported at once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from reconciler.model.ref import Position


class Severity(Enum):
    """Errors stop a revision; warnings are told."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One fault at one place. `code` is stable (E0107); `related` points at the other end of a conflict or cycle."""

    severity: Severity
    code: str
    message: str
    at: Position
    length: int = 1
    hint: str | None = None
    related: tuple[tuple[Position, str], ...] = ()

    @property
    def order(self) -> tuple[str, int, int, str]:
        """Sort key: by place, then code."""
        return (self.at.file, self.at.line, self.at.column, self.code)
