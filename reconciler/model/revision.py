"""What a source was at one moment: the texts that a desired state is read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Revision:
    """One consistent reading of the manifests: path -> text, and a content identity."""

    id: str
    texts: Mapping[str, bytes]
    root: Path
