"""Daemon settings from file and environment: one frozen value, read once.

Precedence: command-line flag, then environment (RECONCILER_STATE, RECONCILER_SOURCE, RECONCILER_ENV,
RECONCILER_MODE, RECONCILER_LISTEN, MAX_REVENUE_SPLITS), then reconciler.yaml, then the schema's defaults.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.manifest.policies import compiled
from reconciler.manifest.process import read_settings
from reconciler.model.audit import AuditPolicy
from reconciler.model.canonical import Json
from reconciler.model.diagnostic import Diagnostic
from reconciler.model.errors import Refused
from reconciler.planner.guard import Limits
from reconciler.planner.rules import limits_of

if TYPE_CHECKING:
    from reconciler.engine.notices import Sink

FILE = "reconciler.yaml"
DATABASE = "ledger.db"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the process needs; durations in seconds, paths absolute."""

    root: Path
    state: str
    source: Path
    keys: Path
    environment: str
    wallet_key: Mapping[str, Json]
    mode: str
    resync: float
    confirm: float
    listen: tuple[str, int]
    parallelism: int
    limits: Limits
    notify: tuple[Sink, ...] = ()
    audit: AuditPolicy | None = None
    inbox: Path | None = None
    git: Mapping[str, Json] | None = None
    review: Mapping[str, Json] = field(default_factory=dict)
    request_timeout: float | None = None
    signers: Mapping[str, Json] = field(default_factory=dict)
    callbacks: Mapping[str, Json] | None = None
    revenue_splits: int | None = None

    @property
    def content(self) -> Path | None:
        """The directory of content files; None where they are in a repository that is never checked out."""
        return self.source if self.git is None else None

    @property
    def state_dir(self) -> Path:
        """The directory of the ledger and the blobs, when the state is not a database URL."""
        return self.root / ".state" if "://" in self.state else Path(self.state)

    @property
    def database(self) -> str:
        """Path or URL of the ledger."""
        return self.state if "://" in self.state else str(Path(self.state) / DATABASE)


def load(root: Path, *, config: Path | None = None, state: str | None = None, environment: str | None = None) -> Settings:
    """Read the settings of a repository; SettingsError with every diagnostic when the file is wrong."""
    file = config or root / FILE
    data = file.read_bytes() if file.exists() else b""
    name = str(file.relative_to(root)) if file.is_relative_to(root) else str(file)
    values, diagnostics = read_settings(data, name, _shape)
    if any(d.code.startswith("E") for d in diagnostics):
        raise SettingsError(diagnostics, data)
    found = _settings(file.parent.resolve() if file.exists() else root.resolve(), values)
    said: dict[str, Any] = {
        "state": state or os.environ.get("RECONCILER_STATE"),
        "environment": environment if environment is not None else os.environ.get("RECONCILER_ENV"),
        "mode": os.environ.get("RECONCILER_MODE"),
    }
    found = replace(found, **{name: value for name, value in said.items() if value is not None})
    if source := os.environ.get("RECONCILER_SOURCE"):
        found = replace(found, source=Path(source).resolve(), git=None)
    if listen := os.environ.get("RECONCILER_LISTEN"):
        found = replace(found, listen=address(listen))
    if splits := os.environ.get("MAX_REVENUE_SPLITS"):
        found = replace(found, revenue_splits=_count("MAX_REVENUE_SPLITS", splits))
    return found


def _count(name: str, text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) <= 100:
        raise Refused("bad-setting", f"cannot read {name}: {text!r} is no number from 1 to 100")
    return int(text)


def _shape() -> Json:
    from reconciler.planner.policy import document_schema  # only where there are policies

    return document_schema()


class SettingsError(Exception):
    """The settings file is wrong; `diagnostics` say where, `text` is the file."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...], text: bytes) -> None:
        super().__init__(diagnostics[0].message)
        self.diagnostics = diagnostics
        self.text = text


def _settings(root: Path, values: Mapping[str, Json]) -> Settings:
    state = values["state"]
    return Settings(
        root=root,
        state=state if "://" in state else str(root / state),
        source=(root / (values["source"].get("path") or ".")).resolve(),
        keys=root / values["keys"],
        environment=values["environment"],
        wallet_key=values["wallet"]["key"],
        signers=values["signers"],
        mode=values["mode"],
        resync=values["resync"] / 1000,
        confirm=values["confirm"] / 1000,
        listen=address(values["listen"]),
        parallelism=values["parallelism"],
        limits=limits_of(values, compiled),
        notify=_sinks(values["notify"]),
        audit=_audit(values.get("audit")),
        git=values["source"].get("git"),
        review=values["review"],
        callbacks=values.get("callbacks"),
        inbox=(root / inbox).resolve() if (inbox := (values.get("approvals") or {}).get("inbox")) else None,
    )


def _sinks(items: Sequence[Mapping[str, Json]]) -> tuple[Sink, ...]:
    if not items:
        return ()
    from reconciler.engine.notices import sinks_of

    return sinks_of(items)


def _audit(said: Mapping[str, Json] | None) -> AuditPolicy | None:
    return AuditPolicy(said["identity"], timedelta(milliseconds=said["anchor"]), said.get("maxSpend")) if said else None


def address(text: str) -> tuple[str, int]:
    """Host and port of a listener."""
    host, _, port = text.rpartition(":")
    return host, int(port)
