"""`validate`: every fault of a repository, offline: no key, no network, no ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli.checking import Form, check
from reconciler.cli.context import GLOBALS


def bind(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(validate)


def validate(
    path: Annotated[
        Path | None, typer.Argument(help="A repository, or one file of it; this directory if omitted.", show_default=False)
    ] = None,
    environment: Annotated[str | None, typer.Option("-e", "--env", help="Check this environment instead of the base.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Check the base and every environment below overlays/.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail, too.")] = False,
    form: Annotated[Form, typer.Option("-o", "--output", help="How faults are written.")] = "text",
) -> int:
    """Check every manifest: syntax, fields, units, references, content files. Needs no key, no network, no ledger."""
    if environment is not None:
        GLOBALS.environment = environment
    if path is not None and not path.exists():
        raise typer.BadParameter(f"there is no file or directory {path}")
    return check(path, every, strict, form)
