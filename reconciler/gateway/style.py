"""How the storefront looks: one style sheet inside each page, and the policy that lets a page have nothing else."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

SHEET = Path(__file__).with_name("storefront.css").read_text("utf-8")

_DIAMOND = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><path fill="#12a06f" d="M4 .5 7.5 4 4 7.5.5 4z"/></svg>'
# The mark of a tab, inside the page as everything is.
ICON = "data:image/svg+xml;base64," + base64.b64encode(_DIAMOND.encode()).decode()

# All that a page may do besides being text: have this sheet and this mark, and send its own form back here.
_HASH = base64.b64encode(hashlib.sha256(SHEET.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; img-src data:; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
