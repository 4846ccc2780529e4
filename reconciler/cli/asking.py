"""Nothing that cannot be taken back happens unasked."""

from __future__ import annotations

import sys

import typer

from reconciler.model.errors import Refused


def require_yes(what: str, *, yes: bool) -> None:
    """Ask at the terminal; Refused where there is nobody to ask and no --yes. `what` completes "cannot ... without asking"."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused("not-asked", f"cannot {what} without asking", hint="say --yes if you mean it")
    typer.confirm("Go on?", abort=True, err=True)
