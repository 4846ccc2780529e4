"""Printing: data to stdout, talk to stderr; colour only for a terminal that wants it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO

Style = Callable[[str, str], str]

# Role -> SGR code. Roles are what the renderers in planner and manifest name.
_SGR = {
    "error": "1;31",
    "warning": "1;33",
    "hint": "36",
    "add": "32",
    "change": "33",
    "replace": "35",
    "remove": "31",
    "repair": "36",
    "good": "32",
    "bad": "31",
    "dim": "2",
    "bold": "1",
    "gutter": "34",
    "caret": "1;31",
    # The verbs of a plan, and what its renderer says of guards and sections.
    "create": "32",
    "update": "33",
    "delete": "31",
    "forget": "31",
    "blocked": "1;31",
    "drift": "36",
    "heading": "1",
    "ok": "32",
    "refused": "1;31",
}


def plain(role: str, text: str) -> str:
    """No colour."""
    return text


def coloured(role: str, text: str) -> str:
    """ANSI colour by role; unknown roles stay plain."""
    code = _SGR.get(role)
    return f"\x1b[{code}m{text}\x1b[0m" if code and text else text


def style_for(stream: TextIO, wanted: bool = True) -> Style:
    """Colour when the stream is a terminal, NO_COLOR is unset and TERM is not dumb (https://no-color.org)."""
    usable = wanted and stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return coloured if usable else plain


def data(text: str) -> None:
    """One piece of data, to stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def document(value: Any, form: str = "json") -> None:
    """A value as JSON or YAML, to stdout."""
    if form == "yaml":
        from reconciler.manifest.scaffold import to_yaml

        data(to_yaml(value))
    else:
        data(json.dumps(value, indent=2, ensure_ascii=False))


def say(text: str = "") -> None:
    """Talk, to stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def fail(message: str, hint: str | None = None, style: Style | None = None) -> None:
    """An error and what to do about it, to stderr."""
    paint = style or style_for(sys.stderr)
    say(f"{paint('error', 'error')}: {message}")
    if hint:
        say(f"  {paint('hint', 'hint')}: {hint}")


def table(rows: Sequence[Sequence[str]], header: Sequence[str], style: Style | None = None) -> str:
    """Left-aligned columns, two spaces apart; the last column is not padded."""
    paint = style or style_for(sys.stdout)
    widths = [max(len(str(row[i])) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(str(cell).ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()

    return "\n".join([paint("bold", line(header)), *(line(row) for row in rows)])
