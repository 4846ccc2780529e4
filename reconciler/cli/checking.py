"""A repository read, judged and told about, offline: no key, no network, no ledger.

Start-up matters here, because editors and commit hooks call it: nothing of the database, HTTP or key libraries is imported,
nor typer.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from reconciler.cli import exits, output
from reconciler.cli.context import GLOBALS

if TYPE_CHECKING:
    from reconciler.manifest.load import Loaded, Loader
    from reconciler.model.diagnostic import Diagnostic
    from reconciler.model.revision import Revision
    from reconciler.settings import Settings

Form = Literal["text", "json", "sarif", "github"]
FORMS: tuple[str, ...] = get_args(Form)


@dataclass(frozen=True, slots=True)
class Repository:
    """Manifests and settings of one directory, read once. `faults` are those of reconciler.yaml, `texts` every file read."""

    root: Path
    settings: Settings | None
    revision: Revision
    loader: Loader
    faults: tuple[Diagnostic, ...]
    texts: Mapping[str, bytes]

    def load(self, environment: str, texts: Mapping[str, bytes] | None = None) -> Loaded:
        """One environment; `texts` stands in for what is on disk."""
        from reconciler.adapters.files import DirectorySource

        facts = DirectorySource(self.revision.root).facts
        return self.loader.load(self.revision.texts if texts is None else texts, facts, self.revision.id, environment)

    @property
    def environment(self) -> str:
        """The one that was asked for, or the one of the settings."""
        if GLOBALS.environment is not None:
            return GLOBALS.environment
        return self.settings.environment if self.settings else ""

    def environments(self) -> list[str]:
        """The base, and every folder of overlays/."""
        from reconciler.manifest import overlay

        return ["", *overlay.environments(self.revision.texts)]


def repository(root: Path | None = None) -> Repository:
    """The repository in a directory (the chosen one without `root`); Unavailable when there is none."""
    from reconciler.adapters.files import DirectorySource
    from reconciler.kinds import bounded
    from reconciler.manifest.load import Loader
    from reconciler.settings import SettingsError, load

    root = (root or GLOBALS.directory).resolve()
    settings: Settings | None = None
    faults: tuple[Diagnostic, ...] = ()
    texts: dict[str, bytes] = {}
    try:
        settings = load(root, config=GLOBALS.config, state=GLOBALS.state, environment=GLOBALS.environment)
    except SettingsError as error:
        faults, texts = error.diagnostics, {error.diagnostics[0].at.file: error.text}
    revision = DirectorySource(settings.source if settings else root).current()
    kinds = bounded(settings.revenue_splits if settings else None)
    return Repository(root, settings, revision, Loader(kinds), faults, {**revision.texts, **texts})


def show(diagnostics: Sequence[Diagnostic], texts: Mapping[str, bytes]) -> None:
    """Diagnostics with their source lines, to stderr."""
    from reconciler.manifest.explain import report

    if diagnostics:
        output.say(report(diagnostics, texts, output.style_for(sys.stderr, GLOBALS.colour)))


def check(path: Path | None, every: bool, strict: bool, form: str) -> int:
    """Judge a repository, or one file of it, in the environment of GLOBALS or in `every` one; tell, and return the exit code."""
    began = time.perf_counter()
    only = path.resolve() if path is not None and not path.is_dir() else None
    repo = repository(path if only is None else None)
    environments = repo.environments() if every else [repo.environment]
    found = _found(repo, environments, only)
    prefix = _prefix(repo.revision.root)
    told = Told(
        diagnostics=tuple(_placed(one, prefix) for one in found.diagnostics),
        texts={prefix + file: text for file, text in repo.texts.items()},
        resources=found.resources,
        files=found.files,
        environments=tuple(environments),
    )
    _tell(told, form, time.perf_counter() - began)
    from reconciler.manifest.explain import worst

    return exits.ERROR if worst(told.diagnostics, strict=strict) else exits.OK


@dataclass(frozen=True, slots=True)
class Told:
    """What a validation found, with files named as the caller sees them."""

    diagnostics: tuple[Diagnostic, ...]
    texts: Mapping[str, bytes]
    resources: int
    files: int
    environments: tuple[str, ...]


def _found(repo: Repository, environments: Sequence[str], only: Path | None) -> Told:
    """Every diagnostic once, although a base file is read in each environment."""
    diagnostics = dict.fromkeys(repo.faults)
    resources, files = 0, set[str]()
    from reconciler.manifest import overlay

    for environment in environments:
        loaded = repo.load(environment)
        diagnostics |= dict.fromkeys(loaded.diagnostics)
        resources += loaded.documents
        base, patches = overlay.split(repo.revision.texts, environment)
        files.update(base, patches)
    kept = [one for one in diagnostics if only is None or (repo.revision.root / one.at.file).resolve() == only]
    return Told(tuple(sorted(kept, key=lambda one: one.order)), {}, resources, len(files), tuple(environments))


def _prefix(root: Path) -> str:
    """What leads from where the caller stands to the manifests: editors and annotations need paths that open."""
    way = os.path.relpath(root, Path.cwd())
    return "" if way == "." else f"{way}/"


def _placed(one: Diagnostic, prefix: str) -> Diagnostic:
    related = tuple((replace(where, file=prefix + where.file), text) for where, text in one.related)
    return replace(one, at=replace(one.at, file=prefix + one.at.file), related=related)


def _tell(told: Told, form: str, seconds: float) -> None:
    from reconciler import __version__
    from reconciler.manifest import explain
    from reconciler.model.diagnostic import Severity

    errors = sum(one.severity is Severity.ERROR for one in told.diagnostics)
    warnings = len(told.diagnostics) - errors
    closing = explain.summary(errors, warnings, told.resources, told.files, seconds)
    if len(told.environments) > 1:
        closing += f" of the base and {', '.join(told.environments[1:])}"
    if form == "text":
        if told.diagnostics:
            output.data(explain.report(told.diagnostics, told.texts, output.style_for(sys.stdout, GLOBALS.colour)))
        if not GLOBALS.quiet:
            output.data(closing)
        return
    if form == "json":
        counts = {"errors": errors, "warnings": warnings, "resources": told.resources, "files": told.files}
        output.document({"valid": not errors, **counts, "diagnostics": explain.as_json(told.diagnostics)})
    elif form == "sarif":
        output.document(explain.sarif(told.diagnostics, __version__))
    elif told.diagnostics:
        output.data(explain.github(told.diagnostics))
    if not GLOBALS.quiet:
        output.say(closing)
