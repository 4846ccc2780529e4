"""What the manifests ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from reconciler.model.canonical import Json
from reconciler.model.ref import Position, ResourceRef


class DeletionPolicy(Enum):
    """What becomes of the thing in the world when its manifest goes."""

    RETIRE = "Retire"
    ORPHAN = "Orphan"
    PROTECT = "Protect"


class Prune(Enum):
    """Who may delete: the daemon, a confirmed plan, or nobody."""

    AUTO = "auto"
    CONFIRM = "confirm"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Suspension:
    """A pause with a reason; `until` is RFC 3339 UTC text or None."""

    reason: str
    until: str | None = None


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The same block on every kind: what the engine may do to the resource without asking.

    `max_spend` is in satoshis per generation; `ignore` holds JSON pointers below the document root.
    """

    depends_on: tuple[ResourceRef, ...] = ()
    deletion_policy: DeletionPolicy = DeletionPolicy.RETIRE
    prune: Prune = Prune.CONFIRM
    correct_drift: bool = True
    ignore: tuple[str, ...] = ()
    suspend: Suspension | None = None
    max_spend: int | None = None
    adopt: bool = False


@dataclass(frozen=True, slots=True)
class FileFact:
    """One content file as it stood when the manifests were read: path below the source root, bytes, SHA-256 hex.

    `details` are facts read from the bytes where the format is known: rows, columns, first and last value
    of a time column.
    """

    path: str
    size: int
    sha256: str
    media_type: str
    details: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resource:
    """One document, normalised: every default filled, every unit in its canonical form.

    `requires` joins the references inside the spec with `lifecycle.depends_on`. `files` are the content
    files the kind named, in path order, so that changed bytes are a changed resource. `renamed_from` is the name under which it
    was recorded before, if the manifest says so.
    """

    ref: ResourceRef
    spec: Mapping[str, Json]
    at: Position
    requires: frozenset[ResourceRef] = frozenset()
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    labels: Mapping[str, str] = field(default_factory=dict)
    files: tuple[FileFact, ...] = ()
    renamed_from: ResourceRef | None = None


@dataclass(frozen=True, slots=True)
class DesiredState:
    """All resources of one environment at one revision of the source."""

    revision: str
    environment: str
    resources: Mapping[ResourceRef, Resource]
