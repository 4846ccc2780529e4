"""Daemon settings from file and environment: one frozen value, read once.

Precedence: command-line flag, then environment (RECONCILER_STATE, RECONCILER_SOURCE, RECONCILER_ENV,
RECONCILER_MODE, RECONCILER_LISTEN), then reconciler.yaml, then the schema's defaults.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reconciler.manifest.process import read_settings
from reconciler.model.canonical import Json
from reconciler.model.diagnostic import Diagnostic
from reconciler.planner.guard import Limits

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
    values, diagnostics = read_settings(data, str(file.relative_to(root)) if file.is_relative_to(root) else str(file))
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
        found = replace(found, source=Path(source).resolve())
    if listen := os.environ.get("RECONCILER_LISTEN"):
        found = replace(found, listen=_address(listen))
    return found


class SettingsError(Exception):
    """The settings file is wrong; `diagnostics` say where, `text` is the file."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...], text: bytes) -> None:
        super().__init__(diagnostics[0].message)
        self.diagnostics = diagnostics
        self.text = text


def _settings(root: Path, values: Mapping[str, Json]) -> Settings:
    guards = values["guards"]
    deletes, spend = guards.get("deletes") or {}, guards.get("spend") or {}
    state = values["state"]
    return Settings(
        root=root,
        state=state if "://" in state else str(root / state),
        source=(root / (values["source"].get("path") or ".")).resolve(),
        keys=root / values["keys"],
        environment=values["environment"],
        wallet_key=values["wallet"]["key"],
        mode=values["mode"],
        resync=values["resync"] / 1000,
        confirm=values["confirm"] / 1000,
        listen=_address(values["listen"]),
        parallelism=values["parallelism"],
        limits=Limits(
            delete_count=deletes.get("count"),
            delete_percent=deletes.get("percent", 30),
            change_percent=(guards.get("changes") or {}).get("percent"),
            spend_run=spend.get("run"),
            spend_day=spend.get("day"),
        ),
    )


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)
