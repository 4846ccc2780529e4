"""`validate` without the command-line library, when the words are plain.

Editors and commit hooks call it at every save, and typer's import alone takes as long as judging a small repository. What
is not plain (another flag, a path that is not there, any surprise) goes the long way, which then says what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Words:
    """A plain command line of `validate`."""

    path: Path | None = None
    environment: str | None = None
    every: bool = False
    strict: bool = False
    form: str = "text"


def plain(arguments: Sequence[str]) -> Words | None:
    """The words after `validate`, or None when they need a real parser."""
    from reconciler.cli.checking import FORMS

    found, rest = Words(), list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--all":
            found.every = True
        elif word == "--strict":
            found.strict = True
        elif word in ("-o", "--output") and rest and rest[0] in FORMS:
            found.form = rest.pop(0)
        elif word in ("-e", "--env") and rest and not rest[0].startswith("-"):
            found.environment = rest.pop(0)
        elif word and not word.startswith("-") and found.path is None and Path(word).exists():
            found.path = Path(word)
        else:
            return None
    return found


def validate(arguments: Sequence[str]) -> int | None:
    """The exit code, or None when it has to be asked the long way."""
    words = plain(arguments)
    if words is None:
        return None
    from reconciler.cli.checking import check
    from reconciler.cli.context import GLOBALS
    from reconciler.cli.pipes import mind
    from reconciler.model.errors import ReconcilerError

    mind()
    GLOBALS.environment = words.environment
    try:
        return check(words.path, words.every, words.strict, words.form)
    except ReconcilerError:
        GLOBALS.environment = None
        return None
