"""The HTTP library without its command line.

httpx imports a command line of its own wherever rich, pygments and click are installed, which they are here: 5 MiB and 0.1 s of
processor time for what nobody calls. It does without where that import fails, so it fails while httpx is imported.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import cast

_COMMAND_LINE = "httpx._main"

if _COMMAND_LINE in sys.modules:
    import httpx as httpx  # noqa: PLC0414 - had from here
else:
    # What import takes for "there is no such module".
    sys.modules[_COMMAND_LINE] = cast("ModuleType", None)
    try:
        import httpx as httpx  # noqa: PLC0414
    finally:
        del sys.modules[_COMMAND_LINE]
