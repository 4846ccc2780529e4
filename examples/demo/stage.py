"""What the audience sees: titles, typed commands and notes, in colour on a terminal and plain in a file."""

from __future__ import annotations

import os
import shlex
import sys
from itertools import count

COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
_NUMBERS = count(1)


def title(text: str) -> None:
    """Announce the next step."""
    _line(f"\n{next(_NUMBERS)}. {text}", "1;36")


def typed(*words: str, after: str = "\n") -> None:
    """Show a command as a person would type it; `after` stands before it."""
    _line(f"{after}$ {shlex.join(words)}", "1")


def note(text: str) -> None:
    """Say what to look at."""
    _line(f"   {text}", "2")


def _line(text: str, style: str) -> None:
    body = text.lstrip("\n")
    print(text[: len(text) - len(body)] + (f"\x1b[{style}m{body}\x1b[0m" if COLOUR else body), flush=True)
