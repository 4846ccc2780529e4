"""A QR code in characters is the code, in both inks."""

import segno

from reconciler.cli.qr import QUIET, drawn

TEXT = "bitcoin:mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn?sv&amount=0.0001"
PIXELS = {" ": (False, False), "▀": (True, False), "▄": (False, True), "█": (True, True)}


def read(text: str, ink_is_dark: bool) -> list[list[bool]]:
    """The modules of a drawing, dark ones true."""
    rows: list[list[bool]] = []
    for line in text.splitlines():
        pairs = [PIXELS[one] for one in line.removeprefix("\x1b[30;107m").removesuffix("\x1b[0m")]
        rows += [[pair[half] is ink_is_dark for pair in pairs] for half in (0, 1)]
    return rows


def test_both_inks_draw_the_code_with_its_quiet_zone() -> None:
    code = segno.make(TEXT, error="m", micro=False)
    wanted = [[bool(one) for one in row] for row in code.matrix_iter(border=QUIET)]
    assert len(wanted) == code.symbol_size(border=0)[0] + 2 * QUIET
    for colour in (True, False):
        got = read(drawn(TEXT, colour), colour)
        assert got[: len(wanted)] == wanted
        # The half line below an odd number of rows is paper.
        assert not any(any(row) for row in got[len(wanted) :])
