"""A QR code (ISO/IEC 18004) in a terminal: two modules to a character, dark on light."""

from __future__ import annotations

from collections.abc import Sequence

# Modules of quiet zone around the symbol; the standard asks for four.
QUIET = 4
# (upper, lower) module is dark -> the character, in the colours of the page.
_HALVES = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
_PAPER = "\x1b[30;107m"
_PLAIN = "\x1b[0m"


def drawn(text: str, colour: bool) -> str:
    """The code of a text: black on white where there is `colour`, else for a dark terminal, whose ink makes the light modules."""
    import segno

    modules = [[bool(one) for one in row] for row in segno.make(text, error="m", micro=False).matrix_iter(border=QUIET)]
    lines = _lines([[dark is colour for dark in row] for row in modules], colour)
    return "\n".join(f"{_PAPER}{line}{_PLAIN}" if colour else line for line in lines)


def _lines(ink: Sequence[Sequence[bool]], colour: bool) -> list[str]:
    """Characters for modules that are inked; a last odd row has paper below it."""
    rows = [*ink, [not colour] * len(ink[0])] if len(ink) % 2 else [*ink]
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return ["".join(_HALVES[two] for two in zip(upper, lower, strict=True)) for upper, lower in pairs]
